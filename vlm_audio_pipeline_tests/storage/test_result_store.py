import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.result_store import ResultStore

SETTLED_S = 0.15  # s; after that a file's digest is remembered


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "results.sqlite"


@pytest.fixture
def rows(path):
    store = ResultStore(path)
    yield store
    store.close()


def start(code: str, *arguments) -> subprocess.Popen:
    """Run Python beside this process, with `store` open on the first argument."""
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


def test_what_is_put_is_found(rows):
    rows.put("vector", [("a", b"1"), ("b", b"")])
    rows.put("response", [("c", b"\0\xff" * 1000)])
    assert rows.get(["c", "nothing", "a", "b"]) == {"a": b"1", "b": b"", "c": b"\0\xff" * 1000}
    assert rows.stored_keys(["a", "nothing"]) == {"a"}
    assert (rows.count(), rows.count("vector"), rows.count("response"), rows.count("none")) == (3, 2, 1, 0)


def test_nothing_is_put_and_asked(rows):
    rows.put("vector", [])
    assert (rows.get([]), rows.stored_keys([]), rows.count()) == ({}, set(), 0)


def test_the_first_payload_stays(rows):
    rows.put("vector", [("a", b"first"), ("a", b"second")])
    rows.put("other", [("a", b"third"), ("b", b"new")])
    assert rows.get(["a", "b"]) == {"a": b"first", "b": b"new"}
    assert rows.count("vector") == 1


def test_it_lasts(path):
    store = ResultStore(path)
    store.put("vector", [("a", b"1")])
    store.close()
    again = ResultStore(path)
    assert again.get(["a"]) == {"a": b"1"}
    again.close()


@pytest.mark.parametrize("n", [499, 500, 501, 5000])
def test_many_keys_at_once(rows, n):
    keys = [f"k{i}" for i in range(n)]
    rows.put("vector", [(k, k.encode()) for k in keys[::2]])
    assert rows.get(keys) == {k: k.encode() for k in keys[::2]}
    assert rows.stored_keys(tuple(keys)) == set(keys[::2])


def test_a_batch_is_stored_whole_or_not_at_all(rows):
    def broken():
        yield "a", b"1"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        rows.put("vector", broken())
    assert rows.count() == 0
    rows.put("vector", [("a", b"2")])
    assert rows.get(["a"]) == {"a": b"2"}


def test_a_payload_that_is_missing_is_not_passed_over(rows):
    with pytest.raises(sqlite3.IntegrityError):
        rows.put("vector", [("a", b"1"), ("b", None)])
    assert rows.count() == 0


def test_a_full_disk_is_said_and_the_store_goes_on(rows):
    """`max_page_count` is SQLite's own way of running out of room."""
    rows.put("vector", [("a", b"1")])
    pages = rows._db.execute("PRAGMA page_count").fetchone()[0]
    rows._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(VlmAudioError, match=r"results\.sqlite cannot be used: .*database or disk is full"):
        rows.put("vector", [(f"b{i}", b"x" * 4096) for i in range(50)])
    assert rows.get(["a", "b0"]) == {"a": b"1"}
    rows._db.execute("PRAGMA max_page_count = 1000000")
    rows.put("vector", [("c", b"2")])
    assert rows.stored_keys(["a", "b0", "c"]) == {"a", "c"}


def test_threads_share_a_store(rows):
    def work(name: int) -> None:
        for i in range(50):
            rows.put("vector", [(f"{name}-{i}", b"x")])
            assert rows.stored_keys([f"{name}-{i}"])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert rows.count() == 200


def test_processes_that_write_at_once_lose_nothing(path):
    """All four also make the file at once."""
    code = """
for i in range(40):
    store.put("p", [(f"{sys.argv[2]}-{i}-{j}", b"x" * 100) for j in range(5)] + [(f"shared-{i}", sys.argv[2].encode())])
"""
    writers = [start(code, path, n) for n in range(4)]
    for writer in writers:
        _, said = writer.communicate(timeout=120)
        assert writer.returncode == 0, said
    store = ResultStore(path)
    assert store.count() == 4 * 40 * 5 + 40
    assert set(store.get([f"shared-{i}" for i in range(40)]).values()) <= {b"0", b"1", b"2", b"3"}
    store.close()


def test_readers_are_not_blocked_by_a_writer(rows, path):
    rows.put("vector", [("a", b"1")])
    code = """
store._db.execute("BEGIN IMMEDIATE")
store._db.execute("INSERT INTO results (result_key, kind, payload) VALUES ('b', 'x', x'00')")
print("holding", flush=True)
sys.stdin.readline()
store._db.execute("COMMIT")
"""
    writer = start(code, path)
    assert writer.stdout.readline() == "holding\n"
    began = time.monotonic()
    assert rows.get(["a", "b"]) == {"a": b"1"}
    other = ResultStore(path)  # not even opening it waits
    assert other.count() == 1
    assert time.monotonic() - began < 30  # s; a blocked one waits 60
    writer.communicate("go on\n", timeout=60)
    assert other.stored_keys(["a", "b"]) == {"a", "b"}
    other.close()


def test_a_kill_in_mid_write_keeps_what_was_committed(path):
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
def test_a_file_that_is_no_database_is_named(path, content):
    path.write_bytes(content)
    with pytest.raises(
        VlmAudioError, match=r"the result store .*results\.sqlite cannot be used: .*file is not a database.*\.recover"
    ):
        ResultStore(path)
    assert path.read_bytes() == content


def test_a_database_damaged_inside_is_named(path):
    store = ResultStore(path)
    keys = [f"{i:04}" for i in range(2000)]
    store.put("vector", [(k, b"x" * 500) for k in keys])
    store.close()
    content = bytearray(path.read_bytes())
    content[8192:] = b"\x5a" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(VlmAudioError, match=r"the result store .*malformed"):
        ResultStore(path).get(keys)
    with pytest.raises(VlmAudioError, match=r"the result store .*malformed"):
        ResultStore(path).put("vector", [(f"new{k}", b"x" * 500) for k in keys])


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(VlmAudioError, match=r"the result store .*cannot be used"):
        ResultStore(tmp_path / "file" / "data" / "results.sqlite")


def test_a_folder_in_its_place_is_named(path):
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
def test_any_keys_and_payloads(tmp_path_factory, rows_by_key, data):
    store = ResultStore(tmp_path_factory.mktemp("rows") / "results.sqlite")
    store.put("x", rows_by_key.items())
    asked = data.draw(st.lists(st.sampled_from([*rows_by_key, "not there at all"])))
    assert store.get(asked) == {k: rows_by_key[k] for k in asked if k in rows_by_key}
    store.close()


# ---------------------------------------------------------------- digests of files


@pytest.fixture
def reads(monkeypatch) -> list[Path]:
    """Every file that was read whole."""
    seen: list[Path] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: (seen.append(self), original(self))[1])
    return seen


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_digests_are_sha256_in_order(rows, tmp_path):
    files = [write(tmp_path / f"{i}", b"x" * i) for i in (2, 0, 1)]
    assert rows.file_digests([*files, files[0]]) == [sha(b"xx"), sha(b""), sha(b"x"), sha(b"xx")]
    assert rows.file_digests([]) == []


def test_what_is_no_file_has_none(rows, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert rows.file_digests([tmp_path / n for n in ("missing", "folder", "dangling")]) == [None] * 3


def test_untouched_files_are_not_read_again(rows, tmp_path, path, reads):
    files = [write(tmp_path / f"{i}", b"%d" % i) for i in range(600)]
    time.sleep(SETTLED_S)
    first = rows.file_digests(files)
    assert len(reads) == 600
    assert rows.file_digests(files) == first
    other = ResultStore(path)  # nor by another process
    assert other.file_digests(files[::-1]) == first[::-1]
    other.close()
    assert len(reads) == 600


def test_only_what_was_touched_is_read_again(rows, tmp_path, reads):
    files = [write(tmp_path / f"{i}", b"%d" % i) for i in range(5)]
    time.sleep(SETTLED_S)
    rows.file_digests(files)
    del reads[:]
    files[3].write_bytes(b"changed")
    assert rows.file_digests(files)[3] == sha(b"changed")
    assert reads == [files[3]]


def test_a_change_of_the_same_size_with_its_date_put_back_is_seen(rows, tmp_path):
    file = write(tmp_path / "a", b"before")
    time.sleep(SETTLED_S)
    assert rows.file_digests([file]) == [sha(b"before")]
    was = file.stat()
    file.write_bytes(b"after!")
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (was.st_size, was.st_mtime_ns)
    assert rows.file_digests([file]) == [sha(b"after!")]


def test_another_file_moved_into_its_place_is_seen(rows, tmp_path):
    file, other = write(tmp_path / "a", b"before"), write(tmp_path / "b", b"after!")
    time.sleep(SETTLED_S)
    assert rows.file_digests([file]) == [sha(b"before")]
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    os.replace(other, file)
    assert rows.file_digests([file]) == [sha(b"after!")]


def test_a_file_just_written_is_not_yet_trusted(rows, tmp_path, reads):
    """Within a tick of the file system's clock a file can change twice under one stamp."""
    file = write(tmp_path / "a", b"x")
    rows.file_digests([file])
    rows.file_digests([file])
    assert len(reads) == 2
    time.sleep(SETTLED_S)
    rows.file_digests([file])
    rows.file_digests([file])
    assert len(reads) == 3


def test_a_file_that_went_and_came_back_is_read(rows, tmp_path):
    file = write(tmp_path / "a", b"1")
    time.sleep(SETTLED_S)
    assert rows.file_digests([file]) == [sha(b"1")]
    file.unlink()
    assert rows.file_digests([file]) == [None]
    write(file, b"2")
    assert rows.file_digests([file]) == [sha(b"2")]


def test_rows_of_a_kind_come_in_the_order_in_which_they_were_stored(rows):
    before = datetime.now(UTC) - timedelta(seconds=1)
    for i, key in enumerate("cab"):
        rows.put("history", [(key, bytes([i]))])
        rows.put("vector", [(f"v{i}", b"")])
    rows.put("history", [("c", b"again")])
    found = rows.of_kind("history")
    assert [(k, p) for k, p, _ in found] == [("c", b"\0"), ("a", b"\1"), ("b", b"\2")]
    times = [at for *_, at in found]
    assert before < times[0] <= times[1] <= times[2] < datetime.now(UTC) + timedelta(seconds=1)
    assert rows.of_kind("none") == []
