"""The result store: result_key -> payload, for results that are too expensive to compute (or pay for) twice.

One SQLite file in WAL mode serves all studies: many processes may read while one writes. A key is a hash of everything
that determines its payload, so a stored result stays valid. Failures are not stored. Nothing expires; only `prune`
deletes results. Reuse after a change, resuming after a kill and sharing between studies all work through this store.

Each result has a checksum of its key, kind and payload (`result_rows`). A result whose checksum differs was damaged on the
disk: it counts as absent, with a warning, and the next `put` of its key replaces it.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.regular_files import digest_file, file_stamp
from vlm_audio_pipeline.storage.result_rows import ResultRows, read_rows, rebuild_indexes, select_values, write_rows
from vlm_audio_pipeline.storage.result_schema import prepare_results
from vlm_audio_pipeline.storage.sqlite_files import SharedConnection, create_tables, transaction, use_write_ahead_log

_FILES_SCHEMA = """
CREATE TABLE IF NOT EXISTS file_digests (
  path TEXT PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS intact_files (path TEXT PRIMARY KEY, stamp TEXT NOT NULL) WITHOUT ROWID;
"""
PAGE_SIZE_BYTES = 16_384
"""Size of a page of a new file, in bytes. A vector of 512 float32 values (2,048 bytes) wastes half a page of 4,096 bytes."""
_MIN_AGE_NS = 100_000_000  # longer than a clock tick of common file systems (1 to 10 ms)
_LOG = logging.getLogger(__name__)


class ResultStore(SharedConnection):
    """The results of a data folder. Safe to use from several threads and processes.

    Args:
        path: the SQLite file; created when absent.

    Raises:
        VlmAudioError: here and in every method, if the file cannot be read or written, or is damaged.
    """

    def __init__(self, path: Path):
        self.path = path
        super().__init__()
        self._reported_keys: set[str] = set()
        self._unreadable_keys: set[str] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA busy_timeout = 60000")
            self._db.execute(f"PRAGMA page_size = {PAGE_SIZE_BYTES}")  # of a new file; an older one keeps its own
            self._db.execute(
                "PRAGMA cell_size_check = ON"
            )  # a damaged page of an index raises an error, and hides no result
            use_write_ahead_log(self._db)
            self._db.execute("PRAGMA synchronous = NORMAL")
            prepare_results(self._db)
            create_tables(self._db, _FILES_SCHEMA)
        except (sqlite3.DatabaseError, OSError, UnicodeDecodeError) as error:
            raise self._file_error(error) from error

    def _file_error(self, error: Exception) -> VlmAudioError:
        return VlmAudioError(
            f"the result store {self.path} cannot be used: {error}. If the disk is full or read-only, free space or "
            f"change the permissions. If the file is damaged, recover it with `sqlite3 {self.path} .recover`, restore "
            "your backup, or move it away. Without it, finished tables stay and vectors are recomputed, but model "
            "responses and the spending ledger are lost"
        )

    def put(self, kind: str, results: Iterable[tuple[str, bytes]]) -> None:
        """Store (result_key, payload) pairs in one transaction; a key that exists keeps its payload.

        Args:
            kind: kind of the results, such as "vector" or "inspection".
            results: pairs.
        """
        faults.kill_point(f"results:{kind}")
        payloads: dict[str, bytes] = {}
        for key, payload in results:
            payloads.setdefault(key, payload)
        with self._transaction() as db:
            write_rows(db, kind, payloads, self._unreadable_keys)
        self._unreadable_keys -= payloads.keys()
        self._reported_keys -= payloads.keys()

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the payloads of the stored keys; other keys and damaged results are left out."""
        rows = self._read(keys)
        if rows.is_index_damaged:
            with self._transaction() as db:
                rebuild_indexes(db)
            _LOG.warning("the index of %s was damaged and was made again", self.path)
            rows = self._read(keys)
        if rows.is_index_damaged:
            raise self._file_error(ValueError("its structure is damaged: a stored result is not found"))
        self._report_damaged({key: kind for key, kind in rows.damaged.items() if key not in self._reported_keys})
        return {key: payload for key, payload in rows.payloads.items() if key not in self._unreadable_keys}

    def _read(self, keys: Sequence[str]) -> ResultRows:
        with self._connection() as db, transaction(db, "DEFERRED"):
            return read_rows(db, keys)

    def _report_damaged(self, kinds: Mapping[str, str]) -> None:
        if kinds:
            self._reported_keys.update(kinds)
            names = [f"{kind} {key[:16]}" for key, kind in kinds.items()]
            _LOG.warning(
                "%d results in %s are damaged: their checksums differ. They count as absent, and are computed or requested "
                "again: %s",
                len(names),
                self.path,
                ", ".join(names[:5]) + (", ..." if len(names) > 5 else ""),
            )

    def report_unreadable(self, keys: Sequence[str]) -> None:
        """Treat results as absent whose content cannot be read, although their checksums fit; the next `put` replaces them."""
        self._unreadable_keys.update(keys)
        if keys:
            names = ", ".join(key[:16] for key in keys[:5])
            _LOG.warning("%d results in %s cannot be read and are requested again: %s", len(keys), self.path, names)

    def count(self, kind: str | None = None) -> int:
        """Count the results, of one kind or of all."""
        with self._connection() as db:
            if kind is None:
                return int(db.execute("SELECT count(*) FROM results").fetchone()[0])
            return int(db.execute("SELECT count(*) FROM results WHERE kind = ?", (kind,)).fetchone()[0])

    def sizes(self, kind: str, before: datetime) -> list[tuple[str, int]]:
        """Return (result_key, size in bytes) of every result of a kind that was stored before a time (UTC)."""
        before_text = before.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        with self._connection() as db:
            query = "SELECT result_key, length(payload) FROM results WHERE kind = ? AND created_at < ?"
            return db.execute(query, (kind, before_text)).fetchall()

    def delete(self, kind: str, keys: Sequence[str]) -> None:
        """Delete results of a kind; if needed again, they are computed (or paid for) again."""
        with self._transaction() as db:
            for key in keys:
                db.execute("DELETE FROM results WHERE result_key = ? AND kind = ?", (key, kind))

    def shrink(self) -> None:
        """Return freed space to the disk; while another process uses the file, the space stays reserved for new results."""
        with self._lock, suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA busy_timeout = 1000")
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def file_digests(self, paths: Sequence[Path | str]) -> list[str | None]:
        """Return the SHA-256 of regular files; only new and changed files are read, in blocks. A path may occur several times.

        A file counts as unchanged while its size, inode, modification time and change time are the same. File-system
        clocks are coarse, so a file could change twice within one tick: the digest of a file that changed within the
        last 100 ms is returned but not stored.

        Returns:
            64 hexadecimal digits each, or None if it cannot be read or is no regular file (see `regular_files`).
        """
        names = [str(p) for p in paths]
        digests: dict[str, str | None] = dict.fromkeys(names)  # a file with several clips is looked up once
        with self._connection() as db:
            rows = list(select_values(db, "SELECT path, stamp, sha256 FROM file_digests WHERE path IN", list(digests)))
        stored = {path: (stamp, sha256) for path, stamp, sha256 in rows}
        new: list[tuple[str, str, str]] = []
        for name in digests:
            stamp, is_old_enough = _stamp(name)
            if stamp is None:
                continue
            if name in stored and stored[name][0] in (stamp, _checked_stamp(name, stamp, stored[name][1])):
                digests[name] = stored[name][1]
                continue
            try:
                sha256 = digest_file(Path(name))
            except OSError:
                continue
            digests[name] = sha256
            if is_old_enough:
                new.append((name, _checked_stamp(name, stamp, sha256), sha256))
        if new:
            with self._transaction() as db:
                db.executemany("INSERT OR REPLACE INTO file_digests VALUES (?, ?, ?)", new)
        return [digests[name] for name in names]

    def is_marked_intact(self, path: Path) -> bool:
        """Return whether a file was marked as intact (`mark_intact`) and has not changed since."""
        with self._connection() as db:
            row = db.execute("SELECT stamp FROM intact_files WHERE path = ?", [str(path)]).fetchone()
        return row is not None and row[0] == _stamp(path)[0]

    def mark_intact(self, paths: Sequence[Path], is_intact: bool = True) -> None:
        """Mark partition files as intact, after all their rows were written or read, or delete these marks."""
        stamps = [(str(path), _stamp(path)[0] if is_intact else None) for path in paths]
        with self._transaction() as db:
            db.executemany("DELETE FROM intact_files WHERE path = ?", [(path,) for path, _ in stamps])
            db.executemany("INSERT INTO intact_files VALUES (?, ?)", [pair for pair in stamps if pair[1] is not None])


def _checked_stamp(name: str, stamp: str, sha256: str) -> str:
    """Return the stored form of a stamp, with a checksum of the row."""
    return f"{stamp}|{fingerprint(name, stamp, sha256)}"


def _stamp(path: Path | str) -> tuple[str | None, bool]:
    """Return a text that changes with the file (None without a file), and whether the file is old enough to store it."""
    try:
        s = os.stat(path)
    except OSError:
        return None, False
    return file_stamp(s), time.time_ns() - s.st_ctime_ns > _MIN_AGE_NS
