"""Send requests as batches: submit what is missing, and store the responses of batches that have ended.

A call neither waits nor blocks: it collects, submits, and reports what the study is waiting for. All state is in the batch log,
so that the next call continues, in any process and on any machine with the data folder. Does not belong here: the protocols
(`openai_batches`, `anthropic_batches`), and waiting (`planning.waiting`).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import not_run_reason
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.anthropic_batches import AnthropicBatches
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.collecting import (
    BatchCollector,
    call_rejection,
    open_batch_reason,
    read_dialect,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.openai_batches import OpenAIBatches
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.protocol import (
    BatchApi,
    BatchLimits,
    Json,
    LostCallError,
    RejectedCallError,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.calls import first_dialect
from vlm_audio_pipeline.classifiers.language_models.endpoint.cost_bounds import cost_bound, find_prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.retirement import retired_reason
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import Dialect
from vlm_audio_pipeline.classifiers.language_models.messages import (
    Backend,
    BatchProgress,
    Reply,
    ReplyCallback,
    Request,
)
from vlm_audio_pipeline.classifiers.language_models.response_keys import current_response_keys, current_truncated_keys
from vlm_audio_pipeline.classifiers.language_models.stored_responses import read_payload, read_stored_payloads
from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.stages import WAITING_FOR_BATCH
from vlm_audio_pipeline.storage.batch_log import BatchedRequest, BatchLog
from vlm_audio_pipeline.storage.locks import file_lock
from vlm_audio_pipeline.storage.result_store import ResultStore

if TYPE_CHECKING:
    from vlm_audio_pipeline.storage.ledger import Ledger

_LINE_BYTES = 200
"""Upper bound of what a batch adds to the body of a request, bytes."""


def open_batch_api(model: str, endpoint: Endpoint) -> BatchApi:
    """Return a client of the batch API of an endpoint."""
    return (AnthropicBatches if endpoint.protocol == "anthropic" else OpenAIBatches)(model, endpoint)


def account_name(model: str, endpoint: Endpoint) -> str:
    """Return what identifies the server and the model in the batch log."""
    return f"{endpoint.protocol} {endpoint.address} {model}"


def poll_batches(model: str, endpoint: Endpoint, result_store: ResultStore) -> BatchProgress | None:
    """Return the progress of all open batches of a model, as the server counts it; None without open batches.

    Raises:
        ConnectionError: if the server cannot be reached.
    """
    done = total = 0
    is_ready = False
    with BatchLog(result_store) as log:
        records = log.open_batches(account_name(model, endpoint))
        if not records:
            return None
        api = open_batch_api(model, endpoint)
        for record in records:
            total += record.requests
            if record.batch_id is None:
                is_ready = True
                continue
            try:
                status = api.status(record.batch_id)
            except RejectedCallError:
                is_ready = True  # the next run reports it
                continue
            done += min(status.done, record.requests)
            is_ready |= status.state != "running"
    return BatchProgress(done, total, is_ready)


class BatchBackend(Backend):
    """A model behind a batch API. It generates text.

    Args:
        model: name of the model at the endpoint.
        endpoint: the endpoint.
        ledger: the ledger of the study; without a ledger, only endpoints that charge nothing can be used.
        classifier: name of the classifier.
        result_store: where responses are stored; its file contains the batch log.
        model_identity: values that identify the model in the keys of its responses.
        study: name of the study.
        scope: the part of the classifier's requests that it sends, such as "fold 1"; see `Ledger.expect`.
        limits: the largest batch; by default that of the protocol.

    Raises:
        NotAvailable: if budget, key, prices or a package are missing.
    """

    def __init__(
        self,
        model: str,
        endpoint: Endpoint,
        ledger: "Ledger | None",
        classifier: str,
        result_store: ResultStore,
        model_identity: dict[str, Any],
        *,
        study: str,
        scope: str = "",
        limits: BatchLimits | None = None,
    ):
        reason = not_run_reason(model, endpoint, ledger is not None)
        if reason is not None:
            raise NotAvailable(reason)
        self.model = model
        self.endpoint = endpoint
        self.prices = find_prices(model, endpoint)
        self.account = account_name(model, endpoint)
        self._ledger = ledger if self.prices is not None else None
        self._classifier = classifier
        self._result_store = result_store
        self._model_identity = model_identity
        self._study = study
        self._scope = scope
        self._api = open_batch_api(model, endpoint)
        self._limits = limits or self._api.limits
        self._collector = BatchCollector(model, endpoint, self._api, self.account, result_store)
        self._name = f"{model} at {endpoint.host}"
        self._claim: Callable[[int], bool] = lambda position: True

    def set_claim(self, claim: Callable[[int], bool]) -> None:
        """Set the function that says whether a request may be submitted; see `Backend.set_claim`.

        A lease that it takes must be held until the end of `ask`; afterwards, the batch log says that the request is in a batch.
        """
        self._claim = claim

    def ask(self, requests: Sequence[Request], on_reply: ReplyCallback) -> str | None:
        """Reply to requests whose batch has ended, and submit those that are in no batch; see `Backend`.

        Raises:
            NotAvailable: if the key is rejected, the model does not exist or is retired, or another model has answered.
            VlmAudioError: if a request has another scoring than generation.
        """
        if others := {scoring for request in requests for scoring in request.scorings} - {"generation"}:
            raise VlmAudioError(
                f"the scoring of {self.model} must be generation in batches, got {', '.join(sorted(others))}; "
                "set `scoring: [generation]`"
            )
        # One process at a time: another one could see an intent whose batch is just being submitted.
        with BatchLog(self._result_store) as log, file_lock(log.lock_path):
            waiting = {r.tag: self._collector.collect(log, r) for r in log.open_batches(self.account)}
            unsent, tags = self._reply(log, requests, on_reply)
            reasons = self._submit(log, requests, unsent, on_reply)
        reasons += [waiting.get(tag) or open_batch_reason(self._study, tag) for tag in tags]
        texts = list(dict.fromkeys(reasons))
        texts.sort(key=lambda text: not text.startswith(WAITING_FOR_BATCH))
        return "; ".join(texts) or None

    def _reply(
        self, log: BatchLog, requests: Sequence[Request], on_reply: ReplyCallback
    ) -> tuple[list[int], list[str]]:
        """Reply to the requests that have a result; return the positions of those in no batch, and the tags of the others."""
        keys = current_response_keys(requests, self._model_identity, self._result_store)
        lengths = [request.sampling.max_tokens for request in requests]
        cut_off = current_truncated_keys(list(zip(keys, lengths, strict=True)), self._result_store)
        # Another process may have stored them while this one waited for the lock.
        stored = read_stored_payloads(self._result_store, keys, dict(zip(keys, cut_off, strict=True)))
        open_requests, errors = log.open_requests(), log.take_errors(self.account, set(keys))
        unsent, tags = [], dict[str, None]()
        for position, key in enumerate(keys):
            if key in stored:
                on_reply(position, read_payload(stored[key]))
            elif key in open_requests:
                tags[open_requests[key]] = None
            elif key in errors:
                on_reply(position, Reply("error", error=errors[key]))
            else:
                unsent.append(position)
        return unsent, list(tags)

    def _submit(
        self, log: BatchLog, requests: Sequence[Request], positions: Sequence[int], on_reply: ReplyCallback
    ) -> list[str]:
        """Submit requests, split into batches; return what to wait for, or why sending stopped."""
        # Here, not before: a batch that was submitted before the retirement is collected first.
        if positions and (reason := retired_reason(self.model, self.endpoint)) is not None:
            raise NotAvailable(reason)
        dialect = self._dialect(log)
        reasons: list[str] = []
        chunk: list[tuple[BatchedRequest, Json]] = []
        size = 0
        room = self._room()

        def flush() -> bool:
            """Submit the chunk; return whether more may be sent."""
            nonlocal chunk, size, room
            reason, may_continue = self._submit_chunk(log, chunk, dialect) if chunk else (None, True)
            reasons.extend([reason] if reason else [])
            chunk, size, room = [], 0, self._room()
            return may_continue

        for position in positions:
            request = requests[position]
            body = self._api.request_body(request, dialect)
            body_bytes = len(json.dumps(body)) + _LINE_BYTES
            max_usd = 0.0 if self.prices is None else cost_bound(request, self.model, self.endpoint)[1] or 0.0
            if body_bytes > self._limits.bytes:
                error = f"a request of {body_bytes:,} bytes must fit into a batch of {self._limits.bytes:,} bytes"
                on_reply(position, Reply("error", error=error))
                continue
            is_full = len(chunk) == self._limits.requests or size + body_bytes > self._limits.bytes
            if is_full and not flush():
                return reasons
            if sum(r.max_usd for r, _ in chunk) + max_usd > room:
                flush()
                return [*reasons, self._refusal_reason(max_usd)]
            if not self._claim(position):  # a live run sends it now
                continue
            [key] = current_response_keys([request], self._model_identity, self._result_store)
            chunk.append((BatchedRequest(key, request.sampling.max_tokens, max_usd), body))
            size += body_bytes
        flush()
        return reasons

    def _submit_chunk(
        self, log: BatchLog, chunk: Sequence[tuple[BatchedRequest, Json]], dialect: Dialect
    ) -> tuple[str | None, bool]:
        """Submit one batch; return what to wait for or why it was not sent, and whether more may be sent."""
        batched, bodies = [request for request, _ in chunk], [body for _, body in chunk]
        record = log.intend(
            self.account,
            self._study,
            self._classifier,
            batched,
            json.dumps(astuple(dialect)),
            self._ledger,
            self._scope,
        )
        if record is None:  # another process has reserved the money in the meantime
            return self._refusal_reason(sum(request.max_usd for request in batched)), False
        faults.kill_point("batch:intent")
        waiting = f"{WAITING_FOR_BATCH} of {len(batched)} requests to {self._name}"
        try:
            batch_id = self._api.submit(record.tag, bodies, lambda file_id: log.set_file(record.tag, file_id))
        except RejectedCallError as error:
            log.cancel(record.tag)
            if error.status == 429:
                return (
                    f"{self._name} accepts no more batches now ({error}); run again later",
                    False,
                )
            raise call_rejection(self._name, error, "a batch") from error
        except LostCallError as error:
            if error.may_have_arrived:
                log.set_missing(record.tag)
                return f"{waiting}: {error}; whether the server received it is not known yet", False
            log.cancel(record.tag)
            if not error.is_unreachable:
                self._api.clean_up(record)
                return f"{self._name} did not take a batch: {error}; run again later", False
            raise NotAvailable(
                f"{self._name} must accept connections, got: {error}; start the server, or correct `url`, which is "
                f"{self.endpoint.url}"
            ) from error
        faults.kill_point("batch:created")
        log.set_id(record.tag, batch_id)
        faults.kill_point("batch:submitted")
        return f"{waiting} ({batch_id}): submitted", True

    def _dialect(self, log: BatchLog) -> Dialect:
        """Return the parameters to send: without those that the study omits or the server has rejected."""
        dialect = first_dialect(self.endpoint)
        stored = log.latest_dialect(self.account)
        if stored is None:
            return dialect
        latest = read_dialect(stored)
        rejected = tuple(dict.fromkeys([*dialect.rejected_parameters, *latest.rejected_parameters]))
        dialect = replace(dialect, rejected_parameters=rejected)
        if latest.is_limit_renamed:
            dialect = replace(dialect, limit_name=latest.limit_name, is_limit_renamed=True)
        return dialect

    def _room(self) -> float:
        return float("inf") if self._ledger is None else self._ledger.remaining_usd(self._classifier)

    def _refusal_reason(self, usd: float) -> str:
        return "" if self._ledger is None else self._ledger.refusal_reason(self._classifier, usd)
