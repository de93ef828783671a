"""A real Ray cluster of several nodes on loopback: equal results, lost nodes, killed drivers, and every wait ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.progress import no_progress
from vlm_audio_pipeline.contracts.work import Failure, Rows
from vlm_audio_pipeline.planning.fetching import fetch_on_nodes, model_downloads
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.bench import Bench
from vlm_audio_pipeline_tests.engines.ray_works import (
    DeadWorker,
    FileWork,
    LoggedWork,
    UnreadableWork,
    first_worker,
    lines,
    raise_not_available,
    rows,
)
from vlm_audio_pipeline_tests.planning.model_study import data_versions, expected_nodes, model_study_graph

# Before ray is imported: nodes stay on loopback, and the working folder is not uploaded.
os.environ.update(
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    RAY_ENABLE_UV_RUN_RUNTIME_ENV="0",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_worker_niceness="0",
)
pytest.importorskip("ray", reason="pip install 'vlm-audio-pipeline[ray]' to run this")
pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).parents[2]
STORE_BYTES = 100_000_000  # object store of a node


def add_node(cluster):
    return cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)


def alive_nodes():
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


@pytest.fixture(scope="module")
def cluster():
    """A head without places for workers; tests add the nodes that they need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]))
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        add_node(cluster)
        add_node(cluster)
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def engine(cluster):
    from vlm_audio_pipeline.engines.ray import RayEngine

    engine = RayEngine(cluster.address, patience_s=60)
    yield engine
    engine.close()


@pytest.fixture
def store(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    yield store
    store.close()


def test_a_study_with_audio_images_and_a_language_model_has_the_data_versions_of_the_local_engine(engine, tmp_path):
    local = model_study_graph(tmp_path / "local")
    assert not run_study(local).failed
    graph = Graph(local.study, type(local.data_folder)(tmp_path / "ray"), engine)
    assert not run_study(graph).failed
    assert data_versions(local).keys() == expected_nodes(local)
    assert data_versions(graph) == data_versions(local)


def test_rows_come_in_order_failures_are_not_stored_and_each_worker_loads_once(engine, store, tmp_path):
    work = LoggedWork(str(tmp_path / "log"), 0.1)
    messages = []
    groups = [rows(work, [5, 3, 9, 3, 1000]), rows(work, [5, 7, *range(20, 30)])]
    payloads = engine.map_rows(groups, store, lambda *a: messages.append(a))
    assert payloads[0] == [b"<5>", b"<3>", b"<9>", b"<3>", Failure("odd one out")]
    assert payloads[1] == [b"<%d>" % n for n in (5, 7, *range(20, 30))]
    assert store.count("test") == 14  # 15 different numbers, one failure
    loads = lines(tmp_path / "log", "load")
    assert len(loads) == len({pid for pid, _ in loads}) <= 2
    assert messages[-1][:2] == (15, 15) and "worker" in messages[-1][2] and "per second" in messages[-1][2]
    before = len(lines(tmp_path / "log", "row"))
    engine.map_rows([rows(work, [5, 3, 9])], store, no_progress)
    assert len(lines(tmp_path / "log", "row")) == before


def test_images_are_handed_on_in_order(engine):
    from math import sqrt

    handed_on = []
    assert engine.map_ordered(sqrt, [n * n for n in range(30)], no_progress, handed_on.append) == list(range(30))
    assert handed_on == list(range(30))


def test_an_error_of_a_worker_keeps_its_class_and_what_was_finished(engine, store, tmp_path):
    engine.map_rows([rows(LoggedWork(str(tmp_path / "log")), range(2))], store, no_progress)
    with pytest.raises(NotAvailable, match=r"^weights of x are missing on this node$"):
        engine.map_rows([rows(LoggedWork(str(tmp_path / "other"), missing=True), range(4))], store, no_progress)
    assert store.get([f"k{n}" for n in range(4)]) == {"k0": b"<0>", "k1": b"<1>"}
    assert lines(tmp_path / "other", "row") == []


def test_a_killed_node_loses_at_most_the_batches_in_flight_and_the_cluster_may_stay_smaller(
    cluster, engine, store, tmp_path, caplog
):
    node = add_node(cluster)
    killed = []
    messages = []

    def kill_once(done, total, description):
        messages.append(description)
        is_working = node.node_id in engine._pools[False].nodes.values()
        if done >= 12 and is_working and not killed:
            killed.append(done)
            cluster.remove_node(node, allow_graceful=False)

    before = engine.counts
    payloads = engine.map_rows([rows(LoggedWork(str(tmp_path / "log"), 0.3), range(120))], store, kill_once)
    assert payloads == [[b"<%d>" % n for n in range(120)]]
    assert len(killed) == 1
    computed = len(lines(tmp_path / "log", "row"))
    # One worker was lost with at most two batches of two numbers; only the one that it computed may be in the log twice.
    assert computed - 120 <= 2 * (engine.counts["lost_tasks"] - before["lost_tasks"]) <= 4
    assert engine.counts["lost_workers"] - before["lost_workers"] == 1
    assert [r.getMessage() for r in caplog.records if "was lost, and its batches are computed again" in r.getMessage()]
    assert "1 lost" in messages[-1]


def test_a_node_that_joins_gets_work(cluster, engine, store, tmp_path):
    joined = []

    def join_once(done, total, description):
        if done >= 4 and not joined:
            joined.append(add_node(cluster))

    engine.map_rows([rows(LoggedWork(str(tmp_path / "log"), 0.3), range(200))], store, join_once)
    assert len({pid for pid, _, _ in lines(tmp_path / "log", "row")}) == 3
    cluster.remove_node(joined[0])


def test_after_a_killed_driver_the_same_command_computes_the_rest(cluster, engine, tmp_path):
    engine._pools[False].close()  # leave the places to the other driver
    log, count = tmp_path / "log", 40
    command = [sys.executable, "-m", "vlm_audio_pipeline_tests.engines.ray_works", cluster.address]
    arguments = [str(tmp_path / "results.sqlite"), str(log), str(count)]
    first = subprocess.Popen([*command, *arguments], cwd=REPOSITORY)
    while len(lines(log, "row")) < 10:
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    pids = {int(pid) for pid, _ in lines(log, "load")}
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):  # Ray ends the workers of a driver that died
        assert time.monotonic() < deadline
        time.sleep(0.1)
    stored, computed = ResultStore(tmp_path / "results.sqlite").count("test"), len(lines(log, "row"))
    assert 0 < stored < count
    subprocess.run([*command, *arguments], cwd=REPOSITORY, check=True)
    assert len(lines(log, "row")) - computed == count - stored
    assert ResultStore(tmp_path / "results.sqlite").count("test") == count


def test_the_command_runs_a_study_on_the_cluster(cluster, engine, tmp_path):
    engine._pools[False].close()
    bench = Bench(tmp_path / "ray")
    local = bench.copy_to(tmp_path / "local")
    options = ["--engine", f"ray://{cluster.address}", "--data", str(bench.data_folder.root)]
    command = [sys.executable, "-m", "vlm_audio_pipeline"]
    subprocess.run([*command, "run", str(bench.write()), *options], cwd=REPOSITORY, check=True)
    assert not local.run().report.failed
    versions, local_versions = data_versions(bench.graph()), data_versions(local.graph())
    assert {
        node: versions[node] for node in local_versions
    } == local_versions  # the command also projects the embeddings
    doctor = subprocess.run([*command, "doctor", *options], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert doctor.stdout.count("1 CPU, 0 GPU") == 2


def test_a_batch_that_kills_its_workers_ends_the_run_and_the_others_are_kept(engine, store, tmp_path):
    work = LoggedWork(str(tmp_path / "log"), fatal=6)
    with pytest.raises(VlmAudioError, match="5 workers ended while they computed the same batch"):
        engine.map_rows([rows(work, range(20))], store, no_progress)
    # The other worker computes every other batch long before the fifth new worker is ready.
    others = [n for n in range(20) if n not in (6, 7)]
    assert store.get([f"k{n}" for n in range(20)]) == {f"k{n}": b"<%d>" % n for n in others}


def test_workers_that_cannot_start_end_the_run(cluster, engine, store, tmp_path, monkeypatch):
    from vlm_audio_pipeline.engines import ray_pool

    engine._pools[False].close()
    monkeypatch.setattr(ray_pool, "Worker", DeadWorker)
    with pytest.raises(VlmAudioError, match="5 times in a row, workers ended before they were ready"):
        engine.map_rows([rows(LoggedWork(str(tmp_path / "log")), range(4))], store, no_progress)


def test_one_worker_that_can_start_is_enough(engine, store, tmp_path, monkeypatch):
    """The other node is broken: its workers end whenever they start."""
    from vlm_audio_pipeline.engines import ray_pool

    engine._pools[False].close()
    monkeypatch.setattr(ray_pool, "Worker", first_worker(tmp_path / "started"))
    monkeypatch.setattr(ray_pool, "MAX_FAILED_STARTS", 2)
    payloads = engine.map_rows([rows(LoggedWork(str(tmp_path / "log"), 0.5), range(60))], store, no_progress)
    assert payloads == [[b"<%d>" % n for n in range(60)]]
    assert len({pid for pid, _, _ in lines(tmp_path / "log", "row")}) == 1
    assert (
        len((tmp_path / "started").read_text().splitlines()) > ray_pool.MAX_FAILED_STARTS + 1
    )  # they are started again
    engine._pools[False].close()


def test_a_work_that_a_worker_cannot_read_ends_the_run_with_the_reason(engine, store):
    lost_before = engine.counts["lost_workers"]
    with pytest.raises(VlmAudioError, match=r"cannot compute a batch: .*no module 'my_plugin'.*the same packages"):
        engine.map_rows([rows(UnreadableWork(), range(4))], store, no_progress)
    assert engine.counts["lost_workers"] == lost_before


def test_a_cluster_without_a_place_ends_the_run_with_one_sentence(engine, store, tmp_path):
    from dataclasses import dataclass

    from vlm_audio_pipeline.engines.ray_pool import WorkerPool

    @dataclass(frozen=True)
    class GpuWork(LoggedWork):
        uses_gpu = True

    engine._pools[True] = WorkerPool(uses_gpu=True, max_workers=None, patience_s=3)
    with pytest.raises(NotAvailable, match="the cluster had no free place for a worker with a GPU for 3 s"):
        engine.map_rows([rows(GpuWork(str(tmp_path / "log")), range(4))], store, no_progress)


@pytest.mark.parametrize("files", ["shared", "shipped"])
def test_recordings_are_shared_or_shipped(cluster, engine, store, tmp_path, files):
    """The nodes of this cluster share a disk, so the worker says where it reads."""
    from vlm_audio_pipeline.engines.ray import RayEngine

    engine._pools[False].close()
    paths = [tmp_path / f"{n}.wav" for n in range(6)]
    for path in paths:
        path.write_bytes(path.name.encode())
    shipping = RayEngine(cluster.address, patience_s=60, files=files)
    work = FileWork()
    rows_of_files = Rows([path.name for path in paths], paths, work, kind="test", batch_size=2)
    [payloads] = shipping.map_rows([rows_of_files], store, no_progress)
    texts = [payload.decode().split() for payload in payloads]
    assert [content for _, content in texts] == [path.name for path in paths]
    assert all((place == str(path)) == (files == "shared") for (place, _), path in zip(texts, paths, strict=True))
    shipping._pools[False].close()  # the module's engine goes on


def test_models_are_fetched_on_every_other_node(cluster, engine, tmp_path):
    graph = model_study_graph(tmp_path)
    graph.engine = engine
    nodes = len([node for node in engine.check_nodes() if node.state == "ok"]) - 1  # without that of this process
    assert nodes >= 2
    models = fetch_on_nodes(graph)
    assert Counter(model.name for model in models) == dict.fromkeys({model.name for model in models}, nodes)
    expected = {name: download(no_progress) for name, download in model_downloads(graph)}
    assert expected and {model.name for model in models} == expected.keys()
    assert all(model.error is None and model.revision in expected[model.name] for model in models)


def test_a_node_that_cannot_answer_is_an_error_of_its_own(engine):
    import threading

    calls = engine.call_everywhere(raise_not_available)
    assert len(calls) >= 2
    assert {(call.result, call.error) for call in calls} == {(None, "no weights here")}
    calls = engine.call_everywhere(partial(time.sleep, 30), timeout_s=0.5)
    assert {call.error for call in calls} == {"no answer for 0.5 s"}
    with pytest.raises(TypeError):  # a mistake of this program, not of a node
        engine.call_everywhere(threading.Lock())


def test_the_command_fetches_everywhere(cluster, engine, tmp_path):
    engine._pools[False].close()
    command = [sys.executable, "-m", "vlm_audio_pipeline", "fetch", "demo", "--everywhere", "--json"]
    options = ["--engine", f"ray://{cluster.address}", "--data", str(tmp_path / "data")]
    process = subprocess.run([*command, *options], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    nodes = json.loads(process.stdout)["nodes"]
    assert {"janus", "clap"} <= {model["name"] for model in nodes}
    assert {model["error"] for model in nodes} == {None}


def test_nodes_are_compared_with_this_machine(cluster, engine, monkeypatch):
    from vlm_audio_pipeline.engines import ray as module
    from vlm_audio_pipeline.engines.ray import node_differences
    from vlm_audio_pipeline.engines.ray_worker import describe_node

    assert not engine.has_gpu()
    deadline = time.monotonic() + 120
    while len(alive_nodes()) > 3:  # Ray notices after some seconds that a node of an earlier test was killed
        assert time.monotonic() < deadline
        time.sleep(0.5)
    checks = engine.check_nodes()
    assert [c.state for c in checks] == ["ok"] * 3  # the head and two nodes
    engine.refuse_different_nodes()
    here = describe_node()
    monkeypatch.setattr(
        module, "node_differences", lambda _, there: node_differences(here | {"torch": "1.0", "GPU": "x"}, there)
    )
    with pytest.raises(
        VlmAudioError, match=r"differs from this machine: torch \S+ instead of 1\.0; install the same versions"
    ):
        engine.refuse_different_nodes()
