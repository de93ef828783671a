"""Planning is fast: it reads a few hundred footers."""

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
    names = [(fold, row, f"{fold}-{row['label']}-{row['id'][-1]}") for fold in FOLDS for row in bench.rows[:4]]
    bench.rows = [
        {**row, "id": name, "path": f"audio/{name}.wav", "fold": fold, "source": f"{fold}-{row['label']}"}
        for fold, row, name in names
    ]
    study = bench.changed_study()
    study["encoders"] = {f"e{i}": {"kind": "scripted", "dimensions": 4, "seed": i} for i in range(MODELS)}
    study["classifiers"] = {f"c{i}": {"kind": "probe", "encoder": f"e{i}", "c": 1.0} for i in range(MODELS)}
    graph = bench.graph(study)
    versions = current_input_versions(graph)
    for node in graph.nodes:
        versions[node] = fingerprint(str(node))
        inputs = {str(upstream): versions[upstream] for upstream, _ in graph.upstream_nodes(node)}
        provenance = Provenance(node.step, graph.steps[node.step].version, inputs, versions[node])
        for table, path in graph.partition_files(node).items():
            write_partition(path, pa.table({f.name: pa.array([], f.type) for f in TABLES[table].arrow}), provenance)
    make_plan(graph, current_input_versions(graph))  # the first plan reads all files that are new to it
    start_time = time.process_time()  # CPU time of this process, independent of other load
    plan = make_plan(graph, current_input_versions(graph))
    seconds = time.process_time() - start_time
    print(f"{len(graph.nodes)} nodes planned in {seconds:.3f} s")  # noqa: T201
    assert plan.todo == {} and len(plan.fresh) == len(graph.nodes) > MODELS * len(FOLDS) * 3
    assert seconds < LIMIT_S
    next(iter(graph.partition_files(Node("embeddings/e3", 4)).values())).unlink()
    assert make_plan(graph, current_input_versions(graph)).todo[Node("embeddings/e3", 4)] == ("missing",)
