"""What may go from a data folder: old run logs, parts and rows no study has any more, and what killed processes left behind.

What belongs here: finding it with its size, and deleting what was agreed to. What does not: asking (the command). Nothing
younger than `days` is ever offered, for a run may be about to use it; answers that were paid for only where that is
said. Results are no waste: parts of every study that was run here stay.
"""

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from vlm_audio_pipeline.storage.catalogue import manifests, refresh
from vlm_audio_pipeline.storage.disk_usage import size_of
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.storage.result_store import RowStore
from vlm_audio_pipeline.storage.schemas import TABLES

if TYPE_CHECKING:
    import dagster as dg

DAYS = 30.0
ROWS = ("vector",)
"""Kinds of rows that can be computed again; every table that uses them names them in a column `row_key`."""
PAID_ROWS = ("answer",)
"""Kinds of rows that may have cost money."""
_LEFT_BEHIND = ("tables/**/.*.tmp", "studies/.*.tmp", ".results.*.duckdb*", "datasets/.*", "reports/.*", "scratch/*")
"""What processes that were killed leave behind, under names that nobody reads."""
_ABANDONED_H = 24.0
"""So old no file that is still being written is, hours."""


@dataclass(frozen=True)
class Waste:
    """Some things of one sort that may go.

    Attributes:
        what: the sort, in words.
        count: how many.
        size: bytes they take.
        files: files and folders.
        rows: (kind, row keys) of the row store.
        runs: ids of runs in Dagster's history.
    """

    what: str
    count: int
    size: int
    files: tuple[Path, ...] = ()
    rows: tuple[tuple[str, tuple[str, ...]], ...] = ()
    runs: tuple[str, ...] = ()


def find_waste(layout: Layout, days: float = DAYS, answers: bool = False) -> list[Waste]:
    """Find what may go.

    Args:
        layout: the data folder.
        days: what is younger stays.
        answers: offer also answers no study refers to, which may have been paid for.
    """
    if not layout.root.is_dir():
        return []
    orphans = [p for p in _orphans(layout) if _age_h(p) > 24 * days]
    left = [p for pattern in _LEFT_BEHIND for p in layout.root.glob(pattern) if _age_h(p) > _ABANDONED_H]
    found = [_files("parts that no study run here has", orphans), _files("left behind by killed processes", left)]
    found += [*_rows(layout, days, (*ROWS, *PAID_ROWS) if answers else ROWS), _old_runs(layout, days)]
    return [waste for waste in found if waste.count]


def prune(layout: Layout, wastes: Iterable[Waste]) -> int:
    """Delete what was found; gives the bytes by which the data folder has become smaller."""
    before = size_of(layout.root)
    for waste in wastes:
        for path in waste.files:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
                _remove_empty(path.parent, layout.tables)
        if waste.rows:
            rows = RowStore(layout.rows)
            for kind, keys in waste.rows:
                rows.drop(kind, keys)
            rows.shrink()
            rows.close()
        if waste.runs:
            with _instance(layout) as instance:
                for run in waste.runs:
                    instance.delete_run(run)
                    shutil.rmtree(layout.dagster_home / "storage" / run, ignore_errors=True)
    if layout.studies.exists():
        refresh(layout)
    return before - size_of(layout.root)


def _files(what: str, paths: list[Path]) -> Waste:
    return Waste(what, len(paths), sum(map(size_of, paths)), files=tuple(paths))


def _age_h(path: Path) -> float:
    """Give the age of a file, or of the youngest in a folder, hours; of the future (a clock set back) it is negative."""
    try:
        times = [path.lstat().st_mtime, *(p.lstat().st_mtime for p in path.rglob("*"))]
    except FileNotFoundError:
        return 0.0
    return (time.time() - max(times)) / 3600


def _orphans(layout: Layout) -> Iterator[Path]:
    """Give the parts that stand in no study's manifest."""
    owned = {layout.root / part for m in manifests(layout).values() for parts in m["parts"].values() for part in parts}
    yield from (path for path in layout.tables.rglob("part-*.parquet") if path not in owned)


def _rows(layout: Layout, days: float, kinds: Iterable[str]) -> Iterator[Waste]:
    """Give the rows of the store that no part refers to."""
    if not layout.rows.exists():
        return
    used: set[str] = set()
    for table, schema in TABLES.items():
        if "row_key" in schema.arrow.names:
            for path in (layout.tables / table).rglob("part-*.parquet"):
                try:
                    used.update(k for k in pq.read_table(path, columns=["row_key"])["row_key"].to_pylist() if k)
                except (pa.ArrowException, OSError, KeyError):  # damaged: it will be made again from rows unknown
                    return
    rows = RowStore(layout.rows)
    before = datetime.now(UTC) - timedelta(days=days)
    for kind in kinds:
        sizes = {key: size for key, size in rows.sizes(kind, before) if key not in used}
        paid = ", which may have been paid for" if kind in PAID_ROWS else ""
        yield Waste(
            f"rows ({kind}) that no part refers to{paid}", len(sizes), sum(sizes.values()), rows=((kind, tuple(sizes)),)
        )
    rows.close()


def _old_runs(layout: Layout, days: float) -> Waste:
    """Give the runs that ended long ago, but for those whose materializations the UI still shows as the latest."""
    what = f"logs of runs older than {days:g} days"
    if not layout.run_logs.is_dir():
        return Waste(what, 0, 0)
    import dagster as dg

    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    before = datetime.now(UTC) - timedelta(days=days)
    with _instance(layout) as instance:
        old = [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=ended, created_before=before))]
        if old:
            shown = set(_latest(instance))
            old = [run for run in old if run not in shown]
    history = layout.run_logs
    size = sum(size_of(history / f"{run}.db") + size_of(layout.dagster_home / "storage" / run) for run in old)
    return Waste(what, len(old), size, runs=tuple(old))


def _latest(instance: "dg.DagsterInstance") -> Iterator[str]:
    """Give the runs that last materialized or observed anything, partition by partition."""
    import dagster as dg

    for key in instance.all_asset_keys():
        for fetch in (instance.fetch_materializations, instance.fetch_observations):
            for partition in (None, *instance.get_materialized_partitions(key)):
                chosen = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None)
                yield from (record.run_id for record in fetch(chosen, limit=1).records)


def _instance(layout: Layout) -> "dg.DagsterInstance":
    from vlm_audio_pipeline.dagster_app.instance import open_instance

    return open_instance(layout)


def _remove_empty(folder: Path, up_to: Path) -> None:
    """Remove folders that have become empty."""
    while folder != up_to and up_to in folder.parents and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
