"""The batch log: which requests are in which batch of a batch API, from the intent to submit to the stored responses.

A batch takes up to a day, and the process that submitted it may be gone. Therefore every step is on disk before the next one:
the intent with its requests and its reservation in the ledger (one transaction), then the id of the batch, then the responses,
and finally their price and the end of the batch (one transaction). After a kill between the last two, the next run reads the same
responses again, and the stored ones stay. The log is part of the file of the result store, so that it moves with
the data folder. Does not belong here: batch APIs (`classifiers.language_models.endpoint.batches`).
"""

import secrets
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.ledger import Ledger, release_reservation, settle_reservation
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.sqlite_files import SharedConnection, convert_sqlite_errors, create_tables

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
  tag TEXT PRIMARY KEY, account TEXT NOT NULL, study TEXT NOT NULL, classifier TEXT NOT NULL, scope TEXT NOT NULL,
  requests INTEGER NOT NULL,  reservation INTEGER, dialect TEXT NOT NULL, next_dialect TEXT, batch_id TEXT, file_id TEXT, missing_since REAL,
  is_open INTEGER NOT NULL DEFAULT 1, created_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch_requests (
  tag TEXT NOT NULL, position INTEGER NOT NULL, response_key TEXT NOT NULL, max_tokens INTEGER NOT NULL,
  max_usd REAL NOT NULL, outcome TEXT, error TEXT, PRIMARY KEY (tag, position)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS batch_requests_by_key ON batch_requests (response_key);
"""


@dataclass(frozen=True)
class BatchedRequest:
    """A request of a batch.

    Attributes:
        response_key: key of its response in the result store.
        max_tokens: maximum length of its response.
        max_usd: cost bound, USD; 0 if the endpoint charges nothing.
    """

    response_key: str
    max_tokens: int
    max_usd: float


@dataclass(frozen=True)
class BatchRecord:
    """A batch whose responses are not stored yet.

    Attributes:
        tag: unique name, which the server gets with the batch.
        study: the study that submitted it.
        requests: number of requests.
        reservation: its open reservation in the ledger of the study; None if nothing is reserved.
        dialect: the parameters that were sent, as JSON.
        batch_id: id at the server; None if it is not known (yet) whether the server received the batch.
        file_id: id of its input file at the server, or None.
        missing_since: when a batch without an id was first looked for, s since 1970; None if it was not.
        created_at: time of the intent, s since 1970.
    """

    tag: str
    study: str
    requests: int
    reservation: int | None
    dialect: str
    batch_id: str | None
    file_id: str | None
    missing_since: float | None
    created_at: float


_COLUMNS = "tag, study, requests, reservation, dialect, batch_id, file_id, missing_since, created_at"


class BatchLog(SharedConnection):
    """The batches of a data folder. Use it as a context manager.

    Args:
        result_store: the result store whose file it uses.
    """

    def __init__(self, result_store: ResultStore):
        self._path = result_store.path
        super().__init__()
        with convert_sqlite_errors(self._file_error):
            self._db = sqlite3.connect(self._path, timeout=60, check_same_thread=False, isolation_level=None)
            # An intent must be on the disk before the batch is submitted.
            self._db.execute("PRAGMA synchronous = FULL")
            create_tables(self._db, _SCHEMA)

    def __enter__(self) -> "BatchLog":
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()

    @property
    def lock_path(self) -> Path:
        """The lock file that a process holds while it submits batches or stores their responses."""
        return self._path.with_name(f".{self._path.name}.batches.lock")

    def intend(
        self,
        account: str,
        study: str,
        classifier: str,
        requests: Sequence[BatchedRequest],
        dialect: str,
        ledger: Ledger | None,
        scope: str = "",
    ) -> BatchRecord | None:
        """Record the intent to submit a batch and reserve its cost bound, in one transaction.

        Args:
            account: the server and the model.
            study: name of the study.
            classifier: the classifier that sends the requests.
            requests: the requests, in the order of the batch.
            dialect: the parameters that are sent, as JSON.
            ledger: where the cost bound is reserved; None if the endpoint charges nothing.
            scope: as in `Ledger.reserve`.

        Returns:
            The batch; None if the budget does not allow it.
        """
        tag = "vap" + secrets.token_hex(12)
        with self._transaction() as db:
            reservation = None
            if ledger is not None:
                usd = sum(request.max_usd for request in requests)
                reservation = ledger.reserve(classifier, usd, scope, requests=len(requests), db=db)
                if reservation is None:
                    return None
                study = ledger.study  # of a limited run, the whole study
            record = BatchRecord(tag, study, len(requests), reservation, dialect, None, None, None, time.time())
            db.execute(
                "INSERT INTO batches (tag, account, study, classifier, scope, requests, reservation, dialect, created_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (tag, account, study, classifier, scope, len(requests), reservation, dialect, record.created_at),
            )
            db.executemany(
                "INSERT INTO batch_requests (tag, position, response_key, max_tokens, max_usd) VALUES (?, ?, ?, ?, ?)",
                ((tag, i, r.response_key, r.max_tokens, r.max_usd) for i, r in enumerate(requests)),
            )
        return record

    def set_file(self, tag: str, file_id: str) -> None:
        """Record the id of the uploaded input file."""
        with self._transaction() as db:
            db.execute("UPDATE batches SET file_id = ? WHERE tag = ?", (file_id, tag))

    def set_id(self, tag: str, batch_id: str) -> None:
        """Record the id that the server gave to the batch."""
        with self._transaction() as db:
            db.execute("UPDATE batches SET batch_id = ? WHERE tag = ?", (batch_id, tag))

    def set_missing(self, tag: str) -> float:
        """Record that a batch without an id is looked for; return since when, s since 1970."""
        with self._transaction() as db:
            query = (
                "UPDATE batches SET missing_since = coalesce(missing_since, ?) WHERE tag = ? RETURNING missing_since"
            )
            return float(db.execute(query, (time.time(), tag)).fetchone()[0])

    def cancel(self, tag: str) -> None:
        """Close a batch that the server certainly does not have, and release its reservation."""
        with self._transaction() as db:
            study, reservation = db.execute("SELECT study, reservation FROM batches WHERE tag = ?", (tag,)).fetchone()
            if reservation is not None:
                release_reservation(db, study, reservation)
            db.execute("UPDATE batches SET is_open = 0, reservation = NULL WHERE tag = ?", (tag,))

    def forget(self, batch_id: str) -> int:
        """Close a batch whose responses cannot be read any more; its reservation counts as spent.

        Args:
            batch_id: its id at the server, or its tag.

        Returns:
            The number of its requests, which are sent again; 0 if no open batch has this id.
        """
        with self._transaction() as db:
            query = "UPDATE batches SET is_open = 0 WHERE is_open AND (batch_id = ? OR tag = ?) RETURNING requests"
            return sum(row[0] for row in db.execute(query, (batch_id, batch_id)).fetchall())

    def settle(self, tag: str, usd: float) -> None:
        """Replace the reservation of a batch by its price, USD."""
        with self._transaction() as db:
            _settle(db, tag, usd)

    def finish(
        self,
        tag: str,
        outcomes: Mapping[int, tuple[str, str | None]],
        usd: float,
        next_dialect: str | None,
    ) -> None:
        """Settle the price of a batch and close it, in one transaction, after its responses were stored.

        Args:
            tag: the batch.
            outcomes: position -> ("stored", None), ("retry", None), ("changed", None) (to be sent with other parameters), or
                ("error", message).
            usd: price of all its responses, USD.
            next_dialect: the parameters for later batches, as JSON, if the server rejected some.
        """
        with self._transaction() as db:
            db.executemany(
                "UPDATE batch_requests SET outcome = ?, error = ? WHERE tag = ? AND position = ?",
                ((*outcome, tag, position) for position, outcome in outcomes.items()),
            )
            _settle(db, tag, usd)
            db.execute("UPDATE batches SET is_open = 0, next_dialect = ? WHERE tag = ?", (next_dialect, tag))

    def open_batches(self, account: str) -> list[BatchRecord]:
        """Return the batches of an account whose responses are not stored, oldest first."""
        with self._connection() as db:
            query = f"SELECT {_COLUMNS} FROM batches WHERE account = ? AND is_open ORDER BY created_at, tag"
            return [BatchRecord(*row) for row in db.execute(query, (account,))]

    def ids(self, account: str) -> set[str]:
        """Return the ids at the server of all batches of an account."""
        with self._connection() as db:
            query = "SELECT batch_id FROM batches WHERE account = ? AND batch_id IS NOT NULL"
            return {row[0] for row in db.execute(query, (account,))}

    def requests(self, tag: str) -> list[BatchedRequest]:
        """Return the requests of a batch, by position."""
        with self._connection() as db:
            query = "SELECT response_key, max_tokens, max_usd FROM batch_requests WHERE tag = ? ORDER BY position"
            return [BatchedRequest(*row) for row in db.execute(query, (tag,))]

    def open_batch_tag(self, response_key: str) -> str | None:
        """Return the tag of the open batch that contains the request of a response, or None."""
        with self._connection() as db:
            query = "SELECT tag FROM batch_requests JOIN batches USING (tag) WHERE response_key = ? AND is_open"
            row = db.execute(query, (response_key,)).fetchone()
        return row[0] if row else None

    def open_requests(self) -> dict[str, str]:
        """Return response key -> tag of the batch, of all requests in open batches, of any account."""
        with self._connection() as db:
            query = "SELECT response_key, tag FROM batch_requests JOIN batches USING (tag) WHERE is_open"
            return dict(db.execute(query).fetchall())

    def reserved_requests(self, study: str) -> dict[tuple[str, str], int]:
        """Return (classifier, scope) -> number of requests whose cost bound is reserved for open batches of a study."""
        with self._connection() as db:
            query = (
                "SELECT classifier, scope, sum(requests) FROM batches "
                "WHERE study = ? AND is_open AND reservation IS NOT NULL GROUP BY classifier, scope"
            )
            return {(classifier, scope): count for classifier, scope, count in db.execute(query, (study,))}

    def take_errors(self, account: str, keys: Collection[str]) -> dict[str, str]:
        """Return response key -> message of those requests that failed finally, once: the next run sends them again."""
        with self._transaction() as db:
            query = (
                "SELECT response_key, error, tag, position FROM batch_requests JOIN batches USING (tag) "
                "WHERE account = ? AND outcome = 'error'"
            )
            rows = [row for row in db.execute(query, (account,)) if row[0] in keys]
            db.executemany(
                "UPDATE batch_requests SET outcome = 'reported' WHERE tag = ? AND position = ?",
                (row[2:] for row in rows),
            )
        return {row[0]: row[1] for row in rows}

    def failures(self, tag: str) -> dict[int, int]:
        """Return how often each request of a batch failed in earlier batches, by position; 0 is left out."""
        with self._connection() as db:
            query = (
                "SELECT this.position, count(*) FROM batch_requests this JOIN batch_requests earlier USING (response_key) "
                "WHERE this.tag = ? AND earlier.outcome IN ('retry', 'error', 'reported') GROUP BY this.position"
            )
            return dict(db.execute(query, (tag,)))

    def latest_dialect(self, account: str) -> str | None:
        """Return the parameters, as JSON, to which the latest rejection by an account led; None without a rejection."""
        with self._connection() as db:
            query = (
                "SELECT next_dialect FROM batches WHERE account = ? AND next_dialect IS NOT NULL "
                "ORDER BY created_at DESC LIMIT 1"
            )
            row = db.execute(query, (account,)).fetchone()
        return row[0] if row else None

    def _file_error(self, error: Exception) -> VlmAudioError:
        return VlmAudioError(
            f"the batch log in {self._path} cannot be used: {error}. Without it no batch is sent. If the disk is full or "
            "read-only, free space or change the permissions. If the file is damaged, recover it with "
            f"`sqlite3 {self._path} .recover` or restore your backup"
        )


def _settle(db: sqlite3.Connection, tag: str, usd: float) -> None:
    study, reservation = db.execute("SELECT study, reservation FROM batches WHERE tag = ?", (tag,)).fetchone()
    if reservation is not None:
        settle_reservation(db, study, reservation, usd)
        db.execute("UPDATE batches SET reservation = NULL WHERE tag = ?", (tag,))
