"""The row store: row_key -> payload, for results too costly to compute (or pay for) twice.

One SQLite file in WAL mode for all studies, so that many processes may read while one writes. Append-only: a key is a
hash of everything that determines its payload, so a stored row is right for ever; failures are never stored and nothing
expires: rows go only where a person prunes them. Reuse after a change, resume after a kill and sharing between studies are this one mechanism.
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
CREATE TABLE IF NOT EXISTS rows (
  row_key TEXT PRIMARY KEY, kind TEXT NOT NULL, payload BLOB NOT NULL,
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE TABLE IF NOT EXISTS file_digests (
  path TEXT PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS whole_parts (path TEXT PRIMARY KEY, stamp TEXT NOT NULL) WITHOUT ROWID;
"""
_CHUNK = 500  # keys per query, under SQLite's limit of bound variables
_TICK = 100_000_000  # ns; longer than a tick of any file system's clock that is usual today (1 to 10 ms)


class RowStore:
    """The rows of a data folder. Safe to use from several threads and processes.

    Args:
        path: the SQLite file; made when absent.
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
            raise self._trouble(error) from error

    def _trouble(self, error: Exception) -> VlmAudioError:
        return VlmAudioError(
            f"the row store {self.path} must be a readable and writable SQLite file, got: {error}; if the folder is "
            f"full or read-only, mend that; if the file is damaged, recover it with `sqlite3 {self.path} .recover` or "
            "move it away: finished tables stay, vectors are recomputed, and answers and the ledger of what was spent are "
            "in your backup of it"
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
        with self._lock, file_troubles(self._trouble):
            yield self._db

    def put(self, kind: str, rows: Iterable[tuple[str, bytes]]) -> None:
        """Store (row_key, payload) pairs in one transaction; a key already there keeps its payload.

        Args:
            kind: what the rows are ("vector", "inspection"), for people who look into the file, and for `of_kind`.
            rows: pairs; payloads as bytes.
        """
        faults.point(f"rows:{kind}")
        with self._writing() as db:
            db.executemany(
                "INSERT INTO rows (row_key, kind, payload) VALUES (?, ?, ?) ON CONFLICT (row_key) DO NOTHING",
                ((k, kind, p) for k, p in rows),
            )

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the payloads of those keys that are stored."""
        found: dict[str, bytes] = {}
        for at in range(0, len(keys), _CHUNK):
            some = keys[at : at + _CHUNK]
            marks = ",".join("?" * len(some))
            with self._using() as db:
                found.update(
                    db.execute(f"SELECT row_key, payload FROM rows WHERE row_key IN ({marks})", some).fetchall()
                )
        return found

    def present(self, keys: Sequence[str]) -> set[str]:
        """Give those keys that are stored, without reading their payloads."""
        found: set[str] = set()
        for at in range(0, len(keys), _CHUNK):
            some = keys[at : at + _CHUNK]
            marks = ",".join("?" * len(some))
            with self._using() as db:
                found.update(k for (k,) in db.execute(f"SELECT row_key FROM rows WHERE row_key IN ({marks})", some))
        return found

    def of_kind(self, kind: str) -> list[tuple[str, bytes, datetime]]:
        """Give every row of a kind as (row_key, payload, when it was stored), in the order in which they were stored."""
        with self._using() as db:
            query = "SELECT row_key, payload, created_at FROM rows WHERE kind = ? ORDER BY created_at, rowid"
            return [(k, p, datetime.fromisoformat(at)) for k, p, at in db.execute(query, (kind,))]

    def count(self, kind: str | None = None) -> int:
        """Count the rows, of one kind or of all."""
        with self._using() as db:
            if kind is None:
                return db.execute("SELECT count(*) FROM rows").fetchone()[0]
            return db.execute("SELECT count(*) FROM rows WHERE kind = ?", (kind,)).fetchone()[0]

    def sizes(self, kind: str, before: datetime) -> list[tuple[str, int]]:
        """Give (row_key, bytes) of every row of a kind that was stored before some time (UTC)."""
        until = before.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        with self._using() as db:
            query = "SELECT row_key, length(payload) FROM rows WHERE kind = ? AND created_at < ?"
            return db.execute(query, (kind, until)).fetchall()

    def drop(self, kind: str, keys: Sequence[str]) -> None:
        """Delete rows of a kind; whoever wants them again computes (or pays for) them again."""
        with self._writing() as db:
            db.executemany("DELETE FROM rows WHERE row_key = ? AND kind = ?", ((key, kind) for key in keys))

    def shrink(self) -> None:
        """Give what was freed back to the disk; where another process uses the file, it is kept for rows to come."""
        with self._lock, suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA busy_timeout = 1000")
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def file_digests(self, paths: Sequence[Path]) -> list[str | None]:
        """Give the SHA-256 of files, reading only those that are new or touched since they were last read.

        A file counts as untouched while its size, inode and modification and change times are the same. The clock of
        file systems is coarse: a file changed a moment ago could change again without its stamp changing, so its digest
        is given but not yet remembered.

        Returns:
            64 hexadecimal digits each, or None where there is no readable file.
        """
        stamps, settled = zip(*map(_stamp, paths), strict=True) if paths else ((), ())
        names = [str(p) for p in paths]
        known: dict[str, tuple[str, str]] = {}
        for at in range(0, len(names), _CHUNK):
            some = names[at : at + _CHUNK]
            marks = ",".join("?" * len(some))
            with self._using() as db:
                query = f"SELECT path, stamp, sha256 FROM file_digests WHERE path IN ({marks})"
                known.update({p: (stamp, sha) for p, stamp, sha in db.execute(query, some)})
        digests: list[str | None] = []
        new: list[tuple[str, str, str]] = []
        for path, name, stamp, lasting in zip(paths, names, stamps, settled, strict=True):
            if stamp is None:
                digests.append(None)
            elif name in known and known[name][0] == stamp:
                digests.append(known[name][1])
            else:
                try:
                    sha256 = digest(path.read_bytes())
                except OSError:
                    digests.append(None)
                    continue
                digests.append(sha256)
                if lasting:
                    new.append((name, stamp, sha256))
        if new:
            with self._writing() as db:
                db.executemany("INSERT OR REPLACE INTO file_digests VALUES (?, ?, ?)", new)
        return digests

    def known_whole(self, path: Path) -> bool:
        """Say whether a part was found whole (`note_whole`) and not touched since."""
        with self._using() as db:
            known = db.execute("SELECT stamp FROM whole_parts WHERE path = ?", [str(path)]).fetchone()
        return known is not None and known[0] == _stamp(path)[0]

    def note_whole(self, paths: Sequence[Path], whole: bool = True) -> None:
        """Remember that every row of these parts was just written or read; or forget it."""
        stamps = [(str(path), _stamp(path)[0] if whole else None) for path in paths]
        with self._writing() as db:
            db.executemany("DELETE FROM whole_parts WHERE path = ?", [(path,) for path, _ in stamps])
            db.executemany("INSERT INTO whole_parts VALUES (?, ?)", [line for line in stamps if line[1] is not None])


@contextmanager
def file_troubles(told: Callable[[Exception], VlmAudioError]) -> Iterator[None]:
    """Let what is wrong with a SQLite file be told as an error for a person.

    Raises:
        VlmAudioError: what `told` makes of SQLite's error.
    """
    try:
        yield
    except sqlite3.OperationalError as error:  # locked for a minute, disk full, read-only
        raise told(error) from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:  # a wrong argument: ours to mend
            raise
        raise told(error) from error  # damaged


def _stamp(path: Path) -> tuple[str | None, bool]:
    """Give what changes when a file is touched (None where there is none), and whether it is old enough to be relied on."""
    try:
        s = os.stat(path)
    except OSError:
        return None, False
    return f"{s.st_size}:{s.st_ino}:{s.st_mtime_ns}:{s.st_ctime_ns}", time.time_ns() - s.st_ctime_ns > _TICK
