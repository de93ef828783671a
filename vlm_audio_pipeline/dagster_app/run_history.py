"""Find and delete old runs in Dagster's history."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.disk_usage import size_of


@dataclass(frozen=True)
class RunWaste:
    """Runs whose logs may be deleted; see `planning.pruning.Waste`."""

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
                instance.delete_run(run)
                shutil.rmtree(data_folder.dagster_home / "storage" / run, ignore_errors=True)


def find_old_runs(data_folder: DataFolder, days: float) -> list[RunWaste]:
    """Find runs that ended more than `days` ago, except those whose materializations the UI shows as the latest."""
    if not data_folder.run_logs.is_dir():
        return []
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    before = datetime.now(UTC) - timedelta(days=days)
    with open_instance(data_folder) as instance:
        old = [run.run_id for run in instance.get_runs(dg.RunsFilter(statuses=ended, created_before=before))]
        if old:
            latest = set(_latest_runs(instance))
            old = [run for run in old if run not in latest]
    size = sum(
        size_of(data_folder.run_logs / f"{run}.db") + size_of(data_folder.dagster_home / "storage" / run) for run in old
    )
    return [RunWaste(f"logs of runs older than {days:g} days", tuple(old), size)] if old else []


def _latest_runs(instance: dg.DagsterInstance) -> Iterator[str]:
    """Yield the runs of the latest materialization and observation of each asset and partition."""
    for key in instance.all_asset_keys():
        for fetch in (instance.fetch_materializations, instance.fetch_observations):
            for partition in (None, *instance.get_materialized_partitions(key)):
                records = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None)
                yield from (record.run_id for record in fetch(records, limit=1).records)
