"""Parse a response that lists classes. It is strict: a text with anything that is not a class has no answer.

A list is read only as a whole, because a class name inside a sentence may be denied or only mentioned: "no dog, but rain".

A class name may itself contain a separator: "waves and surf", "male speech, man speaking". The reading with the fewest names counts: in a
study with the classes crackle, wheeze, and crackle and wheeze, the text "crackle and wheeze" is the class of this name. If two
readings have the fewest names, the text is unparseable.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

EMPTY_LIST = "none"
"""The word of a response that lists no class."""

_MAX_CHARACTERS = 10_000
_SEPARATORS = re.compile(r"\s*[,;\n]\s*(?:and\s+)?|\s+and\s+", re.IGNORECASE)
_COMMA = re.compile(r"\s*,\s*")
_AROUND = re.compile(r"^[\s\-*•\"'`.]+|[\s\"'`.]+$")
_FENCE = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.DOTALL)


@dataclass(frozen=True)
class ParsedList:
    """The classes that a response lists.

    Attributes:
        outcome: answered or unparseable.
        labels: the classes; empty for `none` and for an unparseable response.
    """

    outcome: Literal["answered", "unparseable"]
    labels: frozenset[str] = frozenset()


def parse_list(text: str | None, names: Mapping[str, str]) -> ParsedList:
    """Read the classes of a response: names with commas, semicolons, line breaks or `and` between them, a JSON list, or `none`.

    Case, quotation marks, bullets and a full stop at the end do not matter. A class may be listed twice. Any other word makes the
    response unparseable, also `none` beside a class. A name ends at a line break, and each item of a JSON list is one name.

    Args:
        text: the response.
        names: class -> its name in the prompt; the class itself is accepted too, also with spaces instead of `_`.

    >>> sorted(parse_list("Dog, rain and sea_waves.", {"dog": "dog", "rain": "rain", "sea_waves": "sea_waves"}).labels)
    ['dog', 'rain', 'sea_waves']
    >>> parse_list("I hear a dog", {"dog": "dog"}).outcome
    'unparseable'
    """
    if text is None or len(text) > _MAX_CHARACTERS:
        return ParsedList("unparseable")
    accepted = {
        _normalise(variant): label
        for label, name in names.items()
        for variant in (label, name, label.replace("_", " "))
    }
    text = _FENCE.sub(r"\1", text.strip())
    labels = _json_classes(text, accepted) if text.startswith(("[", "{")) else _listed_classes(text, accepted)
    return ParsedList("unparseable") if labels is None else ParsedList("answered", labels)


def _json_classes(text: str, accepted: Mapping[str, str]) -> frozenset[str] | None:
    """Return the classes of a JSON list of names; None for another text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    names = [_normalise(item) for item in value]
    if names == [EMPTY_LIST] and EMPTY_LIST not in accepted:
        return frozenset()
    return frozenset(accepted[name] for name in names) if all(name in accepted for name in names) else None


@dataclass(frozen=True)
class _Reading:
    """A way to divide a text into names: their number, and the classes; None if another way with this number has other classes."""

    names: int
    labels: frozenset[str] | None


def _listed_classes(text: str, accepted: Mapping[str, str]) -> frozenset[str] | None:
    """Return the classes of a text of names with separators between them; None without a single reading with the fewest names."""
    spans = _spans(text)
    if not spans:
        return None
    if EMPTY_LIST not in accepted and [_normalise(text[start:end]) for start, end in spans] == [EMPTY_LIST]:
        return frozenset()
    max_spans = max(len(_spans(name)) for name in accepted)
    # readings[i] is the reading of the text from span i on; after the last span it is empty.
    readings: list[_Reading | None] = [None] * len(spans) + [_Reading(0, frozenset())]
    for first in reversed(range(len(spans))):
        for last in range(first, min(first + max_spans, len(spans))):
            name, reading_after = text[spans[first][0] : spans[last][1]], readings[last + 1]
            label = None if "\n" in name else accepted.get(_normalise(name))
            if label is None or reading_after is None:
                continue
            best = readings[first]
            reading = _Reading(
                reading_after.names + 1, None if reading_after.labels is None else reading_after.labels | {label}
            )
            if best is None or reading.names < best.names:
                readings[first] = reading
            elif reading.names == best.names and reading.labels != best.labels:
                readings[first] = _Reading(best.names, None)
    return readings[0].labels if readings[0] else None


def _spans(text: str) -> list[tuple[int, int]]:
    """Return the start and the end of every part of a text between separators; parts without a word are left out."""
    separators = [match.span() for match in _SEPARATORS.finditer(text)]
    starts, ends = [0, *(end for _, end in separators)], [*(start for start, _ in separators), len(text)]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if text[start:end].strip()]


def _normalise(text: str) -> str:
    return " ".join(_COMMA.sub(", ", _AROUND.sub("", text).casefold()).split())
