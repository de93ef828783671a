"""Leases of result keys: which process is sending the request of a key, so that no other process sends it too.

A lease is a row in the file of the result store. Its owner holds a file lock, which the kernel releases when the process ends,
so the lease of a killed process is taken over at once. A lease also expires, in case its owner hangs.
"""

import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.sqlite_files import convert_sqlite_errors, create_tables, transaction

MAX_LEASE_S = 6 * 3600.0
"""Time after which a lease may be taken over although its owner still runs, s; longer than any request with its retries."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS leases (
  result_key TEXT PRIMARY KEY, owner TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
"""


class Leases:
    """The leases of one owner. Nothing is opened before the first `take`.

    Args:
        result_store: path of the result store, whose file holds the leases.
    """

    def __init__(self, result_store: Path):
        self.path = result_store
        self.owner = uuid.uuid4().hex
        self._data_folder = DataFolder(result_store.parent)
        self._db: sqlite3.Connection | None = None
        self._lock: FileLock | None = None
        self._thread_lock = threading.Lock()

    def take(self, keys: Sequence[str]) -> bool:
        """Take the leases of keys; return whether this owner has all of them now. Leases of dead owners are taken over.

        After a lease was taken, read the result store again: the previous owner may have stored the result.
        """
        with self._transaction() as db:
            if any(self._is_held(db, owner, expires_at) for owner, expires_at in _owners(db, keys)):
                return False
            expires_at = time.time() + MAX_LEASE_S
            db.executemany(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", ((key, self.owner, expires_at) for key in keys)
            )
        return True

    def is_any_held(self, keys: Sequence[str]) -> bool:
        """Return whether another owner, which still runs, has a lease of one of these keys."""
        with self._transaction() as db:
            return any(self._is_held(db, owner, expires_at) for owner, expires_at in _owners(db, keys))

    def release(self, keys: Sequence[str]) -> None:
        """Release leases of this owner, after the results were stored or the requests failed."""
        with self._transaction() as db:
            db.executemany("DELETE FROM leases WHERE result_key = ? AND owner = ?", ((key, self.owner) for key in keys))

    def close(self) -> None:
        """Release all leases of this owner."""
        if self._db is None or self._lock is None:
            return
        with self._transaction() as db:
            db.execute("DELETE FROM leases WHERE owner = ?", (self.owner,))
        self._db.close()
        self._lock.release()
        self._lock_file(self.owner).unlink(missing_ok=True)
        self._db = self._lock = None

    def _is_held(self, db: sqlite3.Connection, owner: str, expires_at: float) -> bool:
        """Return whether an owner is another one that still runs; the leases of a dead owner are deleted."""
        if owner == self.owner:
            return False
        if time.time() < expires_at and self._is_running(owner):
            return True
        db.execute("DELETE FROM leases WHERE owner = ? AND expires_at <= ?", (owner, expires_at))
        return False

    def _is_running(self, owner: str) -> bool:
        path = self._lock_file(owner)
        if not path.exists():
            return False
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        path.unlink(missing_ok=True)
        return False

    def _lock_file(self, owner: str) -> Path:
        return self._data_folder.lock(f"requests.{owner}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._thread_lock, convert_sqlite_errors(self._file_error):
            db = self._open()
            with transaction(db):
                yield db

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            path = self._lock_file(self.owner)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path, thread_local=False)
            self._lock.acquire()  # before the first lease is written: an owner without a lock counts as dead
            self._db = sqlite3.connect(self.path, timeout=60, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA synchronous = NORMAL")
            create_tables(self._db, _SCHEMA)
        return self._db

    def _file_error(self, error: Exception) -> VlmAudioError:
        return VlmAudioError(
            f"the leases of requests in {self.path} cannot be used: {error}. Without them no request is sent. If the disk is full "
            f"or read-only, free space or change the permissions; `vlm-audio doctor {self.path.parent}` checks the file"
        )


def _owners(db: sqlite3.Connection, keys: Sequence[str]) -> list[tuple[str, float]]:
    placeholders = ",".join("?" * len(keys))
    query = f"SELECT DISTINCT owner, expires_at FROM leases WHERE result_key IN ({placeholders})"
    return db.execute(query, list(keys)).fetchall()
