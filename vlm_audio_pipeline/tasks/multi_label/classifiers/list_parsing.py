"""Parse a response that lists classes. It is strict: a text with anything that is not a class has no answer.

A list is read only as a whole, because a class name inside a sentence may be denied or only mentioned: "no dog, but rain".
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
    response unparseable, also `none` beside a class.

    Args:
        text: the response.
        names: class -> its name in the prompt; the class itself and the name with spaces are accepted too.

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
    items = _items(_FENCE.sub(r"\1", text.strip()))
    if items == []:
        return ParsedList("answered")
    if items is None:
        return ParsedList("unparseable")
    normalised = [_normalise(item) for item in items]
    if normalised == [EMPTY_LIST] and EMPTY_LIST not in accepted:
        return ParsedList("answered")
    labels = [accepted.get(item) for item in normalised]
    if None in labels:
        return ParsedList("unparseable")
    return ParsedList("answered", frozenset(label for label in labels if label is not None))


def _items(text: str) -> list[str] | None:
    """Return the items of a list; None for a text that is none."""
    if text.startswith(("[", "{")):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return value if is_list else None
    items = [item for item in _SEPARATORS.split(text) if item.strip()]
    return items or None


def _normalise(text: str) -> str:
    return " ".join(_AROUND.sub("", text).casefold().split())
