"""Rows of the ledger: one for each reservation or settled price, with a checksum, so that no damaged amount is counted.

Every change of a row goes through this module. The transaction is that of the caller.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.storage.sqlite_files import create_tables, transaction

_TABLE = """
CREATE TABLE IF NOT EXISTS spending (
  id INTEGER PRIMARY KEY AUTOINCREMENT, study TEXT NOT NULL, classifier TEXT NOT NULL, scope TEXT NOT NULL,
  nano_usd INTEGER NOT NULL CHECK (nano_usd >= 0), expected INTEGER NOT NULL, settled INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), checksum TEXT NOT NULL DEFAULT ''
)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS spending_by_study ON spending (study, classifier, settled, nano_usd)"
_VALUES = ("study", "classifier", "scope", "nano_usd", "expected", "settled")
"""The columns that the checksum covers."""


def prepare_spending(db: sqlite3.Connection) -> None:
    """Create the table; the rows of an older version get checksums."""
    create_tables(db, f"{_TABLE}; {_INDEX}")
    if has_checksums(db):
        return
    with transaction(db):
        if has_checksums(db):  # another process was first
            return
        db.execute("ALTER TABLE spending ADD COLUMN checksum TEXT NOT NULL DEFAULT ''")
        rows = [(_checksum(*values), row) for row, (*values, _) in _read_rows(db)]
        db.executemany("UPDATE spending SET checksum = ? WHERE id = ?", rows)


def has_checksums(db: sqlite3.Connection) -> bool:
    """Return whether the rows have checksums; those of an older version have none."""
    return db.execute("SELECT 1 FROM pragma_table_info('spending') WHERE name = 'checksum'").fetchone() is not None


def damaged_spending(db: sqlite3.Connection) -> list[int]:
    """Read every row; return the ids of those whose checksum is wrong."""
    return [row for row, (*values, checksum) in _read_rows(db) if checksum != _checksum(*values)]


def repair_index(db: sqlite3.Connection) -> None:
    """Make the index of the rows again if it has other amounts: sums are read from it."""
    with transaction(db, "DEFERRED"):
        sums: Counter[str] = Counter()
        for _, (study, _, _, nano_usd, *_) in _read_rows(db):
            sums[study] += int(nano_usd)
        query = "SELECT study, sum(nano_usd) FROM spending INDEXED BY spending_by_study GROUP BY study"
        is_right = dict(db.execute(query).fetchall()) == sums
    if not is_right:
        db.execute("REINDEX spending")


def add_reservation(
    db: sqlite3.Connection, study: str, classifier: str, scope: str, nano_usd: int, expected: int
) -> int:
    """Add a reservation and return its id.

    Args:
        db: a connection with an open transaction.
        study: name of the study.
        classifier: name of the classifier.
        scope: as in `Ledger.expect`.
        nano_usd: the amount, 1e-9 USD.
        expected: number of its requests that were expected.
    """
    values = (study, classifier, scope, nano_usd, expected, 0)
    query = f"INSERT INTO spending ({', '.join(_VALUES)}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)"
    row = db.execute(query, (*values, _checksum(*values))).lastrowid
    assert row is not None
    return row


def settle(db: sqlite3.Connection, study: str, reservation: int, nano_usd: int) -> None:
    """Replace an open reservation by the actual price, 1e-9 USD.

    Raises:
        ValueError: if it is not open.
    """
    query = "SELECT classifier, scope, expected FROM spending WHERE id = ? AND study = ? AND settled = 0"
    row = db.execute(query, (reservation, study)).fetchone()
    _require_open(row is not None, reservation)
    classifier, scope, expected = row
    db.execute(
        "UPDATE spending SET nano_usd = ?, settled = 1, checksum = ? WHERE id = ?",
        (nano_usd, _checksum(study, classifier, scope, nano_usd, expected, 1), reservation),
    )


def delete_reservation(db: sqlite3.Connection, study: str, reservation: int) -> None:
    """Delete an open reservation.

    Raises:
        ValueError: if it is not open.
    """
    done = db.execute("DELETE FROM spending WHERE id = ? AND study = ? AND settled = 0", (reservation, study))
    _require_open(done.rowcount == 1, reservation)


def spent_amount(db: sqlite3.Connection, study: str) -> int:
    """Return the sum of the settled and reserved amounts of a study, 1e-9 USD.

    Checksums are read when the ledger is opened. What is damaged later changes the rows or their index, but not both.

    Raises:
        sqlite3.DatabaseError: if the rows and their index have different amounts.
    """
    amounts = "SELECT coalesce(sum(nano_usd), 0) FROM spending"
    query = f"SELECT ({amounts} INDEXED BY spending_by_study WHERE study = ?), ({amounts} NOT INDEXED WHERE study = ?)"
    in_index, in_rows = db.execute(query, (study, study)).fetchone()
    if in_index != in_rows:
        raise sqlite3.DatabaseError("it is damaged: its amounts and their index differ")
    return int(in_rows)


def _require_open(is_open: bool, reservation: int) -> None:
    if not is_open:
        raise ValueError(f"reservation {reservation} is not open; it is already settled or released")


def _read_rows(db: sqlite3.Connection) -> Iterator[tuple[int, list[str]]]:
    """Yield the id of each row, and its values with the checksum as texts; a damaged value may have any type."""
    columns = ", ".join(f"CAST({name} AS BLOB)" for name in (*_VALUES, "checksum"))
    for row, *values in db.execute(f"SELECT id, {columns} FROM spending NOT INDEXED ORDER BY id"):
        yield row, [(value or b"").decode(errors="replace") for value in values]


def _checksum(*values: str | int) -> str:
    return fingerprint(*map(str, values), length=32)
