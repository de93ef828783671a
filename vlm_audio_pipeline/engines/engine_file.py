"""Read `engine.yaml` of a data folder. A single error lists every mistake with file, line and key."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion

FILE = "engine.yaml"
_FILES = ("shared", "shipped")
_FORMS = ("local", "ray", "ray://auto", "ray://HOST:PORT")
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(?P<port>[0-9]{1,5})")
_MAX_PORT = 65535


def engine_problem(value: Any) -> str | None:
    """Return what is wrong with the name of an engine, without the place; None for `local`, `ray`, `ray://auto` and `ray://HOST:PORT`."""
    if not isinstance(value, str) or not value:
        return f"must be one of {', '.join(_FORMS)}, got {'nothing' if value in (None, '') else repr(value)}"
    kind, separator, address = value.partition("://")
    if kind == "ray":
        if not separator or address == "auto":
            return None
        match = _ADDRESS.fullmatch(address)
        if match is None:
            return (
                f"must have the host and the port of the cluster's head, such as ray://10.0.0.1:6379, got '{value}'; write ray:// with "
                "HOST:PORT, or only ray for the cluster of this machine"
            )
        if not 1 <= int(match["port"]) <= _MAX_PORT:
            return f"must have a port from 1 to {_MAX_PORT}, got '{value}'; `ray status` on the head shows its address"
        return None
    if kind == "local":
        return f"must be local without an address, got '{value}'; write local" if separator else None
    return f"must be one of the engines, got '{value}'; {suggestion(value, _FORMS)}"


def _workers_problem(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return None
    return f"must be a whole number of 1 or more, got {value!r}; leave the key out for every CPU and GPU of the cluster"


def _patience_problem(value: Any) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return None
    return f"must be a number of seconds greater than 0, got {value!r}; leave the key out for 300"


def _files_problem(value: Any) -> str | None:
    if isinstance(value, str) and value in _FILES:
        return None
    return f"must be shared or shipped, got {value!r}; {suggestion(str(value), _FILES)}"


_PROBLEMS: dict[str, Callable[[Any], str | None]] = {
    "engine": engine_problem,
    "workers": _workers_problem,
    "patience_s": _patience_problem,
    "files": _files_problem,
}
"""Key of the file -> function from its value to what is wrong with it, or None."""


def read_engine_file(path: Path) -> dict[str, Any]:
    """Return the values of a file with the keys `engine`, `workers`, `patience_s` and `files`, each of which may be absent.

    Raises:
        VlmAudioError: if the file cannot be read, or has mistakes; lists all of them.
    """
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    lines: dict[str, int] = {}
    for key, value, line in _read_pairs(path):
        if not isinstance(key, str) or key not in _PROBLEMS:
            problem: str | None = f"unknown key; {suggestion(str(key), _PROBLEMS)}"
        elif key in lines:
            problem = f"occurs twice, first in line {lines[key]}; remove one of them"
        else:
            problem = _PROBLEMS[key](value)
            lines[key], values[key] = line, value
        if problem:
            mistakes.append(f"{path}:{line}: {key}: {problem}")
    if mistakes:
        raise VlmAudioError("\n".join(mistakes))
    return values


def _read_pairs(path: Path) -> list[tuple[Any, Any, int]]:
    """Return key, value and line of each key."""
    try:
        loader = yaml.SafeLoader(path.read_bytes().decode("utf-8"))
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise VlmAudioError(
                f"{path}: must be a mapping such as `engine: ray`, with the keys {', '.join(_PROBLEMS)}"
            )
        construct = loader.construct_object
        return [(construct(k, deep=True), construct(v, deep=True), k.start_mark.line + 1) for k, v in root.value]
    except OSError as error:
        raise VlmAudioError(
            f"{path} cannot be read: {error.strerror}; correct its permissions, or remove it"
        ) from error
    except UnicodeDecodeError as error:
        raise VlmAudioError(
            f"{path}: this is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise VlmAudioError(
            f"{path}{line}: this is not valid YAML: {problem}; write lines such as `engine: ray`"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: YAML parses 2026-13-45 as a date
        problem = " ".join(str(error).split())
        raise VlmAudioError(f"{path}: this is not valid YAML: {problem}; write lines such as `engine: ray`") from error
