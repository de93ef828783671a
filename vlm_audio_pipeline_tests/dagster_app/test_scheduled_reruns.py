"""Scheduled reruns with a live webserver and daemon: after a model changes, results are recomputed automatically."""

import os
import time
from pathlib import Path

import pytest

from vlm_audio_pipeline.dagster_app.sensors import IN_PROGRESS
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import make_plan
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.planning.scheduled_reruns import paid_steps_not_allowed
from vlm_audio_pipeline.planning.staleness import current_input_versions, read_node_provenance
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline_tests import killable
from vlm_audio_pipeline_tests.bench import Bench
from vlm_audio_pipeline_tests.dagster_app.test_ui import Ui
from vlm_audio_pipeline_tests.encoders import checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PLUGIN = "from vlm_audio_pipeline_tests.killable import register\n\nregister()\n"
PREDICTIONS = "SELECT clip, scores FROM predictions WHERE classifier = 'linear_probe' ORDER BY clip"


def install_paid_classifier(folder: Path) -> Path:
    """Install a package in a folder; its entry point registers a classifier that may cost money."""
    (folder / "costly.py").write_text(PLUGIN)
    info = folder / "costly-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: costly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vlm_audio_pipeline.classifiers]\ncostly = costly\n")
    return folder


def write_model(folder: Path, seed: int) -> None:
    """Replace the weights in a folder; each file is replaced atomically."""
    new_folder = folder.with_name(f"{folder.name}.{seed}")
    new_folder.mkdir()
    checkpoints.checkpoint(checkpoints.AST, seed)(new_folder)
    folder.mkdir(exist_ok=True)
    for path in new_folder.iterdir():
        os.replace(path, folder / path.name)


class ScheduledBench(Bench):
    """Two folds, an encoder from a local folder and a paid classifier, with a refresh every minute."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.rows = [row for row in self.rows if row["fold"] in (1, 2)]
        write_model(folder / "model", seed=1)
        self.study["renderings"] = {"small": {"size": 24, "n_fft": 256, "hop_length": 128, "rate": 8000}}
        self.study["encoders"] = {"audio_model": {"kind": "audio", "model": "./model", "device": "cpu"}}
        self.study["classifiers"] = {
            "linear_probe": {"kind": "probe", "encoder": "audio_model", "c": 1.0},
            "paid": {"kind": "counted_paid", "rendering": "small"},
        }
        self.study["rerun"] = {"schedule": "* * * * *"}
        self.study["budget"] = {"usd": 5}

    @property
    def work(self) -> str:
        log = self.folder / "work"
        return log.read_text() if log.exists() else ""

    def inputs_of(self, step: str, fold: int | None = None) -> dict[str, str] | None:
        provenance = read_node_provenance(self.graph(), Node(step, fold))
        return provenance and provenance.inputs

    def stale(self) -> dict:
        graph = self.graph()
        return make_plan(graph, current_input_versions(graph), set(graph.nodes), paid_steps_not_allowed(graph)).todo


@pytest.fixture(scope="module")
def scheduled_ui(tmp_path_factory):
    """A study whose free steps were run; the daemon then runs its scheduled reruns."""
    folder = tmp_path_factory.mktemp("scheduled")
    before = dict(os.environ)
    path = [str(install_paid_classifier(folder)), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    killable.register()
    bench = ScheduledBench(folder / "bench")
    graph = bench.graph()
    paid_nodes = {node for node in graph.nodes if node.step == "predictions/paid"}
    assert paid_nodes and not run_study(graph, set(graph.nodes) - paid_nodes).failed
    # The sensor looks at each pass of the daemon (every 5 s), and the components log their work.
    ui = Ui(bench, folder / "log", VLM_AUDIO_SENSOR_INTERVAL_S="2", VLM_AUDIO_TEST_WORK=str(bench.folder / "work"))
    yield ui
    ui.process.terminate()
    ui.process.wait(timeout=60)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def families():
    killable.register()


def runs(ui, **filters) -> list[dict]:
    graphql_query = (
        "query ($filter: RunsFilter) {runsOrError(filter: $filter) {... on Runs {results {runId status jobName}}}}"
    )
    return ui.query_graphql(graphql_query, filter=filters)["runsOrError"]["results"]


def refresh_count(ui) -> int:
    """Return the number of finished refreshes."""
    return sum(run["status"] == "SUCCESS" for run in runs(ui, pipelineName="bench_refresh"))


def step_runs(ui) -> list[dict]:
    return [run for run in runs(ui) if run["jobName"] != "bench_refresh"]


def all_ended(selected_runs: list[dict]) -> bool:
    return not {run["status"] for run in selected_runs} & {status.value for status in IN_PROGRESS}


def states(ui) -> dict[str, str]:
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "vlm_audio_pipeline.dagster_app.definitions",
    }
    graphql_query = """query ($where: RepositorySelector!) {repositoryOrError(repositorySelector: $where) {... on Repository {
        schedules {name scheduleState {status}} sensors {name sensorState {status}}}}}"""
    response = ui.query_graphql(graphql_query, where=selector)["repositoryOrError"]
    return {s["name"]: s["scheduleState"]["status"] for s in response["schedules"]} | {
        s["name"]: s["sensorState"]["status"] for s in response["sensors"]
    }


def test_after_a_model_change_results_are_recomputed_automatically(scheduled_ui):
    ui, bench = scheduled_ui, scheduled_ui.bench
    assert states(ui) == {"bench_schedule": "RUNNING", "bench_sensor": "RUNNING"}
    old_inputs = {step: bench.inputs_of(step) for step in ("metrics/linear_probe", "leaderboard", "report")}
    predictions = query(bench.data_folder, PREDICTIONS)
    start_time = time.monotonic()
    write_model(bench.folder / "model", seed=2)
    assert {str(node) for node in bench.stale()} == {"embeddings/audio_model|1", "embeddings/audio_model|2"}
    ui.until(lambda: not bench.stale(), "recomputed everything", 600)
    print(f"all recomputed {time.monotonic() - start_time:.0f} s after the model changed")  # noqa: T201
    assert not query(bench.data_folder, PREDICTIONS).equals(predictions)
    for fold in (1, 2):
        (model,) = {v for k, v in bench.inputs_of("embeddings/audio_model", fold).items() if k.startswith("models/")}
        assert model == bench.graph().study.encoders["audio_model"].weights_revision
    assert all(bench.inputs_of(step) != inputs for step, inputs in old_inputs.items())
    # the last partition file is written shortly before its run ends
    ui.until(lambda: all_ended(step_runs(ui)), "ended every run", 120)
    assert {run["status"] for run in step_runs(ui)} == {"SUCCESS"}, ui.log.read_text()


def test_the_next_refresh_without_changes_runs_nothing(scheduled_ui):
    ui, bench = scheduled_ui, scheduled_ui.bench
    ui.until(lambda: all_ended(runs(ui)), "finished", 120)
    before, count = step_runs(ui), refresh_count(ui)
    modification_times = {path: path.stat().st_mtime_ns for path in bench.data_folder.tables.rglob("part-*.parquet")}
    ui.until(lambda: refresh_count(ui) > count, "finished a refresh", 200)
    time.sleep(12)  # until the next evaluation of the sensor
    assert step_runs(ui) == before
    assert {
        path: path.stat().st_mtime_ns for path in bench.data_folder.tables.rglob("part-*.parquet")
    } == modification_times


def test_paid_steps_do_not_run_without_permission(scheduled_ui):
    bench = scheduled_ui.bench
    assert "response" not in bench.work
    assert all(read_node_provenance(bench.graph(), Node("predictions/paid", fold)) is None for fold in (1, 2))
    note = query(bench.data_folder, "SELECT accuracy, note FROM leaderboard WHERE classifier = 'paid'").to_pylist()
    assert note[0]["accuracy"] is None


def switch_off(ui, name: str) -> None:
    kind = "Schedule" if name.endswith("schedule") else "Sensor"
    graphql_query = f"""query ($where: {kind}Selector!) {{{kind.lower()}OrError({kind.lower()}Selector: $where) {{
        ... on {kind} {{id}}}}}}"""
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "vlm_audio_pipeline.dagster_app.definitions",
    }
    response = ui.query_graphql(graphql_query, where={**selector, f"{kind.lower()}Name": name})[
        f"{kind.lower()}OrError"
    ]
    stop = "stopRunningSchedule" if kind == "Schedule" else "stopSensor"
    ui.query_graphql(f"mutation ($id: String!) {{{stop}(id: $id) {{__typename}}}}", id=response["id"])


def test_schedule_and_sensor_can_be_stopped(scheduled_ui):
    ui = scheduled_ui

    def stop_all() -> bool:
        """Stop all running schedules and sensors. A tick may restore the state that it read before, so try again."""
        running = [name for name, state in states(ui).items() if state == "RUNNING"]
        for name in running:
            switch_off(ui, name)
        return not running

    ui.until(stop_all, "stopped", 60)
    time.sleep(12)  # until the next evaluation of the sensor
    assert set(states(ui).values()) == {"STOPPED"}
