"""An engine that sends works elsewhere: what it sends is small, and the study has the same data versions."""

import errno
import pickle
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from vlm_audio_pipeline.classifiers.language_models.local.language_model import LocalLanguageModel
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.progress import no_progress
from vlm_audio_pipeline.contracts.specs import Spec
from vlm_audio_pipeline.datasets.base import Recordings
from vlm_audio_pipeline.encoders.base import EncoderWork
from vlm_audio_pipeline.encoders.clap import Clap
from vlm_audio_pipeline.encoders.texts import TextWork
from vlm_audio_pipeline.encoders.vision import Vision
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.engines.ray_files import files_for_batch
from vlm_audio_pipeline.engines.ray_pool import files_of_items
from vlm_audio_pipeline.engines.ray_worker import Worker, WorkError
from vlm_audio_pipeline.engines.row_storage import RowStorage
from vlm_audio_pipeline.planning import execution
from vlm_audio_pipeline.planning.computing_ahead import compute_ahead, cut_wave
from vlm_audio_pipeline.planning.execution import read_inputs
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import make_plan, select_nodes
from vlm_audio_pipeline.planning.publishing import is_published
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.locks import file_lock
from vlm_audio_pipeline.studies.loading import load_study
from vlm_audio_pipeline_tests.planning.model_study import data_versions

IMAGES = {
    "renderings": {"small": {"transform": "stft", "size": 32}},
    "encoders": {
        "bands": {"kind": "scripted", "dimensions": 4},
        "grey": {"kind": "pixels", "rendering": "small", "size": 4},
    },
    "classifiers": {
        "probe": {"kind": "probe", "encoder": "grey", "c": 1.0, "controls": ["blank"]},
        "knn": {"kind": "knn", "encoder": "bands", "k": 3},
    },
}


class SendingEngine(LocalEngine):
    """Sends works and items through pickle, as to another process, and records what it sends."""

    maps_all_folds = True

    def __init__(self, has_gpu=None):
        self.maps, self.sizes, self.gpu = [], [], has_gpu

    def has_gpu(self):
        return self.gpu

    def send(self, work):
        self.sizes.append(len(data := pickle.dumps(work)))
        return pickle.loads(data)

    def map_rows(self, rows, result_store, progress):
        self.maps.append((rows[0].kind, len(rows)))
        sent = [pickle.loads(pickle.dumps(r.items)) for r in rows]
        work = self.send(rows[0].work)
        from dataclasses import replace

        return super().map_rows(
            [replace(r, work=work, items=i) for r, i in zip(rows, sent, strict=True)], result_store, progress
        )

    def map_ordered(self, function, items, progress, on_result=lambda result: None):
        self.maps.append(("image", len(items)))
        return super().map_ordered(self.send(function), pickle.loads(pickle.dumps(items)), progress, on_result)


def graph_with(bench, engine, study=None):
    return Graph(load_study(bench.write(study)), bench.data_folder, engine)


def test_rows_of_all_folds_are_computed_in_one_map_and_every_data_version_is_that_of_the_local_engine(bench, tmp_path):
    study = bench.study | IMAGES
    local = bench.copy_to(tmp_path / "local")
    local_summary = local.run(study).report
    assert not local_summary.failed
    engine = SendingEngine()
    graph = graph_with(bench, engine, study)
    summary = run_study(graph)
    assert not summary.failed
    assert (summary.steps, summary.runs) == (local_summary.steps, local_summary.runs)  # a run in parts is one run
    assert data_versions(graph) == data_versions(local.graph(study))
    # 12 clips in 3 folds; each fold finds its rows afterwards: an inspection maps the whole dataset, in each fold
    computed_together = [size for kind, size in engine.maps if kind == "vector"]
    assert computed_together.count(3) == 3  # two encoders and one control
    assert [size for kind, size in engine.maps if kind == "image" and size] == [12, 12]
    assert not list(bench.data_folder.root.rglob("*scratch*/*.sqlite"))


class ShippingEngine(SendingEngine):
    """Computes with a worker to which recordings are shipped, while their folder is away."""

    def __init__(self, recordings):
        super().__init__()
        self.recordings = recordings
        self.worker = Worker()

    def call(self, method, work, items):
        arguments = pickle.dumps((work, items, files_for_batch(files_of_items(work, items), "shipped")))
        away = self.recordings.with_name("away")
        self.recordings.rename(away)
        try:
            result = getattr(self.worker, method)(*pickle.loads(arguments))
        finally:
            away.rename(self.recordings)
        if isinstance(result, WorkError):
            raise result.error
        return result

    def map_rows(self, rows, result_store, progress):
        storages = [RowStorage(group, result_store) for group in rows]
        for group, storage in zip(rows, storages, strict=True):
            for batch in storage.batches():
                storage.store(batch, self.call("compute", group.work, [storage.items[key] for key in batch]))
        return [[s.results[key] for key in group.keys] for group, s in zip(rows, storages, strict=True)]

    def map_ordered(self, function, items, progress, on_result=lambda result: None):
        results = self.call("apply", function, items) if items else []
        for result in results:
            on_result(result)
        return results


def test_with_shipped_recordings_a_worker_needs_no_file(bench, tmp_path):
    local = bench.copy_to(tmp_path / "local")
    study = bench.study | IMAGES
    assert not local.run(study).report.failed
    graph = graph_with(bench, ShippingEngine(graph_with(bench, LocalEngine()).dataset().root / "audio"), study)
    assert run_study(graph).failed == {}
    assert data_versions(graph) == data_versions(local.graph(study))


def test_a_work_is_smaller_than_10_kb_for_any_number_of_clips(bench):
    for number in range(60):
        name, fold = f"more-{number}", 1 + number % 3
        bench.record(name, "low", seed=1000 + number)
        bench.rows.append(bench.rows[0] | {"id": name, "path": f"audio/{name}.wav", "fold": fold, "source": name})
    engine = SendingEngine()
    graph = graph_with(bench, engine, bench.study | IMAGES)
    assert not run_study(graph, select_nodes(graph, ["embeddings/*"])).failed
    assert {kind for kind, _ in engine.maps} == {"inspection", "image", "vector"}
    assert len(engine.sizes) == len(engine.maps)
    assert max(engine.sizes) < 10_000


@pytest.mark.parametrize("spec", [Clap(model="demo-clap"), Vision(model="demo-aimv2", rendering="demo")])
def test_works_of_models_are_small(spec):
    for work in (EncoderWork(spec.with_device(), "abc", Recordings("/data")), TextWork(spec.with_device(), "abc")):
        assert len(pickle.dumps(work)) < 10_000
        assert pickle.loads(pickle.dumps(work)).key == work.key


@pytest.mark.parametrize("spec", [Clap(model="demo-clap"), Vision(model="demo-aimv2", rendering="demo")])
def test_the_key_of_a_work_has_the_revision_of_the_plan(spec, monkeypatch):
    """A worker keeps a work open that has the same key; its own cache may have another revision."""

    def works(revision):
        return [
            EncoderWork(spec.with_device(False), revision, Recordings("/data")),
            TextWork(spec.with_device(False), revision),
        ]

    keys = [work.key for revision in ("old", "new") for work in works(revision)]
    assert len(set(keys)) == 4
    monkeypatch.setattr(type(spec), "weights_revision", property(lambda self: "that of this machine"))
    assert [work.key for revision in ("old", "new") for work in works(revision)] == keys


@pytest.mark.parametrize("spec", [Clap(model="demo-clap"), LocalLanguageModel(model="demo-janus", rendering="demo")])
def test_the_number_format_is_that_of_the_workers(spec: Spec):
    """Not of the machine that plans: keys of bfloat16 vectors must not be those of float32."""
    with_gpu, without = spec.with_device(True), spec.with_device(False)
    assert (with_gpu.number_format, without.number_format) == ("bfloat16", "float32")
    assert pickle.loads(pickle.dumps(with_gpu)).number_format == "bfloat16"
    assert with_gpu.fingerprint() == without.fingerprint() == spec.fingerprint()
    if isinstance(spec, LocalLanguageModel):
        assert with_gpu.protocol() == without.protocol()


def test_a_worker_without_the_gpu_of_the_plan_stores_nothing(bench):
    study = {**bench.study, "encoders": {"clap": {"kind": "clap", "model": "demo-clap"}}}
    study["classifiers"] = {"knn": {"kind": "knn", "encoder": "clap"}}
    graph = graph_with(bench, SendingEngine(has_gpu=True), study)
    assert graph.steps["embeddings/clap"].stage.parameters["dtype"] == "bfloat16"
    summary = run_study(graph)
    assert {n.step for n in summary.failed} == {"embeddings/clap"}
    assert "cannot use the device cuda" in summary.failed[Node("embeddings/clap", 1)]
    assert graph.result_store.count("vector") == 0


def test_a_failure_ends_the_wave_and_the_next_plan_runs_the_rest(bench):
    class Failing(SendingEngine):
        def map_rows(self, rows, result_store, progress):
            if rows[0].kind == "vector" and "pixels" in rows[0].work.spec.kind:
                raise NotAvailable("no worker")
            return super().map_rows(rows, result_store, progress)

    graph = graph_with(bench, Failing(), bench.study | IMAGES)
    summary = run_study(graph)
    steps = ("embeddings/grey", "embeddings/grey__blank")
    assert summary.failed == {Node(step, fold): "no worker" for step in steps for fold in (1, 2, 3)}
    versions = data_versions(graph)
    assert {f"predictions/knn|{fold}" for fold in (1, 2, 3)} | {"metrics/knn", "leaderboard"} <= versions.keys()
    summaries = {"embedding_quality/grey", "metrics/probe"}  # they contain the reason and no number
    assert {name for name in versions if "grey" in name or "probe" in name} == summaries
    for table, column in (("embedding_quality", "encoder = 'grey'"), ("metrics", "classifier = 'probe'")):
        values = query(bench.data_folder, f"SELECT value FROM {table} WHERE {column} AND value IS NOT NULL")
        assert values.num_rows == 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("broken"), "ZeroDivisionError: broken\nTraceback"),  # a defect
        (OSError(errno.ENOSPC, "No space left on device"), "cannot write to the data folder"),
    ],
)
def test_every_error_of_a_map_is_a_failure_of_its_nodes(bench, error, reason):
    class Failing(SendingEngine):
        def map_ordered(self, function, items, progress, on_result=lambda result: None):
            raise error

    graph = graph_with(bench, Failing(), bench.study | IMAGES)
    summary = run_study(graph, select_nodes(graph, ["spectrograms/small", "embeddings/bands"]))
    assert {str(node) for node in summary.failed} == {f"spectrograms/small|{fold}" for fold in (1, 2, 3)}
    assert all(text.startswith(reason) for text in summary.failed.values())
    assert "embeddings/bands|3" in data_versions(graph)  # it needs no image
    assert is_published(graph)


def test_a_run_that_fails_before_its_first_step_publishes_the_study(bench):
    """Its record says which steps are missing."""

    class Failing(SendingEngine):
        def map_rows(self, rows, result_store, progress):
            raise NotAvailable("no worker")

    graph = graph_with(bench, SendingEngine())
    run_study(graph, select_nodes(graph, ["clips"]))
    shutil.rmtree(graph.data_folder.studies)
    graph = graph_with(bench, Failing())
    summary = run_study(graph, select_nodes(graph, ["embeddings/*"]))
    assert (summary.steps, summary.runs) == (0, 0) and len(summary.failed) == 3
    assert is_published(graph)
    continued = run_study(graph_with(bench, SendingEngine()), select_nodes(graph, ["embeddings/*"]))
    assert (continued.steps, continued.runs) == (3, 3)  # three folds


def test_nodes_that_another_process_executes_meanwhile_are_not_computed_ahead(bench):
    engine = SendingEngine()
    graph = graph_with(bench, engine, bench.study | IMAGES)
    nodes = [Node("spectrograms/small", fold) for fold in (1, 2, 3)]
    run_study(graph, select_nodes(graph, ["clips"]))
    with ThreadPoolExecutor(1) as threads:
        with file_lock(graph.data_folder.lock(graph.node_name(nodes[1]))):
            engine.maps.clear()
            ahead = threads.submit(compute_ahead, graph, nodes, no_progress)
            time.sleep(0.3)
            assert not ahead.done() and not engine.maps
            compute_partition(graph, nodes[1])  # as the process that has the lock does
        ahead.result(60)
    assert engine.maps == [("image", 8)]  # of folds 1 and 3; each has four clips
    compute_ahead(graph, nodes[1:2], no_progress)
    assert engine.maps == [("image", 8)]


def compute_partition(graph, node):
    local = Graph(graph.study, graph.data_folder)
    inputs, versions = read_inputs(local, node)
    execution._run_stage(local, node, inputs, versions, no_progress, time.perf_counter())


def test_all_folds_ask_one_language_model_before_the_next(bench):
    """A worker has one model in memory, so each model is loaded once, not once for each fold."""
    model = {"kind": "language_model", "backend": "scripted", "model": "m", "rendering": "small"}
    study = bench.study | IMAGES | {"classifiers": {"a": model, "b": model | {"prompt": "plain"}}}
    graph = bench.graph(study)
    wave = make_plan(graph, current_input_versions(graph)).wave
    steps = [node.step for _, runs in cut_wave(graph, wave) for run in runs for node in run.nodes]
    assert [step for step in steps if step.startswith("responses/")] == ["responses/a"] * 3 + ["responses/b"] * 3
    assert sorted(steps) == sorted(node.step for run in wave for node in run.nodes)


def test_a_wave_is_cut_before_each_step_that_computes_ahead(bench):
    graph = bench.graph(bench.study | IMAGES)
    wave = make_plan(graph, current_input_versions(graph)).wave
    parts = list(cut_wave(graph, wave))
    ahead = [name for name, step in graph.steps.items() if step.stage.run_ahead is not None]
    assert [step for step, _ in parts] == [None, *ahead]
    nodes = [node for _, runs in parts for run in runs for node in run.nodes]
    assert sorted(map(str, nodes)) == sorted(str(n) for run in wave for n in run.nodes)
    assert all(run.nodes[0].step == step for step, runs in parts[1:] for run in runs)
