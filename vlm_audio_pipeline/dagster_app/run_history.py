"""Find and delete old runs in Dagster's history, so that its size is bounded."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.storage.atomic import write_atomically
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.disk_usage import size_of

MAX_RUNS = 200
"""Runs that the command keeps in the history, besides those that the UI shows as the latest of an asset."""
CHECK_EVERY = 50
"""New runs after which the command looks for runs to delete."""
END_STATUSES = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True)
class OldRuns:
    """Runs whose logs may be deleted; see `planning.pruning.UnusedItems`."""

    description: str
    runs: tuple[str, ...]
    size: int

    @property
    def count(self) -> int:
        """Number of runs."""
        return len(self.runs)

    def delete(self, data_folder: DataFolder) -> None:
        """Delete the runs with their logs."""
        with open_instance(data_folder) as instance:
            for run in self.runs:
                _delete_run(instance, data_folder, run)


def find_old_runs(data_folder: DataFolder, days: float) -> list[OldRuns]:
    """Find ended runs that were created more than `days` ago, except runs with the latest materialization of an asset."""
    if not data_folder.run_logs.is_dir():
        return []
    before = datetime.now(UTC) - timedelta(days=days)
    with open_instance(data_folder) as instance:
        old = [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=END_STATUSES, created_before=before))]
        if old:
            latest = set(_latest_runs(instance))
            old = [run for run in old if run not in latest]
    size = sum(
        size_of(data_folder.run_logs / f"{run}.db") + size_of(data_folder.dagster_home / "storage" / run) for run in old
    )
    return [OldRuns(f"logs of runs older than {days:g} days", tuple(old), size)] if old else []


def _latest_runs(instance: dg.DagsterInstance) -> Iterator[str]:
    """Yield the runs of the latest materialization and observation of each asset and partition."""
    for key in instance.all_asset_keys():
        for fetch in (instance.fetch_materializations, instance.fetch_observations):
            for partition in (None, *instance.get_materialized_partitions(key)):
                records = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None)
                yield from (record.run_id for record in fetch(records, limit=1).records)


def limit_history(instance: dg.DagsterInstance, data_folder: DataFolder, max_runs: int = MAX_RUNS) -> int:
    """Delete the oldest ended runs beyond a number of runs, except runs with the latest materialization of an asset.

    It looks for such runs only if `CHECK_EVERY` runs were added since it last looked, because that takes seconds.

    Args:
        instance: Dagster's instance.
        data_folder: the data folder.
        max_runs: number of runs to keep.

    Returns:
        Number of deleted runs.
    """
    state = data_folder.dagster_home / "kept_runs"
    min_runs = _read_count(state)
    if (count := instance.get_runs_count()) < max(max_runs, min_runs) + CHECK_EVERY:
        return 0
    ended = [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=END_STATUSES))]  # the newest first
    latest = set(_latest_runs(instance))
    old = [run for run in ended[max_runs:] if run not in latest]
    for run in old:
        _delete_run(instance, data_folder, run)
    write_atomically(state, str(count - len(old)))
    return len(old)


def _read_count(path: Path) -> int:
    """Read a number from a file; 0 if the file is missing or damaged."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _delete_run(instance: dg.DagsterInstance, data_folder: DataFolder, run: str) -> None:
    instance.delete_run(run)
    shutil.rmtree(data_folder.dagster_home / "storage" / run, ignore_errors=True)
