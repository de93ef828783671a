"""Rebuild the requests of stored responses, and check them against the result keys.

A result key hashes every word and image of a request. So a rebuilt request with the key of the stored response is the request
that was sent. Images are not read: their hashes are enough.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart, MessagePart, Request, Role
from vlm_audio_pipeline.classifiers.language_models.questions import NO_IMAGE, Lookup
from vlm_audio_pipeline.classifiers.language_models.response_keys import response_key, truncated_key
from vlm_audio_pipeline.storage.asked_again import successor_key

if TYPE_CHECKING:
    from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel

Row = dict[str, Any]
_MAX_SUCCESSORS = 20
"""How often a response may have been asked for again; a later successor counts as not exact."""


@dataclass(frozen=True)
class Example:
    """The image or audio of an example in a turn."""

    clip: str


@dataclass(frozen=True)
class Query:
    """The image or audio that is classified, in a turn."""


@dataclass(frozen=True)
class Turn:
    """One turn of a request: its role, and texts, examples and the query in their order."""

    role: Role
    parts: tuple[str | Example | Query, ...]


@dataclass(frozen=True)
class StoredRequest:
    """The request of a stored response.

    Attributes:
        row: the row of `responses`.
        turns: the turns; equal for all queries with the same examples.
        is_exact: whether its result key is that of the response. If not, the study or the program
            has changed since the request was sent.
    """

    row: Row
    turns: tuple[Turn, ...]
    is_exact: bool


def image_hashes(images: Mapping[str, Mapping[str, str]]) -> Lookup:
    """Return a lookup of images that have only their hashes.

    Args:
        images: control ("none" for the original images) -> clip id -> SHA-256 of the image.
    """

    def lookup(control: str, clip: str) -> ImagePart | None:
        return None if control == NO_IMAGE else ImagePart(b"", "image/png", images[control][clip])

    return lookup


def rebuild_requests(
    spec: "LanguageModel",
    classes: tuple[str, ...],
    responses: Sequence[Row],
    examples: Sequence[Row],
    lookup: Lookup,
) -> Iterator[StoredRequest]:
    """Yield the request of each response of a fold.

    Args:
        spec: the classifier, as it was run.
        classes: the classes of the dataset, in its order.
        responses: `responses` rows: clip, control, trial, scoring, result_key, revision, outcome.
        examples: `examples` rows of the fold, sorted by trial, query and position.
        lookup: returns the image or audio of a clip under a control, at least with its hash.

    Raises:
        VlmAudioError: if the requests of this study cannot be built any more.
    """
    queries = list(dict.fromkeys(row["clip"] for row in responses))
    questions = spec.question_builder(classes).build(queries, examples, lookup)
    clips: dict[tuple[int, str], list[str]] = {}
    for row in examples:
        clips.setdefault((row["trial"], row["query"]), []).append(row["clip"])
    by_row = {tuple(q.row_columns[name] for name in ("control", "trial", "clip")): q.request for q in questions}
    for row in responses:
        request = by_row.get((row["control"], row["trial"], row["clip"]))
        if request is None:
            continue
        query_examples = clips.get((row["trial"], ""), clips.get((row["trial"], row["clip"]), []))
        yield StoredRequest(row, tuple(_turns(request, query_examples)), is_request_of(spec, request, row))


def is_request_of(spec: "LanguageModel", request: Request, response: Row) -> bool:
    """Return whether a response has the result key of a request, also if it was cut off or asked for again.

    Args:
        spec: the classifier, as it was run.
        request: the request, built again.
        response: `responses` row: scoring, outcome, result_key, revision.
    """
    identities = spec.possible_identities(response["revision"])
    return any(_has_key(request, response, identity, spec.max_tokens) for identity in identities)


def _turns(request: Request, examples: Sequence[str]) -> Iterator[Turn]:
    """Yield the turns; the first images or audio are the examples, one after them is the query."""
    remaining = iter(examples)
    for message in request.messages:
        yield Turn(message.role, tuple(_turn_part(part, remaining) for part in message.parts))


def _turn_part(part: MessagePart, examples: Iterator[str]) -> str | Example | Query:
    if isinstance(part, str):
        return part
    clip = next(examples, None)
    return Query() if clip is None else Example(clip)


def _has_key(request: Request, row: Row, identity: Mapping[str, Any], max_tokens: int) -> bool:
    keys = _with_successors(response_key(request, row["scoring"], identity))
    if row["outcome"] != "truncated":
        return row["result_key"] in keys
    return any(row["result_key"] in _with_successors(truncated_key(key, max_tokens)) for key in keys)


def _with_successors(key: str) -> Iterator[str]:
    for _ in range(_MAX_SUCCESSORS):
        yield key
        key = successor_key(key)
