"""Paths as people write them: `~` is a home folder, and one that nobody has is an error for a person."""

import os
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadPath


def expanded(given: str | os.PathLike[str]) -> Path:
    """Put the home folder in place of `~` or `~user`.

    Raises:
        BadPath: where there is no such user.

    >>> expanded("data").as_posix()
    'data'
    """
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise BadPath(
            f"a path with ~ must begin with the home of somebody on this machine, got '{os.fspath(given)}'; write it out"
        ) from error
