"""Open files that come from outside: only regular files of a bounded size, so that no pipe or device blocks or fills the memory."""

import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path

MAX_FILE_BYTES = 10_000_000_000
"""Size of the largest file that is read, bytes: 14 hours of 16-bit stereo at 48 kHz."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class UnsuitableFile(OSError):
    """A path that is not a regular file, or a file that is too large; `strerror` says what it is."""


def open_regular(path: Path, max_bytes: int = MAX_FILE_BYTES) -> BufferedReader:
    """Open a regular file for reading. Links are followed.

    Raises:
        UnsuitableFile: for a folder, named pipe, device or socket, and for a file of more than `max_bytes`.
        OSError: if it cannot be opened.
    """
    _check(os.stat(path), path, max_bytes)  # before it is opened: opening a pipe waits, and opening a device can act
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    try:
        _check(os.fstat(descriptor), path, max_bytes)  # it may have been replaced in between
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def digest_file(path: Path) -> str:
    """Hash a regular file in blocks: SHA-256, 64 hexadecimal digits. Errors as in `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_stamp(status: os.stat_result) -> str:
    """Return a text that differs after a file was changed or replaced: size, number, and times of the last changes."""
    return f"{status.st_size}:{status.st_ino}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def unsuitable_reason(path: Path) -> str | None:
    """Return why a path must not be opened as a file: it is a pipe, a device or too large. None for other paths, also missing ones."""
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            _check(status, path, MAX_FILE_BYTES)
    except UnsuitableFile as error:
        return str(error.strerror)
    except OSError:
        pass  # opening it gives the reason
    return None


def _check(status: os.stat_result, path: Path, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((text for matches, text in _KINDS if matches(status.st_mode)), "no file")
        raise UnsuitableFile(0, f"not a regular file: it is {kind}; replace it with a file", str(path))
    if status.st_size > max_bytes:
        raise UnsuitableFile(
            0,
            f"too large: it has {status.st_size / 1e9:.1f} GB, at most {max_bytes / 1e9:g} GB are read; cut it into shorter files",
            str(path),
        )
