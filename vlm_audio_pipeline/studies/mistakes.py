"""Collect the mistakes of a study file, so that one error reports all of them with file, line and key."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vlm_audio_pipeline.contracts.errors import BadStudy, suggestion
from vlm_audio_pipeline.studies.yaml_text import KeyPath

Model = TypeVar("Model", bound=BaseModel)


class Mistakes:
    """The mistakes of one file.

    Args:
        path: the study file.
        lines: line of each key.
    """

    def __init__(self, path: Path, lines: Mapping[KeyPath, int]):
        self.path = path
        self._lines = lines
        self._messages: list[tuple[int, str]] = []

    def add(self, at: KeyPath, message: str) -> None:
        """Add a mistake; its line is that of the key, or of the innermost enclosing key that is in the file."""
        key = at
        while key and key not in self._lines:
            key = key[:-1]
        line = self._lines.get(key, 1)
        self._messages.append((line, f"{self.path}:{line}: {'.'.join(at) or 'the study'}: {message}"))

    def raise_all(self) -> None:
        """Raise BadStudy if there are mistakes, sorted by line."""
        if self._messages:
            raise BadStudy("\n".join(m for _, m in sorted(self._messages, key=lambda pair: pair[0])))

    def validate(self, model: type[Model], values: Any, at: KeyPath) -> Model | None:
        """Return a validated model; None if the values are None, or wrong, which is added to the mistakes."""
        if values is None:
            return None
        try:
            return model.model_validate(values, context={"folder": self.path.parent})
        except ValidationError as error:
            for mistake in error.errors():
                self.add((*at, *(str(p) for p in mistake["loc"])), _explanation(dict(mistake), model))
            return None


def _explanation(mistake: dict[str, Any], model: type[BaseModel]) -> str:
    got = mistake.get("input")
    key = str(mistake["loc"][-1]) if mistake["loc"] else ""
    match mistake["type"]:
        case "extra_forbidden":
            options = model.model_fields if len(mistake["loc"]) == 1 else ()
            return f"unknown key; {suggestion(key, options)}" if options else "unknown key; remove it"
        case "missing":
            return "must be given"
        case "literal_error":
            expected = str(mistake["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
            return f"must be one of them, got {got!r}; {suggestion(str(got), expected)}"
        case "value_error":
            return str(mistake["ctx"]["error"])
        case "tuple_type":
            return f"must be a list, got {got!r}; write [{got}]"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"must be keys and values, such as {{key: value}}, got {got!r}"
        case "too_short":
            return f"must name at least one, got {got!r}"
    return f"{re.sub('^[A-Z][a-z]+ should ', 'must ', mistake['msg'])}, got {got!r}"
