"""Locks between processes: one holder at a time, released when the holder dies."""

import os
import signal
import subprocess
import sys

import pytest

from vlm_audio_pipeline.storage.locks import file_lock, machine_lock

HOLDER = """
import sys, time
from pathlib import Path
from vlm_audio_pipeline.storage import locks
with getattr(locks, sys.argv[1])(Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hold(request):
    """Start a process that takes a lock and keeps it until the test ends."""

    def start(kind, path):
        process = subprocess.Popen([sys.executable, "-c", HOLDER, kind, path], stdout=subprocess.PIPE, text=True)
        request.addfinalizer(process.stdout.close)
        request.addfinalizer(process.wait)
        request.addfinalizer(process.kill)
        assert process.stdout.readline() == "held\n"
        return process

    return start


def test_a_file_lock_creates_its_folder_and_can_be_taken_again(tmp_path):
    path = tmp_path / "locks" / "a.lock"
    for _ in range(2):
        with file_lock(path) as held:
            assert held
    with file_lock(path, wait=False) as held:
        assert held


def test_without_waiting_a_lock_held_by_another_process_is_not_taken(tmp_path, hold):
    process = hold("file_lock", tmp_path / "a.lock")
    with file_lock(tmp_path / "a.lock", wait=False) as held:
        assert not held
    process.kill()
    with file_lock(tmp_path / "a.lock") as held:
        assert held


def test_an_exception_releases_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), file_lock(tmp_path / "a.lock"):
        raise ZeroDivisionError
    with file_lock(tmp_path / "a.lock", wait=False) as held:
        assert held


def test_a_machine_lock_calls_on_wait_once_and_is_free_after_its_holder_is_killed(tmp_path, hold):
    process = hold("machine_lock", tmp_path / "deep" / "gpu.lock")
    calls = []

    def on_wait():
        calls.append(1)
        os.kill(process.pid, signal.SIGKILL)

    with machine_lock(tmp_path / "deep" / "gpu.lock", on_wait):
        assert calls == [1]
    with machine_lock(tmp_path / "deep" / "gpu.lock", on_wait):
        assert calls == [1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every file")
def test_a_machine_lock_works_on_a_read_only_file(tmp_path):
    path = tmp_path / "gpu.lock"
    path.touch(0o444)
    with machine_lock(path):
        pass
