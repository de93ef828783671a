"""The history of results: all results of each classifier; entries are only ever added.

Partition files are replaced when results change, so the results themselves are kept here, in a table of the result
store's file. Nothing deletes entries, not even `prune`.
"""

import json
import logging
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import digest, fingerprint
from vlm_audio_pipeline.storage.sqlite_files import convert_sqlite_errors, create_tables, transaction

_LOG = logging.getLogger(__name__)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS history (
  id INTEGER PRIMARY KEY, study TEXT NOT NULL, classifier TEXT NOT NULL, scoring TEXT NOT NULL, control TEXT NOT NULL,
  data_version TEXT NOT NULL, step_version TEXT NOT NULL, settings TEXT NOT NULL, package_version TEXT NOT NULL,
  model TEXT, revision TEXT, predictions BLOB NOT NULL,
  first_seen TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  checksum TEXT NOT NULL DEFAULT '', UNIQUE (study, classifier, scoring, control, data_version)
);
"""


class PastPrediction(NamedTuple):
    """One prediction of a result: `label` is the predicted class, or the outcome in parentheses."""

    source: str
    fold: int
    label: str
    correct: bool


@dataclass(frozen=True)
class HistoryEntry:
    """The result of one classifier, scoring and control.

    Attributes:
        classifier: its name in the study.
        scoring: how labels were chosen.
        control: change to the query image; "none" without a change.
        data_version: hash of the predictions.
        step_version: version of the step that computed the predictions.
        settings: settings of the classifier, its encoder and its rendering, as JSON.
        package_version: version of this program.
        model: model ids, or None.
        revision: revisions of the models, or None.
        predictions: (trial, clip) -> prediction.
        first_seen: time when it was first stored, UTC; None if it is not stored yet.
    """

    classifier: str
    scoring: str
    control: str
    data_version: str
    step_version: str
    settings: str
    package_version: str
    model: str | None
    revision: str | None
    predictions: Mapping[tuple[int, str], PastPrediction]
    first_seen: datetime | None = None


_COLUMNS = tuple(f.name for f in fields(HistoryEntry) if f.name not in ("predictions", "first_seen"))


class HistoryStore:
    """The history of all studies of a data folder. Safe to use from several processes.

    Args:
        path: the SQLite file of the result store.

    Raises:
        VlmAudioError: in every method, if the file cannot be read or written, or is damaged.
    """

    def __init__(self, path: Path):
        self.path = path

    def add(self, study: str, entries: Iterable[HistoryEntry]) -> None:
        """Store entries in one transaction. An entry with the same predictions as a stored entry is not stored again."""
        columns = ("study", *_COLUMNS, "predictions", "checksum")
        placeholders = ", ".join("?" * len(columns))
        lines = []
        for entry in entries:
            values = [getattr(entry, name) for name in _COLUMNS]
            packed = _pack(entry.predictions)
            lines.append((study, *values, packed, _checksum(study, values, packed)))
        with self._connection() as db, db:
            db.executemany(
                f"INSERT INTO history ({', '.join(columns)}) VALUES ({placeholders}) ON CONFLICT DO NOTHING", lines
            )

    def entries(self, study: str) -> list[HistoryEntry]:
        """Return every entry of a study, oldest first. Damaged entries are left out, with a warning."""
        selected = ", ".join((*_COLUMNS, "predictions", "checksum", "first_seen"))
        query = f"SELECT {selected} FROM history WHERE study = ? ORDER BY first_seen, id"
        with self._connection() as db:
            lines = db.execute(query, (study,)).fetchall()
        entries = []
        for *values, packed, checksum, first_seen in lines:
            columns = dict(zip(_COLUMNS, values, strict=True))
            try:
                if checksum and checksum != _checksum(study, values, packed):  # one of an older version has none
                    raise ValueError("its checksum differs")
                predictions, time = _unpack(packed), datetime.fromisoformat(first_seen)
            except (zlib.error, ValueError, TypeError) as error:
                _LOG.warning(
                    "an entry of the history in %s is damaged and left out: %s of %s, %s",
                    self.path,
                    columns["classifier"],
                    study,
                    error,
                )
                continue
            entries.append(HistoryEntry(**columns, predictions=predictions, first_seen=time))
        return entries

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with convert_sqlite_errors(self._file_error), closing(sqlite3.connect(self.path, timeout=60)) as db:
            db.execute("PRAGMA synchronous = NORMAL")
            create_tables(db, _SCHEMA)
            _add_checksums(db)
            yield db

    def _file_error(self, error: Exception) -> VlmAudioError:
        return VlmAudioError(
            f"the history in {self.path} cannot be used: {error}. If the disk is full or read-only, free space or change "
            f"the permissions; if the file is damaged, recover it with `sqlite3 {self.path} .recover` or restore your backup"
        )


def _add_checksums(db: sqlite3.Connection) -> None:
    """Add the column of the checksums to a table of an older version."""
    columns = "SELECT 1 FROM pragma_table_info('history') WHERE name = 'checksum'"
    if db.execute(columns).fetchone() is None:
        with transaction(db):
            if db.execute(columns).fetchone() is None:  # no other process was first
                db.execute("ALTER TABLE history ADD COLUMN checksum TEXT NOT NULL DEFAULT ''")


def _checksum(study: str, values: Sequence[str | None], packed: bytes) -> str:
    return fingerprint(study, list(values), digest(packed), length=32)


def _pack(predictions: Mapping[tuple[int, str], PastPrediction]) -> bytes:
    return zlib.compress(json.dumps([[*key, *prediction] for key, prediction in predictions.items()]).encode())


def _unpack(packed: bytes) -> dict[tuple[int, str], PastPrediction]:
    return {(trial, clip): PastPrediction(*values) for trial, clip, *values in json.loads(zlib.decompress(packed))}
