"""The fault matrix: killed at every named point and at seeded moments, nothing is lost, and little is done twice."""

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
"""The most of each kind of work in flight: batches of the encoder and of answers go one at a time; recordings are measured in
batches of 8, two a core queued at most, on the two cores of a small machine; the images of a fold take less than the time
after which they are kept."""
KILLS = int(os.environ.get("VLM_AUDIO_TEST_KILLS", "5"))
"""Kills at seeded moments; set the variable to 20 for the long test."""
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


class Study(Bench):
    """48 recordings, images, an encoder, and a classifier that asks about images."""

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
            "asked": {"kind": "asks", "rendering": "small"},
        }
        self.study["budget"] = {"usd": 1}
        self.write()

    def arguments(self):
        wanted = [a for name in ("knn", "asked", "leaderboard") for a in ("--only", name)]
        return ["run", self.folder / "bench.yaml", "--data", self.data_folder.root, *wanted]

    @property
    def log(self):
        return self.folder / "work"

    def work(self):
        """Count the work done so far, by kind."""
        return Counter(self.log.read_text().split()) if self.log.exists() else Counter()

    def tables(self):
        """Give every part that is there: its rows and the data version in its footer."""
        graph, found = self.graph(), {}
        for node in graph.nodes:
            if (there := read_node_provenance(graph, node)) is not None:
                for table, path in graph.partition_files(node).items():
                    rows = read_partition(path, TABLES[table])[0].select(TABLES[table].content_columns)
                    found[str(node), table] = (rows, there.data_version, there.inputs)
        return found


@pytest.fixture(scope="module")
def runner():
    runner = killable.Runner()
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, runner):
    """A study that ran alone; knows how long it took."""
    killable.register()
    study = Study(tmp_path_factory.mktemp("undisturbed") / "bench")
    started = time.monotonic()
    assert runner(study.arguments(), study.folder / "said", log=study.log) == 0, (study.folder / "said").read_text()
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
    """This process reads the study too."""
    killable.register()


def fresh_from(undisturbed, folder):
    """Give the same recordings and study in a data folder that does not exist yet."""
    twin = undisturbed.copied_to(folder)
    shutil.rmtree(twin.data_folder.root)
    twin.log.unlink()
    return twin


def assert_the_same(study, undisturbed, kills):
    here, there = study.tables(), undisturbed.tables()
    assert here.keys() == there.keys()
    for name, (rows, version, inputs) in there.items():
        assert here[name][0].equals(rows), name
        assert here[name][1:] == (version, inputs), name
    for kind, done in study.work().items():
        assert CLIPS <= done <= CLIPS + kills * BATCH[kind], (kind, done)


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point(undisturbed, runner, tmp_path, point):
    study = fresh_from(undisturbed, tmp_path / "bench")
    assert runner(study.arguments(), tmp_path / "said", fault=point, log=study.log) == -9, (
        tmp_path / "said"
    ).read_text()
    assert study.tables().keys() < undisturbed.tables().keys() or point == "catalogue:1"
    assert runner(study.arguments(), tmp_path / "said", log=study.log) == 0, (tmp_path / "said").read_text()
    assert_the_same(study, undisturbed, kills=1)
    if point == POINTS[-1]:
        assert runner(study.arguments(), tmp_path / "said", log=study.log) == 0
        assert "\n0 steps, 0 runs" in (tmp_path / "said").read_text()


def test_killed_at_the_report(undisturbed, runner, tmp_path):
    """The page is written and its part is not: results stand, and the page is made again, whole."""
    study = undisturbed.copied_to(tmp_path / "bench")
    arguments = [*study.arguments()[:4], "--only", "report"]
    assert runner(arguments, tmp_path / "said", fault="stage:report", log=study.log) == -9
    assert_the_same(study, undisturbed, kills=0)
    assert runner(arguments, tmp_path / "said", log=study.log) == 0, (tmp_path / "said").read_text()
    graph = study.graph()
    page = (
        study.data_folder.root
        / read_partition(graph.partition_files(Node("report"))["report"], TABLES["report"])[0]["file"][0].as_py()
    )
    assert page.read_text().rstrip().endswith("</html>")
    assert study.work() == undisturbed.work()
    assert runner(arguments, tmp_path / "said", log=study.log) == 0
    assert "\n0 steps, 0 runs" in (tmp_path / "said").read_text()


def test_killed_at_seeded_moments(undisturbed, runner, tmp_path):
    """Moments drawn over the length of an undisturbed run; who comes to the end begins anew in another data folder."""
    moments = random.Random(SEED)
    kills = finished = 0
    study = fresh_from(undisturbed, tmp_path / "bench0")
    since = 0
    while kills < KILLS:
        after_s = moments.uniform(0.0, 0.8) * undisturbed.seconds
        code = runner(study.arguments(), tmp_path / "said", after_s=after_s, log=study.log)
        assert code in (0, -9), (tmp_path / "said").read_text()
        if code == 0:
            assert_the_same(study, undisturbed, since)
            finished, since = finished + 1, 0
            study = fresh_from(undisturbed, tmp_path / f"bench{finished}")
        else:
            kills, since = kills + 1, since + 1
    assert runner(study.arguments(), tmp_path / "said", log=study.log) == 0, (tmp_path / "said").read_text()
    assert_the_same(study, undisturbed, since)


# ------------------------------------------------------------------------------------------------------------ downloads

CHUNK = 1 << 18  # bytes written between two looks at the fault
FETCH = "import sys; from vlm_audio_pipeline.encoders.weights import *; print(fetch_weights(Weights(sys.argv[1])))"


def python(code, *arguments, **environment):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)


def test_killed_while_weights_are_downloaded(tmp_path):
    """A file of 20 MB in chunks of 256 KiB: the 30th is the last that is there when the process dies."""
    weights = random.Random(SEED).randbytes(20_000_000)
    with Hub().running() as hub:
        commit = hub.publish("org/one", config_json="{}", preprocessor_config_json="{}", model_safetensors=weights)
        settings = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_DISABLE_XET": "1"}
        killed = python(FETCH, "org/one", **settings, VLM_AUDIO_FAULT="download:30")
        assert killed.returncode == -9, killed.stderr
        assert not (tmp_path / "hub" / "models--org--one" / "refs").exists()  # nothing half is on record
        done = python(FETCH, "org/one", **settings)
        assert done.stdout.strip() == commit, done.stderr
        assert hub.ranges == ["", "", f"bytes={30 * CHUNK}-"]  # a description, and twice the tensors
        hub.asked.clear()
        assert python(FETCH, "org/one", **settings).stdout.strip() == commit
        assert not any(line.startswith("GET") and "resolve" in line for line in hub.asked)
    snapshot = tmp_path / "hub" / "models--org--one" / "snapshots" / commit
    assert (snapshot / "model.safetensors").read_bytes() == weights
    assert not list((tmp_path / "hub").rglob("*.part"))


DOWNLOAD = """
import sys
from pathlib import Path
from vlm_audio_pipeline.datasets.download import download
download(sys.argv[1], Path(sys.argv[2]), None, 2_000_000)
"""


def test_killed_while_a_dataset_is_downloaded(tmp_path):
    """Anywhere on the way, and just after the last byte, when nothing is missing but the name."""
    content = random.Random(SEED).randbytes(8 * CHUNK)
    to = tmp_path / "archive.zip"
    with Hub().running() as hub:
        hub.publish("org/data", archive_zip=content)
        url = f"{hub.url}/org/data/resolve/main/archive.zip"
        for count, there in ((3, 3), (2, 5), (3, 8)):  # chunks before the kill, and in all
            killed = python(DOWNLOAD, url, to, VLM_AUDIO_FAULT=f"download:{count}")
            assert killed.returncode == -9 and not to.exists(), killed.stderr
            assert (tmp_path / "archive.zip.part").stat().st_size == there * CHUNK
        assert python(DOWNLOAD, url, to).returncode == 0
        assert hub.ranges == ["", f"bytes={3 * CHUNK}-", f"bytes={5 * CHUNK}-", f"bytes={8 * CHUNK}-"]
        assert to.read_bytes() == content
        assert python(DOWNLOAD, url, to).returncode == 0
        assert len(hub.ranges) == 4  # what is in place is not asked for again
