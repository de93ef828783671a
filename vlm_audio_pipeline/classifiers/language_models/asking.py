"""Send the requests whose responses are not stored yet, and store every response as soon as it arrives.

Belongs here: the key of a response, its stored form, and the table `responses`. Does not belong here: prompts (`prompts`),
backends, and how responses become predictions (`predicting`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.classifiers.language_models.messages import Backend, Reply, Request, Scoring
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.schemas import TABLES

RESPONSE_VERSION = 1
"""Increased when the same request is sent to a model in another form, or its response is measured in another way."""


@dataclass(frozen=True)
class Question:
    """A request and its row in the table `responses`.

    Attributes:
        row_columns: columns of the row: clip, control, trial, draw, class_order, wording, repeat.
        request: the request.
        classes: the class of each of `request.labels`, in that order.
    """

    row_columns: Mapping[str, Any]
    request: Request
    classes: tuple[str, ...]


@dataclass
class AskResult:
    """Responses to questions.

    Attributes:
        table: `responses` rows; a question that was not sent has none.
        errors: error message -> number of requests that ended with it.
        stopped: why sending stopped early, or None.
        requests: number of requests sent; the other responses were stored.
    """

    table: pa.Table
    errors: dict[str, int] = field(default_factory=dict)
    stopped: str | None = None
    requests: int = 0

    @property
    def unfinished(self) -> list[str]:
        """What another run has to send again, in words."""
        failed = [f"{count} requests ended in an error ({error})" for error, count in self.errors.items()]
        return [*failed, *([self.stopped] if self.stopped else [])]


def response_key(request: Request, scoring: Scoring, model_identity: Mapping[str, Any]) -> str:
    """Return the result key of a response: all that determines it, without names of study, classifier, clip or prompt.

    Args:
        request: the request.
        scoring: one of its scorings.
        model_identity: what identifies the model: id or revision, number format, parameters of the endpoint.
    """
    conversation = [message.content() for message in request.messages]
    sampling = request.sampling
    if scoring == "likelihood":
        options: list[Any] = list(request.labels)
    else:
        options = [sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.seed, *request.labels]
    # "answer" is part of every stored key: another word would make all stored, and paid, responses unusable.
    return fingerprint("answer", RESPONSE_VERSION, dict(model_identity), scoring, conversation, options, length=64)


def ask_all(
    questions: Sequence[Question],
    model_identity: Mapping[str, Any],
    result_store: ResultStore,
    open_backend: Callable[[], Backend],
    *,
    model: str,
    revision: str | None,
    progress: Progress = no_progress,
) -> AskResult:
    """Return the response to every question, sending only requests whose responses are not stored.

    Each response is stored before it counts as done, so that a kill loses only requests in flight. Equal requests (the blank
    images of clips of one length) are sent once. Errors are not stored: a later run sends the request again.

    Args:
        questions: in an order in which neighbouring requests share long beginnings.
        model_identity: what identifies the model; see `response_key`.
        result_store: where responses are stored.
        open_backend: returns the backend; called only when there is something to send.
        model: id of the model in the study.
        revision: of the weights; None where the endpoint reports it.
        progress: called after each reply.

    Raises:
        NotAvailable: when the model cannot be used at all.
    """
    keys = [
        {scoring: response_key(q.request, scoring, model_identity) for scoring in sorted(q.request.scorings)}
        for q in questions
    ]
    all_keys = list(dict.fromkeys(key for by_scoring in keys for key in by_scoring.values()))
    payloads: dict[str, bytes] = dict(result_store.get(all_keys))
    failed: dict[str, Reply] = {}
    todo: list[tuple[Request, dict[Scoring, str]]] = []
    scheduled: set[str] = set()
    for question, by_scoring in zip(questions, keys, strict=True):
        missing: dict[Scoring, str] = {
            scoring: key for scoring, key in by_scoring.items() if key not in payloads and key not in scheduled
        }
        if missing:
            scheduled.update(missing.values())
            todo.append((question.request.with_scorings(*missing), missing))
    total, done = len(all_keys), len(payloads)
    progress(done, total, "response")

    def on_reply(i: int, reply: Reply) -> None:
        nonlocal done
        _, missing = todo[i]
        if reply.outcome == "error":
            failed.update(dict.fromkeys(missing.values(), reply))
        else:
            results = [(key, _payload(reply, scoring)) for scoring, key in missing.items()]
            result_store.put("response", results)
            payloads.update(results)
        done += len(missing)
        progress(done, total, "response")

    stopped = None
    if todo:
        stopped = open_backend().ask([request for request, _ in todo], on_reply)
    rows = [
        {
            **question.row_columns,
            "scoring": scoring,
            "result_key": key,
            "model": model,
            **(
                {**_row(json.loads(payloads[key]), question.classes), "error": None}
                if key in payloads
                else {"outcome": "error", "error": failed[key].error, **_usage_columns(failed[key], scoring)}
            ),
        }
        for question, by_scoring in zip(questions, keys, strict=True)
        for scoring, key in by_scoring.items()
        if key in payloads or key in failed
    ]
    charged: set[str] = set()
    for row in rows:
        row["revision"] = revision if revision is not None else row.get("revision")
        if row["usd"] is not None and row["result_key"] in charged:
            row["usd"] = 0.0  # a reply, or an error, that serves several rows is charged once
        charged.add(row["result_key"])
    errors: dict[str, int] = {}
    for reply in failed.values():
        errors[str(reply.error)] = errors.get(str(reply.error), 0) + 1
    return AskResult(_table(rows), errors, stopped, len(todo))


def _payload(reply: Reply, scoring: Scoring) -> bytes:
    """Return the stored form of a response, JSON."""
    likelihood = scoring == "likelihood"
    response = {
        "outcome": reply.outcome,
        "text": None if likelihood else reply.text,
        "log_probabilities": reply.log_probabilities if likelihood else None,
        "label_tokens": reply.label_tokens if likelihood else None,
        "revision": reply.model,
        **_usage_columns(reply, scoring),
        "answered_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(response, allow_nan=False).encode()


def _usage_columns(reply: Reply, scoring: Scoring) -> dict[str, Any]:
    """Return tokens, time and price of a reply, also of an error: an endpoint may charge for it."""
    return {
        "input_tokens": reply.usage.input_tokens,
        "cached_tokens": reply.usage.cached_tokens,
        "output_tokens": None if scoring == "likelihood" else reply.usage.output_tokens,
        "seconds": reply.usage.seconds,
        "usd": reply.usage.usd,
    }


def _row(response: dict[str, Any], classes: tuple[str, ...]) -> dict[str, Any]:
    row = dict(response)
    for name in ("log_probabilities", "label_tokens"):
        if row[name] is not None:
            row[name] = list(zip(classes, row[name], strict=True))
    row["answered_at"] = datetime.fromisoformat(row["answered_at"])
    return row


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    schema = TABLES["responses"].arrow
    names = [n for n in schema.names if n not in ("study", "classifier", "fold")]
    return pa.table({n: pa.array([row.get(n) for row in rows], schema.field(n).type) for n in names})
