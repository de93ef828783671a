"""Planning takes no time: it reads footers, a few hundred of them."""

import time

import pyarrow as pa

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import make_plan
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.storage.partition_files import Provenance, write_partition
from vlm_audio_pipeline.storage.schemas import TABLES

MODELS, FOLDS = 22, (1, 2, 3, 4, 5)
LIMIT_S = 0.5


def test_22_models_in_5_folds_are_planned_in_half_a_second(bench):
    bench.rows = [
        {**row, "id": f"{fold}-{row['label']}-{row['id'][-1]}", "fold": fold, "source": f"{fold}-{row['label']}"}
        for fold in FOLDS
        for row in bench.rows[:4]
    ]
    study = bench.changed()
    study["encoders"] = {f"e{i}": {"kind": "scripted", "dimensions": 4, "seed": i} for i in range(MODELS)}
    study["classifiers"] = {f"c{i}": {"kind": "probe", "encoder": f"e{i}", "c": 1.0} for i in range(MODELS)}
    graph = bench.graph(study)
    versions = current_input_versions(graph)
    for node in graph.nodes:
        versions[node] = fingerprint(str(node))
        inputs = {str(upstream): versions[upstream] for upstream, _ in graph.upstream(node)}
        made = Provenance(node.step, graph.steps[node.step].version, inputs, versions[node])
        for table, path in graph.partition_files(node).items():
            write_partition(path, pa.table({f.name: pa.array([], f.type) for f in TABLES[table].arrow}), made)
    make_plan(graph, current_input_versions(graph))  # the first plan after files came from elsewhere reads them all
    began = time.process_time()  # of this process alone, however busy the machine
    plan = make_plan(graph, current_input_versions(graph))
    took = time.process_time() - began
    print(f"{len(graph.nodes)} nodes planned in {took:.3f} s")  # noqa: T201
    assert plan.todo == {} and len(plan.fresh) == len(graph.nodes) > MODELS * len(FOLDS) * 3
    assert took < LIMIT_S
    next(iter(graph.partition_files(Node("embeddings/e3", 4)).values())).unlink()
    assert make_plan(graph, current_input_versions(graph)).todo[Node("embeddings/e3", 4)] == ("missing",)
