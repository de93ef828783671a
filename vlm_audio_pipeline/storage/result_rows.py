"""Rows of the result store: each has a checksum, is checked when it is read, and is found again after it was written.

The index of the keys can be damaged, too, and hide a row. A second index has the same keys: a key that only one of them has, or
that leads to another row, shows the damage. Then both indexes are made again from the rows.
"""

import hashlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TABLE = """
CREATE TABLE IF NOT EXISTS results (
  result_key TEXT PRIMARY KEY, kind TEXT NOT NULL, payload BLOB NOT NULL,
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), sha256 BLOB NOT NULL DEFAULT x''
);
"""
SECOND_INDEX = "CREATE INDEX IF NOT EXISTS results_by_checksum ON results (result_key, sha256)"
_CHUNK = 500  # keys per query, below SQLite's limit of bound variables
_READ = """
SELECT CAST(k.result_key AS BLOB), CAST(r.result_key AS BLOB), CAST(r.kind AS BLOB), CAST(r.payload AS BLOB),
       CAST(r.sha256 AS BLOB)
FROM results k INDEXED BY sqlite_autoindex_results_1 LEFT JOIN results r ON r.rowid = k.rowid WHERE k.result_key IN
"""
"""Reads the key from the index (k) and the rest from the table (r), so that a damaged entry of either is detected."""
_READ_SECOND_INDEX = "SELECT result_key FROM results INDEXED BY results_by_checksum WHERE result_key IN"
_WRITE = """
INSERT INTO results (result_key, kind, payload, sha256, created_at)
VALUES (?1, ?2, ?3, ?4, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
ON CONFLICT (result_key) DO UPDATE SET kind = ?2, payload = ?3, sha256 = ?4
"""
"""The time is stated, because a damaged byte can change the default of the column."""


@dataclass(frozen=True)
class ResultRows:
    """The rows of some keys.

    Attributes:
        payloads: key -> payload, of the rows whose checksum is right.
        damaged: key -> kind, of the other rows.
        is_index_damaged: whether an index hides a row, or leads to another one.
    """

    payloads: dict[str, bytes] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    is_index_damaged: bool = False


def checksum(key: bytes, kind: bytes, payload: bytes) -> bytes:
    """Return the checksum of a result: SHA-256 of the lengths of key and kind, the key, the kind and the payload, 32 bytes."""
    head = len(key).to_bytes(4, "little") + len(kind).to_bytes(4, "little")
    return hashlib.sha256(head + key + kind + payload).digest()


def read_rows(db: sqlite3.Connection, keys: Sequence[str]) -> ResultRows:
    """Read the rows of keys, in an open transaction: both indexes must be read from the same state of the file."""
    payloads: dict[str, bytes] = {}
    damaged: dict[str, str] = {}
    is_index_damaged = False
    for key_bytes, row_key, kind, payload, sha256 in select_values(db, _READ, keys):
        key = (key_bytes or b"").decode(errors="replace")
        if row_key == key_bytes and payload is not None and sha256 == checksum(key_bytes, kind or b"", payload):
            payloads[key] = payload
        else:
            damaged[key] = (kind or b"").decode(errors="replace")
            is_index_damaged |= row_key != key_bytes
    absent = [key for key in keys if key not in payloads and key not in damaged]
    is_index_damaged |= any(True for _ in select_values(db, _READ_SECOND_INDEX, absent))
    return ResultRows(payloads, damaged, is_index_damaged)


def write_rows(
    db: sqlite3.Connection, kind: str, payloads: Mapping[str, bytes], replaced: Collection[str] = ()
) -> None:
    """Write results in the open transaction, and check that each is found.

    A row whose checksum is right keeps its payload.

    Args:
        db: a connection with an open transaction.
        kind: kind of the results.
        payloads: key -> payload.
        replaced: keys whose payload is replaced in any case.

    Raises:
        sqlite3.DatabaseError: if the file is damaged, so that a result would not be found.
    """
    keys = list(payloads)
    for has_new_index in (False, True):
        db.execute("SAVEPOINT write_rows")
        try:
            rows = read_rows(db, keys)
            if not rows.is_index_damaged:
                for key in keys:
                    if key not in rows.payloads or key in replaced:
                        sha256 = checksum(key.encode(), kind.encode(), payloads[key])
                        db.execute(_WRITE, (key, kind, payloads[key], sha256))
                rows = read_rows(db, keys)  # after all writes, because one can hide the row of another
            if len(rows.payloads) == len(keys) and not rows.is_index_damaged:
                db.execute("RELEASE write_rows")
                return
        except sqlite3.DatabaseError as error:
            if has_new_index or type(error) is not sqlite3.DatabaseError or not db.in_transaction:
                raise  # of an error's subclasses, none means damage
        db.execute("ROLLBACK TO write_rows")
        db.execute("RELEASE write_rows")
        if not has_new_index:
            rebuild_indexes(db)
    raise sqlite3.DatabaseError("its structure is damaged: a stored result is not found")


def rebuild_indexes(db: sqlite3.Connection) -> None:
    """Make both indexes again from the rows.

    Raises:
        sqlite3.DatabaseError: if the file is damaged in other places, too; if two rows have one key.
    """
    try:
        db.execute("REINDEX results")
    except sqlite3.IntegrityError as error:
        raise sqlite3.DatabaseError(f"its structure is damaged: {error}") from error


def damaged_rows(db: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Read every row; yield (result_key, kind) of those whose checksum is wrong."""
    query = (
        "SELECT CAST(result_key AS BLOB), CAST(kind AS BLOB), CAST(payload AS BLOB), CAST(sha256 AS BLOB) "
        "FROM results NOT INDEXED ORDER BY rowid"
    )
    for key, kind, payload, sha256 in db.execute(query):
        if key is None or payload is None or sha256 != checksum(key, kind or b"", payload):
            yield (key or b"").decode(errors="replace"), (kind or b"").decode(errors="replace")


def select_values(db: sqlite3.Connection, query: str, values: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of a query that ends with a column and IN: the column has one of the values."""
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        yield from db.execute(f"{query} ({','.join('?' * len(chunk))})", chunk).fetchall()
