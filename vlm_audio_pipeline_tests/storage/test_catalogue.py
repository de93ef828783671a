import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.catalogue import (
    open_catalogue,
    query,
    rebuild_catalogue,
    study_records,
    write_study_record,
)
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.locks import file_lock
from vlm_audio_pipeline.storage.partition_files import Provenance, write_partition
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.storage.example_tables import clips, embeddings, leaderboard, study, write

EMPTY_RECORD = {"partition_files": {}, "extra_columns": [], "file": None, "limit": None}


def query_rows(data_folder: DataFolder, sql: str, *parameters) -> list[tuple]:
    return [tuple(row.values()) for row in query(data_folder, sql, parameters).to_pylist()]


# ---------------------------------------------------------------- contents


def test_a_query_before_the_first_run_is_an_error(data_folder):
    with pytest.raises(VlmAudioError, match=r"no study was run in it; run `vlm-audio run demo`"):
        query(data_folder, "SELECT 1")
    assert not data_folder.root.exists()


@pytest.mark.parametrize("with_partition_files", [False, True])
def test_the_catalogue_has_every_table_with_columns_and_comments(data_folder, with_partition_files):
    if with_partition_files:
        study(data_folder)
    else:
        write_study_record(data_folder, "s", EMPTY_RECORD)
    kinds = dict(query_rows(data_folder, "SELECT table_name, table_type FROM information_schema.tables"))
    comments = dict(
        query_rows(
            data_folder,
            "SELECT view_name, comment FROM duckdb_views() UNION ALL SELECT table_name, comment FROM duckdb_tables()",
        )
    )
    column_comments = query_rows(
        data_folder, "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
    )
    for name, schema in TABLES.items():
        assert kinds[name] == ("BASE TABLE" if schema.catalogue_kind == "table" else "VIEW")
        assert comments[name] == schema.doc
        expected = {(name, c.name, c.doc) for c in schema.columns if c.name != "extra"}
        assert {row for row in column_comments if row[0] == name} == expected
    assert query_rows(data_folder, "SELECT count(*) FROM predictions") == [(6 if with_partition_files else 0,)]


def test_column_types_are_the_same_with_and_without_partition_files(tmp_path):
    empty, full = DataFolder(tmp_path / "empty"), DataFolder(tmp_path / "full")
    write_study_record(empty, "s", EMPTY_RECORD)
    record = study(full)
    vectors = write(full, "embeddings", embeddings([[1.0, 2.0]]), "e", 1)
    record["partition_files"]["embeddings"] = [vectors.relative_to(full.root).as_posix()]
    write_study_record(full, "s", record)
    types = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
    assert query_rows(empty, types) == query_rows(full, types)


def test_every_table_reads_its_own_partition_files(data_folder):
    partition_files = {}
    for name, schema in TABLES.items():
        path = data_folder.partition_file(name, "s", "o" if schema.component else None, 1 if schema.per_fold else None)
        write_partition(path, schema.empty_table(), Provenance("x", "1:0", {}, "d"))
        partition_files[name] = [path.relative_to(data_folder.root).as_posix()]
    write_study_record(data_folder, "s", EMPTY_RECORD | {"partition_files": partition_files})
    for name in TABLES:
        assert query_rows(data_folder, f'SELECT count(*) FROM "{name}"') == [(0,)]


def test_rows_of_all_partition_files_and_studies_are_returned(data_folder):
    study(data_folder, "one", folds=(1, 2))
    study(data_folder, "two", folds=(3,))
    assert query_rows(data_folder, "SELECT study, fold, count(*) FROM predictions GROUP BY ALL ORDER BY ALL") == [
        ("one", 1, 3),
        ("one", 2, 3),
        ("two", 3, 3),
    ]
    assert query_rows(data_folder, "SELECT scores['rain'] FROM predictions WHERE study = 'two' LIMIT 1") == [(0.3,)]


def test_the_leaderboard_is_ordered_by_rank(data_folder):
    study(data_folder)
    assert query_rows(data_folder, "SELECT classifier FROM leaderboard") == [("c",), ("b",), ("a",)]


def test_fold_is_read_from_the_column_and_not_from_the_folder_name(data_folder):
    study(data_folder, folds=(7,))
    partition_file = data_folder.partition_file("clips", "s", None, 7)
    moved_file = partition_file.parent.with_name("fold=8")
    partition_file.parent.rename(moved_file)
    record = study_records(data_folder)["s"]
    record["partition_files"]["clips"] = [(moved_file / partition_file.name).relative_to(data_folder.root).as_posix()]
    write_study_record(data_folder, "s", record)
    assert query_rows(data_folder, "SELECT DISTINCT fold FROM clips") == [(7,)]


# ---------------------------------------------------------------- extra columns


def test_extra_columns_are_shown_with_clips_and_predictions(data_folder):
    study(data_folder, extra=[("site", "A"), ("night", "")])
    assert query_rows(data_folder, "SELECT DISTINCT site, night FROM clips") == [("A", "")]
    assert query_rows(data_folder, "SELECT site, count(*) FROM predictions GROUP BY site") == [("A", 6)]


def test_an_extra_column_is_null_for_a_study_without_it(data_folder):
    study(data_folder, "one", extra=[("site", "A")], folds=(1,))
    study(data_folder, "two", folds=(1,))
    assert query_rows(data_folder, "SELECT study, site, count(*) FROM predictions GROUP BY ALL ORDER BY ALL") == [
        ("one", "A", 3),
        ("two", None, 3),
    ]


UNUSUAL_NAMES = ['sea "level"', "it's", "a; DROP TABLE clips --", "ä b", "select", "%", "[1]", "a.b"]


@pytest.mark.parametrize("name", UNUSUAL_NAMES)
def test_extra_columns_may_have_unusual_names(data_folder, name):
    study(data_folder, extra=[(name, "x'\"y")])
    quoted = name.replace('"', '""')
    for table in ("clips", "predictions"):
        assert query_rows(data_folder, f'SELECT DISTINCT "{quoted}" FROM {table}') == [("x'\"y",)]


def test_extra_columns_that_differ_only_in_case_are_one_column(data_folder):
    study(data_folder, "one", extra=[("Site", "A")], folds=(1,))
    study(data_folder, "two", extra=[("site", "B")], folds=(1,))
    for table in ("clips", "predictions"):
        assert query_rows(data_folder, f"SELECT DISTINCT study, site FROM {table} ORDER BY study") == [
            ("one", "A"),
            ("two", "B"),
        ]


def test_an_extra_column_never_replaces_a_column_of_the_schema(data_folder):
    study(data_folder, extra=[("Label", "wrong"), ("OUTCOME", "wrong")], folds=(1,))
    assert query_rows(data_folder, "SELECT label, outcome FROM predictions ORDER BY clip") == [
        ("dog", "answered"),
        ("rain", "answered"),
        ("sea", "answered"),
    ]
    assert not [c for c in query(data_folder, "FROM predictions").column_names if "_1" in c]


# ---------------------------------------------------------------- rebuilding


def test_without_changes_the_catalogue_is_not_rebuilt(data_folder):
    study(data_folder)
    assert rebuild_catalogue(data_folder)
    stamp = data_folder.catalogue.stat().st_mtime_ns
    assert not rebuild_catalogue(data_folder)
    assert data_folder.catalogue.stat().st_mtime_ns == stamp


def test_rows_of_a_deleted_partition_file_disappear(data_folder):
    study(data_folder)
    assert query_rows(data_folder, "SELECT count(*) FROM predictions") == [(6,)]
    data_folder.partition_file("predictions", "s", "p", 2).unlink()
    assert query_rows(data_folder, "SELECT count(*) FROM predictions") == [(3,)]
    data_folder.partition_file("leaderboard", "s").unlink()
    assert query_rows(data_folder, "SELECT count(*) FROM leaderboard") == [(0,)]


def test_a_rewritten_partition_file_is_read_again(data_folder):
    study(data_folder)
    assert query_rows(data_folder, "SELECT max(accuracy) FROM leaderboard") == [(0.9,)]
    write(data_folder, "leaderboard", leaderboard([(1, "c", 0.95)]))
    assert query_rows(data_folder, "SELECT max(accuracy) FROM leaderboard") == [(0.95,)]


def test_rows_of_a_study_without_record_disappear(data_folder):
    study(data_folder, "one")
    study(data_folder, "two")
    query(data_folder, "SELECT 1")
    (data_folder.studies / "one.json").unlink()
    assert query_rows(data_folder, "SELECT DISTINCT study FROM predictions") == [("two",)]


def test_a_partition_file_that_no_study_record_lists_is_not_read(data_folder):
    study(data_folder, folds=(1,))
    write(data_folder, "clips", clips(3, 9), None, 9)
    assert query_rows(data_folder, "SELECT DISTINCT fold FROM clips") == [(1,)]


def test_a_data_folder_may_be_moved(data_folder, tmp_path):
    study(data_folder)
    assert query_rows(data_folder, "SELECT count(*) FROM clips") == [(6,)]
    moved = DataFolder(tmp_path / "it's [1] moved*")
    data_folder.root.rename(moved.root)
    assert query_rows(moved, "SELECT count(*) FROM clips") == [(6,)]
    assert not rebuild_catalogue(moved)


def test_a_data_folder_name_is_not_a_glob_pattern(tmp_path):
    """As a glob pattern, `data[1]` would match the folder `data1`, and `data*` would match both."""
    for name, folds in (("data1", (1, 2)), ("data[1]", (1,)), ("data*", (1,))):
        study(DataFolder(tmp_path / name), folds=folds)
    for name in ("data[1]", "data*"):
        assert query_rows(DataFolder(tmp_path / name), "SELECT count(*) FROM clips") == [(3,)]


def test_views_work_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study(DataFolder(Path("data")))
    query(DataFolder(Path("data")), "SELECT 1")
    monkeypatch.chdir("/")
    with duckdb.connect(str(tmp_path / "data/results.duckdb"), read_only=True) as db:
        assert db.sql("SELECT count(*) FROM clips").fetchall() == [(6,)]


def test_an_open_connection_still_works_while_the_catalogue_is_rebuilt(data_folder):
    study(data_folder)
    with open_catalogue(data_folder) as db:
        assert db.sql("SELECT max(accuracy) FROM leaderboard").fetchall() == [(0.9,)]
        write(data_folder, "leaderboard", leaderboard([(1, "c", 0.95)]))
        rebuild = "from vlm_audio_pipeline.storage.catalogue import *; import sys; print(rebuild_catalogue(DataFolder(Path(sys.argv[1]))))"
        done = subprocess.run(
            [sys.executable, "-c", rebuild, str(data_folder.root)], capture_output=True, text=True, check=True
        )
        assert done.stdout == "True\n"
        assert db.sql("SELECT max(accuracy) FROM leaderboard").fetchall() == [(0.9,)]
        assert db.sql("SELECT count(*) FROM predictions").fetchall() == [(6,)]
    assert query_rows(data_folder, "SELECT max(accuracy) FROM leaderboard") == [(0.95,)]


def test_another_process_that_has_the_catalogue_open_for_writing_does_not_block_queries(data_folder):
    """`duckdb data/results.duckdb` opens it for writing and locks it."""
    study(data_folder)
    rebuild_catalogue(data_folder)
    code = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.readline()"
    other_process = subprocess.Popen(
        [sys.executable, "-c", code, str(data_folder.catalogue)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other_process.stdout.readline() == "open\n"
    try:
        assert query_rows(data_folder, "SELECT count(*) FROM clips") == [(6,)]
    finally:
        other_process.communicate("\n", timeout=30)


def test_queries_use_the_old_catalogue_while_another_process_rebuilds_it(data_folder):
    study(data_folder)
    rebuild_catalogue(data_folder)
    data_folder.partition_file("predictions", "s", "p", 2).unlink()
    with file_lock(data_folder.lock("catalogue")):
        began = time.monotonic()
        assert rebuild_catalogue(data_folder, wait=False) is False
        assert query_rows(data_folder, "SELECT count(*) FROM leaderboard") == [(3,)]
        assert time.monotonic() - began < 20  # s
    assert rebuild_catalogue(data_folder, wait=False) is True


@pytest.mark.parametrize("content", [b"", b"no database", b"\0" * 20000])
def test_a_damaged_catalogue_is_rebuilt(data_folder, content):
    study(data_folder)
    rebuild_catalogue(data_folder)
    data_folder.catalogue.write_bytes(content)
    assert query_rows(data_folder, "SELECT count(*) FROM clips") == [(6,)]


def test_a_leftover_write_ahead_log_does_not_block_a_rebuild(data_folder):
    study(data_folder)
    rebuild_catalogue(data_folder)
    data_folder.catalogue.with_name("results.duckdb.wal").write_bytes(b"half a log" * 100)
    data_folder.partition_file("predictions", "s", "p", 2).unlink()
    assert query_rows(data_folder, "SELECT count(*) FROM predictions") == [(3,)]


KILLED_WRITER = """
import duckdb, os, signal, sys
db = duckdb.connect(sys.argv[1])
db.execute("CREATE TABLE mine AS SELECT range AS i FROM range(1000)")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("is_stale", [False, True])
def test_the_write_ahead_log_of_a_killed_program_does_not_block_queries(data_folder, is_stale):
    """DuckDB refuses a file with the log of another file, so the log is deleted when the catalogue is replaced."""
    study(data_folder)
    rebuild_catalogue(data_folder)
    log = data_folder.catalogue.with_name("results.duckdb.wal")
    assert subprocess.run([sys.executable, "-c", KILLED_WRITER, data_folder.catalogue]).returncode == -9
    assert log.exists()
    if is_stale:
        data_folder.partition_file("predictions", "s", "p", 2).unlink()
    else:  # the log of a file that was replaced
        data_folder.catalogue.unlink()
        write_ahead_log = log.read_bytes()
        rebuild_catalogue(data_folder)
        log.write_bytes(write_ahead_log)
    expected = 3 if is_stale else 6
    assert query_rows(data_folder, "SELECT count(*) FROM predictions") == [(expected,)]
    assert query_rows(data_folder, "SELECT count(*) FROM predictions") == [(expected,)]
    assert not log.exists()


def test_a_folder_in_the_place_of_the_catalogue_is_set_aside(data_folder):
    study(data_folder)
    data_folder.catalogue.mkdir()
    assert query_rows(data_folder, "SELECT count(*) FROM predictions") == [(6,)]


def test_a_rebuild_leaves_no_other_files(data_folder):
    study(data_folder)
    rebuild_catalogue(data_folder)
    assert {p.name for p in data_folder.root.iterdir()} == {"results.duckdb", "tables", "studies", "locks"}


# ---------------------------------------------------------------- queries


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT nothing FROM clips", "SELECT * FROM nowhere", "SELECT error('no')"])
def test_an_sql_error_has_the_message_of_duckdb(data_folder, sql):
    study(data_folder)
    with pytest.raises(VlmAudioError, match="Error"):
        query(data_folder, sql)


@pytest.mark.parametrize("sql", ["DROP VIEW clips", "CREATE TABLE x (a INT)", "DELETE FROM leaderboard"])
def test_a_query_cannot_change_data(data_folder, sql):
    study(data_folder)
    with pytest.raises(VlmAudioError, match="read-only"):
        query(data_folder, sql)
    assert query_rows(data_folder, "SELECT count(*) FROM leaderboard") == [(3,)]


def test_parameters_are_bound_and_not_inserted_as_text(data_folder):
    study(data_folder)
    assert query_rows(data_folder, "SELECT count(*) FROM clips WHERE label = ?", "dog") == [(2,)]
    assert query_rows(data_folder, "SELECT count(*) FROM clips WHERE label = ?", "dog' OR '1'='1") == [(0,)]


def test_a_wrong_number_of_parameters_is_an_error(data_folder):
    study(data_folder)
    with pytest.raises(VlmAudioError):
        query(data_folder, "SELECT ?")
    with pytest.raises(VlmAudioError):
        query(data_folder, "SELECT 1", ["too many"])


def test_an_empty_query_returns_an_empty_table(data_folder):
    study(data_folder)
    assert query(data_folder, "").equals(pa.table({}))


def test_times_are_in_utc(data_folder, monkeypatch):
    study(data_folder)
    assert query_rows(data_folder, "SELECT current_setting('TimeZone')") == [("UTC",)]


def test_a_query_of_one_study_sees_only_its_rows(data_folder):
    """In views, in tables inside the catalogue, and in joins of both."""
    study(data_folder, "s")
    study(data_folder, "t")
    for table in ("clips", "predictions", "leaderboard"):
        sql = f"SELECT DISTINCT study FROM {table} ORDER BY study"
        assert query(data_folder, sql)["study"].to_pylist() == ["s", "t"]
        assert query(data_folder, sql, study="t")["study"].to_pylist() == ["t"]
    joined = "SELECT count(*) AS n FROM predictions JOIN leaderboard USING (study)"
    both, one = (query(data_folder, joined, study=name)["n"][0].as_py() for name in (None, "s"))
    assert both == 2 * one > 0
