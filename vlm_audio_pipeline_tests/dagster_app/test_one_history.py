"""Dagster's home: the command and `dagster dev` keep one history."""

import os
import shutil
from pathlib import Path

import yaml
from dagster._cli.utils import get_possibly_temporary_instance_for_cli

from vlm_audio_pipeline.dagster_app.instance import CONFIG, open_instance

REPOSITORY = Path(__file__).parents[2]


def test_dagster_dev_shows_the_history_of_the_command(done, tmp_path, monkeypatch):
    """`dagster dev` opens its instance with this function of Dagster; it reads `dagster.yaml` of the working directory."""
    with open_instance(done.data_folder) as instance:
        runs = {run.run_id for run in instance.get_runs()}
    folder = tmp_path / "clone"
    folder.mkdir()
    shutil.copy(REPOSITORY / "dagster.yaml", folder)
    os.symlink(done.data_folder.root, folder / "data")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(folder)
    with get_possibly_temporary_instance_for_cli("dagster dev") as instance:
        assert {run.run_id for run in instance.get_runs()} == runs != set()
        assert not instance.telemetry_enabled


def test_dagster_dev_has_the_settings_of_the_command():
    settings, command = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text()), yaml.safe_load(CONFIG)
    folders = {key: settings.pop(key) for key in ("storage", "local_artifact_storage", "compute_logs")}
    assert "data/dagster" in str(folders)
    del command["event_log_storage"]  # a faster form of the same files, which needs DAGSTER_HOME
    assert settings == command
