"""Check the structure of the result store's file when it is opened, and add the checksums that a file of an older version lacks."""

import sqlite3

from vlm_audio_pipeline.storage.result_rows import SECOND_INDEX, TABLE, checksum
from vlm_audio_pipeline.storage.sqlite_files import create_tables, require_intact_structure, transaction

TABLES = frozenset(
    (
        "results",
        "checksums",
        "file_digests",
        "intact_files",
        "leases",
        "spending",
        "needs",
        "batches",
        "batch_requests",
        "history",
        "sqlite_sequence",
    )
)
"""Every table of the file: also those of the ledger, the batches, the history, the leases, and of older versions."""
_OLD_COLUMNS = [("result_key", "TEXT"), ("kind", "TEXT"), ("payload", "BLOB"), ("created_at", "TEXT")]
_COLUMNS = [*_OLD_COLUMNS, ("sha256", "BLOB")]
"""Name and type of every column of the results."""


def prepare_results(db: sqlite3.Connection) -> None:
    """Create the table of results, or check its columns; a table of an older version gets checksums.

    Raises:
        sqlite3.DatabaseError: if the name of the table, or the name or type of a column, is damaged: a new, empty table would
            hide the results, and with another type SQLite would convert keys to numbers.
    """
    rows = db.execute("SELECT CAST(name AS BLOB) FROM sqlite_schema WHERE type = 'table'")
    names = {bytes(name).decode(errors="replace") for (name,) in rows}
    if "results" not in names and (others := sorted(names - TABLES)):
        raise sqlite3.DatabaseError(f"it has no table 'results', but an unknown table {others[0]!r}, so it is damaged")
    create_tables(db, TABLE)
    if _columns(db) == _OLD_COLUMNS:
        _add_checksums(db)
    if (columns := _columns(db)) != _COLUMNS:
        raise sqlite3.DatabaseError(f"its table 'results' has the columns {columns}, so it is damaged")
    create_tables(db, SECOND_INDEX)


def has_checksums(db: sqlite3.Connection) -> bool:
    """Return whether the table of results has checksums; one of an older version has none."""
    return _columns(db) != _OLD_COLUMNS


def _columns(db: sqlite3.Connection) -> list[tuple[str, ...]]:
    rows = db.execute("SELECT CAST(name AS BLOB), CAST(type AS BLOB) FROM pragma_table_info('results')")
    return [tuple(bytes(value).decode(errors="replace") for value in row) for row in rows]


def _add_checksums(db: sqlite3.Connection) -> None:
    """Add a checksum to each result of an older version, which had none, or had them in a table of their own.

    Raises:
        sqlite3.DatabaseError: if the structure is damaged: then a result may be damaged, too, and must not get a checksum.
    """
    db.create_function("checksum", 3, checksum, deterministic=True)
    with transaction(db):
        if _columns(db) != _OLD_COLUMNS:  # another process was first
            return
        require_intact_structure(db, "results have no checksum")
        db.execute("ALTER TABLE results ADD COLUMN sha256 BLOB NOT NULL DEFAULT x''")
        tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name = 'checksums'")
        if tables.fetchone() is None:
            values = "checksum(CAST(result_key AS BLOB), CAST(kind AS BLOB), CAST(payload AS BLOB))"
        else:
            values = "coalesce((SELECT c.sha256 FROM checksums c WHERE c.result_key = results.result_key), x'')"
        db.execute(f"UPDATE results SET sha256 = {values}")
        db.execute("DROP TABLE IF EXISTS checksums")
