"""Atomic writes: a reader sees the old file or the complete new one, and so does the disk after a power cut."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; the file or folder that the caller writes there replaces `path`.

    A file is flushed to the disk first. After an exception the temporary file or folder is deleted and `path` stays
    as it was. A folder can replace an empty folder only.

    Args:
        path: the final path; its parent folder is created.

    Yields:
        `.<name>.<process>.<thread>.tmp` in the same folder. It does not exist yet.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    delete(temporary)
    try:
        yield temporary
        if temporary.is_file():
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # an error of `write`, which knows no name
            error.filename = str(path)
        raise
    finally:
        delete(temporary)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file; text is encoded as UTF-8, newlines unchanged."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def delete(path: Path) -> None:
    """Delete a file or a folder with its contents, if it exists. Links are not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def set_folder_aside(path: Path) -> None:
    """Rename a folder that has the name of a file which the program writes; `prune` lists it as a temporary file."""
    if path.is_dir() and not path.is_symlink():
        os.replace(path, path.with_name(f".{path.name}.{time.time_ns()}.tmp"))
