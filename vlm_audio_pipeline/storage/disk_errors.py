"""What a disk does to a run, in words: full, read-only, gone.

What belongs here: telling such errors from defects of ours, whoever raised them: Python, Arrow, SQLite, DuckDB, Dagster. What
does not: errors that a room words by itself.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.layout import Layout

_NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_DATABASES = ("duckdb", "_duckdb", "sqlalchemy")
_WORDS = (
    "disk is full",
    "readonly database",
    "disk i/o error",
    "unable to open database",
    "no space left",
    "read-only",
)


@contextmanager
def disk_troubles(layout: Layout) -> Iterator[None]:
    """Let what the disk did be told as an error for a person.

    Raises:
        VlmAudioError: in place of an error that a full, read-only or failing disk caused.
    """
    try:
        yield
    except VlmAudioError:
        raise
    except Exception as error:
        cause = _of_the_disk(error)
        if cause is None:
            raise
        raise VlmAudioError(
            f"the data folder {layout.root} must have room and be writable, got: {cause}; mend that and run again: what "
            "was finished is kept"
        ) from error


def _of_the_disk(error: BaseException | None) -> BaseException | None:
    """Give the error that the disk caused, among an error and those it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _NUMBERS:
            return error
        stored = isinstance(error, sqlite3.Error | OSError) or type(error).__module__.split(".")[0] in _DATABASES
        if stored and any(word in str(error).lower() for word in _WORDS):
            return error
        error = error.__cause__ or error.__context__
    return None
