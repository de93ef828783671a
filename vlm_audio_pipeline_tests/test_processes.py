"""Several processes at the same time, interrupted and killed: no result is lost or computed twice."""

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlm_audio_pipeline.planning.planner import select_nodes
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.planning.staleness import read_node_provenance
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline_tests.bench import PITCH, Bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROGRAM = Path(sys.executable).with_name("vlm-audio")
FOLDS = (1, 2, 3, 4)
TAKES = 20  # of each class in each fold
CLIPS = len(FOLDS) * len(PITCH) * TAKES
BATCH = 4  # clips in one call of the encoder
TIMEOUT_S = 300  # s; a process that takes longer is killed


class LongStudy(Bench):
    """A bench that runs for some seconds: 160 recordings of 5 s, 4 folds, real features."""

    def __init__(self, folder):
        super().__init__(folder)
        shutil.rmtree(self.audio)
        self.audio.mkdir()
        self.rows = []
        for fold in FOLDS:
            for label in PITCH:
                for take in range(TAKES):
                    name = f"{fold}-{label}-{take}"
                    self.record(name, label, seed=len(self.rows), seconds=5)
                    self.rows.append(
                        {"id": name, "path": f"audio/{name}.wav", "label": label, "fold": fold, "room": "hall"}
                    )
        self.study["encoders"] = {
            "bands": {"kind": "features", "features": ["mfcc", "delta", "logmel"], "batch_size": BATCH}
        }
        del self.study["classifiers"]["panel"]
        self.write()

    def start(self, *arguments):
        """Start `vlm-audio run` in a new process."""
        return subprocess.Popen(
            [PROGRAM, "run", self.folder / "bench.yaml", "--data", self.data_folder.root, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, *arguments):
        """Run to the end and return the number of steps from the last line."""
        out, err = wait_for_output(process := self.start(*arguments))
        assert process.returncode == 0, err
        return steps_of(out)

    def vectors(self):
        """Return the number of vectors in the result store, read by a separate connection."""
        if not self.data_folder.result_store.exists():
            return 0
        try:
            with sqlite3.connect(f"file:{self.data_folder.result_store}?mode=ro", uri=True, timeout=60) as db:
                return db.execute("SELECT count(*) FROM results WHERE kind = 'vector'").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # the store is just being created
                return 0
            raise

    def wait_for_vectors(self, process, count):
        """Wait until `count` vectors are stored while the process runs."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.vectors() < count:
            assert process.poll() is None, f"the process ended early: {process.communicate()}"
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def versions(self):
        """Return the data version of every node of a normal run, from its partition files."""
        graph = self.graph()
        provenance_by_node = {str(node): read_node_provenance(graph, node) for node in select_nodes(graph)}
        return {name: provenance and provenance.data_version for name, provenance in provenance_by_node.items()}

    def leaderboard(self):
        return query(self.data_folder, "SELECT * FROM leaderboard ORDER BY classifier").to_pylist()


def wait_for_output(process):
    """Wait for a process and return its stdout and stderr."""
    try:
        return process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"the process hangs: {process.communicate()}")


def steps_of(out):
    """Read "N steps, M runs, S s"."""
    return int(out.rstrip("\n").splitlines()[-1].split(" steps, ")[0])


def sql(data_folder, query):
    outputs = subprocess.run(
        [PROGRAM, "sql", query, "--format", "json", "--data", data_folder.root],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert outputs.returncode == 0, outputs.stderr
    return json.loads(outputs.stdout)


SUMMARIES = 2 + 1 + 3  # 2 x metrics, leaderboard; quality of the embeddings, leakage, history
STEPS = 4 * 5 + SUMMARIES  # 4 folds x (clips, embeddings, probes, 2 x predictions)


@pytest.fixture(scope="module")
def complete_study(tmp_path_factory):
    """A long study that ran once without interruption."""
    bench = LongStudy(tmp_path_factory.mktemp("complete") / "bench")
    assert bench.finish() == STEPS
    return bench


@pytest.fixture
def fresh(complete_study, tmp_path):
    """The same recordings and study in a data folder that does not exist yet."""
    duplicate = complete_study.copy_to(tmp_path / "bench")
    shutil.rmtree(duplicate.data_folder.root)
    return duplicate


def assert_complete(bench, complete_study):
    """Compare a data folder with that of the complete run."""
    assert not run_study(bench.graph()).runs  # nothing left to do
    versions, expected_versions = bench.versions(), complete_study.versions()
    assert None not in versions.values()
    assert [name for name in expected_versions if versions[name] != expected_versions[name]] == []
    assert bench.leaderboard() == complete_study.leaderboard()
    assert bench.vectors() == CLIPS
    assert not list(bench.data_folder.tables.rglob(".*"))  # no temporary files remain
    counts = query(bench.data_folder, "SELECT count(*) AS n, count(DISTINCT clip) AS clips FROM predictions")
    assert counts.to_pylist() == [{"n": 2 * CLIPS, "clips": CLIPS}]


def test_four_folds_can_run_at_the_same_time(fresh, complete_study):
    processes = [fresh.start("--fold", str(fold)) for fold in FOLDS]
    outputs = [wait_for_output(p) for p in processes]
    assert [p.returncode for p in processes] == [0] * 4, outputs
    assert not any("Traceback" in err for _, err in outputs)
    # steps that folds share (clips, embeddings) were computed by one process and reused by the others
    fresh.finish()  # the summaries, if the last process that wrote them did not read all folds
    assert_complete(fresh, complete_study)
    assert fresh.finish() == 0, "the command, through Dagster, finds nothing to do either"


def test_four_targets_can_run_at_the_same_time(fresh, complete_study):
    targets = ["bands", "probe", "knn", "leaderboard"]
    processes = [fresh.start("--only", target) for target in targets]
    outputs = [wait_for_output(p) for p in processes]
    assert [p.returncode for p in processes] == [0] * 4, outputs
    fresh.finish()
    assert_complete(fresh, complete_study)


def test_two_identical_runs_can_run_at_the_same_time(fresh, complete_study):
    processes = [fresh.start(), fresh.start()]
    outputs = [wait_for_output(p) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    # a step runs in one process and is reused by the other; summaries may run again after their inputs change
    unshared_steps = STEPS - SUMMARIES
    assert unshared_steps <= sum(steps_of(out) for out, _ in outputs) <= unshared_steps + 3 * SUMMARIES
    assert_complete(fresh, complete_study)


def test_queries_work_while_a_run_writes(fresh, complete_study):
    process = fresh.start()
    while not fresh.data_folder.studies.exists():
        assert process.poll() is None
        time.sleep(0.01)
    row_counts = []
    while process.poll() is None:
        (row,) = sql(
            fresh.data_folder,
            "SELECT count(*) AS n, count(DISTINCT (clip, classifier)) AS distinct_rows, "
            "coalesce(sum((label = split_part(clip, '-', 2))::INT), 0) AS labels FROM predictions",
        )
        assert row["n"] == row["distinct_rows"] == row["labels"]
        assert row["n"] % (CLIPS // len(FOLDS)) == 0  # only complete partition files
        row_counts.append(row["n"])
    _, err = wait_for_output(process)
    assert process.returncode == 0, err
    assert len(row_counts) >= 2
    assert row_counts == sorted(row_counts)  # no row disappears
    assert_complete(fresh, complete_study)


@pytest.mark.parametrize("after", [1, CLIPS // 2, CLIPS - BATCH])
def test_ctrl_c_keeps_finished_work(fresh, complete_study, after):
    process = fresh.start()
    fresh.wait_for_vectors(process, after)
    process.send_signal(signal.SIGINT)
    _, err = wait_for_output(process)
    assert process.returncode == 130, err
    *progress, last_line = err.splitlines()
    assert last_line == "stopped; finished work is kept, and the same command continues from there"
    assert all(re.match(r"\[\d+/\d+\] \S+: [\d.]+ s$", line) for line in progress), err
    stored_before = fresh.vectors()
    assert stored_before >= after
    storage_times_before = storage_times(fresh)
    assert 0 < fresh.finish() <= STEPS
    assert storage_times(fresh).items() >= storage_times_before.items()  # no stored result is computed again
    assert len(storage_times(fresh)) == CLIPS
    assert_complete(fresh, complete_study)


def storage_times(bench):
    """Return the time at which each vector was stored."""
    with sqlite3.connect(f"file:{bench.data_folder.result_store}?mode=ro", uri=True, timeout=60) as db:
        return dict(db.execute("SELECT result_key, created_at FROM results WHERE kind = 'vector'").fetchall())


@pytest.mark.parametrize("moment", ["started", 1, CLIPS // 3, CLIPS - 1, "predictions", "leaderboard"])
def test_a_killed_run_loses_at_most_the_batches_in_flight(fresh, complete_study, moment):
    process = fresh.start()
    if isinstance(moment, int):
        fresh.wait_for_vectors(process, moment)
    else:
        path = {
            "started": fresh.data_folder.result_store,
            "predictions": fresh.data_folder.tables / "predictions",
            "leaderboard": fresh.data_folder.tables / "leaderboard",
        }[moment]
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.001)
    process.kill()
    wait_for_output(process)
    assert process.returncode == -signal.SIGKILL
    stored_before = storage_times(fresh) if fresh.vectors() else {}
    if isinstance(moment, int):
        assert len(stored_before) >= moment
    fresh.finish()
    assert storage_times(fresh).items() >= stored_before.items()
    remove_leftovers_of_the_kill(fresh)
    assert_complete(fresh, complete_study)
    if moment == "predictions":
        assert fresh.finish() == 0, "the command, through Dagster, finds nothing to do either"


def remove_leftovers_of_the_kill(bench):
    """Delete hidden temporary files: a killed process cannot do it, and other processes ignore them."""
    for path in bench.data_folder.tables.rglob(".*"):
        path.unlink()


def test_a_run_that_is_killed_several_times_finishes_in_the_end(fresh, complete_study):
    for _ in range(4):
        before = fresh.vectors()
        process = fresh.start()
        deadline = time.monotonic() + TIMEOUT_S
        while process.poll() is None and fresh.vectors() < min(before + 1 + CLIPS // 5, CLIPS):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        wait_for_output(process)
        assert fresh.vectors() >= min(before + 1 + CLIPS // 5, CLIPS)
    fresh.finish()
    remove_leftovers_of_the_kill(fresh)
    assert_complete(fresh, complete_study)
