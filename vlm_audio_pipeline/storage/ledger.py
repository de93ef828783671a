"""The ledger: what a study has spent at paid endpoints, and what it may still spend.

Belongs here: reservations, settlements and priorities. Does not belong here: prices and the cost bound of a request
(`classifiers.language_models.endpoint`).

The ledger is stored in the file of the result store. Before a request is sent, its cost bound is reserved; when its price
is known, the reservation is settled. The sum of settled and reserved amounts therefore never exceeds the budget, even if
several processes run or are killed: the reservation of a killed process stays, because its request may have been charged.
Amounts are whole nano-dollars, so that sums are exact. Each has a checksum: a ledger with a damaged amount is refused.
"""

import math
import sqlite3
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.specs import check_distinct
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.spending_rows import (
    add_reservation,
    damaged_spending,
    delete_reservation,
    prepare_spending,
    repair_index,
    settle,
    spent_amount,
)
from vlm_audio_pipeline.storage.sqlite_files import SharedConnection, create_tables

_NANO = 1_000_000_000
MAX_USD = 2e6
"""The largest amount of one request, USD: twice the largest budget."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS needs (
  study TEXT NOT NULL, classifier TEXT NOT NULL, scope TEXT NOT NULL,
  requests INTEGER NOT NULL CHECK (requests >= 0), nano_usd_each INTEGER NOT NULL CHECK (nano_usd_each >= 0),
  PRIMARY KEY (study, classifier, scope)
) WITHOUT ROWID;
"""


class Budget(BaseModel):
    """The budget of a study, and the classifiers that have priority."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    usd: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    """Maximum, USD. After it is raised, a run continues where it stopped."""
    first: Annotated[tuple[str, ...], AfterValidator(check_distinct)] = ()
    """Classifiers with priority, highest first. Other classifiers do not spend the money that these may still need."""


class Ledger(SharedConnection):
    """The spending of a study. Safe to use from several threads and processes.

    Args:
        result_store: the result store whose file it uses.
        study: name of the study; limited runs of it use the same ledger.
        budget: the maximum amount, and the priorities.
    """

    def __init__(self, result_store: ResultStore, study: str, budget: Budget):
        self.study = study
        self.budget = budget
        self._path = result_store.path
        super().__init__()
        try:
            self._db = sqlite3.connect(result_store.path, timeout=60, check_same_thread=False, isolation_level=None)
            # A reservation must be on the disk before the request is sent, so that a power cut does not release it.
            self._db.execute("PRAGMA synchronous = FULL")
            create_tables(self._db, _SCHEMA)
            prepare_spending(self._db)
            self._check_rows()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise self._file_error(error) from error

    def _check_rows(self) -> None:
        if damaged := damaged_spending(self._db):
            raise VlmAudioError(damaged_spending_message(self._path, damaged))
        repair_index(self._db)

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
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO needs VALUES (?, ?, ?, ?, ?)",
                (self.study, classifier, scope, requests, _to_nano(usd_each)),
            )

    def reserve(
        self,
        classifier: str,
        usd: float,
        scope: str = "",
        is_retry: bool = False,
        *,
        requests: int = 1,
        db: sqlite3.Connection | None = None,
    ) -> int | None:
        """Reserve the cost bound of one request, or of a batch of requests, before it is sent.

        Args:
            classifier: the classifier that sends it.
            usd: cost bound of the request, USD; of a batch, the sum.
            scope: as in `expect`.
            is_retry: whether it is a retry of a request whose earlier reservation stays.
            requests: number of requests of the batch.
            db: a connection to the same file with an open transaction, of which the reservation becomes a part.

        Returns:
            Id of the reservation, to settle or release later; None if the budget does not allow it.
        """
        with self._transaction() if db is None else nullcontext(db) as db:
            if _to_nano(usd) > self._available_amount(db, classifier):
                return None
            key = (self.study, classifier, scope)
            query = "SELECT requests FROM needs WHERE (study, classifier, scope) = (?, ?, ?)"
            row = None if is_retry else db.execute(query, key).fetchone()
            expected = min(row[0], requests) if row else 0
            db.execute(
                "UPDATE needs SET requests = requests - ? WHERE (study, classifier, scope) = (?, ?, ?)",
                (expected, *key),
            )
            return add_reservation(db, *key, _to_nano(usd), expected)

    def settle(self, reservation: int, usd: float) -> None:
        """Replace a reservation by the actual price of its request, USD."""
        with self._transaction() as db:
            settle_reservation(db, self.study, reservation, usd)

    def release(self, reservation: int) -> None:
        """Delete the reservation of a request that was certainly not charged: it was not sent, or rejected."""
        with self._transaction() as db:
            release_reservation(db, self.study, reservation)

    def spent_usd(self) -> float:
        """Return the sum of settled and reserved amounts, USD."""
        with self._connection() as db:
            return spent_amount(db, self.study) / _NANO

    def remaining_usd(self, classifier: str | None = None) -> float:
        """Return the amount that may still be reserved, USD, at least 0: by all classifiers together, or by one."""
        with self._connection() as db:
            available = (
                self._available_amount(db, classifier)
                if classifier
                else _to_nano(self.budget.usd) - spent_amount(db, self.study)
            )
        return max(available, 0) / _NANO

    def excess_usd(self) -> float:
        """Return by how much the spending is above the budget, USD; 0 if it is not.

        It can be above: an endpoint may charge more than the cost bound of a request, and the budget may have been lowered.
        """
        with self._connection() as db:
            return max(spent_amount(db, self.study) - math.floor(self.budget.usd * _NANO), 0) / _NANO

    def refusal_reason(self, classifier: str, usd: float) -> str:
        """Explain why an amount cannot be reserved, and what to do."""
        with self._connection() as db:
            total, reserved = spent_amount(db, self.study), self._reserved_for_others(db, classifier)
        others = ", ".join(self._higher_priority(classifier))
        reserved_text = f", {reserved / _NANO:.4f} kept for {others}" if reserved else ""
        return (
            f"the budget of {self.budget.usd:g} USD does not allow the next request, which can cost {usd:.4f}: "
            f"{total / _NANO:.4f} spent or reserved{reserved_text}; raise `budget: {{usd: ...}}` in the study to continue"
        )

    def _higher_priority(self, classifier: str) -> tuple[str, ...]:
        first = self.budget.first
        return first[: first.index(classifier)] if classifier in first else first

    def _reserved_for_others(self, db: sqlite3.Connection, classifier: str) -> int:
        others = self._higher_priority(classifier)
        placeholders = ",".join("?" * len(others))
        query = f"SELECT coalesce(sum(requests * nano_usd_each), 0) FROM needs WHERE study = ? AND classifier IN ({placeholders})"
        return int(db.execute(query, (self.study, *others)).fetchone()[0])

    def _available_amount(self, db: sqlite3.Connection, classifier: str) -> int:
        return (
            math.floor(self.budget.usd * _NANO)
            - spent_amount(db, self.study)
            - self._reserved_for_others(db, classifier)
        )

    def _file_error(self, error: Exception) -> VlmAudioError:
        return VlmAudioError(
            f"the spending ledger in {self._path} cannot be used: {error}. Without it no paid request is sent. If the disk "
            "is full or read-only, free space or change the permissions. If the file is damaged, recover it with "
            f"`sqlite3 {self._path} .recover` or restore your backup"
        )


def settle_reservation(db: sqlite3.Connection, study: str, reservation: int, usd: float) -> None:
    """Replace a reservation of a study by the actual price, USD, in the open transaction of `db`."""
    settle(db, study, reservation, _to_nano(usd))


def release_reservation(db: sqlite3.Connection, study: str, reservation: int) -> None:
    """Delete a reservation of a study in the open transaction of `db`; its requests are expected again."""
    expected = "SELECT expected FROM spending WHERE id = ? AND settled = 0"
    db.execute(
        f"UPDATE needs SET requests = requests + ({expected}) WHERE (study, classifier, scope) = "
        "(SELECT study, classifier, scope FROM spending WHERE id = ? AND settled = 0)",
        (reservation, reservation),
    )
    delete_reservation(db, study, reservation)


def damaged_spending_message(path: Path, rows: Sequence[int]) -> str:
    """Return what to do about damaged rows of the ledger."""
    ids = ", ".join(map(str, rows))
    return (
        f"{len(rows)} amounts in the spending ledger in {path} are damaged: the checksums of the rows {ids} differ. Without them no "
        "paid request is sent. Restore your backup. Without a backup, delete the rows with "
        f'`sqlite3 {path} "DELETE FROM spending WHERE id IN ({ids})"`, and lower the budget of the study by what the provider charged'
    )


def _to_nano(usd: float) -> int:
    """Convert USD to whole nano-dollars, rounded up; float noise below 0.001 nano-dollars is ignored.

    Amounts above `MAX_USD` count as `MAX_USD`, which no budget allows, so that sums of them fit into the file.
    """
    if not (usd >= 0 and math.isfinite(usd)):
        raise ValueError(f"an amount must be a number of at least 0 USD, got {usd}")
    usd = min(usd, MAX_USD)
    return math.ceil(round(usd * _NANO, 3))
