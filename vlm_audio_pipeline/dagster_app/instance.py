"""Dagster's home in the data folder. The command creates it, so it needs no set-up by hand."""

import os
from pathlib import Path

import dagster as dg

from vlm_audio_pipeline.storage.atomic import write_atomically
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.locks import file_lock

CONFIG = """\
# Written by vlm-audio; change it freely, it is not overwritten.
telemetry: {enabled: false}
nux: {enabled: false}
concurrency:
  pools: {default_limit: 1, granularity: op}
  runs: {max_concurrent_runs: 2}
run_coordinator:  # a run started in the UI is picked up within a second instead of five
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1}
event_log_storage:  # Dagster's own, several times as fast; without these lines it reads the same files
  module: vlm_audio_pipeline.dagster_app.event_log
  class: EventLog
  config: {home: {env: DAGSTER_HOME}}
run_monitoring: {enabled: true, free_slots_after_run_end_seconds: 30}
retention:  # what schedules and sensors did; a sensor that has nothing to do says so every ten seconds
  schedule: {purge_after_days: 90}
  sensor: {purge_after_days: {skipped: 1, failure: 30, success: 90}}
"""


def prepare_home(data_folder: DataFolder) -> Path:
    """Create Dagster's home folder and its `dagster.yaml` if they are missing, and set DAGSTER_HOME."""
    home = data_folder.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        write_atomically(config, CONFIG)
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def open_instance(data_folder: DataFolder) -> dg.DagsterInstance:
    """Open the instance. Its first use creates databases, which two processes must not do at the same time."""
    with file_lock(data_folder.lock("dagster_home")):
        prepare_home(data_folder)
        instance = dg.DagsterInstance.get()
        instance.get_runs(limit=1)
        instance.all_asset_keys()
    return instance
