"""Paths with `~` or `~user` for a home folder."""

import os
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadPath


def expand_home(path: str | os.PathLike[str]) -> Path:
    """Replace `~` or `~user` by the home folder.

    Raises:
        BadPath: if that user does not exist.

    >>> expand_home("data").as_posix()
    'data'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise BadPath(
            f"the path '{os.fspath(path)}' starts with the home folder of a user who does not exist; write the full path"
        ) from error
