"""Damaged databases and configurations of Dagster: repaired, or reported with the way out. No result is lost."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.dagster_app.executor import DagsterExecutor
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.sqlite_files import sqlite_problem

DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")


@pytest.fixture(scope="module")
def template_home(tmp_path_factory):
    data_folder = DataFolder(tmp_path_factory.mktemp("home") / "data").create()
    open_instance(data_folder).dispose()
    for database in data_folder.dagster_databases():
        with closing(sqlite3.connect(database)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return data_folder


@pytest.fixture
def data_folder(template_home, tmp_path):
    shutil.copytree(template_home.root, tmp_path / "data")
    return DataFolder(tmp_path / "data")


def damage(path, kind):
    content = path.read_bytes()
    if kind == "text":
        path.write_bytes(b"this is no database" * 400)
    elif kind == "half":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "pages":
        path.write_bytes(content[:4096] + b"\xaa" * (len(content) - 4096))


@pytest.mark.slow
@pytest.mark.parametrize("name", DATABASES)
@pytest.mark.parametrize("kind", ["text", "half", "folder", "pages"])
def test_a_damaged_database_is_set_aside_with_a_warning_and_created_again(data_folder, name, kind, caplog):
    path = data_folder.dagster_home / name
    damage(path, kind)
    with open_instance(data_folder) as instance:
        assert list(instance.get_runs()) == []
    if sqlite_problem(path) is None:
        aside = list(path.parent.glob(f"{path.name}.damaged-*"))
        assert len(aside) == 1 and str(aside[0]) in caplog.text and "no result is lost" in caplog.text
    else:  # Dagster has not read the damaged page yet
        assert kind == "pages"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xfe: 1", "decode"), (b"[1, 2", "flow sequence"), (b"- a\n", "YAML"), (b"no_such_key: 1\n", "config")],
)
def test_a_configuration_that_cannot_be_used_is_named_with_the_way_out(data_folder, content, words):
    (data_folder.dagster_home / "dagster.yaml").write_bytes(content)
    with pytest.raises(VlmAudioError, match=rf"dagster\.yaml cannot be used: .*{words}.*; correct it, or delete it"):
        open_instance(data_folder)


@pytest.mark.slow
def test_a_run_with_damaged_databases_ends_as_without_damage(done, caplog):
    open_instance(done.data_folder).dispose()
    for path in done.data_folder.dagster_databases():
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        damage(path, "pages")
    done.record("1-low-0", "low", seed=99)
    result = done.run(executor=DagsterExecutor())
    assert not result.report.failed and "clips|1" in result.steps
    assert "were damaged and set aside" in caplog.text
    assert done.run().steps == []


def test_the_problem_of_a_sqlite_file_is_described_and_nothing_is_written(tmp_path):
    path = tmp_path / "a.db"
    assert sqlite_problem(path) is None
    path.touch()
    assert sqlite_problem(path) is None
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE t (a TEXT PRIMARY KEY)")
        db.executemany("INSERT INTO t VALUES (?)", [(f"{i}" * 50,) for i in range(500)])
    content = path.read_bytes()
    assert sqlite_problem(path) is None
    path.write_bytes(b"no database" * 100)
    assert sqlite_problem(path) == "file is not a database"
    path.write_bytes(content[:8192] + b"\xaa" * (len(content) - 8192))
    assert sqlite_problem(path)
    assert sqlite_problem(tmp_path) == "it is a folder"
    assert [p.name for p in tmp_path.iterdir()] == ["a.db"]
