"""Disk usage of the data folder."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from vlm_audio_pipeline.storage.data_folder import DataFolder


def size_of(path: Path) -> int:
    """Return the size of a file or of all files in a folder, bytes; 0 if it does not exist. Links are not followed."""
    try:
        if not path.is_dir():
            return path.lstat().st_size
        with os.scandir(path) as entries:
            return sum(
                size_of(Path(e.path)) if e.is_dir(follow_symlinks=False) else e.stat(follow_symlinks=False).st_size
                for e in entries
            )
    except FileNotFoundError:  # deleted while it was counted
        return 0


def disk_usage(data_folder: DataFolder) -> dict[str, int]:
    """Return the size of each part of the data folder, bytes, by its name."""
    paths: dict[str, Iterable[Path]] = {
        "tables": [data_folder.tables],
        "result store": [
            data_folder.result_store.with_name(data_folder.result_store.name + suffix)
            for suffix in ("", "-wal", "-shm")
        ],
        "catalogue": [data_folder.catalogue],
        "reports": [data_folder.reports],
        "datasets": [data_folder.datasets],
        "run history": [data_folder.dagster_home],
        "environments": [data_folder.environments],
    }
    return {name: sum(map(size_of, group)) for name, group in paths.items()}


def describe_disk_usage(data_folder: DataFolder) -> str:
    """Describe disk usage and free space in one line; empty if the data folder does not exist."""
    if not data_folder.root.is_dir():
        return ""
    sizes = [f"{name} {format_bytes(size)}" for name, size in disk_usage(data_folder).items() if size]
    return f"on disk: {', '.join([*sizes, f'{format_bytes(shutil.disk_usage(data_folder.root).free)} free'])}"


def format_bytes(size: int) -> str:
    """Format a size in MB or GB.

    >>> format_bytes(0), format_bytes(1_234_567), format_bytes(93_200_000_000)
    ('0.0 MB', '1.2 MB', '93.2 GB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
