"""The ledger: what a study has spent at endpoints that charge, and what it may still spend.

What belongs here: reservations, settlements and who comes first. What does not: prices and what a request can cost
(`classifiers.language_models.endpoint.prices`).

It lives in the row store's file, for the lifetime of a study. Money is reserved before a request leaves, at the most that
the request can cost, and settled when the price is known. So the sum of what is settled and what is reserved never passes
the budget, whichever processes ask at once and whenever they die: what a dead process had reserved stays reserved, for
nobody knows whether it was charged. Amounts are whole nano-dollars, so that sums are exact.
"""

import math
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.result_store import RowStore, file_troubles

_NANO = 1_000_000_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS spending (
  id INTEGER PRIMARY KEY AUTOINCREMENT, study TEXT NOT NULL, classifier TEXT NOT NULL, part TEXT NOT NULL,
  nano_usd INTEGER NOT NULL CHECK (nano_usd >= 0), expected INTEGER NOT NULL, settled INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE INDEX IF NOT EXISTS spending_by_study ON spending (study, classifier, settled, nano_usd);
CREATE TABLE IF NOT EXISTS needs (
  study TEXT NOT NULL, classifier TEXT NOT NULL, part TEXT NOT NULL,
  requests INTEGER NOT NULL CHECK (requests >= 0), nano_usd_each INTEGER NOT NULL CHECK (nano_usd_each >= 0),
  PRIMARY KEY (study, classifier, part)
) WITHOUT ROWID;
"""


class Budget(BaseModel):
    """How much a study may spend in its lifetime, and on what first."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    usd: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    """The most, USD. Raising it goes on where a run stopped."""
    first: tuple[str, ...] = ()
    """Classifiers that come first, the foremost first: others leave them what they may still need."""

    @field_validator("first")
    @classmethod
    def _each_once(cls, first: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(first)) < len(first):
            raise ValueError(f"classifiers must be named once each, got {list(first)}")
        return first


@dataclass(frozen=True)
class Spending:
    """What one classifier has spent.

    Attributes:
        requests: attempts that were or may have been charged.
        usd: settled and reserved, USD.
        reserved_usd: of this, reserved and not settled: under way, of a process that died, or of an attempt that failed so
            that nobody knows whether it was charged.
    """

    requests: int
    usd: float
    reserved_usd: float


class Ledger:
    """The money of a study. Safe to use from several threads and processes.

    Args:
        rows: the row store in whose file it lives.
        study: name of the study; limited runs of it share its ledger.
        budget: how much may be spent; a study without one has 0 USD.
    """

    def __init__(self, rows: RowStore, study: str, budget: Budget):
        self.study = study
        self.budget = budget
        self._path = rows.path
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(rows.path, timeout=60, check_same_thread=False, isolation_level=None)
            # a reservation is on the disk before the request leaves: a power cut must not make money free again
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise self._trouble(error) from error

    def close(self) -> None:
        """Close the file; the ledger cannot be used afterwards."""
        self._db.close()

    def expect(self, classifier: str, requests: int, usd_each: float, part: str = "") -> None:
        """Say what a classifier still has to ask; the last word counts.

        From then on every reservation of the classifier takes one request off (another attempt at the same request does
        not), and every release puts back what its reservation took off. Whoever comes after it in `budget.first` (those
        not named come last, all alike) leaves this much untouched, so say `expect(classifier, 0, 0)` when it is not going
        to ask.

        Args:
            classifier: its name in the study.
            requests: how many it still has to ask.
            usd_each: the most that one can cost, USD.
            part: of its work, where it is done in parts that speak for themselves ("fold 1").
        """
        with self._writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO needs VALUES (?, ?, ?, ?, ?)",
                (self.study, classifier, part, requests, _nano(usd_each)),
            )

    def reserve(self, classifier: str, usd: float, part: str = "", again: bool = False) -> int | None:
        """Set money aside for one request that is about to leave.

        Args:
            classifier: who asks.
            usd: the most the request can cost, USD.
            part: as it was told to `expect`.
            again: whether it is another attempt at a request of which an earlier one stays reserved.

        Returns:
            What to settle or release later, or None if what is left does not allow it.
        """
        with self._writing() as db:
            if _nano(usd) > self._free(db, classifier):
                return None
            taken = db.execute(
                "UPDATE needs SET requests = requests - 1 "
                "WHERE (study, classifier, part) = (?, ?, ?) AND requests > 0 AND NOT ?",
                (self.study, classifier, part, again),
            )
            made = db.execute(
                "INSERT INTO spending (study, classifier, part, nano_usd, expected) VALUES (?, ?, ?, ?, ?)",
                (self.study, classifier, part, _nano(usd), taken.rowcount),
            )
            return made.lastrowid

    def settle(self, reservation: int, usd: float) -> None:
        """Put what a request did cost, USD, in place of what was reserved for it."""
        with self._writing() as db:
            done = db.execute(
                "UPDATE spending SET nano_usd = ?, settled = 1 WHERE id = ? AND study = ? AND settled = 0",
                (_nano(usd), reservation, self.study),
            )
            self._once(done.rowcount, reservation)

    def release(self, reservation: int) -> None:
        """Give back what was reserved for a request that was certainly not charged: not sent, or turned away."""
        with self._writing() as db:
            db.execute(
                "UPDATE needs SET requests = requests + 1 WHERE (study, classifier, part) = "
                "(SELECT study, classifier, part FROM spending WHERE id = ? AND settled = 0 AND expected)",
                (reservation,),
            )
            done = db.execute(
                "DELETE FROM spending WHERE id = ? AND study = ? AND settled = 0", (reservation, self.study)
            )
            self._once(done.rowcount, reservation)

    def spent(self) -> float:
        """Give what is settled and reserved, USD."""
        with self._using() as db:
            return _spent(db, self.study) / _NANO

    def left(self, classifier: str | None = None) -> float:
        """Give what may still be reserved, USD, never below 0: by whoever comes first, or by this classifier."""
        with self._using() as db:
            free = self._free(db, classifier) if classifier else _nano(self.budget.usd) - _spent(db, self.study)
        return max(free, 0) / _NANO

    def by_classifier(self) -> dict[str, Spending]:
        """Give what each classifier has spent, those that have not spent anything left out."""
        query = """
            SELECT classifier, count(*), sum(nano_usd), sum(CASE WHEN settled THEN 0 ELSE nano_usd END)
            FROM spending WHERE study = ? GROUP BY classifier ORDER BY classifier
        """
        with self._using() as db:
            return {c: Spending(n, usd / _NANO, open_ / _NANO) for c, n, usd, open_ in db.execute(query, (self.study,))}

    def why_not(self, classifier: str, usd: float) -> str:
        """Say why so much cannot be reserved, and what to do."""
        with self._using() as db:
            spent, kept = _spent(db, self.study), self._kept(db, classifier)
        first = ", ".join(self._before(classifier))
        held = f", {kept / _NANO:.4f} kept for {first}" if kept else ""
        return (
            f"the budget of {self.budget.usd:g} USD must allow the next request, which can cost {usd:.4f}: "
            f"{spent / _NANO:.4f} spent or reserved{held}; raise `budget: {{usd: ...}}` in the study to go on"
        )

    def _before(self, classifier: str) -> tuple[str, ...]:
        first = self.budget.first
        return first[: first.index(classifier)] if classifier in first else first

    def _kept(self, db: sqlite3.Connection, classifier: str) -> int:
        before = self._before(classifier)
        marks = ",".join("?" * len(before))
        query = (
            f"SELECT coalesce(sum(requests * nano_usd_each), 0) FROM needs WHERE study = ? AND classifier IN ({marks})"
        )
        return db.execute(query, (self.study, *before)).fetchone()[0]

    def _free(self, db: sqlite3.Connection, classifier: str) -> int:
        return math.floor(self.budget.usd * _NANO) - _spent(db, self.study) - self._kept(db, classifier)

    @staticmethod
    def _once(changed: int, reservation: int) -> None:
        if changed != 1:
            raise ValueError(f"a reservation must be open to be settled or released, got {reservation}")

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
        with self._lock, file_troubles(self._trouble):
            yield self._db

    def _trouble(self, error: Exception) -> VlmAudioError:
        return VlmAudioError(
            f"the ledger in {self._path} must be readable and writable, got: {error}; nothing is spent without it: if "
            "the folder is full or read-only, mend that; if the file is damaged, recover it with "
            f"`sqlite3 {self._path} .recover` or take it from your backup"
        )


def _spent(db: sqlite3.Connection, study: str) -> int:
    return db.execute("SELECT coalesce(sum(nano_usd), 0) FROM spending WHERE study = ?", (study,)).fetchone()[0]


def _nano(usd: float) -> int:
    """Give whole nano-dollars, rounded up, but for what is rounding of floats."""
    if not (usd >= 0 and math.isfinite(usd)):
        raise ValueError(f"an amount must be 0 USD or more, got {usd}")
    return math.ceil(round(usd * _NANO, 3))
