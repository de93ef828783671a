"""Dagster's own storage is the oracle: it reads and writes the same files."""

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage

from vlm_audio_pipeline.dagster_app.event_log import OPEN, EventLog
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.storage.layout import Layout


@pytest.fixture
def layout(tmp_path, monkeypatch) -> Layout:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return Layout(tmp_path / "data")


def folder(layout: Layout) -> Path:
    return layout.dagster_home / "history" / "runs"


def in_the_file(path: Path) -> list[str]:
    """Kinds of events in the file itself, without what SQLite keeps beside it."""
    with sqlite3.connect(f"file:{path}?immutable=1", uri=True) as db:
        return [kind for (kind,) in db.execute("SELECT dagster_event_type FROM event_logs ORDER BY id")]


def kinds(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [e.dagster_event.event_type_value for e in instance.all_logs(run_id) if e.dagster_event]


def held_open(where: Path) -> set[str]:
    """Databases of a folder that this process holds open."""
    paths = [os.readlink(f) for f in Path("/proc/self/fd").iterdir() if f.exists()]
    return {p for p in paths if p.startswith(str(where)) and p.endswith(".db")}


@dg.asset
def sound() -> None: ...


@dg.asset(deps=[sound], check_specs=[dg.AssetCheckSpec("loud", asset="heard")])
def heard(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    context.log.info("hearing")
    return dg.MaterializeResult(
        check_results=[dg.AssetCheckResult(passed=True, check_name="loud", metadata={"db": -3.0})]
    )


def test_dagster_s_own_storage_reads_the_same(layout):
    instance = open_instance(layout)
    assert type(instance.event_log_storage) is EventLog
    assert dg.materialize([sound, heard], instance=instance).success
    [run] = instance.get_runs()
    ours = instance.all_logs(run.run_id)
    known = {"STEP_START", "ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION", "PIPELINE_SUCCESS"}
    assert known <= set(kinds(instance, run.run_id))

    config = layout.dagster_home / "dagster.yaml"  # as of a folder made before there was this log
    text = config.read_text()
    at = text.index("event_log_storage:")
    config.write_text(text[:at] + text[text.index("run_monitoring:", at) :])
    other = dg.DagsterInstance.get()
    assert type(other.event_log_storage) is SqliteEventLogStorage
    assert other.all_logs(run.run_id) == ours
    latest = [i.get_latest_materialization_event(dg.AssetKey("heard")) for i in (instance, other)]
    assert latest[0] == latest[1] is not None

    assert dg.materialize([sound, heard], instance=other).success  # and the other way round
    newest = next(r.run_id for r in other.get_runs() if r.run_id != run.run_id)
    assert instance.all_logs(newest) == other.all_logs(newest)
    assert len(instance.fetch_materializations(dg.AssetKey("heard"), limit=10).records) == 2


def schema(path: Path) -> list[tuple]:
    with sqlite3.connect(path) as db:
        mode = db.execute("PRAGMA journal_mode").fetchall()
        return mode + sorted(db.execute("SELECT type, name, sql FROM sqlite_master"), key=str) + stamp(db)


def stamp(db: sqlite3.Connection) -> list[tuple]:
    return db.execute("SELECT * FROM alembic_version").fetchall()


def test_files_of_runs_are_made_as_dagster_makes_them(layout, tmp_path):
    instance = open_instance(layout)
    runs = [dg.materialize([sound], instance=instance).run_id for _ in range(2)]  # the second is a copy at any rate
    theirs = SqliteEventLogStorage(str(tmp_path / "theirs"))
    with theirs.run_connection("a_run"):
        pass
    for run in runs:
        assert schema(folder(layout) / f"{run}.db") == schema(tmp_path / "theirs" / "a_run.db")
        assert kinds(instance, run).count("PIPELINE_START") == 1, "its own events alone"


def test_a_disk_without_links_still_keeps_logs(layout, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")  # as exFAT has it

    instance = open_instance(layout)
    monkeypatch.setattr(os, "link", refuse)
    runs = [dg.materialize([sound], instance=instance).run_id for _ in range(2)]
    assert all("PIPELINE_SUCCESS" in kinds(instance, run) for run in runs)
    assert not [p for p in folder(layout).iterdir() if p.suffix == ".tmp"]


def test_the_ui_hears_of_a_step_while_it_runs(layout):
    """Dagster's page watches the file of a run; what SQLite keeps beside it is not seen there."""
    instance, seen = open_instance(layout), []

    @dg.asset
    def slow(context: dg.AssetExecutionContext) -> None:
        seen.extend(in_the_file(folder(layout) / f"{context.run.run_id}.db"))

    assert dg.materialize([slow], instance=instance).success
    assert "PIPELINE_START" in seen
    assert seen[-1] == "STEP_START"
    [run] = instance.get_runs()
    assert in_the_file(folder(layout) / f"{run.run_id}.db")[-1] == "PIPELINE_SUCCESS"


def test_a_run_that_ended_leaves_nothing_open_and_nothing_beside_its_file(layout):
    instance = open_instance(layout)
    for _ in range(3):
        dg.materialize([sound], instance=instance)
    names = {p.name for p in folder(layout).iterdir()}
    for run in instance.get_runs():
        assert {f"{run.run_id}{end}" for end in (".db", ".db-wal", ".db-shm")} & names == {f"{run.run_id}.db"}
        assert str(folder(layout) / f"{run.run_id}.db") not in held_open(folder(layout))


def test_many_runs_looked_at_hold_few_files_open(layout):
    instance = open_instance(layout)
    runs = [dg.materialize([sound], instance=instance).run_id for _ in range(OPEN + 4)]
    assert all("PIPELINE_SUCCESS" in kinds(instance, run) for run in runs)
    assert 1 < len(held_open(folder(layout))) <= OPEN
    instance.dispose()
    assert not held_open(folder(layout))


def test_wiped_logs_are_gone_and_new_ones_are_kept(layout):
    instance = open_instance(layout)
    first = dg.materialize([sound], instance=instance).run_id
    assert kinds(instance, first)
    instance.wipe()
    assert not kinds(instance, first)
    assert not instance.get_latest_materialization_event(dg.AssetKey("sound"))
    second = dg.materialize([sound], instance=instance).run_id
    assert "STEP_SUCCESS" in kinds(instance, second)


def test_threads_and_two_instances_write_together(layout):
    """As the page, the daemon and the command do."""
    instances = [open_instance(layout), dg.DagsterInstance.get()]

    def observe(i: int) -> None:
        event = dg.AssetObservation(dg.AssetKey("sound"), tags={"dagster/data_version": str(i)})
        instances[i % 2].report_runless_asset_event(event)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(observe, range(40)))
    found = instances[0].fetch_observations(dg.AssetKey("sound"), limit=100).records
    assert sorted(int(r.asset_observation.tags["dagster/data_version"]) for r in found) == list(range(40))
