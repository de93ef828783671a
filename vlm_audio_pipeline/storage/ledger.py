"""The ledger: what a study has spent at paid endpoints, and what it may still spend.

Belongs here: reservations, settlements and priorities. Does not belong here: prices and the cost bound of a request
(`classifiers.language_models.endpoint`).

The ledger is stored in the file of the result store. Before a request is sent, its cost bound is reserved; when its price
is known, the reservation is settled. The sum of settled and reserved amounts therefore never exceeds the budget, even if
several processes run or are killed: the reservation of a killed process stays, because its request may have been charged.
Amounts are whole nano-dollars, so that sums are exact.
"""

import math
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.result_store import ResultStore, convert_sqlite_errors

_NANO = 1_000_000_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS spending (
  id INTEGER PRIMARY KEY AUTOINCREMENT, study TEXT NOT NULL, classifier TEXT NOT NULL, scope TEXT NOT NULL,
  nano_usd INTEGER NOT NULL CHECK (nano_usd >= 0), expected INTEGER NOT NULL, settled INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE INDEX IF NOT EXISTS spending_by_study ON spending (study, classifier, settled, nano_usd);
CREATE TABLE IF NOT EXISTS needs (
  study TEXT NOT NULL, classifier TEXT NOT NULL, scope TEXT NOT NULL,
  requests INTEGER NOT NULL CHECK (requests >= 0), nano_usd_each INTEGER NOT NULL CHECK (nano_usd_each >= 0),
  PRIMARY KEY (study, classifier, scope)
) WITHOUT ROWID;
"""


class Budget(BaseModel):
    """The budget of a study, and the classifiers that have priority."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    usd: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    """Maximum, USD. After it is raised, a run continues where it stopped."""
    first: tuple[str, ...] = ()
    """Classifiers with priority, highest first. Other classifiers do not spend the money that these may still need."""

    @field_validator("first")
    @classmethod
    def _require_distinct(cls, first: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(first)) < len(first):
            raise ValueError(f"each classifier may occur only once, got {list(first)}")
        return first


@dataclass(frozen=True)
class Spending:
    """The spending of one classifier.

    Attributes:
        requests: requests that were or may have been charged.
        usd: settled and reserved, USD.
        reserved_usd: the reserved part of `usd`: for requests in flight, requests of a killed process, and failed requests
            that may have been charged.
    """

    requests: int
    usd: float
    reserved_usd: float


class Ledger:
    """The spending of a study. Safe to use from several threads and processes.

    Args:
        result_store: the result store whose file it uses.
        study: name of the study; limited runs of it use the same ledger.
        budget: how much may be spent.
    """

    def __init__(self, result_store: ResultStore, study: str, budget: Budget):
        self.study = study
        self.budget = budget
        self._path = result_store.path
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(result_store.path, timeout=60, check_same_thread=False, isolation_level=None)
            # A reservation must be on the disk before the request is sent, so that a power cut does not release it.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise self._file_error(error) from error

    def close(self) -> None:
        """Close the file; the ledger cannot be used afterwards."""
        self._db.close()

    def expect(self, classifier: str, requests: int, usd_each: float, scope: str = "") -> None:
        """Set how many requests a classifier still has to send. Replaces the previous number.

        Each reservation of the classifier subtracts one request from this number (a retry of the same request does not),
        and each release adds one. Classifiers of lower priority (those not in `budget.first` have the lowest) do
        not spend the money for these requests, so call `expect(classifier, 0, 0)` for a classifier that will not send requests.

        Args:
            classifier: its name in the study.
            requests: number of requests it still has to send.
            usd_each: cost bound of one request, USD.
            scope: the part of its work that the number counts, such as "fold 1".
        """
        with self._writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO needs VALUES (?, ?, ?, ?, ?)",
                (self.study, classifier, scope, requests, _nano(usd_each)),
            )

    def reserve(self, classifier: str, usd: float, scope: str = "", is_retry: bool = False) -> int | None:
        """Reserve the cost bound of one request before it is sent.

        Args:
            classifier: the classifier that sends it.
            usd: cost bound of the request, USD.
            scope: as in `expect`.
            is_retry: whether it is a retry of a request whose earlier reservation stays.

        Returns:
            Id of the reservation, to settle or release later; None if the budget does not allow it.
        """
        with self._writing() as db:
            if _nano(usd) > self._free(db, classifier):
                return None
            counted = db.execute(
                "UPDATE needs SET requests = requests - 1 "
                "WHERE (study, classifier, scope) = (?, ?, ?) AND requests > 0 AND NOT ?",
                (self.study, classifier, scope, is_retry),
            )
            inserted = db.execute(
                "INSERT INTO spending (study, classifier, scope, nano_usd, expected) VALUES (?, ?, ?, ?, ?)",
                (self.study, classifier, scope, _nano(usd), counted.rowcount),
            )
            return inserted.lastrowid

    def settle(self, reservation: int, usd: float) -> None:
        """Replace a reservation by the actual price of its request, USD."""
        with self._writing() as db:
            done = db.execute(
                "UPDATE spending SET nano_usd = ?, settled = 1 WHERE id = ? AND study = ? AND settled = 0",
                (_nano(usd), reservation, self.study),
            )
            self._require_one(done.rowcount, reservation)

    def release(self, reservation: int) -> None:
        """Delete the reservation of a request that was certainly not charged: it was not sent, or rejected."""
        with self._writing() as db:
            db.execute(
                "UPDATE needs SET requests = requests + 1 WHERE (study, classifier, scope) = "
                "(SELECT study, classifier, scope FROM spending WHERE id = ? AND settled = 0 AND expected)",
                (reservation,),
            )
            done = db.execute(
                "DELETE FROM spending WHERE id = ? AND study = ? AND settled = 0", (reservation, self.study)
            )
            self._require_one(done.rowcount, reservation)

    def spent(self) -> float:
        """Return the sum of settled and reserved amounts, USD."""
        with self._using() as db:
            return _spent(db, self.study) / _NANO

    def left(self, classifier: str | None = None) -> float:
        """Return what may still be reserved, USD, at least 0: in total, or by one classifier."""
        with self._using() as db:
            free = self._free(db, classifier) if classifier else _nano(self.budget.usd) - _spent(db, self.study)
        return max(free, 0) / _NANO

    def by_classifier(self) -> dict[str, Spending]:
        """Return the spending of each classifier that has spent anything."""
        query = """
            SELECT classifier, count(*), sum(nano_usd), sum(CASE WHEN settled THEN 0 ELSE nano_usd END)
            FROM spending WHERE study = ? GROUP BY classifier ORDER BY classifier
        """
        with self._using() as db:
            return {c: Spending(n, usd / _NANO, open_ / _NANO) for c, n, usd, open_ in db.execute(query, (self.study,))}

    def refusal_reason(self, classifier: str, usd: float) -> str:
        """Explain why an amount cannot be reserved, and what to do."""
        with self._using() as db:
            spent, reserved = _spent(db, self.study), self._reserved_for_others(db, classifier)
        others = ", ".join(self._higher_priority(classifier))
        reserved_text = f", {reserved / _NANO:.4f} kept for {others}" if reserved else ""
        return (
            f"the budget of {self.budget.usd:g} USD does not allow the next request, which can cost {usd:.4f}: "
            f"{spent / _NANO:.4f} spent or reserved{reserved_text}; raise `budget: {{usd: ...}}` in the study to continue"
        )

    def _higher_priority(self, classifier: str) -> tuple[str, ...]:
        first = self.budget.first
        return first[: first.index(classifier)] if classifier in first else first

    def _reserved_for_others(self, db: sqlite3.Connection, classifier: str) -> int:
        others = self._higher_priority(classifier)
        placeholders = ",".join("?" * len(others))
        query = f"SELECT coalesce(sum(requests * nano_usd_each), 0) FROM needs WHERE study = ? AND classifier IN ({placeholders})"
        return int(db.execute(query, (self.study, *others)).fetchone()[0])

    def _free(self, db: sqlite3.Connection, classifier: str) -> int:
        return math.floor(self.budget.usd * _NANO) - _spent(db, self.study) - self._reserved_for_others(db, classifier)

    @staticmethod
    def _require_one(changed: int, reservation: int) -> None:
        if changed != 1:
            raise ValueError(f"reservation {reservation} is not open; it is already settled or released")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._using() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock, convert_sqlite_errors(self._file_error):
            yield self._db

    def _file_error(self, error: Exception) -> VlmAudioError:
        return VlmAudioError(
            f"the spending ledger in {self._path} cannot be used: {error}. Without it no paid request is sent. If the disk "
            "is full or read-only, free space or change the permissions. If the file is damaged, recover it with "
            f"`sqlite3 {self._path} .recover` or restore your backup"
        )


def _spent(db: sqlite3.Connection, study: str) -> int:
    return int(db.execute("SELECT coalesce(sum(nano_usd), 0) FROM spending WHERE study = ?", (study,)).fetchone()[0])


def _nano(usd: float) -> int:
    """Convert USD to whole nano-dollars, rounded up; float noise below 0.001 nano-dollars is ignored."""
    if not (usd >= 0 and math.isfinite(usd)):
        raise ValueError(f"an amount must be a number of at least 0 USD, got {usd}")
    return math.ceil(round(usd * _NANO, 3))
