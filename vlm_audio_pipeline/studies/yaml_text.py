"""Parse the text of a study file and find the line of each key."""

import re
from pathlib import Path
from typing import Any

import yaml

from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.studies.study import KEYS

KeyPath = tuple[str, ...]
"""The keys that lead to a value, from the outermost: ("classifiers", "probe", "encoder")."""


MAX_BYTES = 256 * 1024
"""Size of the largest study file; the studies of this package have less than 10 kB."""
MAX_DEPTH = 64
"""Deepest nesting of values, with aliases replaced by their values."""
MAX_VALUES = 100_000
"""Largest number of keys and values, with aliases and merge keys replaced by their values."""
_TAGS = "tag:yaml.org,2002:"
"""What `!!` stands for."""
_LONG_NUMBER = re.compile(r"[-+.0-9_:eE]{400,}")
"""Digits that take long to convert: YAML also reads 1:30:00 as a number."""


def read_text(path: Path) -> str:
    """Read the text of a study file.

    Raises:
        BadStudy: for a file that is too large, or not UTF-8 text.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise BadStudy(
            f"{path}: a study file must have at most {MAX_BYTES // 1024} kB, got more; split it into several studies"
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadStudy(
            f"{path}: this is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error


def read_yaml(text: str, path: Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """Parse a study file with a safe loader.

    Args:
        text: content of the file.
        path: the file, for error messages.

    Returns:
        The values, and the line number of each key; the first line is 1.

    Raises:
        BadStudy: for text that is not YAML or not a mapping, for duplicate keys, for aliases to an enclosing value, and for text
            that is too long, too deep or has too many values.
    """
    try:
        loader = _Loader(text, path)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise BadStudy(
                f"{path}: must be a mapping with the keys {', '.join(KEYS)}; `vlm-audio init` writes a first study"
            )
        _check_size(root, path)
        lines = _lines_of_keys(root, path)
        return loader.construct_document(root), lines
    except yaml.MarkedYAMLError as error:
        raise BadStudy(_explain_yaml_error(error, path)) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: YAML parses 2026-13-45 as a date
        raise BadStudy(f"{path}: this is not valid YAML: {' '.join(str(error).split())}; correct it") from error


_YAML_ADVICE = {
    "\\t": "indent with spaces, not with tabs",
    "mapping values": "check the colons and the indentation of this line and the one before",
    "expected ',' or": "close the bracket, or put a comma between the values",
    "could not find expected ':'": "write `key: value`, with a colon and a space",
    "constructor for the tag": "remove the tag that begins with `!`",
}
"""Part of the parser's message -> what to do."""


def _explain_yaml_error(error: yaml.MarkedYAMLError, path: Path) -> str:
    """Return file, line and column of an error of the parser, its message, and what to do."""
    mark = error.problem_mark or error.context_mark
    place = f"{path}:{mark.line + 1}: " if mark else f"{path}: "
    column = f" at column {mark.column + 1}" if mark else ""
    problem = " ".join(filter(None, (error.context, error.problem)))
    advice = next(
        (text for part, text in _YAML_ADVICE.items() if part in problem), "check colons, brackets and indentation"
    )
    return f"{place}this is not valid YAML: {problem}{column}; {advice}"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Read the text once, and check depth and scalars on the way: composing calls itself for each level."""

    def __init__(self, text: str, path: Path):
        if len(text) > MAX_BYTES:
            raise BadStudy(
                f"{path}: a study file must have at most {MAX_BYTES // 1024} kB, got more; split it into several studies"
            )
        super().__init__(text)
        self._path = path
        self._depth = 0

    def get_event(self) -> yaml.Event | None:
        event: yaml.Event | None = super().get_event()
        if isinstance(event, yaml.CollectionStartEvent):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise _too_deep(self._path, event.start_mark.line + 1)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._depth -= 1
        elif isinstance(event, yaml.ScalarEvent):
            _check_scalar(event, f"{self._path}:{event.start_mark.line + 1}")
        return event


def _check_scalar(event: yaml.ScalarEvent, place: str) -> None:
    """Refuse values that the loader, or a later step, fails to convert: long numbers, tags as in `!!int x`, half characters."""
    if _LONG_NUMBER.fullmatch(event.value):
        raise BadStudy(f"{place}: a number must have less than 400 digits, got {len(event.value)}; shorten it")
    if event.tag and event.tag.startswith(_TAGS) and event.tag != f"{_TAGS}str":
        raise BadStudy(f"{place}: a value must have no tag, got !!{event.tag.removeprefix(_TAGS)}; remove the tag")
    if any("\ud800" <= character <= "\udfff" for character in event.value):
        raise BadStudy(
            f"{place}: {event.value[:50]!a} contains half of a surrogate pair, which is no character; correct the text"
        )


def _too_deep(path: Path, line: int) -> BadStudy:
    return BadStudy(f"{path}:{line}: values must be nested at most {MAX_DEPTH} deep, got more; simplify the study")


def _check_size(root: yaml.Node, path: Path) -> None:
    """Count the values with aliases replaced. Each node is visited once, so that a bomb of aliases takes no time."""
    sizes: dict[int, tuple[int, int]] = {}

    def measure(node: yaml.Node, level: int) -> tuple[int, int]:
        """Return the number of values and the depth of a node."""
        line = node.start_mark.line + 1
        if level > MAX_DEPTH:
            raise _too_deep(path, line)
        if id(node) in sizes:
            size, depth = sizes[id(node)]
            if level + depth - 1 > MAX_DEPTH:
                raise _too_deep(path, line)
            return size, depth
        sizes[id(node)] = 1, 1  # an alias to an enclosing value; `_lines_of_keys` refuses it
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        child_sizes = [measure(child, level + 1) for child in children]
        sizes[id(node)] = (
            1 + sum(size for size, _ in child_sizes),
            1 + max((depth for _, depth in child_sizes), default=0),
        )
        if sizes[id(node)][0] > MAX_VALUES:
            raise BadStudy(
                f"{path}:{line}: a study must have at most {MAX_VALUES:,} values, with aliases and merge keys replaced, got more; "
                "remove aliases"
            )
        return sizes[id(node)]

    measure(root, 1)


def _lines_of_keys(root: yaml.MappingNode, path: Path) -> dict[KeyPath, int]:
    """Return the line of each key; refuse duplicate keys and aliases to an enclosing value."""
    lines: dict[KeyPath, int] = {}

    def visit(node: yaml.Node, key_path: KeyPath, enclosing: tuple[yaml.Node, ...] = ()) -> None:
        if node in enclosing:
            raise BadStudy(
                f"{path}:{lines.get(key_path, 1)}: {'.'.join(key_path)} must not contain itself; replace the alias by its values"
            )
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                child_path = (*key_path, str(key.value))
                line = key.start_mark.line + 1
                if child_path in lines:
                    raise BadStudy(
                        f"{path}:{line}: {'.'.join(child_path)} occurs twice, first in line {lines[child_path]}; remove one of them"
                    )
                lines[child_path] = line
                visit(value, child_path, (*enclosing, node))
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                visit(value, (*key_path, str(i)), (*enclosing, node))

    visit(root, ())
    return lines
