import hashlib
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage import result_store as result_store_module
from vlm_audio_pipeline.storage.result_rows import checksum
from vlm_audio_pipeline.storage.result_store import ResultStore

SETTLED_S = 0.15  # s; a file that did not change for this time has its digest stored


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "results.sqlite"


@pytest.fixture
def result_store(path):
    store = ResultStore(path)
    yield store
    store.close()


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


def test_a_damaged_database_is_named(path):
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


# ---------------------------------------------------------------- digests of files


@pytest.fixture
def reads(monkeypatch) -> list[Path]:
    """Return a list to which every completely read file is added."""
    read_files: list[Path] = []
    original = result_store_module.digest_file
    monkeypatch.setattr(result_store_module, "digest_file", lambda path: (read_files.append(path), original(path))[1])
    return read_files


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_digests_are_sha256_in_order(result_store, tmp_path):
    files = [write(tmp_path / f"{i}", b"x" * i) for i in (2, 0, 1)]
    assert result_store.file_digests([*files, files[0]]) == [sha256(b"xx"), sha256(b""), sha256(b"x"), sha256(b"xx")]
    assert result_store.file_digests([]) == []


def test_a_path_that_is_not_a_file_has_no_digest(result_store, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert result_store.file_digests([tmp_path / n for n in ("missing", "folder", "dangling")]) == [None] * 3


def test_unchanged_files_are_not_read_again(result_store, tmp_path, path, reads):
    files = [write(tmp_path / f"{i}", b"%d" % i) for i in range(600)]
    time.sleep(SETTLED_S)
    first = result_store.file_digests(files)
    assert len(reads) == 600
    assert result_store.file_digests(files) == first
    other = ResultStore(path)  # another store on the same file does not read them either
    assert other.file_digests(files[::-1]) == first[::-1]
    other.close()
    assert len(reads) == 600


def test_only_a_changed_file_is_read_again(result_store, tmp_path, reads):
    files = [write(tmp_path / f"{i}", b"%d" % i) for i in range(5)]
    time.sleep(SETTLED_S)
    result_store.file_digests(files)
    del reads[:]
    files[3].write_bytes(b"changed")
    assert result_store.file_digests(files)[3] == sha256(b"changed")
    assert reads == [files[3]]


def test_a_change_with_the_same_size_and_time_is_detected(result_store, tmp_path):
    file = write(tmp_path / "a", b"before")
    time.sleep(SETTLED_S)
    assert result_store.file_digests([file]) == [sha256(b"before")]
    old_stat = file.stat()
    file.write_bytes(b"after!")
    os.utime(file, ns=(old_stat.st_atime_ns, old_stat.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (old_stat.st_size, old_stat.st_mtime_ns)
    assert result_store.file_digests([file]) == [sha256(b"after!")]


def test_a_file_that_is_replaced_by_another_is_read_again(result_store, tmp_path):
    file, other = write(tmp_path / "a", b"before"), write(tmp_path / "b", b"after!")
    time.sleep(SETTLED_S)
    assert result_store.file_digests([file]) == [sha256(b"before")]
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    os.replace(other, file)
    assert result_store.file_digests([file]) == [sha256(b"after!")]


def test_the_digest_of_a_file_written_just_now_is_not_stored(result_store, tmp_path, reads):
    """Within one tick of the file system's clock a file can change twice with the same timestamp."""
    file = write(tmp_path / "a", b"x")
    result_store.file_digests([file])
    result_store.file_digests([file])
    assert len(reads) == 2
    time.sleep(SETTLED_S)
    result_store.file_digests([file])
    result_store.file_digests([file])
    assert len(reads) == 3


def test_a_deleted_file_that_is_written_again_is_read_again(result_store, tmp_path):
    file = write(tmp_path / "a", b"1")
    time.sleep(SETTLED_S)
    assert result_store.file_digests([file]) == [sha256(b"1")]
    file.unlink()
    assert result_store.file_digests([file]) == [None]
    write(file, b"2")
    assert result_store.file_digests([file]) == [sha256(b"2")]


# ---------------------------------------------------------------- damage on the disk


def change(path: Path, sql: str, *values) -> None:
    """Change the file as a damaged disk would: without the checksums."""
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(sql, values).rowcount == 1


DAMAGES = {
    "a vector": "UPDATE results SET payload = CAST(x'00' || substr(payload, 2) AS BLOB) WHERE result_key = 'a'",
    "a text in place of the bytes": "UPDATE results SET payload = 'text' WHERE result_key = 'a'",
    "a number in place of the bytes": "UPDATE results SET payload = 7 WHERE result_key = 'a'",
    "the kind": "UPDATE results SET kind = 'vectos' WHERE result_key = 'a'",
    "a kind that is not UTF-8": "UPDATE results SET kind = CAST(x'ff' AS TEXT) WHERE result_key = 'a'",
    "the checksum": "UPDATE results SET sha256 = x'00' WHERE result_key = 'a'",
    "a lost checksum": "UPDATE results SET sha256 = x'' WHERE result_key = 'a'",
    "a checksum that is not UTF-8": "UPDATE results SET sha256 = CAST(x'ff' AS TEXT) WHERE result_key = 'a'",
}


@pytest.mark.parametrize("sql", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_result_is_absent_with_a_warning_and_the_next_put_replaces_it(path, sql, caplog):
    store = ResultStore(path)
    store.put("vector", [("a", b"\x01\x02"), ("b", b"\x03")])
    store.close()
    change(path, sql)
    store = ResultStore(path)
    assert store.get(["a", "b"]) == {"b": b"\x03"} == store.get(["a", "b"])
    (warning,) = [r.getMessage() for r in caplog.records]
    assert "1 results in" in warning and str(path) in warning and "their checksums differ" in warning
    store.put("vector", [("a", b"\x01\x02"), ("b", b"other")])
    assert store.get(["a", "b"]) == {"a": b"\x01\x02", "b": b"\x03"}
    store.close()
    reopened = ResultStore(path)
    assert reopened.get(["a", "b"]) == {"a": b"\x01\x02", "b": b"\x03"}
    reopened.close()


def test_a_result_under_a_damaged_key_is_never_returned_for_another_key(path, caplog):
    store = ResultStore(path)
    store.put("vector", [("key-a", b"1"), ("key-b", b"2")])
    store.close()
    with closing(sqlite3.connect(path)) as db, db:  # the checksum stays that of the key `key-a`
        db.execute("UPDATE results SET result_key = 'key-c' WHERE result_key = 'key-a'")
    store = ResultStore(path)
    assert store.get(["key-a", "key-b", "key-c"]) == {"key-b": b"2"}
    assert [r.getMessage().partition(" in ")[0] for r in caplog.records] == ["1 results"]
    store.put("vector", [("key-a", b"1"), ("key-c", b"3")])
    assert store.get(["key-a", "key-b", "key-c"]) == {"key-a": b"1", "key-b": b"2", "key-c": b"3"}
    store.close()


@pytest.mark.parametrize("index", ["sqlite_autoindex_results_1", "results_by_checksum"])
@pytest.mark.parametrize("is_read_first", [True, False])
def test_an_index_that_hides_results_is_made_again_and_nothing_is_stored_twice(path, caplog, index, is_read_first):
    results = {f"{i:064x}": bytes([i]) * 50 for i in range(30)}
    store = ResultStore(path)
    store.put("vector", results.items())
    root = store._db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", [index]).fetchone()[0]
    store.close()
    content = bytearray(path.read_bytes())
    start = 4096 * (root - 1) + 8  # a page begins with a header of 8 bytes and the offsets of its cells, 2 bytes each
    offsets = [content[start + 2 * i : start + 2 * i + 2] for i in range(30)]
    content[start : start + 60] = b"".join(reversed(offsets))
    path.write_bytes(content)
    store = ResultStore(path)
    if is_read_first:
        assert store.get(list(results)) == results
    store.put("vector", [(key, b"requested again") for key in results])
    assert store.get(list(results)) == results
    assert store.count() == 30 == store._db.execute("SELECT count(*) FROM results NOT INDEXED").fetchone()[0]
    assert ("was made again" in caplog.text) == (is_read_first and index == "sqlite_autoindex_results_1")
    store.close()


@pytest.mark.parametrize(
    ("text", "damaged"), [(b"result_key TEXT PRIMARY", b"result_key TDXT PRIMARY"), (b"sha256 BLOB", b"sha256 BLNB")]
)
def test_a_column_whose_type_is_damaged_is_reported(path, text, damaged):
    store = ResultStore(path)
    store.put("vector", [("07", b"x")])  # SQLite would convert this key to the number 7
    store.close()
    content = path.read_bytes()
    assert content.count(text) >= 1
    path.write_bytes(content.replace(text, damaged))
    with pytest.raises(VlmAudioError, match=r"has the columns .* so it is damaged"):
        ResultStore(path)


OLD_RESULTS = {f"{i:04}": b"%d" % i for i in range(1200)}


@pytest.fixture
def old_file(path):
    """A file of an older version, without checksums, and with a table `file_digests`."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "CREATE TABLE results (result_key TEXT PRIMARY KEY, kind TEXT NOT NULL, payload BLOB NOT NULL, created_at TEXT NOT NULL DEFAULT '2026-01-01T00:00:00.000Z')"
        )
        db.executemany("INSERT INTO results (result_key, kind, payload) VALUES (?, 'vector', ?)", OLD_RESULTS.items())
        db.execute("CREATE TABLE file_digests (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL)")
    return path


def test_results_of_an_older_version_get_a_checksum_once(old_file):
    store = ResultStore(old_file)
    assert store.get(list(OLD_RESULTS)) == OLD_RESULTS
    store.close()
    change(old_file, "UPDATE results SET payload = x'00' WHERE result_key = '0007'")
    change(old_file, "UPDATE results SET payload = x'00', sha256 = x'' WHERE result_key = '0008'")
    store = ResultStore(old_file)
    assert store.get(["0007", "0008", "0009"]) == {"0009": b"9"}
    store.close()


def test_checksums_in_a_table_of_an_older_version_are_kept(old_file):
    """A result that has none there, or a wrong one, is damaged: that version wrote one for each result."""
    with closing(sqlite3.connect(old_file)) as db, db:
        db.execute("CREATE TABLE checksums (result_key TEXT PRIMARY KEY, sha256 BLOB NOT NULL) WITHOUT ROWID")
        rows = [(key, checksum(key.encode(), b"vector", payload)) for key, payload in OLD_RESULTS.items()]
        db.executemany("INSERT INTO checksums VALUES (?, ?)", rows)
        db.execute("DELETE FROM checksums WHERE result_key = '0007'")
        db.execute("UPDATE checksums SET sha256 = x'00' WHERE result_key = '0008'")
    store = ResultStore(old_file)
    assert store.get(list(OLD_RESULTS)) == {k: v for k, v in OLD_RESULTS.items() if k not in ("0007", "0008")}
    store.close()


def test_results_of_a_damaged_file_of_an_older_version_get_no_checksum(old_file):
    with closing(sqlite3.connect(old_file)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'file_digests'").fetchone()[0]
    content = bytearray(old_file.read_bytes())
    content[4096 * (root - 1)] = 99  # no kind of page
    old_file.write_bytes(content)
    with pytest.raises(VlmAudioError, match="results have no checksum, and its structure is damaged"):
        ResultStore(old_file)


def test_results_that_cannot_be_read_are_absent_until_they_are_replaced(result_store, caplog):
    result_store.put("response", [("a", b"{"), ("b", b"{}")])
    result_store.report_unreadable(["a"])
    assert result_store.get(["a", "b"]) == {"b": b"{}"}
    assert "cannot be read and are requested again: a" in caplog.text
    result_store.put("response", [("a", b"{}")])
    assert result_store.get(["a", "b"]) == {"a": b"{}", "b": b"{}"}


def test_a_deleted_result_can_be_stored_again_with_another_kind(result_store):
    result_store.put("vector", [("a", b"1")])
    result_store.delete("vector", ["a"])
    result_store.put("response", [("a", b"2")])
    assert result_store.get(["a"]) == {"a": b"2"}


def test_a_table_of_results_with_a_damaged_name_is_reported_and_not_replaced_by_an_empty_table(path):
    store = ResultStore(path)
    store.put("vector", [("a", b"1")])
    store.close()
    path.write_bytes(
        path.read_bytes().replace(b"TABLE results", b"TABLE resultr").replace(b"Eresultsresults", b"Eresultrresultr")
    )
    with pytest.raises(VlmAudioError, match=r"results\.sqlite cannot be used"):
        ResultStore(path)


def example_file(path: Path) -> tuple[dict[str, bytes], bytes]:
    """Write a store of 12 results, some longer than a page, and return them and the bytes of the file."""
    rng = random.Random(1)
    results = {f"{i:02x}" * 32: rng.randbytes(50 if i % 3 else 6000) for i in range(12)}
    store = ResultStore(path)
    store.put("vector", results.items())
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    return results, path.read_bytes()


def read_after_damage(path: Path, content: bytes, results: dict[str, bytes]) -> str:
    """Return what became of the results in a damaged file, and repair them if the file can be used."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        store = ResultStore(path)
        try:
            stored = store.get(list(results))
            assert all(results[key] == payload for key, payload in stored.items())  # never another payload
            store.put("vector", [(key, payload) for key, payload in results.items() if key not in stored])
            store.get(list(results))
        finally:
            store.close()
    except VlmAudioError:
        return "error"
    return "right" if stored == results else "absent"


def integrity_problems(path: Path, content: bytes) -> str:
    """Return what SQLite's own check says of a file with this content: "ok", or its problems."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        with closing(sqlite3.connect(path)) as db:
            return "\n".join(problem for (problem,) in db.execute("PRAGMA integrity_check"))
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        return str(error)


def flip_a_bit(content: bytes, position: int, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    damaged[position] ^= 1 << rng.randrange(8)
    return bytes(damaged)


@pytest.mark.parametrize(("step", "start"), [(1201, 0), pytest.param(37, 11, marks=pytest.mark.slow)])
def test_no_flipped_bit_anywhere_in_the_file_gives_another_payload(path, step, start, caplog):
    """Without checksums, 9 % of all bytes of this file gave another payload."""
    results, content = example_file(path)
    rng, outcomes = random.Random(2), Counter()
    for position in range(start, len(content), step):
        damaged = flip_a_bit(content, position, rng)
        problems = integrity_problems(path, damaged)
        caplog.clear()
        outcome = read_after_damage(path, damaged, results)
        outcomes[outcome] += 1
        # A store that is used again in full and without a warning has no damage, or one that hides no result: of free space, or
        # of the second index, which is read only for keys that the first one does not have.
        hides_results = outcome == "absent" or "sqlite_autoindex_results_1" in problems
        if outcome != "error":
            assert bool(caplog.records) >= hides_results, (position, problems)
        if outcome == "right" and problems == "ok":
            assert not caplog.records, (position, caplog.text)
    assert outcomes["right"] and outcomes["absent"]


def test_a_damaged_digest_of_a_file_is_computed_again(path, tmp_path):
    file = write(tmp_path / "a", b"x")
    time.sleep(SETTLED_S)
    store = ResultStore(path)
    assert store.file_digests([file]) == [sha256(b"x")]
    store.close()
    change(path, "UPDATE file_digests SET sha256 = '0' || substr(sha256, 2)")
    store = ResultStore(path)
    assert store.file_digests([file]) == [sha256(b"x")]
    store.close()


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_only_regular_files_have_a_digest(result_store, tmp_path, kind):
    special = tmp_path / "special"
    if kind == "pipe":
        os.mkfifo(special)
    elif kind == "device":
        special.symlink_to("/dev/zero")
    else:
        socket.socket(socket.AF_UNIX).bind(str(special))
    assert result_store.file_digests([special]) == [None]


def test_a_file_of_20_gb_has_no_digest_and_a_large_file_is_hashed_in_blocks(result_store, tmp_path):
    huge, large = tmp_path / "huge", tmp_path / "large"
    for path, size in ((huge, 20_000_000_000), (large, 40_000_000)):
        path.touch()
        os.truncate(path, size)
    tracemalloc.start()
    digests = result_store.file_digests([huge, large])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert digests == [None, sha256(bytes(40_000_000))]
    assert peak < 5_000_000  # bytes
