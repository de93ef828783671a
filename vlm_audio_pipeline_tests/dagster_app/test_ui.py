"""The Dagster UI as a person meets it: the command starts it, "Materialize all" runs a study, Ctrl-C ends it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import PIL.Image
import pytest

from vlm_audio_pipeline.dagster_app.serving import free_port
from vlm_audio_pipeline.storage.partition_files import read_partition
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.bench import Bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LOCATION = "vlm_audio_pipeline.dagster_app.definitions"
FIELDS = "assetKey {path} isMaterializable isPartitioned"
STEPS = {
    "clips": 3,
    "embeddings/bands": 3,
    "probes/probe": 3,
    "predictions/probe": 3,
    "predictions/knn": 3,
    "predictions/panel": 3,
    "metrics/probe": 1,
    "metrics/knn": 1,
    "metrics/panel": 1,
    "leaderboard": 1,
    "embedding_quality/bands": 1,
    "projections/bands": 1,
    "leakage": 1,
    "published": 1,
    "history": 1,
    "report": 1,
}
"""The steps of the small study, each with its number of parts: 3 folds, or one over all."""


class Ui:
    """`vlm-audio ui` in a process group of its own."""

    def __init__(self, bench: Bench, log: Path):
        self.bench, self.port, self.log = bench, free_port(), log
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER", "VLM_AUDIO"))}
        self.command = [sys.executable, "-m", "vlm_audio_pipeline.cli.main"]
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [
                    *self.command,
                    "ui",
                    str(bench.write()),
                    "--port",
                    str(self.port),
                    "--data",
                    str(bench.data_folder.root),
                ],
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
            )
        self.until(lambda: self.get("/server_info"), "answered", 120)
        self.until(lambda: self.locations(), "loaded its definitions", 120)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path: str, body: bytes | None = None) -> dict:
        request = urllib.request.Request(self.url(path), body, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def ask(self, query: str, **variables) -> dict:
        answer = self.get("/graphql", json.dumps({"query": query, "variables": variables}).encode())
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def locations(self) -> list[dict]:
        asked = """{workspaceOrError {... on Workspace {locationEntries {
            name loadStatus locationOrLoadError {__typename ... on PythonError {message}}}}}}"""
        return self.ask(asked)["workspaceOrError"]["locationEntries"]

    def assets(self, fields: str, keys: list[dict] | None = None) -> dict[str, dict]:
        """Give fields of all assets, or of some, by their keys as text."""
        asked = f"query ($keys: [AssetKeyInput!]) {{assetNodes(assetKeys: $keys) {{{FIELDS} {fields}}}}}"
        nodes = self.ask(asked, keys=keys)["assetNodes"]
        return {"/".join(n["assetKey"]["path"]): n for n in nodes}

    def until(self, happens, what: str, seconds: float):
        """Wait for something to be true; gives it."""
        end = time.monotonic() + seconds
        while True:
            try:
                if there := happens():
                    return there
            except OSError:
                pass  # not listening yet
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"has not {what} in {seconds} s\n{self.log.read_text()}"
            time.sleep(0.3)

    def processes(self) -> list[str]:
        """Give the command lines of all processes that work for this data folder, whatever their parents."""
        mark = f"VLM_AUDIO_DATA={self.bench.data_folder.root}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:120])
            except OSError:
                continue  # it ended meanwhile
        return found


def whole(folder: Path) -> Bench:
    """Give the small study with readings of every clip, so that every check of every table passes."""
    bench = Bench(folder)
    readings = [f"{r['id']},{annotator},{r['label']}" for r in bench.rows for annotator in ("ann", "bob")]
    (folder / "annotations.csv").write_text("\n".join(["clip,annotator,label", *readings]) + "\n")
    return bench


@pytest.fixture(scope="module")
def ui(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ui")
    ui = Ui(whole(folder / "bench"), folder / "log")
    yield ui
    for _ in range(2):  # the second stops it at once
        if ui.process.poll() is None:
            ui.process.send_signal(signal.SIGTERM)
            time.sleep(1)
    ui.process.wait(timeout=60)


@pytest.fixture(scope="module")
def materialized(ui):
    """The study after "Materialize all" with every partition, as the button does it."""
    keys = [n["assetKey"] for n in ui.assets("").values() if n["isMaterializable"]]
    started = ui.ask(
        """mutation ($params: LaunchBackfillParams!) {launchPartitionBackfill(backfillParams: $params) {
            __typename ... on LaunchBackfillSuccess {backfillId}}}""",
        params={"assetSelection": keys, "allPartitions": True},
    )["launchPartitionBackfill"]
    assert started["__typename"] == "LaunchBackfillSuccess", started
    asked = "query ($id: String!) {partitionBackfillOrError(backfillId: $id) {... on PartitionBackfill {status}}}"

    def status() -> str:
        now = ui.ask(asked, id=started["backfillId"])["partitionBackfillOrError"]["status"]
        assert now in ("REQUESTED", "COMPLETED_SUCCESS"), f"{now}\n{ui.log.read_text()}"
        return now

    ui.until(lambda: status() == "COMPLETED_SUCCESS", "made everything", 300)
    return ui


def test_the_study_is_loaded_and_described(ui):
    assert ui.locations() == [
        {"name": LOCATION, "loadStatus": "LOADED", "locationOrLoadError": {"__typename": "RepositoryLocation"}}
    ]
    assets = ui.assets(
        """groupName kinds description partitionKeys
        owners {... on TeamAssetOwner {team} ... on UserAssetOwner {email}}"""
    )
    made = {key: a for key, a in assets.items() if a["isMaterializable"]}
    assert set(made) == {f"bench/{step}" for step in STEPS}
    dataset, readings = sorted(set(assets) - set(made), reverse=True)
    assert (dataset.startswith("datasets/"), readings) == (True, "bench/annotations/panel")
    for key, asset in made.items():
        parts = STEPS[key.removeprefix("bench/")]
        assert asset["partitionKeys"] == (["1", "2", "3"] if parts == 3 else []), key
        assert asset["groupName"] == "bench"
        assert asset["owners"] == [{"team": "vlm_audio_pipeline"}]
        assert {"parquet", "python"} <= set(asset["kinds"])
        assert len(asset["description"]) > 20
    assert assets[dataset]["partitionKeys"] == ["1", "2", "3"]


def test_materialize_all_makes_everything(materialized):
    assets = materialized.assets(
        """partitionStats {numMaterialized numPartitions numFailed} assetMaterializations(limit: 1) {runId}
        assetChecksOrError {... on AssetChecks {checks {name
            executionForLatestMaterialization {status evaluation {success}}}}}"""
    )
    for step, parts in STEPS.items():
        asset = assets[f"bench/{step}"]
        assert asset["assetMaterializations"], step
        if parts == 3:
            assert asset["partitionStats"] == {"numMaterialized": 3, "numPartitions": 3, "numFailed": 0}, step
        checks = asset["assetChecksOrError"]["checks"]
        assert checks, step
        for check in checks:
            execution = check["executionForLatestMaterialization"]
            assert execution["status"] == "SUCCEEDED" and execution["evaluation"]["success"], (step, check)


def test_everything_is_fresh_for_the_ui(materialized):
    made = [a for a in materialized.assets("").values() if a["isMaterializable"]]
    by_fold = materialized.assets("staleStatusByPartition", [a["assetKey"] for a in made if a["isPartitioned"]])
    assert {k: a["staleStatusByPartition"] for k, a in by_fold.items()} == {
        f"bench/{step}": ["FRESH"] * 3 for step, parts in STEPS.items() if parts == 3
    }
    over_folds = materialized.assets("staleStatus", [a["assetKey"] for a in made if not a["isPartitioned"]])
    assert {k: a["staleStatus"] for k, a in over_folds.items()} == {
        f"bench/{step}": "FRESH" for step, parts in STEPS.items() if parts == 1
    }


def test_the_command_makes_the_same_tables(materialized, tmp_path):
    ours, twin = materialized.bench, whole(tmp_path / "twin")
    assert not twin.run(only=("*",)).report.failed  # what is made on demand, too
    parts = 0
    for node in ours.graph().nodes:
        theirs = twin.graph().partition_files(node)
        for table, path in ours.graph().partition_files(node).items():
            (made, footer), (expected, wanted) = (read_partition(p, TABLES[table]) for p in (path, theirs[table]))
            columns = TABLES[table].content_columns
            assert made.select(columns).equals(expected.select(columns)), (node, table)
            assert (footer.version, footer.inputs, footer.data_version) == (
                wanted.version,
                wanted.inputs,
                wanted.data_version,
            ), node
            parts += 1
    assert parts > sum(STEPS.values())


def test_the_command_finds_nothing_left_to_do(materialized):
    bench = materialized.bench
    done = subprocess.run(
        [*materialized.command, "run", str(bench.folder / "bench.yaml"), "--data", str(bench.data_folder.root)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\n0 steps, 0 runs" in done.stdout
    assert f"{sum(STEPS.values())} fresh, 0 to do" in done.stdout


def screenshot(url: str, out: Path, profile: Path) -> None:
    flags = [
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
        *(f"--user-data-dir={profile}", "--virtual-time-budget=15000", "--window-size=1600,1200"),
    ]
    subprocess.run(["chromium", *flags, f"--screenshot={out}", url], check=True, capture_output=True, timeout=120)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_asset_graph_is_drawn(materialized, tmp_path):
    page = f"/locations/{LOCATION}/asset-groups/bench/lineage"
    out = tmp_path / "graph.png"
    screenshot(materialized.url(page), out, tmp_path / "profile")
    if "UI_SCREENSHOT" in os.environ:
        shutil.copy(out, os.environ["UI_SCREENSHOT"])
    with PIL.Image.open(out) as image:
        assert (image.format, image.size) == ("PNG", (1600, 1200))
        canvas = image.convert("RGB").crop((240, 165, 1555, 1200))  # without the bars at the left, top and right
    assert len(canvas.getcolors(canvas.width * canvas.height)) > 500  # folded groups have under 400, an empty page few


def test_interrupting_it_ends_every_process_within_30_seconds(ui):
    assert len(ui.processes()) >= 4  # dagster dev, webserver, daemon, code server
    os.killpg(ui.process.pid, signal.SIGINT)  # as Ctrl-C in a terminal
    ui.process.wait(timeout=30)
    assert ui.process.returncode == 0, ui.log.read_text()
    assert ui.processes() == []
