"""Transactions, errors and damage of the SQLite files in the data folder."""

import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal

from vlm_audio_pipeline.contracts.errors import VlmAudioError

_CREATED = re.compile(r"CREATE (?:TABLE|INDEX) IF NOT EXISTS (\w+)")
READ_TIMEOUT_S = 5.0
"""How long `connect_read_only` waits for a locked file, s."""


@contextmanager
def transaction(db: sqlite3.Connection, kind: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE") -> Iterator[None]:
    """Commit the statements of the block together; after an exception, roll all of them back.

    Args:
        db: the connection.
        kind: DEFERRED for a block that only reads: it waits for no writer, and all its queries read the same state of the file.
    """
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite itself rolls back when the disk is full
            db.execute("ROLLBACK")
        raise


def create_tables(db: sqlite3.Connection, schema: str) -> None:
    """Create the tables and indexes of a schema that are missing.

    Before that, the structure of a file with other tables is checked: a damaged byte can hide a table, and a new, empty table
    would take its place.

    Args:
        db: the connection.
        schema: statements `CREATE TABLE IF NOT EXISTS` or `CREATE INDEX IF NOT EXISTS`.

    Raises:
        sqlite3.DatabaseError: if the structure is damaged.
    """
    rows = db.execute("SELECT CAST(name AS BLOB) FROM sqlite_schema")
    names = {bytes(name).decode(errors="replace") for (name,) in rows if name is not None}
    missing = sorted(set(_CREATED.findall(schema)) - names)
    if missing and names:
        require_intact_structure(db, f"it has no {missing[0]}")
    if missing:
        db.executescript(schema)


def require_intact_structure(db: sqlite3.Connection, reason: str) -> None:
    """Read the whole file and check its structure.

    Args:
        db: the connection.
        reason: why it may be damaged, for the message.

    Raises:
        sqlite3.DatabaseError: if it is damaged.
    """
    (problem,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if problem != "ok":
        raise sqlite3.DatabaseError(f"{reason}, and its structure is damaged: {' '.join(problem.split())}")


def use_write_ahead_log(db: sqlite3.Connection, max_wait_s: float = 60.0) -> None:
    """Switch a file to WAL mode, unless it is already in this mode. SQLite itself does not wait for a process that switches at the same time.

    Raises:
        sqlite3.OperationalError: if the file stays locked.
    """
    deadline = time.monotonic() + max_wait_s
    while db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def convert_sqlite_errors(convert: Callable[[Exception], VlmAudioError]) -> Iterator[None]:
    """Convert errors of a SQLite file (locked, full, read-only, damaged) with `convert`; other errors are unchanged."""
    try:
        yield
    except sqlite3.OperationalError as error:  # locked for a minute, disk full, read-only
        raise convert(error) from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:  # a wrong argument: a defect of this program
            raise
        raise convert(error) from error  # damaged
    except UnicodeDecodeError as error:  # a name or a message of SQLite with a damaged byte
        raise convert(error) from error


class SharedConnection:
    """A connection to a SQLite file that the threads of a process share; a subclass opens `_db`."""

    _db: sqlite3.Connection

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file; the object cannot be used afterwards."""
        self._db.close()

    def _file_error(self, error: Exception) -> VlmAudioError:
        """Return the error for a file that cannot be used: what is lost without it, and what to do."""
        raise NotImplementedError

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock, convert_sqlite_errors(self._file_error):
            yield self._db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as db, transaction(db):
            yield db


def sqlite_problem(path: Path) -> str | None:
    """Return what is wrong with a SQLite file, or None if its structure is intact. Nothing is written.

    A file that does not exist, is empty, or is locked (`is_locked`) has no problem.
    """
    if path.is_dir():
        return "it is a folder"
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        with closing(connect_read_only(path)) as db:
            rows = db.execute("PRAGMA quick_check(3)").fetchall()
    except sqlite3.OperationalError as error:
        return None if "locked" in str(error) else str(error)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        return str(error)
    problems = [str(text) for (text,) in rows if text != "ok"]
    return "; ".join(problems).replace("\n", " ") or None


def is_locked(path: Path) -> bool:
    """Return whether another program keeps a SQLite file locked, so that it cannot be read."""
    if not path.is_file():
        return False
    try:
        with closing(connect_read_only(path)) as db:
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return False
    return False


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open a SQLite file without writing anything."""
    # If a file in WAL mode has no log, no program has it open. SQLite would then create a log; `immutable` prevents this.
    is_in_wal_mode = False
    with suppress(OSError), path.open("rb") as file:  # SQLite will name the reason
        is_in_wal_mode = file.read(19)[18:] == b"\2"
    has_log = path.with_name(path.name + "-wal").exists()
    mode = "immutable=1" if is_in_wal_mode and not has_log else "mode=ro"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=READ_TIMEOUT_S)


def set_sqlite_aside(path: Path) -> Path:
    """Rename a SQLite file with its logs, so that a new one takes its place; return its new path."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            os.replace(file, aside.with_name(aside.name + suffix))
    return aside
