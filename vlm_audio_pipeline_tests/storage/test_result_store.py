import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.result_store import PAGE_SIZE_BYTES, ResultStore


def start(code: str, *arguments) -> subprocess.Popen:
    """Start a Python process with `store` opened on the first argument."""
    opening = "import os, signal, sys, time\nfrom pathlib import Path\n"
    opening += (
        "from vlm_audio_pipeline.storage.result_store import ResultStore\nstore = ResultStore(Path(sys.argv[1]))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", opening + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_stored_payloads_are_returned(result_store):
    result_store.put("vector", [("a", b"1"), ("b", b"")])
    result_store.put("response", [("c", b"\0\xff" * 1000)])
    assert result_store.get(["c", "nothing", "a", "b"]) == {"a": b"1", "b": b"", "c": b"\0\xff" * 1000}
    assert set(result_store.get(["a", "nothing"])) == {"a"}
    assert (
        result_store.count(),
        result_store.count("vector"),
        result_store.count("response"),
        result_store.count("none"),
    ) == (3, 2, 1, 0)


def test_storing_and_reading_no_keys_works(result_store):
    result_store.put("vector", [])
    assert (result_store.get([]), set(result_store.get([])), result_store.count()) == ({}, set(), 0)


def test_the_first_payload_of_a_key_is_kept(result_store):
    result_store.put("vector", [("a", b"first"), ("a", b"second")])
    result_store.put("other", [("a", b"third"), ("b", b"new")])
    assert result_store.get(["a", "b"]) == {"a": b"first", "b": b"new"}
    assert result_store.count("vector") == 1


def test_payloads_are_still_stored_after_reopening(path):
    store = ResultStore(path)
    store.put("vector", [("a", b"1")])
    store.close()
    reopened = ResultStore(path)
    assert reopened.get(["a"]) == {"a": b"1"}
    reopened.close()


@pytest.mark.parametrize("n", [499, 500, 501, 5000])
def test_thousands_of_keys_are_read_in_one_call(result_store, n):
    keys = [f"k{i}" for i in range(n)]
    result_store.put("vector", [(k, k.encode()) for k in keys[::2]])
    assert result_store.get(keys) == {k: k.encode() for k in keys[::2]}
    assert set(result_store.get(tuple(keys))) == set(keys[::2])


def test_a_batch_is_stored_completely_or_not_at_all(result_store):
    def broken():
        yield "a", b"1"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        result_store.put("vector", broken())
    assert result_store.count() == 0
    result_store.put("vector", [("a", b"2")])
    assert result_store.get(["a"]) == {"a": b"2"}


def test_a_missing_payload_is_an_error(result_store):
    with pytest.raises(TypeError):
        result_store.put("vector", [("a", b"1"), ("b", None)])
    assert result_store.count() == 0


def test_a_full_disk_is_reported_and_the_store_stays_usable(result_store):
    """With `max_page_count` SQLite reports a full disk."""
    result_store.put("vector", [("a", b"1")])
    pages = result_store._db.execute("PRAGMA page_count").fetchone()[0]
    result_store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(VlmAudioError, match=r"results\.sqlite cannot be used: .*database or disk is full"):
        result_store.put("vector", [(f"b{i}", b"x" * 4096) for i in range(50)])
    assert result_store.get(["a", "b0"]) == {"a": b"1"}
    result_store._db.execute("PRAGMA max_page_count = 1000000")
    result_store.put("vector", [("c", b"2")])
    assert set(result_store.get(["a", "b0", "c"])) == {"a", "c"}


def test_threads_can_share_a_store(result_store):
    def work(name: int) -> None:
        for i in range(50):
            result_store.put("vector", [(f"{name}-{i}", b"x")])
            assert set(result_store.get([f"{name}-{i}"]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert result_store.count() == 200


def test_processes_that_write_at_the_same_time_lose_nothing(path):
    """All four also create the file at the same time."""
    code = """
for i in range(40):
    store.put("p", [(f"{sys.argv[2]}-{i}-{j}", b"x" * 100) for j in range(5)] + [(f"shared-{i}", sys.argv[2].encode())])
"""
    writers = [start(code, path, n) for n in range(4)]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors
    store = ResultStore(path)
    assert store.count() == 4 * 40 * 5 + 40
    assert set(store.get([f"shared-{i}" for i in range(40)]).values()) <= {b"0", b"1", b"2", b"3"}
    store.close()


def test_readers_are_not_blocked_by_a_writer(result_store, path):
    result_store.put("vector", [("a", b"1")])
    code = """
from vlm_audio_pipeline.storage.result_rows import write_rows
store._db.execute("BEGIN IMMEDIATE")
write_rows(store._db, "x", {"b": b"0"})
print("holding", flush=True)
sys.stdin.readline()
store._db.execute("COMMIT")
"""
    writer = start(code, path)
    assert writer.stdout.readline() == "holding\n"
    # The writer goes on only after these: a blocked reader would wait for 60 s and get an error.
    assert result_store.get(["a", "b"]) == {"a": b"1"}
    other = ResultStore(path)  # opening the store does not wait either
    assert other.count() == 1
    writer.communicate("go on\n", timeout=60)
    assert set(other.get(["a", "b"])) == {"a", "b"}
    other.close()


def test_a_kill_during_a_write_keeps_the_committed_results(path):
    code = """
store.put("vector", [("a", b"1"), ("b", b"2")])
def rows():
    for i in range(1000):
        yield f"c{i}", b"x" * 10000
    os.kill(os.getpid(), signal.SIGKILL)
store.put("vector", rows())
"""
    killed = start(code, path)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    store = ResultStore(path)
    assert store.get(["a", "b", "c0"]) == {"a": b"1", "b": b"2"}
    assert store.count() == 2
    store.put("vector", [("c0", b"3")])
    store.close()


@pytest.mark.parametrize("content", [b"this is no database, but long enough to be taken for one" * 20, b"\0" * 4096])
def test_a_file_that_is_not_a_database_is_named(path, content):
    path.write_bytes(content)
    with pytest.raises(
        VlmAudioError, match=r"the result store .*results\.sqlite cannot be used: .*file is not a database.*\.recover"
    ):
        ResultStore(path)
    assert path.read_bytes() == content


def test_a_vector_of_2048_bytes_uses_less_than_1_3_times_its_size_on_the_disk(path):
    """A page of 4,096 bytes holds one such vector, which would be twice its size; a page of 16,384 bytes holds seven."""
    store = ResultStore(path)
    store.put("vector", [(f"{i:064x}", bytes(2048)) for i in range(2000)])
    store.close()
    assert 2048 < path.stat().st_size / 2000 < 1.3 * 2048


def test_a_file_with_smaller_pages_is_used_as_it_is(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA page_size = 4096")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(
            "CREATE TABLE file_digests (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID"
        )
    store = ResultStore(path)
    store.put("vector", [("a", b"1")])
    assert store.get(["a"]) == {"a": b"1"} and store._db.execute("PRAGMA page_size").fetchone() == (4096,)


def test_a_damaged_database_is_named(path):
    store = ResultStore(path)
    keys = [f"{i:04}" for i in range(2000)]
    store.put("vector", [(k, b"x" * 500) for k in keys])
    store.close()
    content = bytearray(path.read_bytes())
    content[PAGE_SIZE_BYTES:] = b"\x5a" * (len(content) - PAGE_SIZE_BYTES)
    path.write_bytes(content)
    with pytest.raises(VlmAudioError, match=r"the result store .*malformed"):
        ResultStore(path).get(keys)
    with pytest.raises(VlmAudioError, match=r"the result store .*malformed"):
        ResultStore(path).put("vector", [(f"new{k}", b"x" * 500) for k in keys])


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(VlmAudioError, match=r"the result store .*cannot be used"):
        ResultStore(tmp_path / "file" / "data" / "results.sqlite")


def test_a_folder_at_the_path_of_the_store_is_named(path):
    path.mkdir()
    with pytest.raises(VlmAudioError, match="unable to open database file"):
        ResultStore(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o500)
    with pytest.raises(VlmAudioError, match=r"the result store .*cannot be used"):
        ResultStore(folder / "results.sqlite")


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.binary(max_size=20), max_size=20), st.data())
def test_any_keys_and_payloads_are_read_back(tmp_path_factory, rows_by_key, data):
    store = ResultStore(tmp_path_factory.mktemp("rows") / "results.sqlite")
    store.put("x", rows_by_key.items())
    keys = data.draw(st.lists(st.sampled_from([*rows_by_key, "not there at all"])))
    assert store.get(keys) == {k: rows_by_key[k] for k in keys if k in rows_by_key}
    store.close()
