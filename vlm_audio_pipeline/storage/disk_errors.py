"""Recognise errors of the disk (full, read-only, I/O) raised by Python, Arrow, SQLite, DuckDB or Dagster."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.data_folder import DataFolder

_ERROR_NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_DATABASE_MODULES = ("duckdb", "_duckdb", "sqlalchemy")
_MESSAGES = (
    "disk is full",
    "readonly database",
    "disk i/o error",
    "unable to open database",
    "no space left",
    "read-only",
)


@contextmanager
def convert_disk_errors(data_folder: DataFolder) -> Iterator[None]:
    """Convert disk errors (full, read-only, I/O) to VlmAudioError.

    Raises:
        VlmAudioError: instead of an error that the disk caused.
    """
    try:
        yield
    except VlmAudioError:
        raise
    except Exception as error:
        cause = _find_disk_error(error)
        if cause is None:
            raise
        raise VlmAudioError(
            f"cannot write to the data folder {data_folder.root}: {cause}; free space or change its permissions and run "
            "again: finished work is kept"
        ) from error


def _find_disk_error(error: BaseException | None) -> BaseException | None:
    """Return the disk error among an error and its causes, or None."""
    visited_ids: set[int] = set()
    while error is not None and id(error) not in visited_ids:
        visited_ids.add(id(error))
        if isinstance(error, OSError) and error.errno in _ERROR_NUMBERS:
            return error
        is_storage_error = (
            isinstance(error, sqlite3.Error | OSError) or type(error).__module__.split(".")[0] in _DATABASE_MODULES
        )
        if is_storage_error and any(message in str(error).lower() for message in _MESSAGES):
            return error
        error = error.__cause__ or error.__context__
    return None
