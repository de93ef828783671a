"""The Dagster UI: the command starts it, "Materialize all" runs a study, Ctrl-C ends it."""

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
    "history": 1,
    "report": 1,
}
"""The steps of the small study, each with its number of nodes: one for each of 3 folds, or one over all folds."""


def asset_key(step: str) -> str:
    """Return the asset key of a step of the small study: "bench/bands_embeddings" for "embeddings/bands"."""
    table, _, component = step.partition("/")
    return f"bench/{component}_{table}" if component else f"bench/{table}"


class Ui:
    """`vlm-audio ui` in its own process group.

    Args:
        bench: the study.
        log: file for the output of the processes.
        variables: environment variables of the program.
    """

    def __init__(self, bench: Bench, log: Path, **variables: str):
        self.bench, self.port, self.log = bench, free_port(), log
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER", "VLM_AUDIO"))} | variables
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
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def query_graphql(self, query: str, **variables) -> dict:
        response = self.get("/graphql", json.dumps({"query": query, "variables": variables}).encode())
        assert "errors" not in response, response["errors"]
        return response["data"]

    def locations(self) -> list[dict]:
        graphql_query = """{workspaceOrError {... on Workspace {locationEntries {
            name loadStatus locationOrLoadError {__typename ... on PythonError {message}}}}}}"""
        return self.query_graphql(graphql_query)["workspaceOrError"]["locationEntries"]

    def assets(self, fields: str, keys: list[dict] | None = None) -> dict[str, dict]:
        """Return the fields of all assets or of the given ones, by key."""
        graphql_query = f"query ($keys: [AssetKeyInput!]) {{assetNodes(assetKeys: $keys) {{{FIELDS} {fields}}}}}"
        nodes = self.query_graphql(graphql_query, keys=keys)["assetNodes"]
        return {"/".join(n["assetKey"]["path"]): n for n in nodes}

    def until(self, condition, event: str, seconds: float):
        """Wait until `condition()` is true and return its value."""
        end = time.monotonic() + seconds
        while True:
            try:
                if value := condition():
                    return value
            except OSError:
                pass  # not listening yet
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"has not {event} in {seconds} s\n{self.log.read_text()}"
            time.sleep(0.3)

    def processes(self) -> list[str]:
        """Return the command lines of all processes that use this data folder."""
        variable = f"VLM_AUDIO_DATA={self.bench.data_folder.root}".encode()
        command_lines = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if variable in (folder / "environ").read_bytes().split(b"\0"):
                    command_lines.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:120])
            except OSError:
                continue  # the process has ended
        return command_lines


def fully_annotated_bench(folder: Path) -> Bench:
    """Return the small study with annotations of every clip, so that all checks of all tables pass."""
    bench = Bench(folder)
    annotations = [f"{r['id']},{annotator},{r['label']}" for r in bench.rows for annotator in ("ann", "bob")]
    (folder / "annotations.csv").write_text("\n".join(["clip,annotator,label", *annotations]) + "\n")
    return bench


@pytest.fixture(scope="module")
def ui(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ui")
    ui = Ui(fully_annotated_bench(folder / "bench"), folder / "log")
    yield ui
    for _ in range(2):  # the second signal stops it immediately
        if ui.process.poll() is None:
            ui.process.send_signal(signal.SIGTERM)
            time.sleep(1)
    ui.process.wait(timeout=60)


@pytest.fixture(scope="module")
def materialized(ui):
    """The study after "Materialize all" with every partition."""
    keys = [n["assetKey"] for n in ui.assets("").values() if n["isMaterializable"]]
    started = ui.query_graphql(
        """mutation ($params: LaunchBackfillParams!) {launchPartitionBackfill(backfillParams: $params) {
            __typename ... on LaunchBackfillSuccess {backfillId}}}""",
        params={"assetSelection": keys, "allPartitions": True},
    )["launchPartitionBackfill"]
    assert started["__typename"] == "LaunchBackfillSuccess", started
    graphql_query = (
        "query ($id: String!) {partitionBackfillOrError(backfillId: $id) {... on PartitionBackfill {status}}}"
    )

    def status() -> str:
        current = ui.query_graphql(graphql_query, id=started["backfillId"])["partitionBackfillOrError"]["status"]
        assert current in ("REQUESTED", "COMPLETED_SUCCESS"), f"{current}\n{ui.log.read_text()}"
        return current

    ui.until(lambda: status() == "COMPLETED_SUCCESS", "materialized everything", 300)
    return ui


def test_the_study_is_loaded_and_described(ui):
    assert ui.locations() == [
        {"name": LOCATION, "loadStatus": "LOADED", "locationOrLoadError": {"__typename": "RepositoryLocation"}}
    ]
    assets = ui.assets(
        """groupName kinds description partitionKeys
        owners {... on TeamAssetOwner {team} ... on UserAssetOwner {email}}"""
    )
    materializable = {key: a for key, a in assets.items() if a["isMaterializable"]}
    assert set(materializable) == set(map(asset_key, STEPS))
    dataset, annotations = sorted(set(assets) - set(materializable), reverse=True)
    assert (dataset.startswith("datasets/"), annotations) == (True, "bench/panel_annotations")
    for key, asset in materializable.items():
        node_count = {asset_key(step): count for step, count in STEPS.items()}[key]
        assert asset["partitionKeys"] == (["1", "2", "3"] if node_count == 3 else []), key
        assert asset["groupName"] == "bench"
        assert asset["owners"] == [{"team": "vlm_audio_pipeline"}]
        assert {"parquet", "python"} <= set(asset["kinds"])
        assert len(asset["description"]) > 20
    assert assets[dataset]["partitionKeys"] == ["1", "2", "3"]


def test_materialize_all_materializes_every_step(materialized):
    assets = materialized.assets(
        """partitionStats {numMaterialized numPartitions numFailed} assetMaterializations(limit: 1) {runId}
        assetChecksOrError {... on AssetChecks {checks {name
            executionForLatestMaterialization {status evaluation {success}}}}}"""
    )
    for step, node_count in STEPS.items():
        asset = assets[asset_key(step)]
        assert asset["assetMaterializations"], step
        if node_count == 3:
            assert asset["partitionStats"] == {"numMaterialized": 3, "numPartitions": 3, "numFailed": 0}, step
        checks = asset["assetChecksOrError"]["checks"]
        assert checks, step
        for check in checks:
            execution = check["executionForLatestMaterialization"]
            assert execution["status"] == "SUCCEEDED" and execution["evaluation"]["success"], (step, check)


def test_the_folds_of_the_dataset_are_filled_and_runs_hide_their_process(materialized):
    datasets = materialized.assets("partitionStats {numMaterialized numPartitions}")
    (stats,) = [asset["partitionStats"] for key, asset in datasets.items() if key.startswith("datasets/")]
    assert stats == {"numMaterialized": 3, "numPartitions": 3}
    runs = materialized.query_graphql("{runsOrError {... on Runs {results {tags {key}}}}}")["runsOrError"]["results"]
    keys = {tag["key"] for run in runs for tag in run["tags"]}
    assert "study" in keys and not any("process" in key for key in keys)


def test_the_ui_shows_every_step_as_fresh(materialized):
    materializable = [a for a in materialized.assets("").values() if a["isMaterializable"]]
    by_fold = materialized.assets(
        "staleStatusByPartition", [a["assetKey"] for a in materializable if a["isPartitioned"]]
    )
    assert {k: a["staleStatusByPartition"] for k, a in by_fold.items()} == {
        asset_key(step): ["FRESH"] * 3 for step, node_count in STEPS.items() if node_count == 3
    }
    over_folds = materialized.assets("staleStatus", [a["assetKey"] for a in materializable if not a["isPartitioned"]])
    assert {k: a["staleStatus"] for k, a in over_folds.items()} == {
        asset_key(step): "FRESH" for step, node_count in STEPS.items() if node_count == 1
    }


def test_the_command_computes_the_same_tables(materialized, tmp_path):
    ui_bench, command_bench = materialized.bench, fully_annotated_bench(tmp_path / "twin")
    assert not command_bench.run(only=("*",)).report.failed  # including steps on demand
    file_count = 0
    for node in ui_bench.graph().nodes:
        expected_files = command_bench.graph().partition_files(node)
        for table, path in ui_bench.graph().partition_files(node).items():
            (rows, provenance), (expected, expected_provenance) = (
                read_partition(p, TABLES[table]) for p in (path, expected_files[table])
            )
            columns = TABLES[table].content_columns
            assert rows.select(columns).equals(expected.select(columns)), (node, table)
            assert (provenance.version, provenance.inputs, provenance.data_version) == (
                expected_provenance.version,
                expected_provenance.inputs,
                expected_provenance.data_version,
            ), node
            file_count += 1
    assert file_count > sum(STEPS.values())


def test_the_command_has_nothing_to_do_afterwards(materialized):
    bench = materialized.bench
    done = subprocess.run(
        [*materialized.command, "run", str(bench.folder / "bench.yaml"), "--data", str(bench.data_folder.root)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\n0 steps, 0 runs" in done.stdout
    assert f"{sum(STEPS.values())} fresh, 0 to do" in done.stdout


def screenshot(url: str, screenshot_file: Path, profile: Path) -> None:
    flags = [
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
        *(f"--user-data-dir={profile}", "--virtual-time-budget=15000", "--window-size=1600,1200"),
    ]
    subprocess.run(
        ["chromium", *flags, f"--screenshot={screenshot_file}", url], check=True, capture_output=True, timeout=120
    )


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_asset_graph_is_displayed(materialized, tmp_path):
    page = f"/locations/{LOCATION}/asset-groups/bench/lineage"
    screenshot_file = tmp_path / "graph.png"
    screenshot(materialized.url(page), screenshot_file, tmp_path / "profile")
    if "UI_SCREENSHOT" in os.environ:
        shutil.copy(screenshot_file, os.environ["UI_SCREENSHOT"])
    with PIL.Image.open(screenshot_file) as image:
        assert (image.format, image.size) == ("PNG", (1600, 1200))
        canvas = image.convert("RGB").crop((240, 165, 1555, 1200))  # without the bars at the left, top and right
    # collapsed groups have fewer than 400 colours, an empty page only a few
    assert len(canvas.getcolors(canvas.width * canvas.height)) > 500


def test_ctrl_c_ends_every_process_within_30_seconds(ui):
    assert len(ui.processes()) >= 4  # dagster dev, webserver, daemon, code server
    os.killpg(ui.process.pid, signal.SIGINT)  # like Ctrl-C in a terminal
    ui.process.wait(timeout=30)
    assert ui.process.returncode == 0, ui.log.read_text()
    assert ui.processes() == []
