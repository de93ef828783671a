"""Paths from users: home folders, and names that cannot be stored as text."""

import os
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadPath


def expand_home(path: str | os.PathLike[str]) -> Path:
    """Replace `~` or `~user` by the home folder.

    Raises:
        BadPath: if that user does not exist, or the path contains a NUL byte.

    >>> expand_home("data").as_posix()
    'data'
    """
    if "\0" in os.fspath(path):
        raise BadPath(f"the path {os.fspath(path)!r} contains a NUL byte, which no path can contain; remove it")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise BadPath(
            f"the path '{os.fspath(path)}' starts with the home folder of a user who does not exist; write the full path"
        ) from error


def show_path(path: str | os.PathLike[str]) -> str:
    r"""Return a path for messages and tables; bytes that are not UTF-8 are shown as escapes.

    >>> show_path(os.fsdecode(b"k\xfcche.wav"))
    'k\\xfcche.wav'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def require_text_path(path: str | os.PathLike[str]) -> None:
    """Refuse a path that is not UTF-8: databases and tables cannot store it.

    Raises:
        BadPath: with the path, escaped.
    """
    if show_path(path) != os.fspath(path):
        raise BadPath(f"the path '{show_path(path)}' contains bytes that are not UTF-8; rename the folder or file")
