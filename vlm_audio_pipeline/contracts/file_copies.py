"""Where this process reads a recording: at its own path, or from a copy that was sent to it.

A context variable, not an argument, because a recording is opened deep inside the works, each of which has its path only.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_copies: ContextVar[Mapping[Path, Path] | None] = ContextVar("file_copies", default=None)


def readable_path(path: Path) -> Path:
    """Return the path of the copy of a file in this thread, or the path itself."""
    copies = _copies.get()
    return path if copies is None else copies.get(path, path)


@contextmanager
def use_copies(copies: Mapping[Path, Path]) -> Iterator[None]:
    """Read files from copies within the block, in this thread.

    Args:
        copies: path of the original -> path of its copy.
    """
    token = _copies.set(copies)
    try:
        yield
    finally:
        _copies.reset(token)
