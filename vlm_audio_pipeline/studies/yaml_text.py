"""Parse the text of a study file and find the line of each key."""

from pathlib import Path
from typing import Any

import yaml

from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.studies.study import KEYS

KeyPath = tuple[str, ...]
"""The keys that lead to a value, from the outermost: ("classifiers", "probe", "encoder")."""


def read_yaml(text: str, path: Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """Parse a study file with a safe loader.

    Args:
        text: content of the file.
        path: the file, for error messages.

    Returns:
        The values, and the line of each key, from 1.

    Raises:
        BadStudy: for text that is not YAML or not a mapping, for duplicate keys and for aliases to an enclosing value.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2026-13-45 is read as a date
        raise BadStudy(f"{path}: must be YAML, got {' '.join(str(error).split())}") from error
    if not isinstance(root, yaml.MappingNode):
        raise BadStudy(f"{path}: must be a mapping with the keys {', '.join(KEYS)}")
    lines: dict[KeyPath, int] = {}

    def visit(node: yaml.Node, at: KeyPath, enclosing: tuple[yaml.Node, ...] = ()) -> None:
        if node in enclosing:
            raise BadStudy(
                f"{path}:{lines.get(at, 1)}: {'.'.join(at)} must not contain itself; replace the alias by its values"
            )
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*at, str(key.value))
                line = key.start_mark.line + 1
                if inner in lines:
                    raise BadStudy(
                        f"{path}:{line}: {'.'.join(inner)} must be given once; it is also in line {lines[inner]}"
                    )
                lines[inner] = line
                visit(value, inner, (*enclosing, node))
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                visit(value, (*at, str(i)), (*enclosing, node))

    visit(root, ())
    return values, lines
