"""Damaged files, full disks, wrong clocks and locks: each is repaired or reported clearly, and no result is lost."""

import dataclasses
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.engines import gpu_lock as locks
from vlm_audio_pipeline.planning.execution import DamagedInput, execute_node
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import make_plan
from vlm_audio_pipeline.planning.pruning import find_unused_items
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.history_store import HistoryStore
from vlm_audio_pipeline.storage.partition_files import is_intact, read_provenance
from vlm_audio_pipeline.storage.result_rows import checksum
from vlm_audio_pipeline.storage.result_store import PAGE_SIZE_BYTES, ResultStore
from vlm_audio_pipeline_tests.file_times import set_age

PROGRAM = Path(sys.executable).with_name("vlm-audio")


def partition_path(bench, step, fold):
    return next(iter(bench.graph().partition_files(Node(step, fold)).values()))


def damage_rows(path):
    """Change bytes of the first page; the footer stays intact."""
    data = bytearray(path.read_bytes())
    for i in range(40, 60):
        data[i] ^= 0xFF
    path.write_bytes(bytes(data))
    assert read_provenance(path) is not None


# ------------------------------------------------------------------------------------------------------ damaged partition files


@pytest.mark.parametrize("step", ["clips", "embeddings/bands", "predictions/knn"])
def test_damaged_rows_of_a_partition_file_are_computed_again_and_nothing_else(done, step):
    path = partition_path(done, step, 2)
    before = read_provenance(path).data_version
    damage_rows(path)
    assert done.plan().todo == {Node(step, 2): ("damaged",)}
    result = done.run()
    assert (result.steps, result.vectors) == ([f"{step}|2"], 0)
    assert read_provenance(path).data_version == before and done.run().steps == []


def test_damage_without_a_change_of_size_or_time_is_repaired_in_the_run_that_reads_the_file(done):
    graph = done.graph()
    path = partition_path(done, "embeddings/bands", 2)
    damage_rows(path)
    graph.result_store.mark_intact([path])  # simulates damage that changes neither size nor times
    assert done.plan().todo == {}
    changed = done.changed_study("classifiers", "knn", k=1)
    result = done.run(changed)
    assert not result.report.failed and not result.report.not_run
    assert "embeddings/bands|2" in result.steps and result.vectors == 0
    assert done.run(changed).steps == []


def test_a_step_that_reads_a_damaged_file_reports_it_and_the_next_plan_includes_it(done):
    graph = done.graph()
    path = partition_path(done, "embeddings/bands", 2)
    damage_rows(path)
    graph.result_store.mark_intact([path])
    with pytest.raises(DamagedInput, match=r"embeddings/bands\|2, which is damaged .*; run again to recompute it"):
        execute_node(graph, Node("predictions/knn", 1))
    assert make_plan(graph, current_input_versions(graph)).todo == {Node("embeddings/bands", 2): ("damaged",)}


def test_partition_files_are_checked_for_damage_once_and_not_in_every_plan(done, monkeypatch):
    done.plan()
    path = partition_path(done, "clips", 1)
    assert is_intact(path, done.graph().result_store)
    read_calls = []
    import pyarrow.parquet as pq

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda *a: read_calls.append(a))
    done.plan()
    assert read_calls == []
    os.utime(path)
    done.plan()
    assert len(read_calls) == 1


def damage_footer(path):
    """Change a bit of the footer that only DuckDB, or neither reader, notices: in the statistics of the first column."""
    data = bytearray(path.read_bytes())
    data[-40] ^= 0x01
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("step", "damage"),
    [
        ("clips", "footer"),
        ("predictions/knn", "footer"),
        ("clips", "full folder"),
        ("predictions/knn", "folder"),
        ("clips", "pipe"),
        ("clips", "device"),
    ],
)
def test_a_partition_file_that_is_damaged_anywhere_or_replaced_is_made_again_and_nothing_else(done, step, damage):
    path = partition_path(done, step, 2)
    before = read_provenance(path).data_version
    if damage == "footer":
        damage_footer(path)
    else:
        path.unlink()
        if damage == "pipe":
            os.mkfifo(path)
        elif damage == "device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
    if damage == "full folder":
        (path / "part-0.parquet").write_text("mine")
    result = done.run()
    assert not result.report.failed
    assert (result.steps, result.vectors) == ([f"{step}|2"], 0)
    assert read_provenance(path).data_version == before and done.run().steps == []
    assert query(done.data_folder, "SELECT count(*) AS n FROM predictions").to_pylist() == [{"n": 12 + 12 + 16}]


# --------------------------------------------------------------------------------------------------------- study records


@pytest.mark.parametrize("damage", ["deleted", "cut off", "changed", "folder"])
def test_a_lost_study_record_is_written_by_the_next_run_and_prune_keeps_the_results(done, damage):
    record = done.data_folder.studies / "bench.json"
    done.run()  # the record of the copied data folder contains the path of the original study file
    content = record.read_bytes()
    if damage == "cut off":
        record.write_bytes(content[:1000])
    elif damage == "changed":
        record.write_bytes(content.replace(b"study=bench", b"study=bencg", 1))
    else:
        record.unlink()
    if damage == "folder":
        record.mkdir()
    if damage == "deleted":
        assert find_unused_items(done.data_folder, days=-1) == []  # everything is old enough
    else:
        with pytest.raises(VlmAudioError, match=r"bench\.json cannot be read.*: .*run the study again"):
            find_unused_items(done.data_folder, days=-1)
    assert done.run().steps == []
    assert record.read_bytes() == content
    assert query(done.data_folder, "SELECT count(*) AS n FROM predictions").to_pylist() == [{"n": 12 + 12 + 16}]


def test_a_damaged_record_of_another_study_does_not_stop_a_run(done):
    (done.data_folder.studies / "another.json").write_text("{")
    done.record("1-low-0", "low", seed=99)
    assert not done.run().report.failed


# -------------------------------------------------------------------------------------------------------- the result store


def test_a_damaged_vector_changes_no_table_and_is_computed_again(done, caplog):
    store = done.data_folder.result_store
    tables = {t: query(done.data_folder, f"SELECT * FROM {t} ORDER BY ALL") for t in ("embeddings", "predictions")}
    with closing(sqlite3.connect(store)) as db, db:
        sql = "UPDATE results SET payload = CAST(x'0000803f' || substr(payload, 5) AS BLOB) WHERE kind = 'vector'"
        assert db.execute(sql).rowcount == 12
    shutil.rmtree(done.data_folder.tables)
    assert not done.run().report.failed
    for table, rows in tables.items():
        columns = [name for name in rows.column_names if name not in ("seconds", "answered_at")]
        again = query(done.data_folder, f"SELECT * FROM {table} ORDER BY ALL")
        assert again.select(columns).equals(rows.select(columns))
    assert "results in" in caplog.text and "are damaged" in caplog.text


@pytest.mark.parametrize("payload", [b"\xff", b"{}"])
def test_measurements_that_cannot_be_read_are_made_again(done, payload):
    """Results of older versions had no checksum, so they may have been damaged before they got one."""
    with closing(sqlite3.connect(done.data_folder.result_store)) as db, db:
        keys = [key for (key,) in db.execute("SELECT result_key FROM results WHERE kind = 'inspection'")]
        values = [(payload, checksum(key.encode(), b"inspection", payload), key) for key in keys]
        db.executemany("UPDATE results SET payload = ?, sha256 = ? WHERE result_key = ?", values)
    shutil.rmtree(done.data_folder.tables)
    assert not done.run().report.failed
    assert query(done.data_folder, "SELECT count(*) AS n FROM predictions").to_pylist() == [{"n": 12 + 12 + 16}]


def test_a_damaged_entry_of_the_history_is_left_out_with_a_warning(done, caplog):
    entries = HistoryStore(done.data_folder.result_store).entries("bench")
    with closing(sqlite3.connect(done.data_folder.result_store)) as db, db:
        db.execute("UPDATE history SET predictions = substr(predictions, 1, 9) WHERE id = 1")
    assert HistoryStore(done.data_folder.result_store).entries("bench") == entries[1:]
    assert "an entry of the history" in caplog.text
    done.record("1-low-0", "low", seed=99)
    assert not done.run().report.failed


def test_a_corrupt_result_store_is_reported_with_advice_and_no_result_is_lost(done):
    store_path = done.data_folder.result_store
    for suffix in ("-wal", "-shm"):
        store_path.with_name(store_path.name + suffix).unlink(missing_ok=True)
    before = query(done.data_folder, "SELECT * FROM predictions ORDER BY ALL")
    data = bytearray(store_path.read_bytes())
    data[:2048] = b"\xaa" * 2048
    store_path.write_bytes(bytes(data))
    with pytest.raises(
        VlmAudioError, match=r"the result store .*results.sqlite cannot be used: .*recover it with .* or move it away"
    ):
        done.plan()
    assert query(done.data_folder, "SELECT * FROM predictions ORDER BY ALL").equals(before)  # no result store needed
    store_path.rename(store_path.with_name("rows.damaged"))
    assert done.run().steps == []  # finished tables stay
    done.record("1-low-0", "low", seed=99)
    assert done.run().vectors == 4  # of the fold, once


def test_a_corrupt_page_of_the_result_store_is_reported(done):
    with ResultStore(done.data_folder.result_store)._connection() as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(done.data_folder.result_store.read_bytes())
    data[PAGE_SIZE_BYTES:] = b"\xaa" * (len(data) - PAGE_SIZE_BYTES)
    done.data_folder.result_store.write_bytes(bytes(data))
    done.record("1-low-0", "low", seed=99)
    with pytest.raises(VlmAudioError, match=r"the result store .* cannot be used: database disk image is malformed"):
        run_study(done.graph())


# ------------------------------------------------------------------------------------------------------------ the clock


def test_a_clock_that_is_set_back_causes_no_recomputation(done, monkeypatch):
    """All files are dated two days in the future: nothing is lost or computed again, and changes are detected."""
    set_age(done.folder.rglob("*"), days=-2)
    assert done.run().steps == []
    seconds, nanoseconds = time.time, time.time_ns
    # file times of the kernel are then in the future too
    monkeypatch.setattr(time, "time", lambda: seconds() - 2 * 86400)
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() - 2 * 86400 * 10**9)
    assert done.run().steps == []
    done.record("1-low-0", "low", seed=99)
    result = done.run()
    assert result.vectors == 1 and "clips|1" in result.steps
    assert query(done.data_folder, "SELECT count(*) FROM predictions").column(0).to_pylist() == [12 + 12 + 16]
    assert done.run().steps == []


# ---------------------------------------------------------------------------------------------------- locks of killed processes

HOLDER = """
import sys, time
from pathlib import Path
from vlm_audio_pipeline.storage.locks import file_lock, machine_lock
with (machine_lock if sys.argv[1] == "gpu" else file_lock)(Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(600)
"""


def hold_in_another_process(path, kind):
    """Start a process that takes a lock and holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", HOLDER, kind, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_of_a_killed_process_does_not_block_a_step(done):
    graph = done.graph()
    holder = hold_in_another_process(graph.data_folder.lock("bench.predictions/knn|2"), "step")
    partition_path(done, "predictions/knn", 2).unlink()
    holder.kill()
    holder.wait()
    assert done.run().steps == ["predictions/knn|2"]
    assert graph.data_folder.lock("bench.predictions/knn|2").exists()  # the lock file stays, but no process holds it


@pytest.mark.slow
def test_a_step_waits_for_the_gpu_until_its_holder_ends(done, tmp_path, monkeypatch):
    lock = tmp_path / "gpu.lock"
    monkeypatch.setenv("VLM_AUDIO_GPU_LOCK", str(lock))
    monkeypatch.setattr(locks, "has_gpu", lambda: True)
    holder = hold_in_another_process(lock, "gpu")
    progress_messages = []

    def progress(done, total, what):
        progress_messages.append(what)
        os.kill(holder.pid, signal.SIGKILL)

    with locks.exclusive_gpu(progress):
        assert holder.wait(timeout=10) == -signal.SIGKILL
        second = subprocess.Popen([sys.executable, "-c", HOLDER, "gpu", lock], stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            second.communicate(timeout=3)  # one at a time
    assert progress_messages == ["waiting for the GPU: another process uses it"]
    assert second.stdout.readline() == "held\n"
    second.kill()
    second.communicate()


def test_only_steps_with_an_accelerator_lock_the_gpu_and_only_if_there_is_one(done, monkeypatch):
    lock_paths = []

    @contextmanager
    def machine_lock(path, on_wait):
        lock_paths.append(path)
        yield

    monkeypatch.setattr(locks, "machine_lock", machine_lock)
    graph = done.graph()
    step = graph.steps["embeddings/bands"]
    gpu_step = dataclasses.replace(step, stage=dataclasses.replace(step.stage, accelerator=True))
    graph.steps["embeddings/bands"] = gpu_step
    for gpu_present, expected in ((False, 0), (True, 1)):
        monkeypatch.setattr(locks, "has_gpu", lambda gpu_present=gpu_present: gpu_present)
        execute_node(graph, Node("embeddings/bands", 1))
        execute_node(graph, Node("predictions/knn", 1))
        assert len(lock_paths) == expected


def test_without_devices_or_with_none_visible_there_is_no_gpu(monkeypatch, tmp_path):
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(locks, "DEVICES", (str(tmp_path / "nvidia0"),))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert locks.has_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not locks.has_gpu()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(locks, "DEVICES", (str(tmp_path / "none"),))
    assert not locks.has_gpu()


# ------------------------------------------------------------------------------------------------------------- the disk


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    script = "mount -t tmpfs tmpfs /mnt"
    return subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True).returncode == 0


SCRIPT = """
mount -t tmpfs -o size={size} tmpfs "$1" || exit 99
{before}
"$2" run "$3" --data "$1/data" >"$4/out1" 2>"$4/err1"; echo $? >"$4/code1"
{between}
"$2" run "$3" --data "$1/data" >"$4/out2" 2>"$4/err2"; echo $? >"$4/code2"
cp -r "$1/data" "$4/data"
"""


def run_twice_on_a_small_disk(bench, tmp_path, size, between, before=""):
    mount_point, output = tmp_path / "small", tmp_path / "output"
    mount_point.mkdir()
    output.mkdir()
    script = SCRIPT.format(size=size, between=between, before=before)
    command = ["unshare", "-rm", "sh", "-c", script, "sh", mount_point, PROGRAM, bench.write(), output]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return lambda name: (output / name).read_text(), DataFolder(output / "data")


def contents(data_folder):
    rows = query(data_folder, "SELECT study, classifier, clip, fold, predicted, correct FROM predictions ORDER BY ALL")
    return rows.to_pylist()


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="this system does not allow to mount a file system")
@pytest.mark.parametrize("size", ["160k", "700k"])
def test_a_full_disk_is_reported_and_the_next_run_finishes(bench, template_bench, tmp_path, size):
    """160 kB is too small for the result store; with 700 kB some steps finish before the disk is full."""
    output, data_folder = run_twice_on_a_small_disk(bench, tmp_path, size, 'mount -o remount,size=100m "$1"')
    assert output("code1").strip() in ("1", "2"), output("err1")
    err = output("err1")
    assert "Traceback" not in err and ("cannot write to the data folder" in err or "disk is full" in err), err
    assert output("code2").strip() == "0", output("err2")
    assert contents(data_folder) == contents(template_bench.data_folder)


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="this system does not allow to mount a file system")
def test_a_data_folder_that_becomes_read_only_is_reported_and_the_next_run_finishes(bench, template_bench, tmp_path):
    bench.run(only=("embeddings/*",))
    before = f'cp -r "{bench.data_folder.root}" "$1/data"; mount -o remount,ro "$1"'
    output, data_folder = run_twice_on_a_small_disk(bench, tmp_path, "100m", 'mount -o remount,rw "$1"', before)
    err = output("err1")
    assert "Traceback" not in err and ("cannot write to the data folder" in err or "read-only" in err), err
    assert (output("code1").strip(), output("code2").strip()) in (("1", "0"), ("2", "0")), output("err2")
    assert contents(data_folder) == contents(template_bench.data_folder)
