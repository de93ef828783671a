"""Collect a batch: find it at the server, and store its responses when it has ended.

Does not belong here: submitting (`backend`), and reading single results (`results`).
"""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime

from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.protocol import (
    MAX_MEAN_RESULT_BYTES,
    BatchApi,
    BatchStatus,
    LostCallError,
    OversizedResultsError,
    RejectedCallError,
    UndecidedSearchError,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.results import UNANSWERED, ReadResult, read_result
from vlm_audio_pipeline.classifiers.language_models.endpoint.cost_bounds import find_prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.fatal_failures import fatal_reason
from vlm_audio_pipeline.classifiers.language_models.endpoint.redaction import redact
from vlm_audio_pipeline.classifiers.language_models.endpoint.response_body import MAX_BODY_BYTES
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import Dialect
from vlm_audio_pipeline.classifiers.language_models.response_keys import current_truncated_keys
from vlm_audio_pipeline.classifiers.language_models.stored_responses import stored_payload
from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.stages import WAITING_FOR_BATCH
from vlm_audio_pipeline.storage.batch_log import BatchedRequest, BatchLog, BatchRecord
from vlm_audio_pipeline.storage.result_store import ResultStore

MISSING_S = 120.0
"""If it is not known whether the server received a batch, and the server does not list it for this time, s, the batch counts as not
received. The server may need some time to list a batch that it received just before the process was killed."""
_LOG = logging.getLogger(__name__)


class BatchCollector:
    """Stores the responses of the batches of one model.

    Args:
        model: name of the model at the endpoint.
        endpoint: the endpoint.
        api: a client of its batch API.
        account: what identifies the server and the model in the batch log.
        result_store: where responses are stored.
    """

    def __init__(self, model: str, endpoint: Endpoint, api: BatchApi, account: str, result_store: ResultStore):
        self._result_store = result_store
        self._model = model
        self._endpoint = endpoint
        self._prices = find_prices(model, endpoint)
        self._api = api
        self._account = account
        self._name = f"{model} at {endpoint.host}"

    def collect(self, log: BatchLog, record: BatchRecord) -> str | None:
        """Store the responses of a batch if it has ended; return what to wait for otherwise.

        Raises:
            NotAvailable: if the batch cannot be used, another model has answered, or no request to the model can succeed.
        """
        waiting = f"{WAITING_FOR_BATCH} of {record.requests} requests to {self._name}"
        try:
            batch_id = record.batch_id or self._find(log, record)
            if batch_id is None:
                return None
            try:
                status = self._api.status(batch_id)
                if status.state == "running":
                    return f"{waiting} ({batch_id}): {status.done} of {status.total} are done"
                if status.state == "failed":
                    log.cancel(record.tag)
                    message = redact(status.message, self._endpoint.read_key())
                    if "limit" in message.split(":")[0]:  # other batches fill the queue: submit it again later
                        return f"{waiting}: {message}"
                    raise NotAvailable(f"{self._name} rejects the batch {batch_id}: {message}")
                results = self._read(record, batch_id, status)
            except RejectedCallError as error:
                if error.status == 404:
                    raise NotAvailable(
                        f"{self._name} must have the batch {batch_id}, which was submitted {_date(record.created_at)}, but "
                        "does not; check `url` and the account of the key. Results are deleted after some weeks. To send and "
                        f"pay for its requests again: `vlm-audio batch {record.study} --forget {batch_id}`"
                    ) from error
                raise call_rejection(self._name, error, f"the batch {batch_id}") from error
            except OversizedResultsError as error:
                raise NotAvailable(
                    f"the results of the batch {batch_id} of {self._name} must have at most {_max_bytes(record):,} bytes, and each "
                    f"of them {MAX_BODY_BYTES:,}, but are larger; they were not read further, and nothing is sent again. To give "
                    f"the batch up: `vlm-audio batch {record.study} --forget {batch_id}`"
                ) from error
        except UndecidedSearchError:
            return f"{waiting}: whether the server received it is known only when the running batches of the server have ended"
        except LostCallError as error:
            return f"{waiting}: {error}; run again later"
        self._store(log, record, results)
        return None

    def _find(self, log: BatchLog, record: BatchRecord) -> str | None:
        """Return the id of a batch that was perhaps submitted; None, after the record is closed, if it was not.

        Raises:
            UndecidedSearchError, LostCallError: if this is not known yet.
        """
        missing_since = log.set_missing(record.tag)
        # Measured before the list is read: if the machine is suspended while the list is read, the list is an old one.
        missing_s = time.time() - missing_since
        try:
            batch_id = self._api.find(record, log.ids(self._account))
        except RejectedCallError as error:
            raise call_rejection(self._name, error, "the list of batches") from error
        if batch_id is not None:
            log.set_id(record.tag, batch_id)
            return batch_id
        if missing_s < MISSING_S:
            raise LostCallError("the server does not list the batch yet", may_have_arrived=True)
        log.cancel(record.tag)
        self._api.clean_up(record)
        return None

    def _read(self, record: BatchRecord, batch_id: str, status: BatchStatus) -> dict[int, ReadResult]:
        """Read the results of a batch; return them by position. Each is reduced to a reply as soon as it is read.

        Raises:
            NotAvailable: if the results are those of other requests.
        """
        dialect = read_dialect(record.dialect)
        positions = {f"{record.tag}-{i}": i for i in range(record.requests)}
        results: dict[int, ReadResult] = {}
        has_lines = False
        for result in self._api.results(batch_id, status, _max_bytes(record)):
            has_lines = True
            if (position := positions.get(result.custom_id)) is not None:
                results[position] = read_result(result, dialect, self._model, self._endpoint, self._prices)
        if has_lines and not results:
            raise NotAvailable(
                f"the batch {batch_id} of {self._name} must contain the requests of this data folder, but has others. Nothing is "
                f"sent again. To give it up: `vlm-audio batch {record.study} --forget {batch_id}`"
            )
        return results

    def _store(self, log: BatchLog, record: BatchRecord, results: Mapping[int, ReadResult]) -> None:
        """Store the responses of a batch that has ended, with their price."""
        dialect = read_dialect(record.dialect)
        tally = _BatchTally(self._model, self._endpoint, dialect)
        requests, failures = log.requests(record.tag), log.failures(record.tag)
        for position, request in enumerate(requests):
            tally.add(position, request, results.get(position, UNANSWERED), failures.get(position, 0))
        if tally.other_model is not None:
            # The batch stays open, so that its responses can be used, without a second payment, after they are accepted.
            log.settle(record.tag, tally.usd)
            raise NotAvailable(
                f"{self._name} must answer itself, got responses of {tally.other_model}, which are not stored; name "
                f"the model that you want in `model`, or allow this one with `endpoint: {{accept: [{tally.other_model}]}}`"
            )
        faults.kill_point("batch:results")
        if record.reservation is not None and tally.usd > sum(r.max_usd for r in requests) > 0:
            _LOG.warning("a batch of %s cost more than was reserved", self._model)
        if tally.next_dialect != dialect:
            _LOG.warning("requests to %s now use %s", self._name, tally.next_dialect)
        fatal_error = tally.fatal_error()
        if fatal_error is not None:  # reported by the exception, not by the rows of the requests
            tally.outcomes = {
                i: ("reported", error) if outcome == "error" else (outcome, error)
                for i, (outcome, error) in tally.outcomes.items()
            }
        next_dialect = None if tally.next_dialect == dialect else json.dumps(astuple(tally.next_dialect))
        truncated_keys = current_truncated_keys([request for request, _ in tally.truncated], self._result_store)
        truncated = [(key, data) for key, (_, data) in zip(truncated_keys, tally.truncated, strict=True)]
        self._result_store.put("response", [*tally.responses, *truncated])
        log.finish(record.tag, tally.outcomes, tally.usd, next_dialect)
        if fatal_error is not None:
            raise NotAvailable(fatal_error)


@dataclass
class _BatchTally:
    """The responses, outcomes and price of a batch that has ended."""

    model: str
    endpoint: Endpoint
    next_dialect: Dialect
    responses: list[tuple[str, bytes]] = field(default_factory=list)
    truncated: list[tuple[tuple[str, int], bytes]] = field(default_factory=list)
    outcomes: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    usd: float = 0.0
    other_model: str | None = None
    fatal_errors: dict[bool, str] = field(default_factory=dict)

    def add(self, position: int, request: BatchedRequest, result: ReadResult, failures: int) -> None:
        """Add the result of one request, which failed in `failures` earlier batches."""
        reply = result.reply
        if result.is_charged:
            self.usd += request.max_usd if reply.usage.usd is None else reply.usage.usd
        self.other_model = self.other_model or result.other_model
        if reply.outcome != "error":
            payload = stored_payload(reply, "generation")
            if reply.outcome == "truncated":
                self.truncated.append(((request.response_key, request.max_tokens), payload))
            else:
                self.responses.append((request.response_key, payload))
            self.outcomes[position] = ("stored", None)
        elif result.rejection is not None:
            self.next_dialect = self.next_dialect.adapt(*result.rejection) or self.next_dialect
            self.outcomes[position] = ("changed", None)
        else:
            self._add_failure(position, result, failures)

    def _add_failure(self, position: int, result: ReadResult, failures: int) -> None:
        fatal = self._fatal_reasons(result)
        for has_response, reason in fatal.items():
            self.fatal_errors.setdefault(has_response, reason)
        if self._is_temporary(result, fatal) and (failures + 1) % (self.endpoint.retries + 1):
            self.outcomes[position] = ("retry", None)
        else:
            self.outcomes[position] = ("error", result.reply.error)

    def _fatal_reasons(self, result: ReadResult) -> dict[bool, str]:
        """Return why no request to the model can succeed, in two cases: the batch has a response (True), or it has none (False).

        It is known only at the end of a batch whether it has a response.
        """
        failure = result.failure
        if failure is None:
            return {}
        reasons = {
            has_response: fatal_reason(
                self.model, self.endpoint, failure.status, failure.code, failure.reason, has_response
            )
            for has_response in (True, False)
        }
        return {has_response: reason for has_response, reason in reasons.items() if reason is not None}

    @staticmethod
    def _is_temporary(result: ReadResult, fatal: Mapping[bool, str]) -> bool:
        """Return whether the same request may succeed later."""
        if result.failure is None:
            return result.is_unanswered
        return result.failure.is_temporary and True not in fatal

    def fatal_error(self) -> str | None:
        """Return why no request to the model can succeed, or None; see `fatal_reason`."""
        return self.fatal_errors.get(bool(self.responses or self.truncated))


def _max_bytes(record: BatchRecord) -> int:
    """Return the maximum size of the results of a batch, bytes."""
    return MAX_BODY_BYTES + record.requests * MAX_MEAN_RESULT_BYTES


def _date(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def read_dialect(text: str) -> Dialect:
    """Return the parameters that the batch log contains as JSON."""
    limit_name, rejected, is_limit_renamed = json.loads(text)
    return Dialect(limit_name, tuple(rejected), is_limit_renamed)


def open_batch_reason(study: str, tag: str) -> str:
    """Return why requests of an open batch are not sent in another way."""
    return (
        f"requests are in the batch {tag}, which is not answered yet, and would be paid for twice. To use its responses, set `batch` of the "
        f"endpoint as it was; or give it up with `vlm-audio batch {study} --forget {tag}`"
    )


def call_rejection(name: str, error: RejectedCallError, subject: str) -> NotAvailable:
    """Return the error for a call that the server rejected.

    Args:
        name: model and host.
        error: the error of the call.
        subject: what the server rejected, such as "a batch".
    """
    advice = {
        401: "correct the key",
        402: "top up the account",
        404: "check `model`, `url` and the account; the endpoint may have no batch API, then remove `batch`",
    }.get(error.status, "see the message")
    return NotAvailable(f"{name} rejects {subject}: {error}; {advice}")
