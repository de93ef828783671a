"""Collect the mistakes of a study file, so that one error reports all of them with file, line and key."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vlm_audio_pipeline.contracts.errors import BadStudy, suggestion
from vlm_audio_pipeline.studies.yaml_text import KeyPath

Model = TypeVar("Model", bound=BaseModel)
MAX_MISTAKES = 200
"""Number of mistakes after which no more are searched."""
MAX_MESSAGE = 2000
"""Length of the longest message, characters; the values in it come from the file."""


class Mistakes:
    """The mistakes of one file, or of values that are in no file.

    Args:
        path: the study file; None for values in no file: messages then have no file and line, and relative paths start
            from the working directory.
        lines: line of each key.
    """

    def __init__(self, path: Path | None, lines: Mapping[KeyPath, int] = MappingProxyType({})):
        self.path = path
        self._lines = lines
        self._messages: list[tuple[int, str]] = []

    def add(self, key_path: KeyPath, message: str) -> None:
        """Add a mistake; its line is that of the key, or of the innermost enclosing key that is in the file."""
        key = key_path
        while key and key not in self._lines:
            key = key[:-1]
        line = self._lines.get(key, 1)
        place = "" if self.path is None else f"{self.path}:{line}: "
        if len(message) > MAX_MESSAGE:
            message = f"{message[:MAX_MESSAGE]}..."
        mistake = (line, f"{place}{'.'.join(key_path) or 'the study'}: {message}")
        if mistake in self._messages:  # of another entry that the same lines of the file stand for
            return
        self._messages.append(mistake)
        if len(self._messages) >= MAX_MISTAKES:
            self._messages.append((sys.maxsize, "and possibly more mistakes; correct these first"))
            self.raise_all()

    def raise_all(self) -> None:
        """Raise BadStudy if there are mistakes, sorted by line."""
        if self._messages:
            raise BadStudy("\n".join(m for _, m in sorted(self._messages, key=lambda pair: pair[0])))

    def validate(self, model: type[Model], values: Any, key_path: KeyPath) -> Model | None:
        """Return a validated model; None if the values are None, or have mistakes, which are added."""
        if values is None:
            return None
        try:
            folder = Path.cwd() if self.path is None else self.path.parent
            return model.model_validate(values, context={"folder": folder})
        except ValidationError as error:
            for mistake in _join_alternatives([dict(mistake) for mistake in error.errors()]):
                self.add((*key_path, *(str(p) for p in mistake["loc"])), _explanation(mistake, model))
            return None


def _join_alternatives(mistakes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the mistakes of a value that matches none of several lists of options, which pydantic reports one by one."""
    joined: dict[tuple[Any, ...], dict[str, Any]] = {}
    others = []
    for mistake in mistakes:
        mistake["loc"] = tuple(part for part in mistake["loc"] if not str(part).startswith("literal["))
        if mistake["type"] != "literal_error":
            others.append(mistake)
        elif (first := joined.setdefault(mistake["loc"], mistake)) is not mistake:
            first["ctx"] = {"expected": f"{first['ctx']['expected']}, {mistake['ctx']['expected']}"}
    return [*others, *joined.values()]


def _explanation(mistake: dict[str, Any], model: type[BaseModel]) -> str:
    value = mistake.get("input")
    key = str(mistake["loc"][-1]) if mistake["loc"] else ""
    match mistake["type"]:
        case "extra_forbidden":
            options = model.model_fields if len(mistake["loc"]) == 1 else ()
            return f"unknown key; {suggestion(key, options)}" if options else "unknown key; remove it"
        case "missing":
            return "is required"
        case "literal_error":
            expected = str(mistake["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
            return f"must be one of the options, got {value!r}; {suggestion(str(value), expected)}"
        case "value_error":
            return str(mistake["ctx"]["error"])
        case "tuple_type":
            return f"must be a list, got {value!r}; write [{value}]"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"must be keys and values, such as {{{next(iter(model.model_fields), 'key')}: ...}}, got {value!r}"
        case "too_short":
            return f"must name at least one, got {value!r}"
    return f"{re.sub('^[A-Z][a-z]+ should ', 'must ', mistake['msg'])}, got {value!r}"
