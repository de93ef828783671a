"""Real processes: several at once, stopped, killed. Whatever happens, nothing is lost and nothing is computed twice."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlm_audio_pipeline.planning.planner import select_nodes
from vlm_audio_pipeline.planning.staleness import read_node_provenance
from vlm_audio_pipeline_tests.bench import PITCH, Bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROGRAM = Path(sys.executable).with_name("vlm-audio")
FOLDS = (1, 2, 3, 4)
TAKES = 20  # of each class in each fold
CLIPS = len(FOLDS) * len(PITCH) * TAKES
BATCH = 4  # clips a call of the encoder
LONGEST = 300  # s; what hangs is ended


class Long(Bench):
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
        """Start `vlm-audio run` in a process of its own."""
        return subprocess.Popen(
            [PROGRAM, "run", self.folder / "bench.yaml", "--data", self.data_folder.root, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, *arguments):
        """Run to the end; gives the steps done, read from the last line."""
        out, err = end(process := self.start(*arguments))
        assert process.returncode == 0, err
        return steps_of(out)

    def vectors(self):
        """Count the vectors in the result store, as another program would."""
        if not self.data_folder.result_store.exists():
            return 0
        try:
            with sqlite3.connect(f"file:{self.data_folder.result_store}?mode=ro", uri=True, timeout=60) as db:
                return db.execute("SELECT count(*) FROM results WHERE kind = 'vector'").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # it is being made just now
                return 0
            raise

    def wait_for_vectors(self, process, count):
        """Wait until so many vectors are stored while the process runs."""
        until = time.monotonic() + LONGEST
        while self.vectors() < count:
            assert process.poll() is None, f"it ended early: {process.communicate()}"
            assert time.monotonic() < until
            time.sleep(0.01)

    def versions(self):
        """Give the data version of every step that a plain run makes, as written in its parts."""
        graph = self.graph()
        found = {str(node): read_node_provenance(graph, node) for node in select_nodes(graph)}
        return {name: there and there.data_version for name, there in found.items()}

    def leaderboard(self):
        """Give the leaderboard as the command tells it."""
        return sql(self.data_folder, "SELECT * FROM leaderboard ORDER BY classifier")


def end(process):
    """Wait for a process; gives what it wrote."""
    try:
        return process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"it hangs: {process.communicate()}")


def steps_of(out):
    """Read "N steps, M runs, S s"."""
    return int(out.rstrip("\n").splitlines()[-1].split(" steps, ")[0])


def sql(data_folder, query):
    said = subprocess.run(
        [PROGRAM, "sql", query, "--format", "json", "--data", data_folder.root],
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


SUMMARIES = 2 + 1 + 4  # 2 x metrics, leaderboard; quality of the embeddings, leakage, published, history
STEPS = 4 * 5 + SUMMARIES  # 4 folds x (clips, embeddings, probes, 2 x predictions)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A long study that ran alone, from beginning to end."""
    bench = Long(tmp_path_factory.mktemp("undisturbed") / "bench")
    assert bench.finish() == STEPS
    return bench


@pytest.fixture
def fresh(undisturbed, tmp_path):
    """The same recordings and study in a data folder that does not exist yet."""
    twin = undisturbed.copied_to(tmp_path / "bench")
    shutil.rmtree(twin.data_folder.root)
    return twin


def assert_complete(bench, undisturbed):
    """Hold a data folder against that of the undisturbed run."""
    assert bench.finish() == 0  # nothing left to do
    here, there = bench.versions(), undisturbed.versions()
    assert None not in here.values()
    assert [name for name in there if here[name] != there[name]] == []
    assert bench.leaderboard() == undisturbed.leaderboard()
    assert bench.vectors() == CLIPS
    assert not list(bench.data_folder.tables.rglob(".*"))  # no temporary file is left
    assert sql(bench.data_folder, "SELECT count(*) AS n, count(DISTINCT clip) AS clips FROM predictions") == [
        {"n": 2 * CLIPS, "clips": CLIPS}
    ]


def test_four_folds_at_once_from_nothing(fresh, undisturbed):
    processes = [fresh.start("--fold", str(fold)) for fold in FOLDS]
    said = [end(p) for p in processes]
    assert [p.returncode for p in processes] == [0] * 4, said
    assert not any("Traceback" in err for _, err in said)
    # what each fold shares with the others (clips, embeddings) was made by one and reused by the rest
    fresh.finish()  # the summaries, if the last process to write them had not seen all folds
    assert_complete(fresh, undisturbed)


def test_four_targets_at_once_from_nothing(fresh, undisturbed):
    targets = ["bands", "probe", "knn", "leaderboard"]
    processes = [fresh.start("--only", target) for target in targets]
    said = [end(p) for p in processes]
    assert [p.returncode for p in processes] == [0] * 4, said
    fresh.finish()
    assert_complete(fresh, undisturbed)


def test_two_identical_runs_at_once(fresh, undisturbed):
    processes = [fresh.start(), fresh.start()]
    said = [end(p) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], said
    # a step is either done by one of them and reused by the other, or, for summaries, done again on what has changed
    once = STEPS - SUMMARIES
    assert once <= sum(steps_of(out) for out, _ in said) <= once + 3 * SUMMARIES
    assert_complete(fresh, undisturbed)


def test_questions_are_answered_while_a_run_writes(fresh, undisturbed):
    process = fresh.start()
    while not fresh.data_folder.studies.exists():
        assert process.poll() is None
        time.sleep(0.01)
    answers = []
    while process.poll() is None:
        (row,) = sql(
            fresh.data_folder,
            "SELECT count(*) AS n, count(DISTINCT (clip, classifier)) AS distinct_rows, "
            "coalesce(sum((label = split_part(clip, '-', 2))::INT), 0) AS labels FROM predictions",
        )
        assert row["n"] == row["distinct_rows"] == row["labels"]
        assert row["n"] % (CLIPS // len(FOLDS)) == 0  # whole parts only
        answers.append(row["n"])
    _, err = end(process)
    assert process.returncode == 0, err
    assert len(answers) >= 2
    assert answers == sorted(answers)  # nothing that was there goes away
    assert_complete(fresh, undisturbed)


@pytest.mark.parametrize("after", [1, CLIPS // 2, CLIPS - BATCH])
def test_ctrl_c_keeps_what_was_finished(fresh, undisturbed, after):
    process = fresh.start()
    fresh.wait_for_vectors(process, after)
    process.send_signal(signal.SIGINT)
    _, err = end(process)
    assert process.returncode == 130, err
    assert err == "stopped; finished work is kept, and the same command continues from there\n"
    kept = fresh.vectors()
    assert kept >= after
    made_before = times_made(fresh)
    assert 0 < fresh.finish() <= STEPS
    assert times_made(fresh).items() >= made_before.items()  # nothing that was stored is computed again
    assert len(times_made(fresh)) == CLIPS
    assert_complete(fresh, undisturbed)


def times_made(bench):
    """Give when each vector was stored."""
    with sqlite3.connect(f"file:{bench.data_folder.result_store}?mode=ro", uri=True, timeout=60) as db:
        return dict(db.execute("SELECT result_key, created_at FROM results WHERE kind = 'vector'").fetchall())


@pytest.mark.parametrize("moment", ["started", 1, CLIPS // 3, CLIPS - 1, "predictions", "leaderboard"])
def test_a_kill_loses_at_most_the_batches_in_flight(fresh, undisturbed, moment):
    process = fresh.start()
    if isinstance(moment, int):
        fresh.wait_for_vectors(process, moment)
    else:
        wanted = {
            "started": fresh.data_folder.result_store,
            "predictions": fresh.data_folder.tables / "predictions",
            "leaderboard": fresh.data_folder.tables / "leaderboard",
        }[moment]
        while not wanted.exists():
            assert process.poll() is None
            time.sleep(0.001)
    process.kill()
    end(process)
    assert process.returncode == -signal.SIGKILL
    kept = times_made(fresh) if fresh.vectors() else {}
    if isinstance(moment, int):
        assert len(kept) >= moment
    fresh.finish()
    assert times_made(fresh).items() >= kept.items()
    remove_leftovers_of_the_kill(fresh)
    assert_complete(fresh, undisturbed)


def remove_leftovers_of_the_kill(bench):
    """A killed process cannot clean up: hidden temporary files may stay, and must be ignored."""
    for path in bench.data_folder.tables.rglob(".*"):
        path.unlink()


def test_killed_again_and_again_it_still_comes_to_the_end(fresh, undisturbed):
    for _ in range(4):
        before = fresh.vectors()
        process = fresh.start()
        until = time.monotonic() + LONGEST
        while process.poll() is None and fresh.vectors() < min(before + 1 + CLIPS // 5, CLIPS):
            assert time.monotonic() < until
            time.sleep(0.01)
        process.kill()
        end(process)
        assert fresh.vectors() >= min(before + 1 + CLIPS // 5, CLIPS)
    fresh.finish()
    remove_leftovers_of_the_kill(fresh)
    assert_complete(fresh, undisturbed)
