import subprocess
import sys
import threading

import pytest

from vlm_audio_pipeline.storage import leases as leases_module
from vlm_audio_pipeline.storage.leases import Leases
from vlm_audio_pipeline.storage.result_store import ResultStore

HOLDER = """
import sys
from pathlib import Path
from vlm_audio_pipeline.storage.leases import Leases
leases = Leases(Path(sys.argv[1]))
print(leases.take(sys.argv[2:]), flush=True)
sys.stdin.readline()
leases.close()
"""


@pytest.fixture
def path(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    store.close()
    return store.path


def hold(path, *keys):
    """Start a process that takes leases and gives them back when it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, *keys], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "True\n"
    return process


def test_a_key_has_one_owner_until_its_lease_is_released(path):
    one, other = Leases(path), Leases(path)
    assert one.take(["a", "b"]) and one.take(["a"])
    assert not other.take(["a"]) and not other.take(["c", "b"]) and other.is_any_held(["a"])
    assert other.take(["c"]) and not one.take(["c"])
    one.release(["a", "c"])  # `c` is not its own
    assert other.take(["a"]) and not other.take(["b"]) and not one.take(["c"])
    one.close()
    assert other.take(["b"]) and not other.is_any_held(["b"])
    other.close()
    assert list((path.parent / "locks").iterdir()) == []


def test_the_leases_of_a_killed_process_are_taken_over_at_once(path):
    leases = Leases(path)
    holder = hold(path, "a", "b")
    assert not leases.take(["a"]) and leases.is_any_held(["b"])
    holder.kill()
    holder.communicate()
    assert not leases.is_any_held(["b"])
    assert leases.take(["a", "b"])
    leases.close()
    assert list((path.parent / "locks").iterdir()) == []


def test_a_process_that_ends_gives_its_leases_back(path):
    leases = Leases(path)
    holder = hold(path, "a")
    assert not leases.take(["a"])
    holder.communicate("end\n")
    assert leases.take(["a"])
    leases.close()


def test_an_expired_lease_of_a_running_process_is_taken_over(path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(leases_module.time, "time", lambda: now[0])
    one, other = Leases(path), Leases(path)
    assert one.take(["a"]) and not other.take(["a"])
    now[0] += leases_module.MAX_LEASE_S + 1
    assert other.take(["a"])
    one.release(["a"])  # it belongs to the other now
    assert not one.take(["a"])
    one.close()
    other.close()


def test_each_key_has_one_owner_when_many_threads_ask(path):
    taken = []

    def work():
        leases = Leases(path)
        taken.append([key for key in map(str, range(40)) if leases.take([key])])
        barrier.wait()
        leases.close()

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key for keys in taken for key in keys) == sorted(map(str, range(40)))


def test_leases_that_were_never_used_leave_no_file(path):
    Leases(path).close()
    assert not (path.parent / "locks").exists()
