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
        The values, and the line number of each key; the first line is 1.

    Raises:
        BadStudy: for text that is not YAML or not a mapping, for duplicate keys and for aliases to an enclosing value.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: YAML parses 2026-13-45 as a date
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
                key_path = (*at, str(key.value))
                line = key.start_mark.line + 1
                if key_path in lines:
                    raise BadStudy(
                        f"{path}:{line}: {'.'.join(key_path)} occurs twice, first in line {lines[key_path]}; remove one of them"
                    )
                lines[key_path] = line
                visit(value, key_path, (*enclosing, node))
        elif isinstance(node, yaml.SequenceNode):
            for i, value in enumerate(node.value):
                visit(value, (*at, str(i)), (*enclosing, node))

    visit(root, ())
    return values, lines
