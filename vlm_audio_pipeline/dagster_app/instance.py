"""Dagster's home in the data folder. The command creates it, so it needs no set-up by hand."""

import logging
import os
import sqlite3
from pathlib import Path

import dagster as dg
import yaml
from dagster._check import CheckError
from dagster._core.errors import DagsterInvalidConfigError

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.atomic import write_atomically
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.locks import file_lock
from vlm_audio_pipeline.storage.sqlite_files import set_sqlite_aside, sqlite_problem

_LOG = logging.getLogger(__name__)

CONFIG = """\
# Written by vlm-audio; change it freely, it is not overwritten.
telemetry: {enabled: false}
nux: {enabled: false}
concurrency:
  pools: {default_limit: 1, granularity: op}
  runs: {max_concurrent_runs: 2}
run_coordinator:  # a run that is started in the UI begins within one second instead of five
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1}
event_log_storage:  # a faster form of Dagster's event log; without these lines, Dagster reads the same files
  module: vlm_audio_pipeline.dagster_app.event_log
  class: EventLog
  config: {home: {env: DAGSTER_HOME}}
run_monitoring: {enabled: true, free_slots_after_run_end_seconds: 30}
retention:  # history of schedules and sensors; a sensor adds an entry every ten seconds, also if it does nothing
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
    """Open the instance. Its first use creates databases, which two processes must not do at the same time.

    Damaged databases are set aside, with a warning: they contain the history of runs and the state of schedules, and no result.

    Raises:
        VlmAudioError: if `dagster.yaml` cannot be used.
    """
    with file_lock(data_folder.lock("dagster_home")):
        home = prepare_home(data_folder)
        try:
            return _open()
        except (DagsterInvalidConfigError, CheckError, yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
            raise VlmAudioError(
                f"{home / 'dagster.yaml'} cannot be used: {str(error).splitlines()[0] if str(error) else type(error).__name__}; correct it, "
                "or delete it: it is written again with the default settings"
            ) from error
        except Exception as error:
            if not is_damage(error) or not set_damaged_databases_aside(data_folder):
                raise
            return _open()


def _open() -> dg.DagsterInstance:
    instance = dg.DagsterInstance.get()
    instance.get_runs(limit=1)
    instance.all_asset_keys()
    return instance


def is_damage(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, comes from a SQLite file that may be damaged."""
    visited: set[int] = set()
    while error is not None and id(error) not in visited:
        visited.add(id(error))
        if isinstance(error, sqlite3.DatabaseError):
            return True
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__
    return False


def set_damaged_databases_aside(data_folder: DataFolder) -> list[Path]:
    """Rename the damaged databases of Dagster, with a warning; return their new paths. Dagster creates new ones."""
    renamed = [set_sqlite_aside(path) for path in data_folder.dagster_databases() if sqlite_problem(path)]
    if renamed:
        _LOG.warning(
            "databases of Dagster were damaged and set aside: %s. They contain the history of runs and the state of schedules; no "
            "result is lost",
            ", ".join(map(str, renamed)),
        )
    return renamed
