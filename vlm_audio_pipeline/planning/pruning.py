"""Find and delete files and results that a data folder no longer needs.

Belongs here: partition files and results that no study refers to, and temporary files of killed processes. Does not belong
here: old runs of Dagster (`dagster_app.run_history`), and asking the user (`cli`).

Items newer than a minimum age are not included, because a run may need them soon. Model responses are included only on
request, because they may have cost money. Partition files in a study record are never included.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from vlm_audio_pipeline.storage.atomic import delete
from vlm_audio_pipeline.storage.catalogue import rebuild_catalogue, study_records
from vlm_audio_pipeline.storage.data_folder import DataFolder, study_of
from vlm_audio_pipeline.storage.disk_usage import size_of
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.schemas import TABLES

DEFAULT_DAYS = 30.0
"""Default minimum age of items that may be deleted, days."""
COMPUTED_KINDS = ("vector",)
"""Kinds of results that can be computed again. Tables refer to them in a column `result_key`."""
PAID_KINDS = ("response",)
"""Kinds of results that may have cost money."""
_TEMPORARY_FILES = ("tables/**/.*.tmp", "studies/.*.tmp", ".results.duckdb.*", "datasets/.*", "reports/.*", "scratch/*")
"""Names of files that a running process writes. They remain if the process is killed."""
_ABANDONED_H = 24.0
"""Age at which a temporary file no longer belongs to a running process, hours."""


class UnusedItems(Protocol):
    """Items of one kind that may be deleted.

    Attributes:
        description: the kind, in words.
        count: number of items.
        size: total size, bytes.
    """

    @property
    def description(self) -> str: ...  # noqa: D102

    @property
    def count(self) -> int: ...  # noqa: D102

    @property
    def size(self) -> int: ...  # noqa: D102

    def delete(self, data_folder: DataFolder) -> None:
        """Delete the items."""


@dataclass(frozen=True)
class UnusedFiles:
    """Files and folders that may be deleted."""

    description: str
    files: tuple[Path, ...]

    @property
    def count(self) -> int:
        """Number of files and folders."""
        return len(self.files)

    @property
    def size(self) -> int:
        """Total size, bytes."""
        return sum(map(size_of, self.files))

    def delete(self, data_folder: DataFolder) -> None:
        """Delete the files, and table folders that become empty."""
        for path in self.files:
            delete(path)
            _remove_empty_folders(path.parent, data_folder.tables)


@dataclass(frozen=True)
class UnusedResults:
    """Results of one kind in the result store that may be deleted."""

    description: str
    kind: str
    sizes: dict[str, int]

    @property
    def count(self) -> int:
        """Number of results."""
        return len(self.sizes)

    @property
    def size(self) -> int:
        """Total size, bytes."""
        return sum(self.sizes.values())

    def delete(self, data_folder: DataFolder) -> None:
        """Delete the results and shrink the result store."""
        store = ResultStore(data_folder.result_store)
        store.delete(self.kind, tuple(self.sizes))
        store.shrink()
        store.close()


def find_unused_items(
    data_folder: DataFolder, days: float = DEFAULT_DAYS, responses: bool = False
) -> list[UnusedItems]:
    """Find files and results that may be deleted.

    Args:
        data_folder: the data folder.
        days: minimum age, days.
        responses: include responses that no study refers to, which may have cost money.
    """
    if not data_folder.root.is_dir():
        return []
    unrecorded = tuple(path for path in _unrecorded_files(data_folder) if _age_h(path) > 24 * days)
    paths = (path for pattern in _TEMPORARY_FILES for path in data_folder.root.glob(pattern))
    temporary = tuple(path for path in paths if _age_h(path) > _ABANDONED_H)
    kinds = (*COMPUTED_KINDS, *PAID_KINDS) if responses else COMPUTED_KINDS
    unused: list[UnusedItems] = [
        UnusedFiles("partition files that no study record contains", unrecorded),
        UnusedFiles("temporary files of killed processes", temporary),
        *_unused_results(data_folder, days, kinds),
    ]
    return [items for items in unused if items.count]


def prune(data_folder: DataFolder, unused: Iterable[UnusedItems]) -> int:
    """Delete items, rebuild the catalogue, and return the number of bytes freed."""
    size_before = size_of(data_folder.root)
    for items in unused:
        items.delete(data_folder)
    if data_folder.studies.exists():
        rebuild_catalogue(data_folder)
    return size_before - size_of(data_folder.root)


def _age_h(path: Path) -> float:
    """Return the age of a file, or of the newest file in a folder, hours; negative if its time is in the future."""
    try:
        times = [path.lstat().st_mtime, *(p.lstat().st_mtime for p in path.rglob("*"))]
    except FileNotFoundError:
        return 0.0
    return (time.time() - max(times)) / 3600


def _unrecorded_files(data_folder: DataFolder) -> Iterator[Path]:
    """Yield the partition files that are not in the record of their study.

    The files of a study without a record are kept: the record was lost, and the next run of the study writes it again.
    """
    records = study_records(data_folder)
    recorded = {
        data_folder.root / file
        for record in records.values()
        for files in record["partition_files"].values()
        for file in files
    }
    for path in data_folder.tables.rglob("part-*.parquet"):
        if path not in recorded and study_of(data_folder, path) in records:
            yield path


def _unused_results(data_folder: DataFolder, days: float, kinds: Iterable[str]) -> Iterator[UnusedResults]:
    """Yield the results that no partition file refers to, by kind."""
    if not data_folder.result_store.exists():
        return
    used_keys: set[str] = set()
    for table, schema in TABLES.items():
        if "result_key" in schema.arrow.names:
            for path in (data_folder.tables / table).rglob("part-*.parquet"):
                try:
                    keys = pq.read_table(path, columns=["result_key"])["result_key"].to_pylist()
                except (pa.ArrowException, OSError, KeyError):
                    return  # A damaged file will be rebuilt, but its result keys cannot be read: keep all results.
                used_keys.update(key for key in keys if key)
    store = ResultStore(data_folder.result_store)
    newest = datetime.now(UTC) - timedelta(days=days)
    for kind in kinds:
        sizes = {key: size for key, size in store.sizes(kind, newest) if key not in used_keys}
        paid = ", which may have been paid for" if kind in PAID_KINDS else ""
        yield UnusedResults(f"results ({kind}) that no partition file refers to{paid}", kind, sizes)
    store.close()


def _remove_empty_folders(folder: Path, root: Path) -> None:
    """Remove a folder and its parents while they are empty, up to `root`, which is kept."""
    while folder != root and root in folder.parents and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
