"""The event log against Dagster's own storage, which reads and writes the same files."""

import inspect
import os
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage

from vlm_audio_pipeline.dagster_app.event_log import MAX_OPEN_FILES, EventLog
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.storage.data_folder import DataFolder


@pytest.fixture
def data_folder(tmp_path, monkeypatch, dagster_home) -> DataFolder:
    """A data folder whose Dagster home has no runs."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    data_folder = DataFolder(tmp_path / "data")
    shutil.copytree(dagster_home, data_folder.create().dagster_home)
    return data_folder


def folder(data_folder: DataFolder) -> Path:
    return data_folder.dagster_home / "history" / "runs"


def event_kinds_in_file(path: Path) -> list[str]:
    """Return the kinds of events in the database file itself, without its write-ahead log."""
    with sqlite3.connect(f"file:{path}?immutable=1", uri=True) as db:
        return [kind for (kind,) in db.execute("SELECT dagster_event_type FROM event_logs ORDER BY id")]


def kinds(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [e.dagster_event.event_type_value for e in instance.all_logs(run_id) if e.dagster_event]


def open_databases(directory: Path) -> set[str]:
    """Return the databases of a folder that this process has open."""
    paths = [os.readlink(f) for f in Path("/proc/self/fd").iterdir() if f.exists()]
    return {p for p in paths if p.startswith(str(directory)) and p.endswith(".db")}


@dg.asset
def sound() -> None: ...


@dg.asset(deps=[sound], check_specs=[dg.AssetCheckSpec("loud", asset="derived_sound")])
def derived_sound(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    context.log.info("computing")
    return dg.MaterializeResult(
        check_results=[dg.AssetCheckResult(passed=True, check_name="loud", metadata={"db": -3.0})]
    )


def test_dagster_s_own_storage_reads_the_same_events(data_folder):
    instance = open_instance(data_folder)
    assert type(instance.event_log_storage) is EventLog
    assert dg.materialize([sound, derived_sound], instance=instance).success
    [run] = instance.get_runs()
    events = instance.all_logs(run.run_id)
    expected_kinds = {"STEP_START", "ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION", "PIPELINE_SUCCESS"}
    assert expected_kinds <= set(kinds(instance, run.run_id))

    # use the settings of a folder that was created before this event log existed
    config = data_folder.dagster_home / "dagster.yaml"
    text = config.read_text()
    start = text.index("event_log_storage:")
    config.write_text(text[:start] + text[text.index("run_monitoring:", start) :])
    other = dg.DagsterInstance.get()
    assert type(other.event_log_storage) is SqliteEventLogStorage
    assert other.all_logs(run.run_id) == events
    latest = [i.get_latest_materialization_event(dg.AssetKey("derived_sound")) for i in (instance, other)]
    assert latest[0] == latest[1] is not None

    assert dg.materialize([sound, derived_sound], instance=other).success  # in the other direction too
    newest = next(r.run_id for r in other.get_runs() if r.run_id != run.run_id)
    assert instance.all_logs(newest) == other.all_logs(newest)
    assert len(instance.fetch_materializations(dg.AssetKey("derived_sound"), limit=10).records) == 2


def schema(path: Path) -> list[tuple]:
    with sqlite3.connect(path) as db:
        mode = db.execute("PRAGMA journal_mode").fetchall()
        return mode + sorted(db.execute("SELECT type, name, sql FROM sqlite_master"), key=str) + stamp(db)


def stamp(db: sqlite3.Connection) -> list[tuple]:
    return db.execute("SELECT * FROM alembic_version").fetchall()


def test_database_files_of_runs_have_the_schema_of_dagster(data_folder, tmp_path):
    instance = open_instance(data_folder)
    runs = [dg.materialize([sound], instance=instance).run_id for _ in range(2)]  # the second file is always a copy
    dagster_storage = SqliteEventLogStorage(str(tmp_path / "theirs"))
    with dagster_storage.run_connection("a_run"):
        pass
    for run in runs:
        assert schema(folder(data_folder) / f"{run}.db") == schema(tmp_path / "theirs" / "a_run.db")
        assert kinds(instance, run).count("PIPELINE_START") == 1, "only its own events"


def test_logs_work_on_a_disk_without_hard_links(data_folder, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")  # the error of exFAT

    instance = open_instance(data_folder)
    monkeypatch.setattr(os, "link", refuse)
    runs = [dg.materialize([sound], instance=instance).run_id for _ in range(2)]
    assert all("PIPELINE_SUCCESS" in kinds(instance, run) for run in runs)
    assert not [p for p in folder(data_folder).iterdir() if p.suffix == ".tmp"]


def test_events_of_a_step_are_in_the_file_while_it_runs(data_folder):
    """The Dagster UI reads the database file of a run and does not see its write-ahead log."""
    instance, kinds_during_run = open_instance(data_folder), []

    @dg.asset
    def slow(context: dg.AssetExecutionContext) -> None:
        kinds_during_run.extend(event_kinds_in_file(folder(data_folder) / f"{context.run.run_id}.db"))

    assert dg.materialize([slow], instance=instance).success
    assert "PIPELINE_START" in kinds_during_run
    assert kinds_during_run[-1] == "STEP_START"
    [run] = instance.get_runs()
    assert event_kinds_in_file(folder(data_folder) / f"{run.run_id}.db")[-1] == "PIPELINE_SUCCESS"


def test_a_finished_run_leaves_no_open_file_and_no_write_ahead_log(data_folder):
    instance = open_instance(data_folder)
    for _ in range(3):
        dg.materialize([sound], instance=instance)
    names = {p.name for p in folder(data_folder).iterdir()}
    for run in instance.get_runs():
        assert {f"{run.run_id}{end}" for end in (".db", ".db-wal", ".db-shm")} & names == {f"{run.run_id}.db"}
        assert str(folder(data_folder) / f"{run.run_id}.db") not in open_databases(folder(data_folder))


@pytest.mark.slow
def test_reading_many_runs_opens_few_files(data_folder):
    instance = open_instance(data_folder)
    runs = [dg.materialize([sound], instance=instance).run_id for _ in range(MAX_OPEN_FILES + 4)]
    assert all("PIPELINE_SUCCESS" in kinds(instance, run) for run in runs)
    assert 1 < len(open_databases(folder(data_folder))) <= MAX_OPEN_FILES
    instance.dispose()
    assert not open_databases(folder(data_folder))


def test_wiped_logs_are_deleted_and_new_ones_are_stored(data_folder):
    instance = open_instance(data_folder)
    first = dg.materialize([sound], instance=instance).run_id
    assert kinds(instance, first)
    instance.wipe()
    assert not kinds(instance, first)
    assert not instance.get_latest_materialization_event(dg.AssetKey("sound"))
    second = dg.materialize([sound], instance=instance).run_id
    assert "STEP_SUCCESS" in kinds(instance, second)


def test_threads_of_two_instances_write_at_the_same_time(data_folder):
    """The UI, the daemon and the command do this too."""
    instances = [open_instance(data_folder), dg.DagsterInstance.get()]

    def observe(i: int) -> None:
        event = dg.AssetObservation(dg.AssetKey("sound"), tags={"dagster/data_version": str(i)})
        instances[i % 2].report_runless_asset_event(event)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(observe, range(40)))
    records = instances[0].fetch_observations(dg.AssetKey("sound"), limit=100).records
    assert sorted(int(r.asset_observation.tags["dagster/data_version"]) for r in records) == list(range(40))


def test_the_private_methods_of_dagster_that_are_overridden_or_called_still_exist():
    """Dagster may change them in any version. Then `event_log.py` must be adapted."""
    expected = {
        "_connect": ["self", "shard"],
        "_initdb": ["self", "engine", "for_index_shard"],
        "conn_string_for_shard": ["self", "shard_name"],
        "path_for_shard": ["self", "run_id"],
        "run_connection": ["self", "run_id"],
        "store_event": ["self", "event"],
        "wipe": ["self"],
        "dispose": ["self"],
    }
    parameters = {name: list(inspect.signature(getattr(SqliteEventLogStorage, name)).parameters) for name in expected}
    assert parameters == expected, f"Dagster {dg.__version__} changed its event log: adapt dagster_app/event_log.py"
    source = inspect.getsource(SqliteEventLogStorage)
    missing = [name for name in ("self._db_lock", "self._initialized_dbs") if name not in source]
    assert missing == [], f"Dagster {dg.__version__} changed its event log: adapt dagster_app/event_log.py"
