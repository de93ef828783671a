"""The history of results: every result that a classifier ever had, append-only.

Partition files are replaced when results change, so the results themselves are kept here, in a table of the result
store's file. Nothing deletes entries, not even `prune`.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.result_store import convert_sqlite_errors

_SCHEMA = """
CREATE TABLE IF NOT EXISTS history (
  id INTEGER PRIMARY KEY, study TEXT NOT NULL, classifier TEXT NOT NULL, scoring TEXT NOT NULL, control TEXT NOT NULL,
  data_version TEXT NOT NULL, step_version TEXT NOT NULL, settings TEXT NOT NULL, package_version TEXT NOT NULL,
  model TEXT, revision TEXT, predictions BLOB NOT NULL,
  first_seen TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  UNIQUE (study, classifier, scoring, control, data_version)
);
"""
_COLUMNS = (
    "classifier",
    "scoring",
    "control",
    "data_version",
    "step_version",
    "settings",
    "package_version",
    "model",
    "revision",
)


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
        control: what was done to the query image.
        data_version: hash of the predictions.
        step_version: version of the step that made them.
        settings: settings of the classifier, its encoder and its rendering, as JSON.
        package_version: version of this program.
        model: model ids, or None.
        revision: revisions of the models, or None.
        predictions: (trial, clip) -> prediction.
        first_seen: when it was stored, UTC; None before that.
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
        """Store entries in one transaction; an entry whose predictions are stored keeps its first settings."""
        columns = ("study", *_COLUMNS, "predictions")
        marks = ", ".join("?" * len(columns))
        lines = [(study, *(getattr(e, name) for name in _COLUMNS), _pack(e.predictions)) for e in entries]
        with self._connection() as db, db:
            db.executemany(f"INSERT INTO history ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT DO NOTHING", lines)

    def entries(self, study: str) -> list[HistoryEntry]:
        """Return every entry of a study, oldest first."""
        query = f"SELECT {', '.join(_COLUMNS)}, predictions, first_seen FROM history WHERE study = ? ORDER BY first_seen, id"
        with self._connection() as db:
            lines = db.execute(query, (study,)).fetchall()
        return [
            HistoryEntry(
                **dict(zip(_COLUMNS, texts, strict=True)),
                predictions=_unpack(packed),
                first_seen=datetime.fromisoformat(first_seen),
            )
            for *texts, packed, first_seen in lines
        ]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with convert_sqlite_errors(self._file_error), closing(sqlite3.connect(self.path, timeout=60)) as db:
            db.execute("PRAGMA synchronous = NORMAL")
            db.executescript(_SCHEMA)
            yield db

    def _file_error(self, error: Exception) -> VlmAudioError:
        return VlmAudioError(
            f"the history in {self.path} cannot be used: {error}. If the disk is full or read-only, free space or change "
            f"the permissions; if the file is damaged, recover it with `sqlite3 {self.path} .recover` or restore your backup"
        )


def _pack(predictions: Mapping[tuple[int, str], PastPrediction]) -> bytes:
    return zlib.compress(json.dumps([[*key, *prediction] for key, prediction in predictions.items()]).encode())


def _unpack(packed: bytes) -> dict[tuple[int, str], PastPrediction]:
    return {(trial, clip): PastPrediction(*values) for trial, clip, *values in json.loads(zlib.decompress(packed))}
