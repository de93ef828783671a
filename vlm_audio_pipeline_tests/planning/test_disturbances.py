"""What disks, clocks and other processes do: each is mended by itself or told clearly, and nothing is lost."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.engines import gpu_lock as locks
from vlm_audio_pipeline.planning.execution import DamagedInput, execute_node
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import make_plan
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.partition_files import is_intact, read_provenance
from vlm_audio_pipeline.storage.result_store import ResultStore

PROGRAM = Path(sys.executable).with_name("vlm-audio")


def part(bench, step, fold):
    return next(iter(bench.graph().partition_files(Node(step, fold)).values()))


def damage_inside(path):
    """Change bytes of the first page: the footer stays whole."""
    data = bytearray(path.read_bytes())
    for i in range(40, 60):
        data[i] ^= 0xFF
    path.write_bytes(bytes(data))
    assert read_provenance(path) is not None


# ------------------------------------------------------------------------------------------------------ damaged parts


@pytest.mark.parametrize("step", ["clips", "embeddings/bands", "predictions/knn"])
def test_a_part_damaged_inside_is_made_again_and_nothing_else(done, step):
    path = part(done, step, 2)
    before = read_provenance(path).data_version
    damage_inside(path)
    assert done.plan().todo == {Node(step, 2): ("damaged",)}
    ran = done.run()
    assert (ran.steps, ran.vectors) == ([f"{step}|2"], 0)
    assert read_provenance(path).data_version == before and done.run().steps == []


def test_damage_that_leaves_no_trace_is_met_when_the_part_is_read_and_mended_in_the_same_run(done):
    graph = done.graph()
    path = part(done, "embeddings/bands", 2)
    damage_inside(path)
    graph.result_store.note_intact([path])  # as of a disk that forgets: neither size nor times say anything
    assert done.plan().todo == {}
    changed = done.changed("classifiers", "knn", k=1)
    ran = done.run(changed)
    assert not ran.report.failed and not ran.report.not_run
    assert "embeddings/bands|2" in ran.steps and ran.vectors == 0
    assert done.run(changed).steps == []


def test_who_reads_a_damaged_part_by_himself_is_told_and_the_next_plan_knows(done):
    graph = done.graph()
    path = part(done, "embeddings/bands", 2)
    damage_inside(path)
    graph.result_store.note_intact([path])
    with pytest.raises(DamagedInput, match=r"embeddings/bands\|2, which is damaged .*; run again to recompute it"):
        execute_node(graph, Node("predictions/knn", 1))
    assert make_plan(graph, current_input_versions(graph)).todo == {Node("embeddings/bands", 2): ("damaged",)}


def test_parts_are_read_for_damage_once_and_not_at_every_plan(done, monkeypatch):
    done.plan()
    path = part(done, "clips", 1)
    assert is_intact(path, done.graph().result_store)
    read = []
    import pyarrow.parquet as pq

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda *a: read.append(a))
    done.plan()
    assert read == []
    os.utime(path)
    done.plan()
    assert len(read) == 1


# -------------------------------------------------------------------------------------------------------- the result store


def test_a_corrupt_row_store_is_told_with_what_to_do_and_no_result_is_lost(done):
    rows = done.data_folder.result_store
    for suffix in ("-wal", "-shm"):
        rows.with_name(rows.name + suffix).unlink(missing_ok=True)
    before = query(done.data_folder, "SELECT * FROM predictions ORDER BY ALL")
    data = bytearray(rows.read_bytes())
    data[:2048] = b"\xaa" * 2048
    rows.write_bytes(bytes(data))
    with pytest.raises(
        VlmAudioError, match=r"the result store .*results.sqlite cannot be used: .*recover it with .* or move it away"
    ):
        done.plan()
    assert query(done.data_folder, "SELECT * FROM predictions ORDER BY ALL").equals(before)  # readers do not need it
    rows.rename(rows.with_name("rows.damaged"))
    assert done.run().steps == []  # finished tables stay
    done.record("1-low-0", "low", seed=99)
    assert done.run().vectors == 4  # of the fold, once


def test_a_corrupt_page_of_the_row_store_is_told_too(done):
    with ResultStore(done.data_folder.result_store)._using() as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(done.data_folder.result_store.read_bytes())
    data[4096:] = b"\xaa" * (len(data) - 4096)
    done.data_folder.result_store.write_bytes(bytes(data))
    done.record("1-low-0", "low", seed=99)
    with pytest.raises(VlmAudioError, match=r"the result store .* cannot be used: database disk image is malformed"):
        run_study(done.graph())


# ------------------------------------------------------------------------------------------------------------ the clock


def test_a_clock_set_back(done, monkeypatch):
    """All that is there was made two days from now: nothing is lost or made again, and changes are still seen."""
    later = time.time() + 2 * 86400
    for path in [*done.folder.rglob("*")]:
        os.utime(path, (later, later))
    assert done.run().steps == []
    seconds, nanoseconds = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: seconds() - 2 * 86400)  # and the kernel's times are in the future too
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() - 2 * 86400 * 10**9)
    assert done.run().steps == []
    done.record("1-low-0", "low", seed=99)
    ran = done.run()
    assert ran.vectors == 1 and "clips|1" in ran.steps
    assert query(done.data_folder, "SELECT count(*) FROM predictions").column(0).to_pylist() == [12 + 12 + 16]
    assert done.run().steps == []


# ---------------------------------------------------------------------------------------------------- locks and the dead

HOLDER = """
import sys, time
from pathlib import Path
from vlm_audio_pipeline.storage.locks import file_lock, machine_lock
with (machine_lock if sys.argv[1] == "gpu" else file_lock)(Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(600)
"""


def held_by_another(path, kind):
    """Start a process that takes a lock and keeps it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", HOLDER, kind, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_holder_of_a_steps_lock_that_died_is_not_waited_for(done):
    graph = done.graph()
    holder = held_by_another(graph.data_folder.lock("bench.predictions/knn|2"), "step")
    part(done, "predictions/knn", 2).unlink()
    holder.kill()
    holder.wait()
    assert done.run().steps == ["predictions/knn|2"]
    assert graph.data_folder.lock("bench.predictions/knn|2").exists()  # the file stays; what counts is who holds it


@pytest.mark.slow
def test_a_holder_of_the_gpu_is_waited_for_until_it_dies(done, tmp_path, monkeypatch):
    lock = tmp_path / "gpu.lock"
    monkeypatch.setenv("VLM_AUDIO_GPU_LOCK", str(lock))
    monkeypatch.setattr(locks, "has_gpu", lambda: True)
    holder = held_by_another(lock, "gpu")
    told = []

    def progress(done, total, what):
        told.append(what)
        os.kill(holder.pid, signal.SIGKILL)

    with locks.exclusive_gpu(progress):
        assert holder.wait(timeout=10) == -signal.SIGKILL
        second = subprocess.Popen([sys.executable, "-c", HOLDER, "gpu", lock], stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            second.communicate(timeout=3)  # one at a time
    assert told == ["waiting for the GPU: another process uses it"]
    assert second.stdout.readline() == "held\n"
    second.kill()
    second.communicate()


def test_only_steps_that_want_the_gpu_take_it_and_only_where_there_is_one(done, monkeypatch):
    taken = []

    @contextmanager
    def machine_lock(path, on_wait):
        taken.append(path)
        yield

    monkeypatch.setattr(locks, "machine_lock", machine_lock)
    graph = done.graph()
    step = graph.steps["embeddings/bands"]
    wants = dataclasses.replace(step, stage=dataclasses.replace(step.stage, accelerator=True))
    graph.steps["embeddings/bands"] = wants
    for here, expected in ((False, 0), (True, 1)):
        monkeypatch.setattr(locks, "has_gpu", lambda here=here: here)
        execute_node(graph, Node("embeddings/bands", 1))
        execute_node(graph, Node("predictions/knn", 1))
        assert len(taken) == expected


def test_a_machine_without_devices_or_told_to_use_none_has_no_gpu(monkeypatch, tmp_path):
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


def mountable() -> bool:
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
    small, said = tmp_path / "small", tmp_path / "said"
    small.mkdir()
    said.mkdir()
    script = SCRIPT.format(size=size, between=between, before=before)
    command = ["unshare", "-rm", "sh", "-c", script, "sh", small, PROGRAM, bench.write(), said]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return lambda name: (said / name).read_text(), DataFolder(said / "data")


def contents(data_folder):
    rows = query(data_folder, "SELECT study, classifier, clip, fold, predicted, correct FROM predictions ORDER BY ALL")
    return rows.to_pylist()


@pytest.mark.slow
@pytest.mark.skipif(not mountable(), reason="this system lets nobody mount")
@pytest.mark.parametrize("size", ["160k", "700k"])
def test_a_disk_that_fills_up(bench, ran_once, tmp_path, size):
    """160 kB: not even the result store has room; 700 kB: some steps are done before the disk is full."""
    said, data_folder = run_twice_on_a_small_disk(bench, tmp_path, size, 'mount -o remount,size=100m "$1"')
    assert said("code1").strip() in ("1", "2"), said("err1")
    err = said("err1")
    assert "Traceback" not in err and ("cannot write to the data folder" in err or "disk is full" in err), err
    assert said("code2").strip() == "0", said("err2")
    assert contents(data_folder) == contents(ran_once.data_folder)


@pytest.mark.slow
@pytest.mark.skipif(not mountable(), reason="this system lets nobody mount")
def test_a_folder_that_becomes_read_only(bench, ran_once, tmp_path):
    bench.run(only=("embeddings/*",))
    before = f'cp -r "{bench.data_folder.root}" "$1/data"; mount -o remount,ro "$1"'
    said, data_folder = run_twice_on_a_small_disk(bench, tmp_path, "100m", 'mount -o remount,rw "$1"', before)
    err = said("err1")
    assert "Traceback" not in err and ("cannot write to the data folder" in err or "read-only" in err), err
    assert (said("code1").strip(), said("code2").strip()) in (("1", "0"), ("2", "0")), said("err2")
    assert contents(data_folder) == contents(ran_once.data_folder)
