"""The result store: result_key -> payload, for results that are too expensive to compute (or pay for) twice.

One SQLite file in WAL mode serves all studies: many processes may read while one writes. A key is a hash of everything
that determines its payload, so a stored result stays valid. Failures are not stored. Nothing expires; only `prune`
deletes results. Reuse after a change, resuming after a kill and sharing between studies all work through this store.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import digest

_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
  result_key TEXT PRIMARY KEY, kind TEXT NOT NULL, payload BLOB NOT NULL,
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE TABLE IF NOT EXISTS file_digests (
  path TEXT PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS intact_files (path TEXT PRIMARY KEY, stamp TEXT NOT NULL) WITHOUT ROWID;
"""
_CHUNK = 500  # keys per query, below SQLite's limit of bound variables
_SETTLED_NS = 100_000_000  # longer than a clock tick of common file systems (1 to 10 ms)


class ResultStore:
    """The results of a data folder. Safe to use from several threads and processes.

    Args:
        path: the SQLite file; created when absent.

    Raises:
        VlmAudioError: here and in every method, if the file cannot be read or written, or is damaged.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA busy_timeout = 60000")
            if self._db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
        except (sqlite3.DatabaseError, OSError) as error:
            raise self._file_error(error) from error

    def _file_error(self, error: Exception) -> VlmAudioError:
        return VlmAudioError(
            f"the result store {self.path} cannot be used: {error}. If the disk is full or read-only, free space or "
            f"change the permissions. If the file is damaged, recover it with `sqlite3 {self.path} .recover`, restore "
            "your backup, or move it away. Without it finished tables stay and vectors are recomputed, but model "
            "responses and the spending ledger are lost"
        )

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        self._db.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._using() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # SQLite itself rolls back when the disk is full
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock, convert_sqlite_errors(self._file_error):
            yield self._db

    def put(self, kind: str, results: Iterable[tuple[str, bytes]]) -> None:
        """Store (result_key, payload) pairs in one transaction; a key that exists keeps its payload.

        Args:
            kind: kind of the results, such as "vector" or "inspection"; see `of_kind`.
            results: pairs.
        """
        faults.kill_point(f"results:{kind}")
        with self._writing() as db:
            db.executemany(
                "INSERT INTO results (result_key, kind, payload) VALUES (?, ?, ?) ON CONFLICT (result_key) DO NOTHING",
                ((k, kind, p) for k, p in results),
            )

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the payloads of the stored keys; other keys are left out."""
        payloads: dict[str, bytes] = {}
        for at in range(0, len(keys), _CHUNK):
            chunk = keys[at : at + _CHUNK]
            marks = ",".join("?" * len(chunk))
            with self._using() as db:
                payloads.update(
                    db.execute(
                        f"SELECT result_key, payload FROM results WHERE result_key IN ({marks})", chunk
                    ).fetchall()
                )
        return payloads

    def stored_keys(self, keys: Sequence[str]) -> set[str]:
        """Return those keys that are stored, without reading their payloads."""
        stored: set[str] = set()
        for at in range(0, len(keys), _CHUNK):
            chunk = keys[at : at + _CHUNK]
            marks = ",".join("?" * len(chunk))
            with self._using() as db:
                stored.update(
                    k for (k,) in db.execute(f"SELECT result_key FROM results WHERE result_key IN ({marks})", chunk)
                )
        return stored

    def of_kind(self, kind: str) -> list[tuple[str, bytes, datetime]]:
        """Return (result_key, payload, storage time) of every result of a kind, oldest first."""
        with self._using() as db:
            query = "SELECT result_key, payload, created_at FROM results WHERE kind = ? ORDER BY created_at, rowid"
            return [(k, p, datetime.fromisoformat(at)) for k, p, at in db.execute(query, (kind,))]

    def count(self, kind: str | None = None) -> int:
        """Count the results, of one kind or of all."""
        with self._using() as db:
            if kind is None:
                return int(db.execute("SELECT count(*) FROM results").fetchone()[0])
            return int(db.execute("SELECT count(*) FROM results WHERE kind = ?", (kind,)).fetchone()[0])

    def sizes(self, kind: str, before: datetime) -> list[tuple[str, int]]:
        """Return (result_key, size in bytes) of every result of a kind that was stored before a time (UTC)."""
        before_text = before.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        with self._using() as db:
            query = "SELECT result_key, length(payload) FROM results WHERE kind = ? AND created_at < ?"
            return db.execute(query, (kind, before_text)).fetchall()

    def delete(self, kind: str, keys: Sequence[str]) -> None:
        """Delete results of a kind; if needed again, they are computed (or paid for) again."""
        with self._writing() as db:
            db.executemany("DELETE FROM results WHERE result_key = ? AND kind = ?", ((key, kind) for key in keys))

    def shrink(self) -> None:
        """Return freed space to the disk; while another process uses the file, the space stays reserved for new results."""
        with self._lock, suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA busy_timeout = 1000")
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def file_digests(self, paths: Sequence[Path]) -> list[str | None]:
        """Return the SHA-256 of files; only new and changed files are read.

        A file counts as unchanged while its size, inode, modification time and change time are the same. File-system
        clocks are coarse, so a file could change twice within one tick: the digest of a file that changed within the
        last 100 ms is returned but not stored.

        Returns:
            64 hexadecimal digits each, or None if the file cannot be read.
        """
        stamps, are_settled = zip(*map(_stamp, paths), strict=True) if paths else ((), ())
        names = [str(p) for p in paths]
        stored: dict[str, tuple[str, str]] = {}
        for at in range(0, len(names), _CHUNK):
            chunk = names[at : at + _CHUNK]
            marks = ",".join("?" * len(chunk))
            with self._using() as db:
                query = f"SELECT path, stamp, sha256 FROM file_digests WHERE path IN ({marks})"
                stored.update({p: (stamp, sha) for p, stamp, sha in db.execute(query, chunk)})
        digests: list[str | None] = []
        new: list[tuple[str, str, str]] = []
        for path, name, stamp, is_settled in zip(paths, names, stamps, are_settled, strict=True):
            if stamp is None:
                digests.append(None)
            elif name in stored and stored[name][0] == stamp:
                digests.append(stored[name][1])
            else:
                try:
                    sha256 = digest(path.read_bytes())
                except OSError:
                    digests.append(None)
                    continue
                digests.append(sha256)
                if is_settled:
                    new.append((name, stamp, sha256))
        if new:
            with self._writing() as db:
                db.executemany("INSERT OR REPLACE INTO file_digests VALUES (?, ?, ?)", new)
        return digests

    def is_noted_intact(self, path: Path) -> bool:
        """Return whether a file was noted as intact (`note_intact`) and has not changed since."""
        with self._using() as db:
            row = db.execute("SELECT stamp FROM intact_files WHERE path = ?", [str(path)]).fetchone()
        return row is not None and row[0] == _stamp(path)[0]

    def note_intact(self, paths: Sequence[Path], is_intact: bool = True) -> None:
        """Note that all rows of these partition files were just written or read, or delete such notes."""
        stamps = [(str(path), _stamp(path)[0] if is_intact else None) for path in paths]
        with self._writing() as db:
            db.executemany("DELETE FROM intact_files WHERE path = ?", [(path,) for path, _ in stamps])
            db.executemany("INSERT INTO intact_files VALUES (?, ?)", [pair for pair in stamps if pair[1] is not None])


@contextmanager
def convert_sqlite_errors(convert: Callable[[Exception], VlmAudioError]) -> Iterator[None]:
    """Convert errors of a SQLite file (locked, full, read-only, damaged) with `convert`; other errors pass."""
    try:
        yield
    except sqlite3.OperationalError as error:  # locked for a minute, disk full, read-only
        raise convert(error) from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:  # a wrong argument: a defect of this program
            raise
        raise convert(error) from error  # damaged


def _stamp(path: Path) -> tuple[str | None, bool]:
    """Return a text that changes when the file changes (None without a file), and whether it can be trusted already."""
    try:
        s = os.stat(path)
    except OSError:
        return None, False
    return f"{s.st_size}:{s.st_ino}:{s.st_mtime_ns}:{s.st_ctime_ns}", time.time_ns() - s.st_ctime_ns > _SETTLED_NS
