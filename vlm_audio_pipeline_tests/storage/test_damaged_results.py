"""A damaged file of the result store: never another payload, and a warning for each result that is lost."""

import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.result_rows import checksum
from vlm_audio_pipeline.storage.result_store import PAGE_SIZE_BYTES, ResultStore


def change(path: Path, sql: str, *values) -> None:
    """Change the file as a damaged disk would: without the checksums."""
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(sql, values).rowcount == 1


DAMAGES = {
    "a vector": "UPDATE results SET payload = CAST(x'00' || substr(payload, 2) AS BLOB) WHERE result_key = 'a'",
    "a text instead of the bytes": "UPDATE results SET payload = 'text' WHERE result_key = 'a'",
    "a number instead of the bytes": "UPDATE results SET payload = 7 WHERE result_key = 'a'",
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
    start = (
        PAGE_SIZE_BYTES * (root - 1) + 8
    )  # a page begins with a header of 8 bytes and the offsets of its cells, 2 bytes each
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
