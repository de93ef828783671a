"""Locks between processes.

Both kinds are `flock`s: the kernel releases them when their holder ends, even when it is killed.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_POLL_S = 0.5


@contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on a file of this user.

    Args:
        path: the lock file; it and its folder are created and stay.
        wait: wait until the lock is free; otherwise yield at once.

    Yields:
        Whether the lock is held: False only with `wait=False`, when another process has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def machine_lock(path: Path, on_wait: Callable[[], None] = lambda: None, *, is_shared: bool = False) -> Iterator[None]:
    """Hold a lock on a file that several users of this machine share.

    Args:
        path: the lock file; it and its folder are created and stay.
        on_wait: called once if another process has the lock.
        is_shared: several holders of a shared lock may have it at a time; otherwise the lock is exclusive.
    """
    import fcntl

    operation = (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    file = _open_shared(path)
    try:
        waiting = False
        while True:
            try:
                fcntl.flock(file, operation)
                break
            except BlockingIOError:
                if not waiting:
                    on_wait()
                    waiting = True
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(file)  # releases the lock


def _open_shared(path: Path) -> int:
    """Open or create the file. A file of another user in a shared folder is opened for reading only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
