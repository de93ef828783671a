import sqlite3
from contextlib import closing

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.batch_log import BatchLog
from vlm_audio_pipeline.storage.history_store import HistoryStore
from vlm_audio_pipeline.storage.leases import Leases
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_schema import TABLES
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.sqlite_files import create_tables, sqlite_problem

USERS = {
    "results": lambda store: ResultStore(store.path),
    "ledger": lambda store: Ledger(store, "s", Budget(usd=1)),
    "batches": BatchLog,
    "history": lambda store: HistoryStore(store.path).entries("s"),
    "leases": lambda store: Leases(store.path).take(["a"]),
}


@pytest.fixture
def store(tmp_path):
    """A result store with the tables of every module that uses its file."""
    with closing(ResultStore(tmp_path / "results.sqlite")) as store:
        store.put("vector", [("a", b"1")])
        for use in USERS.values():
            use(store)
        yield store


def test_the_names_of_all_tables_are_listed(store):
    with closing(sqlite3.connect(store.path)) as db:
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert names - {"sqlite_stat1"} <= TABLES
    assert {"results", "spending", "batches", "batch_requests", "history", "leases"} <= names


@pytest.mark.parametrize("name", USERS)
def test_a_table_that_a_damaged_byte_hides_is_not_replaced_by_an_empty_one(store, name):
    """Bytes 104 and 105 of the file are the number of tables and indexes on its first page."""
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(store.path.read_bytes())
    content[103:105] = (1).to_bytes(2, "big")
    store.path.write_bytes(content)
    with pytest.raises(VlmAudioError, match="and its structure is damaged"):
        USERS[name](store)
    assert sqlite_problem(store.path)


def test_missing_tables_of_an_intact_file_are_created(tmp_path):
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as db:
        create_tables(db, "CREATE TABLE IF NOT EXISTS a (x)")
        create_tables(db, "CREATE TABLE IF NOT EXISTS a (x); CREATE INDEX IF NOT EXISTS b ON a (x)")
        assert {name for (name,) in db.execute("SELECT name FROM sqlite_schema")} == {"a", "b"}
