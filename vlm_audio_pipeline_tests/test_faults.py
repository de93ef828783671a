"""Processes killed at every kill point and at random times: no result is lost, and little is computed twice."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter

import pytest

from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.staleness import read_node_provenance
from vlm_audio_pipeline.storage.partition_files import read_partition
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests import killable
from vlm_audio_pipeline_tests.bench import PITCH, Bench
from vlm_audio_pipeline_tests.planning.hub_server import Hub

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TAKES = 12
FOLDS = (1, 2)
CLIPS = len(FOLDS) * len(PITCH) * TAKES  # 48
BATCH = {"vector": 2, "response": 2, "inspection": 2 * 8 * 2, "image": CLIPS // len(FOLDS)}
"""Maximum work in flight of each kind. The encoder and the language model have one batch in flight. Recordings are measured in
batches of 8, at most two for each core, on a machine with two cores. All images of a fold are rendered before the first
are stored."""
KILLS = int(os.environ.get("VLM_AUDIO_TEST_KILLS", "5"))
"""Number of kills at random times; set the variable to 20 for the long test."""
SEED = 8

POINTS = [
    "results:inspection:2",
    "image:20",
    "results:vector:1",
    "results:vector:13",
    "results:response:7",
    "partition_file:1",
    "partition_file:8",
    "stage:metrics",
    "stage:leaderboard",
    "catalogue:1",
]


class CountedStudy(Bench):
    """48 recordings, images, an encoder and a paid classifier of images."""

    def __init__(self, folder):
        super().__init__(folder)
        shutil.rmtree(self.audio)
        self.audio.mkdir()
        self.rows = []
        for fold in FOLDS:
            for label in PITCH:
                for take in range(TAKES):
                    name = f"{fold}-{label}-{take}"
                    self.record(name, label, seed=len(self.rows))
                    self.rows.append(
                        {"id": name, "path": f"audio/{name}.wav", "label": label, "fold": fold, "room": "a"}
                    )
        self.study["renderings"] = {"small": {"size": 24, "n_fft": 256, "hop_length": 128, "rate": 8000}}
        self.study["encoders"] = {"bands": {"kind": "counted", "dimensions": 4, "batch_size": 2}}
        self.study["classifiers"] = {
            "knn": {"kind": "knn", "encoder": "bands", "k": 3},
            "paid": {"kind": "counted_paid", "rendering": "small"},
        }
        self.study["budget"] = {"usd": 1}
        self.write()

    def arguments(self):
        only_options = [a for name in ("knn", "paid", "leaderboard") for a in ("--only", name)]
        return ["run", self.folder / "bench.yaml", "--data", self.data_folder.root, *only_options]

    @property
    def log(self):
        return self.folder / "work"

    def work(self):
        """Count the work done so far, by kind."""
        return Counter(self.log.read_text().split()) if self.log.exists() else Counter()

    def tables(self):
        """Return the rows, data version and inputs of every existing partition file."""
        graph, results = self.graph(), {}
        for node in graph.nodes:
            if (provenance := read_node_provenance(graph, node)) is not None:
                for table, path in graph.partition_files(node).items():
                    rows = read_partition(path, TABLES[table])[0].select(TABLES[table].content_columns)
                    results[str(node), table] = (rows, provenance.data_version, provenance.inputs)
        return results


@pytest.fixture(scope="module")
def runner():
    runner = killable.Runner()
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def complete_study(tmp_path_factory, runner):
    """A study that ran without a kill, with its duration in `seconds`."""
    killable.register()
    study = CountedStudy(tmp_path_factory.mktemp("complete") / "bench")
    started = time.monotonic()
    assert runner(study.arguments(), study.folder / "output", log=study.log) == 0, (study.folder / "output").read_text()
    study.seconds = time.monotonic() - started
    assert study.work() == dict.fromkeys(BATCH, CLIPS)
    assert {table for _, table in study.tables()} >= {
        "clips",
        "embeddings",
        "spectrograms",
        "predictions",
        "leaderboard",
    }
    return study


@pytest.fixture(autouse=True)
def families():
    """Register the counted components in this process too."""
    killable.register()


def without_results(complete_study, folder):
    """Return the same recordings and study with a data folder that does not exist yet."""
    duplicate = complete_study.copy_to(folder)
    shutil.rmtree(duplicate.data_folder.root)
    duplicate.log.unlink()
    return duplicate


def assert_equal_results(study, complete_study, kills):
    tables, expected_tables = study.tables(), complete_study.tables()
    assert tables.keys() == expected_tables.keys()
    for name, (rows, version, inputs) in expected_tables.items():
        assert tables[name][0].equals(rows), name
        assert tables[name][1:] == (version, inputs), name
    for kind, done in study.work().items():
        assert CLIPS <= done <= CLIPS + kills * BATCH[kind], (kind, done)


@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_a_kill_point_loses_nothing(complete_study, runner, tmp_path, point):
    study = without_results(complete_study, tmp_path / "bench")
    assert runner(study.arguments(), tmp_path / "output", fault=point, log=study.log) == -9, (
        tmp_path / "output"
    ).read_text()
    assert study.tables().keys() <= complete_study.tables().keys()
    if point != "catalogue:1":  # the catalogue is built after the last partition file
        assert study.tables().keys() < complete_study.tables().keys()
    assert runner(study.arguments(), tmp_path / "output", log=study.log) == 0, (tmp_path / "output").read_text()
    assert_equal_results(study, complete_study, kills=1)
    if point == POINTS[-1]:
        assert runner(study.arguments(), tmp_path / "output", log=study.log) == 0
        assert "\n0 steps, 0 runs" in (tmp_path / "output").read_text()


def test_a_run_killed_while_writing_the_report_loses_nothing(complete_study, runner, tmp_path):
    """The kill is after the page and before its partition file: results remain, and the next run writes the page again."""
    study = complete_study.copy_to(tmp_path / "bench")
    arguments = [*study.arguments()[:4], "--only", "report"]
    assert runner(arguments, tmp_path / "output", fault="stage:report", log=study.log) == -9
    assert_equal_results(study, complete_study, kills=0)
    assert runner(arguments, tmp_path / "output", log=study.log) == 0, (tmp_path / "output").read_text()
    graph = study.graph()
    page = (
        study.data_folder.root
        / read_partition(graph.partition_files(Node("report"))["report"], TABLES["report"])[0]["file"][0].as_py()
    )
    assert page.read_text().rstrip().endswith("</html>")
    assert study.work() == complete_study.work()
    assert runner(arguments, tmp_path / "output", log=study.log) == 0
    assert "\n0 steps, 0 runs" in (tmp_path / "output").read_text()


def test_runs_killed_at_random_times_lose_nothing(complete_study, runner, tmp_path):
    """Kill at random times within the duration of a full run. After a run that finishes, use a new data folder."""
    rng = random.Random(SEED)
    kills = finished = 0
    study = without_results(complete_study, tmp_path / "bench0")
    kills_in_folder = 0
    while kills < KILLS:
        after_s = rng.uniform(0.0, 0.8) * complete_study.seconds
        code = runner(study.arguments(), tmp_path / "output", after_s=after_s, log=study.log)
        assert code in (0, -9), (tmp_path / "output").read_text()
        if code == 0:
            assert_equal_results(study, complete_study, kills_in_folder)
            finished, kills_in_folder = finished + 1, 0
            study = without_results(complete_study, tmp_path / f"bench{finished}")
        else:
            kills, kills_in_folder = kills + 1, kills_in_folder + 1
    assert runner(study.arguments(), tmp_path / "output", log=study.log) == 0, (tmp_path / "output").read_text()
    assert_equal_results(study, complete_study, kills_in_folder)


# ------------------------------------------------------------------------------------------------------------ downloads

CHUNK = 1 << 18  # bytes between two kill points of a download
DOWNLOAD_POINT = "download:30"
FETCH = "import sys; from vlm_audio_pipeline.encoders.weights import *; print(fetch_weights(Weights(sys.argv[1])))"


def python(code, *arguments, **environment):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)


def test_a_killed_download_of_weights_continues(tmp_path):
    """A file of 20 MB in chunks of 256 KiB; the process is killed after the 30th chunk."""
    weights = random.Random(SEED).randbytes(20_000_000)
    with Hub().running() as hub:
        commit = hub.publish("org/one", config_json="{}", preprocessor_config_json="{}", model_safetensors=weights)
        settings = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_DISABLE_XET": "1"}
        killed = python(FETCH, "org/one", **settings, VLM_AUDIO_FAULT=DOWNLOAD_POINT)
        assert killed.returncode == -9, killed.stderr
        assert not (tmp_path / "hub" / "models--org--one" / "refs").exists()  # an incomplete download has no reference
        done = python(FETCH, "org/one", **settings)
        assert done.stdout.strip() == commit, done.stderr
        assert hub.ranges == ["", "", f"bytes={30 * CHUNK}-"]  # the configuration, and two requests for the tensors
        hub.requests.clear()
        assert python(FETCH, "org/one", **settings).stdout.strip() == commit
        assert not any(line.startswith("GET") and "resolve" in line for line in hub.requests)
    snapshot = tmp_path / "hub" / "models--org--one" / "snapshots" / commit
    assert (snapshot / "model.safetensors").read_bytes() == weights
    assert not list((tmp_path / "hub").rglob("*.part"))


DOWNLOAD = """
import sys
from pathlib import Path
from vlm_audio_pipeline.datasets.download import download
download(sys.argv[1], Path(sys.argv[2]), None, 2_000_000)
"""


def test_a_killed_download_of_a_dataset_continues(tmp_path):
    """Kill during the download, and after the last byte before the file is renamed."""
    content = random.Random(SEED).randbytes(8 * CHUNK)
    target = tmp_path / "archive.zip"
    with Hub().running() as hub:
        hub.publish("org/data", archive_zip=content)
        url = f"{hub.url}/org/data/resolve/main/archive.zip"
        for count, total_chunks in ((3, 3), (2, 5), (3, 8)):  # chunks before the kill, and chunks in total
            killed = python(DOWNLOAD, url, target, VLM_AUDIO_FAULT=f"download:{count}")
            assert killed.returncode == -9 and not target.exists(), killed.stderr
            assert (tmp_path / "archive.zip.part").stat().st_size == total_chunks * CHUNK
        assert python(DOWNLOAD, url, target).returncode == 0
        assert hub.ranges == ["", f"bytes={3 * CHUNK}-", f"bytes={5 * CHUNK}-", f"bytes={8 * CHUNK}-"]
        assert target.read_bytes() == content
        assert python(DOWNLOAD, url, target).returncode == 0
        assert len(hub.ranges) == 4  # a complete file is not requested again
