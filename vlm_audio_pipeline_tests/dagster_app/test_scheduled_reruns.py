"""A live webserver and daemon, and a study that reruns by itself: a model changes, and with no hand on it results are new."""

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
PREDICTIONS = "SELECT clip, scores FROM predictions WHERE classifier = 'line' ORDER BY clip"


def installed(folder: Path) -> Path:
    """Put a package into a folder whose entry point registers a classifier that may cost money."""
    (folder / "costly.py").write_text(PLUGIN)
    info = folder / "costly-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: costly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vlm_audio_pipeline.classifiers]\ncostly = costly\n")
    return folder


def write_model(folder: Path, seed: int) -> None:
    """Put other weights into a folder, whole or not at all, as a person would copy them there."""
    made = folder.with_name(f"{folder.name}.{seed}")
    made.mkdir()
    checkpoints.checkpoint(checkpoints.AST, seed)(made)
    folder.mkdir(exist_ok=True)
    for path in made.iterdir():
        os.replace(path, folder / path.name)


class LeftAlone(Bench):
    """Two folds, an encoder from a local folder, and a classifier that may cost money; looked at every minute."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.rows = [row for row in self.rows if row["fold"] in (1, 2)]
        write_model(folder / "model", seed=1)
        self.study["renderings"] = {"small": {"size": 24, "n_fft": 256, "hop_length": 128, "rate": 8000}}
        self.study["encoders"] = {"heard": {"kind": "audio", "model": "./model", "device": "cpu"}}
        self.study["classifiers"] = {
            "line": {"kind": "probe", "encoder": "heard", "c": 1.0},
            "asked": {"kind": "asks", "rendering": "small"},
        }
        self.study["rerun"] = {"schedule": "* * * * *"}
        self.study["budget"] = {"usd": 5}

    @property
    def work(self) -> str:
        log = self.folder / "work"
        return log.read_text() if log.exists() else ""

    def inputs_of(self, step: str, fold: int | None = None) -> dict[str, str] | None:
        there = read_node_provenance(self.graph(), Node(step, fold))
        return there and there.inputs

    def stale(self) -> dict:
        graph = self.graph()
        return make_plan(graph, current_input_versions(graph), set(graph.nodes), paid_steps_not_allowed(graph)).todo


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """The study, run by hand but for what costs money, and then left to the daemon."""
    folder = tmp_path_factory.mktemp("left_alone")
    before = dict(os.environ)
    path = [str(installed(folder)), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ |= {"PYTHONPATH": os.pathsep.join(path), "VLM_AUDIO_TEST_WORK": str(folder / "bench" / "work")}
    killable.register()
    bench = LeftAlone(folder / "bench")
    graph = bench.graph()
    asked = {node for node in graph.nodes if node.step == "predictions/asked"}
    assert asked and not run_study(graph, set(graph.nodes) - asked).failed
    ui = Ui(bench, folder / "log")
    yield ui
    ui.process.terminate()
    ui.process.wait(timeout=60)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def families():
    killable.register()


def runs(ui, **filters) -> list[dict]:
    asked = "query ($filter: RunsFilter) {runsOrError(filter: $filter) {... on Runs {results {runId status jobName}}}}"
    return ui.ask(asked, filter=filters)["runsOrError"]["results"]


def looks(ui) -> int:
    """Count the looks outside that are done."""
    return sum(run["status"] == "SUCCESS" for run in runs(ui, pipelineName="bench_refresh"))


def launched(ui) -> list[dict]:
    return [run for run in runs(ui) if run["jobName"] != "bench_refresh"]


def at_rest(these: list[dict]) -> bool:
    return not {run["status"] for run in these} & {status.value for status in IN_PROGRESS}


def states(ui) -> dict[str, str]:
    where = {"repositoryName": "__repository__", "repositoryLocationName": "vlm_audio_pipeline.dagster_app.definitions"}
    asked = """query ($where: RepositorySelector!) {repositoryOrError(repositorySelector: $where) {... on Repository {
        schedules {name scheduleState {status}} sensors {name sensorState {status}}}}}"""
    there = ui.ask(asked, where=where)["repositoryOrError"]
    return {s["name"]: s["scheduleState"]["status"] for s in there["schedules"]} | {
        s["name"]: s["sensorState"]["status"] for s in there["sensors"]
    }


def test_a_model_changes_and_with_no_hand_on_it_results_are_new(left_alone):
    ui, bench = left_alone, left_alone.bench
    assert states(ui) == {"bench_schedule": "RUNNING", "bench_sensor": "RUNNING"}
    old = {step: bench.inputs_of(step) for step in ("metrics/line", "leaderboard", "report")}
    predictions = query(bench.data_folder, PREDICTIONS)
    began = time.monotonic()
    write_model(bench.folder / "model", seed=2)
    assert {str(node) for node in bench.stale()} == {"embeddings/heard|1", "embeddings/heard|2"}
    ui.until(lambda: not bench.stale(), "made everything anew", 600)
    print(f"all anew {time.monotonic() - began:.0f} s after the model changed")  # noqa: T201
    assert not query(bench.data_folder, PREDICTIONS).equals(predictions)
    for fold in (1, 2):
        (model,) = {v for k, v in bench.inputs_of("embeddings/heard", fold).items() if k.startswith("models/")}
        assert model == bench.graph().study.encoders["heard"].weights_revision
    assert all(bench.inputs_of(step) != inputs for step, inputs in old.items())
    # the last part is written a moment before its run ends
    ui.until(lambda: at_rest(launched(ui)), "ended every run", 120)
    assert {run["status"] for run in launched(ui)} == {"SUCCESS"}, ui.log.read_text()


def test_the_next_tick_does_nothing(left_alone):
    ui, bench = left_alone, left_alone.bench
    ui.until(lambda: at_rest(runs(ui)), "come to rest", 120)
    before, count = launched(ui), looks(ui)
    parts = {path: path.stat().st_mtime_ns for path in bench.data_folder.tables.rglob("part-*.parquet")}
    ui.until(lambda: looks(ui) > count, "looked again", 200)
    time.sleep(12)  # the sensor's turn
    assert launched(ui) == before
    assert {path: path.stat().st_mtime_ns for path in bench.data_folder.tables.rglob("part-*.parquet")} == parts


def test_what_costs_money_was_not_touched(left_alone):
    bench = left_alone.bench
    assert "response" not in bench.work
    assert all(read_node_provenance(bench.graph(), Node("predictions/asked", fold)) is None for fold in (1, 2))
    note = query(bench.data_folder, "SELECT accuracy, note FROM leaderboard WHERE classifier = 'asked'").to_pylist()
    assert note[0]["accuracy"] is None


def switch_off(ui, name: str) -> None:
    kind = "Schedule" if name.endswith("schedule") else "Sensor"
    asked = f"""query ($where: {kind}Selector!) {{{kind.lower()}OrError({kind.lower()}Selector: $where) {{
        ... on {kind} {{id}}}}}}"""
    where = {"repositoryName": "__repository__", "repositoryLocationName": "vlm_audio_pipeline.dagster_app.definitions"}
    there = ui.ask(asked, where={**where, f"{kind.lower()}Name": name})[f"{kind.lower()}OrError"]
    stop = "stopRunningSchedule" if kind == "Schedule" else "stopSensor"
    ui.ask(f"mutation ($id: String!) {{{stop}(id: $id) {{__typename}}}}", id=there["id"])


def test_it_can_be_switched_off(left_alone):
    ui = left_alone

    def off() -> bool:
        """A tick of Dagster's writes back the state it read as it began: a switch that falls between is undone, so again."""
        running = [name for name, state in states(ui).items() if state == "RUNNING"]
        for name in running:
            switch_off(ui, name)
        return not running

    ui.until(off, "stopped", 60)
    time.sleep(12)  # the sensor's turn
    assert set(states(ui).values()) == {"STOPPED"}
