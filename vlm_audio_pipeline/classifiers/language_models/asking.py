"""Asking: questions whose answers are not stored yet go to a backend, and every answer is stored as soon as it is there.

What belongs here: what determines an answer (its key), what of it is kept, and the table `answers`. What does not: wording
(`prompts`), backends, and reading answers (`predicting`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.classifiers.language_models.messages import Backend, Reply, Request, Scoring
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.storage.result_store import RowStore
from vlm_audio_pipeline.storage.schemas import TABLES

ANSWER_VERSION = 1
"""Raised whenever the same request would be put differently to a model, or its answer measured differently."""


@dataclass(frozen=True)
class Question:
    """A request and where it belongs in the table.

    Attributes:
        place: fold-independent columns of `answers`: clip, control, trial, draw, class_order, wording, repeat.
        request: what is asked.
        classes: the classes that `request.labels` stand for, in that order.
    """

    place: Mapping[str, Any]
    request: Request
    classes: tuple[str, ...]


@dataclass
class Asked:
    """What came of asking.

    Attributes:
        table: `answers` rows; a question that nobody got to has none.
        errors: requests that ended in an error, by what was said of it.
        stopped: why asking ended early, or None.
        requests: sent to the backend; the others were stored.
    """

    table: pa.Table
    errors: dict[str, int] = field(default_factory=dict)
    stopped: str | None = None
    requests: int = 0

    @property
    def unfinished(self) -> list[str]:
        """Say what is to be tried again."""
        said = [f"{count} answers ended in an error ({what})" for what, count in self.errors.items()]
        return [*said, *([self.stopped] if self.stopped else [])]


def answer_key(request: Request, scoring: Scoring, asker: Mapping[str, Any]) -> str:
    """Give the key of an answer: all that determines it, and not the names of study, classifier, clip or prompt.

    Args:
        request: the question.
        scoring: which of its two answers.
        asker: what identifies the model: id or revision, number format, the endpoint's own parameters.
    """
    said = [message.content() for message in request.messages]
    how = request.sampling
    if scoring == "likelihood":
        own: list[Any] = list(request.labels)
    else:
        own = [how.temperature, how.top_p, how.max_tokens, how.seed, *request.labels]
    return fingerprint("answer", ANSWER_VERSION, dict(asker), scoring, said, own, length=64)


def ask_all(
    questions: Sequence[Question],
    asker: Mapping[str, Any],
    rows: RowStore,
    backend: Callable[[], Backend],
    *,
    model: str,
    revision: str | None,
    progress: Progress = silent,
) -> Asked:
    """Get the answer of every question, asking only for those that are not stored.

    Each answer is stored before it counts as asked, so that a kill loses only what is in flight; equal questions (the
    blank pictures of clips of one length) are asked once. Errors are not stored: a later run asks again.

    Args:
        questions: in an order in which neighbours share long beginnings.
        asker: what identifies the model; see `answer_key`.
        rows: the row store.
        backend: makes the backend, called only when there is something to ask.
        model: id as asked for.
        revision: of the weights; None where the endpoint says what it used.
        progress: told after each answer.

    Raises:
        NotAvailable: when the model cannot be used at all.
    """
    keys = [{scoring: answer_key(q.request, scoring, asker) for scoring in sorted(q.request.wants)} for q in questions]
    payloads: dict[str, bytes] = dict(rows.get(list(dict.fromkeys(k for some in keys for k in some.values()))))
    failed: dict[str, Reply] = {}
    todo: list[tuple[Request, dict[Scoring, str]]] = []
    taken: set[str] = set()
    for question, some in zip(questions, keys, strict=True):
        left: dict[Scoring, str] = {s: key for s, key in some.items() if key not in payloads and key not in taken}
        if left:
            taken.update(left.values())
            todo.append((question.request.wanting(*left), left))
    total, done = len({k for some in keys for k in some.values()}), len(payloads)
    progress(done, total, "answer")

    def answered(i: int, reply: Reply) -> None:
        nonlocal done
        _, wanted = todo[i]
        if reply.outcome == "error":
            failed.update(dict.fromkeys(wanted.values(), reply))
        else:
            made = [(key, _payload(reply, scoring)) for scoring, key in wanted.items()]
            rows.put("answer", made)
            payloads.update(made)
        done += len(wanted)
        progress(done, total, "answer")

    stopped = None
    if todo:
        stopped = backend().ask([request for request, _ in todo], answered)
    table = [
        {
            **question.place,
            "scoring": scoring,
            "row_key": key,
            "model": model,
            **(
                {**_row(json.loads(payloads[key]), question.classes), "error": None}
                if key in payloads
                else {"outcome": "error", "error": failed[key].error, **_outlay(failed[key], scoring)}
            ),
        }
        for question, some in zip(questions, keys, strict=True)
        for scoring, key in some.items()
        if key in payloads or key in failed
    ]
    paid: set[str] = set()
    for row in table:
        row["revision"] = revision if revision is not None else row.get("revision")
        if row["usd"] is not None and row["row_key"] in paid:
            row["usd"] = 0.0  # an answer, or an error, that serves several rows was paid for once
        paid.add(row["row_key"])
    errors: dict[str, int] = {}
    for reply in failed.values():
        errors[str(reply.error)] = errors.get(str(reply.error), 0) + 1
    return Asked(_table(table), errors, stopped, len(todo))


def _payload(reply: Reply, scoring: Scoring) -> bytes:
    """Write what is kept of a reply, as JSON."""
    likelihood = scoring == "likelihood"
    kept = {
        "outcome": reply.outcome,
        "text": None if likelihood else reply.text,
        "log_probabilities": reply.log_probabilities if likelihood else None,
        "label_tokens": reply.label_tokens if likelihood else None,
        "revision": reply.model,
        **_outlay(reply, scoring),
        "answered_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(kept, allow_nan=False).encode()


def _outlay(reply: Reply, scoring: Scoring) -> dict[str, Any]:
    """Give what a reply took, an error too: an endpoint may charge for what it did not say."""
    return {
        "input_tokens": reply.usage.input_tokens,
        "cached_tokens": reply.usage.cached_tokens,
        "output_tokens": None if scoring == "likelihood" else reply.usage.output_tokens,
        "seconds": reply.usage.seconds,
        "usd": reply.usage.usd,
    }


def _row(kept: dict[str, Any], classes: tuple[str, ...]) -> dict[str, Any]:
    row = dict(kept)
    for name in ("log_probabilities", "label_tokens"):
        if row[name] is not None:
            row[name] = list(zip(classes, row[name], strict=True))
    row["answered_at"] = datetime.fromisoformat(row["answered_at"])
    return row


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    schema = TABLES["answers"].arrow
    names = [n for n in schema.names if n not in ("study", "classifier", "fold")]
    return pa.table({n: pa.array([row.get(n) for row in rows], schema.field(n).type) for n in names})
