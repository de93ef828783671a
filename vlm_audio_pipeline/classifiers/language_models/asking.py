"""Send the requests whose responses are not stored yet, and store every response as soon as it arrives.

Belongs here: which requests are sent, and the table `responses`. Does not belong here: the keys and the stored form of responses
(`response_keys`, `stored_responses`), prompts (`prompts`), backends, and how responses become predictions (`predicting`).
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.classifiers.language_models.leased_requests import ask_with_leases
from vlm_audio_pipeline.classifiers.language_models.messages import Backend, Reply, Request, Scoring
from vlm_audio_pipeline.classifiers.language_models.response_keys import response_key, truncated_key
from vlm_audio_pipeline.classifiers.language_models.stored_responses import (
    read_stored_payloads,
    stored_payload,
    usage_columns,
)
from vlm_audio_pipeline.contracts.chunks import cut_chunks
from vlm_audio_pipeline.contracts.model_ids import refuse_mixed_models
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.storage.asked_again import current_keys
from vlm_audio_pipeline.storage.leases import Leases
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.schemas import TABLES


@dataclass(frozen=True)
class Question:
    """A request and its row in the table `responses`.

    Attributes:
        row_columns: columns of the row: clip, control, trial, draw, class_order, wording, repeat.
        request: the request.
        classes: the class of each of `request.labels`, or another key, in that order.
    """

    row_columns: Mapping[str, Any]
    request: Request
    classes: tuple[str, ...]


@dataclass
class AskResult:
    """Responses to questions.

    Attributes:
        table: `responses` rows; a question that was not sent has no row.
        errors: error message -> number of requests that ended with it.
        stop_reason: why sending stopped early, or None.
        requests: number of requests sent; all other responses were already stored, or another process requested them.
    """

    table: pa.Table
    errors: dict[str, int] = field(default_factory=dict)
    stop_reason: str | None = None
    requests: int = 0

    @property
    def unfinished(self) -> list[str]:
        """Messages about requests that another run must send again."""
        messages = [f"{count} requests ended in an error ({error})" for error, count in self.errors.items()]
        return [*messages, *([self.stop_reason] if self.stop_reason else [])]


def ask_all(
    questions: Sequence[Question],
    model_identity: Mapping[str, Any],
    result_store: ResultStore,
    open_backend: Callable[[], Backend],
    *,
    model: str,
    revision: str | None,
    accepted_models: Collection[str] = (),
    other_folds: Sequence[pa.Table] = (),
    progress: Progress = no_progress,
) -> AskResult:
    """Return the response to every question, sending only requests whose responses are not stored.

    Each response is stored before it counts as done, so that a kill loses only requests in flight. Equal requests (such as
    blank images of equal size) are sent once. Errors are not stored: a later run sends the request again. A response that was
    asked for again (`storage.asked_again`) counts as not stored until its successor is.

    Args:
        questions: in an order in which neighbouring requests share long prefixes.
        model_identity: values that identify the model; see `response_key`.
        result_store: where responses are stored.
        open_backend: returns the backend; called only if there is a request to send.
        model: id of the model in the study.
        revision: revision of the weights; None if the endpoint reports it.
        accepted_models: ids that may answer beside each other; see `contracts.model_ids`.
        other_folds: `responses` of the other folds, which must be of the same model.
        progress: called after each reply.

    Raises:
        NotAvailable: if the model cannot be used at all, or if the responses are of two models: before any request is sent if
            the stored ones already are, and after the first reply of another model.
    """
    keys = [
        {scoring: response_key(q.request, scoring, model_identity) for scoring in sorted(q.request.scorings)}
        for q in questions
    ]
    latest = current_keys(result_store, list({key for by_scoring in keys for key in by_scoring.values()}))
    keys = [{scoring: latest[key] for scoring, key in by_scoring.items()} for by_scoring in keys]
    all_keys = list(dict.fromkeys(key for by_scoring in keys for key in by_scoring.values()))
    cut_off_keys = {
        by_scoring["generation"]: truncated_key(by_scoring["generation"], q.request.sampling.max_tokens)
        for q, by_scoring in zip(questions, keys, strict=True)
        if "generation" in by_scoring
    }
    latest = current_keys(result_store, list(set(cut_off_keys.values())))
    cut_off_keys = {key: latest[cut_off_key] for key, cut_off_key in cut_off_keys.items()}
    payloads = read_stored_payloads(result_store, all_keys, cut_off_keys)
    revisions = {row["revision"] for table in other_folds for row in table.select(["revision"]).to_pylist()}
    if revision is None:
        revisions |= {json.loads(payload)["revision"] for payload in payloads.values()}
        refuse_mixed_models(revisions, accepted_models)
    failed_replies: dict[str, Reply] = {}
    backend = None if payloads.keys() >= set(all_keys) else open_backend()
    todo = _missing_requests(questions, keys, payloads, getattr(backend, "chunk_size", 1)) if backend else []
    total, done = len(all_keys), len(payloads)
    progress(done, total, "response")

    def on_reply(i: int, reply: Reply) -> None:
        nonlocal done
        missing = {k: key for k, key in todo[i][1].items() if reply.scorings is None or k in reply.scorings}
        if reply.outcome == "error":
            failed_replies.update(dict.fromkeys(missing.values(), reply))
        else:
            results = {key: stored_payload(reply, scoring) for scoring, key in missing.items()}
            is_cut_off = reply.outcome == "truncated"
            result_store.put(
                "response", [(cut_off_keys.get(key, key) if is_cut_off else key, data) for key, data in results.items()]
            )
            payloads.update(results)
            if revision is None and reply.model not in revisions:
                revisions.add(reply.model)
                refuse_mixed_models(revisions, accepted_models)
        done += len(missing)
        progress(done, total, "response")

    def take_stored(i: int) -> bool:
        nonlocal done
        keys_of_request = list(todo[i][1].values())
        stored = read_stored_payloads(result_store, keys_of_request, cut_off_keys)
        if len(stored) < len(keys_of_request):
            return False
        payloads.update(stored)
        answered_elsewhere.add(i)
        done += len(stored)
        progress(done, total, "response")
        return True

    stop_reason = None
    answered_elsewhere: set[int] = set()  # requests that another process sent
    if backend is not None:
        stop_reason = ask_with_leases(
            backend,
            [request for request, _ in todo],
            [missing for _, missing in todo],
            Leases(result_store.path),
            take_stored,
            on_reply,
            on_wait=lambda: progress(done, total, "response (another run requests the same)"),
        )
    rows = [
        {
            **question.row_columns,
            "scoring": scoring,
            "result_key": key,
            "model": model,
            **(
                _row(json.loads(payloads[key]), question.classes)
                if key in payloads
                else {
                    "outcome": "error",
                    "error": failed_replies[key].error,
                    **usage_columns(failed_replies[key], scoring),
                }
            ),
        }
        for question, by_scoring in zip(questions, keys, strict=True)
        for scoring, key in by_scoring.items()
        if key in payloads or key in failed_replies
    ]
    charged_keys: set[str] = set()
    for row in rows:
        if row["outcome"] == "truncated":
            row["result_key"] = cut_off_keys[row["result_key"]]
        row["revision"] = revision if revision is not None else row.get("revision")
        if row["usd"] is not None and row["result_key"] in charged_keys:
            row["usd"] = 0.0  # several rows can share a reply or an error, which is charged once
        charged_keys.add(row["result_key"])
    errors: dict[str, int] = {}
    for reply in failed_replies.values():
        errors[str(reply.error)] = errors.get(str(reply.error), 0) + 1
    return AskResult(_table(rows), errors, stop_reason, len(todo) - len(answered_elsewhere))


def _missing_requests(
    questions: Sequence[Question], keys: Sequence[Mapping[Scoring, str]], stored: Collection[str], chunk_size: int
) -> list[tuple[Request, dict[Scoring, str]]]:
    """Return the requests to send, each with the result keys of its missing scorings.

    Equal requests are sent once. With chunks, every request of a chunk with a missing response is sent again: what is computed
    together decides the last digits.
    """
    requests: list[tuple[Request, dict[Scoring, str]]] = []
    scheduled_keys: set[str] = set()
    for question, by_scoring in zip(questions, keys, strict=True):
        new = {scoring: key for scoring, key in by_scoring.items() if key not in scheduled_keys}
        if chunk_size == 1:
            new = {scoring: key for scoring, key in new.items() if key not in stored}
        if new:
            scheduled_keys.update(new.values())
            requests.append((question.request.with_scorings(*new), new))
    chunks = [
        [(request, {scoring: key for scoring, key in new.items() if key not in stored}) for request, new in chunk]
        for chunk in cut_chunks(requests, chunk_size)
    ]
    return [entry for chunk in chunks if any(missing for _, missing in chunk) for entry in chunk]


def _row(response: dict[str, Any], classes: tuple[str, ...]) -> dict[str, Any]:
    row = dict(response, error=None)
    for name in ("log_probabilities", "label_tokens", "first_token_probabilities", "first_token_reasons"):
        if row.get(name) is not None:
            row[name] = list(zip(classes, row[name], strict=True))
    row["answered_at"] = datetime.fromisoformat(row["answered_at"])
    return row


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    schema = TABLES["responses"].arrow
    names = [n for n in schema.names if n not in ("study", "classifier", "fold")]
    return pa.table({n: pa.array([row.get(n) for row in rows], schema.field(n).type) for n in names})
