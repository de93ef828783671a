"""How much of the disk the data folder takes, and what of it.

What belongs here: counting bytes, and saying them. What does not: deciding what may go (`pruning`).
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from vlm_audio_pipeline.storage.layout import Layout


def size_of(path: Path) -> int:
    """Count the bytes of a file, or of all files in a folder; 0 where there is nothing. Links are not followed."""
    try:
        if not path.is_dir():
            return path.lstat().st_size
        with os.scandir(path) as entries:
            return sum(
                size_of(Path(e.path)) if e.is_dir(follow_symlinks=False) else e.stat(follow_symlinks=False).st_size
                for e in entries
            )
    except FileNotFoundError:  # it went while it was counted
        return 0


def disk_use(layout: Layout) -> dict[str, int]:
    """Count the bytes in the data folder, by what they are."""
    places: dict[str, Iterable[Path]] = {
        "tables": [layout.tables],
        "rows": [layout.rows.with_name(layout.rows.name + suffix) for suffix in ("", "-wal", "-shm")],
        "catalogue": [layout.results],
        "reports": [layout.reports],
        "datasets": [layout.datasets],
        "run history": [layout.dagster_home],
        "environments": [layout.environments],
    }
    return {what: sum(map(size_of, paths)) for what, paths in places.items()}


def disk_words(layout: Layout) -> str:
    """Say what the data folder takes and what is free, in one line; nothing where there is no folder yet."""
    if not layout.root.is_dir():
        return ""
    parts = [f"{what} {words_of(size)}" for what, size in disk_use(layout).items() if size]
    return f"on disk: {', '.join([*parts, f'{words_of(shutil.disk_usage(layout.root).free)} free'])}"


def words_of(size: int) -> str:
    """Write bytes for people.

    >>> words_of(0), words_of(1_234_567), words_of(93_200_000_000)
    ('0.0 MB', '1.2 MB', '93.2 GB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
