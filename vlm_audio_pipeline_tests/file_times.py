"""Change the times of files, so that a test need not wait for days."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

DAY_S = 86_400


def set_age(paths: Iterable[Path], days: float) -> None:
    """Date files, folders and links as last changed some days ago; a negative number dates them in the future.

    SQLite deletes its log when an unused object is collected, so a path may be gone meanwhile.
    """
    changed_at = time.time() - days * DAY_S
    for path in paths:
        with suppress(FileNotFoundError):
            os.utime(path, (changed_at, changed_at), follow_symlinks=False)
