import os
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
from vlm_audio_pipeline.storage.partition_files import Provenance, read_provenance, write_partition
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.storage.making import clips, embeddings, leaderboard, predictions, study, write

NOTHING = {"partition_files": {}, "extra_columns": [], "file": None, "limit": None}


def ask(data_folder: DataFolder, sql: str, *parameters) -> list[tuple]:
    return [tuple(row.values()) for row in query(data_folder, sql, parameters).to_pylist()]


# ---------------------------------------------------------------- what is in it


def test_nothing_run_yet_is_said(data_folder):
    with pytest.raises(VlmAudioError, match=r"no study was run there; run `vlm-audio run demo`"):
        query(data_folder, "SELECT 1")
    assert not data_folder.root.exists()


@pytest.mark.parametrize("with_parts", [False, True])
def test_every_table_is_there_with_its_columns_and_comments(data_folder, with_parts):
    if with_parts:
        study(data_folder)
    else:
        write_study_record(data_folder, "s", NOTHING)
    kinds = dict(ask(data_folder, "SELECT table_name, table_type FROM information_schema.tables"))
    comments = dict(
        ask(
            data_folder,
            "SELECT view_name, comment FROM duckdb_views() UNION ALL SELECT table_name, comment FROM duckdb_tables()",
        )
    )
    described = ask(data_folder, "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal")
    for name, schema in TABLES.items():
        assert kinds[name] == ("BASE TABLE" if schema.stored == "table" else "VIEW")
        assert comments[name] == schema.doc
        want = {(name, c.name, c.doc) for c in schema.columns if c.name != "extra"}
        assert {row for row in described if row[0] == name} == want
    assert ask(data_folder, "SELECT count(*) FROM predictions") == [(6 if with_parts else 0,)]


def test_types_are_the_same_with_and_without_parts(tmp_path):
    empty, full = DataFolder(tmp_path / "empty"), DataFolder(tmp_path / "full")
    write_study_record(empty, "s", NOTHING)
    manifest = study(full)
    vectors = write(full, "embeddings", embeddings([[1.0, 2.0]]), "e", 1)
    manifest["partition_files"]["embeddings"] = [vectors.relative_to(full.root).as_posix()]
    write_study_record(full, "s", manifest)
    types = "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
    assert ask(empty, types) == ask(full, types)


def test_every_table_takes_its_own_parts(data_folder):
    parts = {}
    for name, schema in TABLES.items():
        path = data_folder.partition_file(name, "s", "o" if schema.component else None, 1 if schema.per_fold else None)
        write_partition(path, schema.empty(), Provenance("x", "1:0", {}, "d"))
        parts[name] = [path.relative_to(data_folder.root).as_posix()]
    write_study_record(data_folder, "s", NOTHING | {"partition_files": parts})
    for name in TABLES:
        assert ask(data_folder, f'SELECT count(*) FROM "{name}"') == [(0,)]


def test_rows_of_all_parts_and_studies_are_there(data_folder):
    study(data_folder, "one", folds=(1, 2))
    study(data_folder, "two", folds=(3,))
    assert ask(data_folder, "SELECT study, fold, count(*) FROM predictions GROUP BY ALL ORDER BY ALL") == [
        ("one", 1, 3),
        ("one", 2, 3),
        ("two", 3, 3),
    ]
    assert ask(data_folder, "SELECT scores['rain'] FROM predictions WHERE study = 'two' LIMIT 1") == [(0.3,)]


def test_the_leaderboard_lies_in_order_of_rank(data_folder):
    study(data_folder)
    assert ask(data_folder, "SELECT classifier FROM leaderboard") == [("c",), ("b",), ("a",)]


def test_fold_is_the_column_not_the_folder(data_folder):
    study(data_folder, folds=(7,))
    part = data_folder.partition_file("clips", "s", None, 7)
    moved = part.parent.with_name("fold=8")
    part.parent.rename(moved)
    manifest = study_records(data_folder)["s"]
    manifest["partition_files"]["clips"] = [(moved / part.name).relative_to(data_folder.root).as_posix()]
    write_study_record(data_folder, "s", manifest)
    assert ask(data_folder, "SELECT DISTINCT fold FROM clips") == [(7,)]


# ---------------------------------------------------------------- kept columns


def test_kept_columns_stand_beside_clips_and_predictions(data_folder):
    study(data_folder, extra=[("site", "A"), ("night", "")])
    assert ask(data_folder, "SELECT DISTINCT site, night FROM clips") == [("A", "")]
    assert ask(data_folder, "SELECT site, count(*) FROM predictions GROUP BY site") == [("A", 6)]


def test_a_study_without_a_kept_column_has_null_in_it(data_folder):
    study(data_folder, "one", extra=[("site", "A")], folds=(1,))
    study(data_folder, "two", folds=(1,))
    assert ask(data_folder, "SELECT study, site, count(*) FROM predictions GROUP BY ALL ORDER BY ALL") == [
        ("one", "A", 3),
        ("two", None, 3),
    ]


ODD = ['sea "level"', "it's", "a; DROP TABLE clips --", "ä b", "select", "%", "[1]", "a.b"]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_of_kept_columns(data_folder, name):
    study(data_folder, extra=[(name, "x'\"y")])
    quoted = name.replace('"', '""')
    for table in ("clips", "predictions"):
        assert ask(data_folder, f'SELECT DISTINCT "{quoted}" FROM {table}') == [("x'\"y",)]


def test_names_that_differ_in_case_alone_are_one_column(data_folder):
    study(data_folder, "one", extra=[("Site", "A")], folds=(1,))
    study(data_folder, "two", extra=[("site", "B")], folds=(1,))
    for table in ("clips", "predictions"):
        assert ask(data_folder, f"SELECT DISTINCT study, site FROM {table} ORDER BY study") == [
            ("one", "A"),
            ("two", "B"),
        ]


def test_a_kept_column_never_takes_the_place_of_our_own(data_folder):
    study(data_folder, extra=[("Label", "wrong"), ("OUTCOME", "wrong")], folds=(1,))
    assert ask(data_folder, "SELECT label, outcome FROM predictions ORDER BY clip") == [
        ("dog", "answered"),
        ("rain", "answered"),
        ("sea", "answered"),
    ]
    assert not [c for c in query(data_folder, "FROM predictions").column_names if "_1" in c]


# ---------------------------------------------------------------- staying up to date


def test_nothing_changed_nothing_done(data_folder):
    study(data_folder)
    assert rebuild_catalogue(data_folder)
    stamp = data_folder.catalogue.stat().st_mtime_ns
    assert not rebuild_catalogue(data_folder)
    assert data_folder.catalogue.stat().st_mtime_ns == stamp


def test_a_part_that_is_gone_disappears(data_folder):
    study(data_folder)
    assert ask(data_folder, "SELECT count(*) FROM predictions") == [(6,)]
    data_folder.partition_file("predictions", "s", "p", 2).unlink()
    assert ask(data_folder, "SELECT count(*) FROM predictions") == [(3,)]
    data_folder.partition_file("leaderboard", "s").unlink()
    assert ask(data_folder, "SELECT count(*) FROM leaderboard") == [(0,)]


def test_a_part_written_anew_is_seen(data_folder):
    study(data_folder)
    assert ask(data_folder, "SELECT max(accuracy) FROM leaderboard") == [(0.9,)]
    write(data_folder, "leaderboard", leaderboard([(1, "c", 0.95)]))
    assert ask(data_folder, "SELECT max(accuracy) FROM leaderboard") == [(0.95,)]


def test_a_study_whose_record_is_gone_disappears(data_folder):
    study(data_folder, "one")
    study(data_folder, "two")
    query(data_folder, "SELECT 1")
    (data_folder.studies / "one.json").unlink()
    assert ask(data_folder, "SELECT DISTINCT study FROM predictions") == [("two",)]


def test_a_part_no_study_knows_is_not_read(data_folder):
    study(data_folder, folds=(1,))
    write(data_folder, "clips", clips(3, 9), None, 9)
    assert ask(data_folder, "SELECT DISTINCT fold FROM clips") == [(1,)]


def test_a_data_folder_may_be_moved(data_folder, tmp_path):
    study(data_folder)
    assert ask(data_folder, "SELECT count(*) FROM clips") == [(6,)]
    moved = DataFolder(tmp_path / "it's [1] moved*")
    data_folder.root.rename(moved.root)
    assert ask(moved, "SELECT count(*) FROM clips") == [(6,)]
    assert not rebuild_catalogue(moved)


def test_a_folders_name_is_no_pattern(tmp_path):
    """Taken for a pattern, `data[1]` is the folder `data1`, and `data*` is both."""
    for name, folds in (("data1", (1, 2)), ("data[1]", (1,)), ("data*", (1,))):
        study(DataFolder(tmp_path / name), folds=folds)
    for name in ("data[1]", "data*"):
        assert ask(DataFolder(tmp_path / name), "SELECT count(*) FROM clips") == [(3,)]


def test_views_work_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study(DataFolder(Path("data")))
    query(DataFolder(Path("data")), "SELECT 1")
    monkeypatch.chdir("/")
    with duckdb.connect(str(tmp_path / "data/results.duckdb"), read_only=True) as db:
        assert db.sql("SELECT count(*) FROM clips").fetchall() == [(6,)]


def test_a_reader_goes_on_while_it_is_rebuilt(data_folder):
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
    assert ask(data_folder, "SELECT max(accuracy) FROM leaderboard") == [(0.95,)]


def test_someone_with_it_open_for_writing_does_not_stop_us(data_folder):
    """`duckdb data/results.duckdb` opens it for writing and locks it."""
    study(data_folder)
    rebuild_catalogue(data_folder)
    code = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.readline()"
    person = subprocess.Popen(
        [sys.executable, "-c", code, str(data_folder.catalogue)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert person.stdout.readline() == "open\n"
    try:
        assert ask(data_folder, "SELECT count(*) FROM clips") == [(6,)]
    finally:
        person.communicate("\n", timeout=30)


def test_while_another_rebuilds_readers_take_what_is_there(data_folder):
    study(data_folder)
    rebuild_catalogue(data_folder)
    data_folder.partition_file("predictions", "s", "p", 2).unlink()
    with file_lock(data_folder.lock("catalogue")):
        began = time.monotonic()
        assert rebuild_catalogue(data_folder, wait=False) is False
        assert ask(data_folder, "SELECT count(*) FROM leaderboard") == [(3,)]
        assert time.monotonic() - began < 20  # s
    assert rebuild_catalogue(data_folder, wait=False) is True


@pytest.mark.parametrize("content", [b"", b"no database", b"\0" * 20000])
def test_a_damaged_catalogue_is_rebuilt(data_folder, content):
    study(data_folder)
    rebuild_catalogue(data_folder)
    data_folder.catalogue.write_bytes(content)
    assert ask(data_folder, "SELECT count(*) FROM clips") == [(6,)]


def test_what_someone_left_of_a_write_does_not_stay_in_the_way(data_folder):
    study(data_folder)
    rebuild_catalogue(data_folder)
    data_folder.catalogue.with_name("results.duckdb.wal").write_bytes(b"half a log" * 100)
    data_folder.partition_file("predictions", "s", "p", 2).unlink()
    assert ask(data_folder, "SELECT count(*) FROM predictions") == [(3,)]


@pytest.mark.parametrize("table", ["clips", "predictions", "leaderboard"])
@pytest.mark.parametrize("keep", [0, 4, 1000])
def test_a_damaged_part_does_not_take_the_others_away(data_folder, table, keep):
    study(data_folder)
    study(data_folder, "other")
    part = data_folder.partition_file(
        table, "s", "p" if table == "predictions" else None, None if table == "leaderboard" else 1
    )
    part.write_bytes(part.read_bytes()[:keep])
    assert rebuild_catalogue(data_folder)
    assert ask(data_folder, f"SELECT DISTINCT study FROM {table} ORDER BY ALL") == (
        [("other",)] if table == "leaderboard" else [("other",), ("s",)]
    )
    assert not rebuild_catalogue(data_folder)


def damage_pages(part: Path) -> None:
    """Overwrite all rows of a part and leave its footer as it is; its length stands 8 bytes before the file's end."""
    data = part.read_bytes()
    pages = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    part.write_bytes(b"PAR1" + b"\xff" * (pages - 4) + data[pages:])
    assert read_provenance(part) is not None


@pytest.mark.parametrize(
    ("table", "other_table"), [("clips", "leaderboard"), ("predictions", "clips"), ("leaderboard", "predictions")]
)
def test_a_part_with_damaged_rows_is_named_and_takes_no_other_table_away(data_folder, table, other_table):
    study(data_folder)
    study(data_folder, "other")
    part = data_folder.partition_file(
        table, "s", "p" if table == "predictions" else None, None if table == "leaderboard" else 1
    )
    damage_pages(part)
    rebuild_catalogue(data_folder)
    with pytest.raises(VlmAudioError) as caught:
        query(data_folder, f"SELECT * FROM {table}")
    assert str(caught.value) == (f"these partition files are damaged: {part}; delete them and run their studies again")
    assert ask(data_folder, f"SELECT DISTINCT study FROM {other_table} ORDER BY ALL") == [("other",), ("s",)]
    part.unlink()
    assert ("other",) in ask(data_folder, f"SELECT DISTINCT study FROM {table}")


def test_a_kept_columns_clips_are_named_where_predictions_are_asked(data_folder):
    study(data_folder, extra=[("site", "A")])
    part = data_folder.partition_file("clips", "s", None, 2)
    damage_pages(part)
    with pytest.raises(VlmAudioError, match="delete them and run") as caught:
        query(data_folder, "SELECT site, clip FROM Predictions")
    assert str(part) in str(caught.value)


def test_a_part_of_an_older_schema_does_not_take_the_others_away(data_folder):
    study(data_folder)
    write_partition(
        data_folder.partition_file("predictions", "s", "p", 1),
        predictions().drop_columns("annotator"),
        Provenance("x", "1:0", {}, "d"),
    )
    assert ask(data_folder, "SELECT fold, count(*), count(annotator) FROM predictions GROUP BY fold") == [(2, 3, 0)]


def test_nothing_is_left_beside_it(data_folder):
    study(data_folder)
    rebuild_catalogue(data_folder)
    assert {p.name for p in data_folder.root.iterdir()} == {"results.duckdb", "tables", "studies", "locks"}


# ---------------------------------------------------------------- questions


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT nothing FROM clips", "SELECT * FROM nowhere", "SELECT error('no')"])
def test_wrong_sql_is_answered_in_duckdbs_words(data_folder, sql):
    study(data_folder)
    with pytest.raises(VlmAudioError, match="Error"):
        query(data_folder, sql)


@pytest.mark.parametrize("sql", ["DROP VIEW clips", "CREATE TABLE x (a INT)", "DELETE FROM leaderboard"])
def test_questions_change_nothing(data_folder, sql):
    study(data_folder)
    with pytest.raises(VlmAudioError, match="read-only"):
        query(data_folder, sql)
    assert ask(data_folder, "SELECT count(*) FROM leaderboard") == [(3,)]


def test_parameters_are_bound_not_pasted(data_folder):
    study(data_folder)
    assert ask(data_folder, "SELECT count(*) FROM clips WHERE label = ?", "dog") == [(2,)]
    assert ask(data_folder, "SELECT count(*) FROM clips WHERE label = ?", "dog' OR '1'='1") == [(0,)]


def test_wrong_parameters_are_answered(data_folder):
    study(data_folder)
    with pytest.raises(VlmAudioError):
        query(data_folder, "SELECT ?")
    with pytest.raises(VlmAudioError):
        query(data_folder, "SELECT 1", ["too many"])


def test_nothing_asked_nothing_answered(data_folder):
    study(data_folder)
    assert query(data_folder, "").equals(pa.table({}))


def test_times_are_told_in_utc(data_folder, monkeypatch):
    study(data_folder)
    assert ask(data_folder, "SELECT current_setting('TimeZone')") == [("UTC",)]


# ---------------------------------------------------------------- records of studies


def test_a_record_is_read_back_and_not_written_needlessly(data_folder):
    written = study(data_folder, "ä")
    assert study_records(data_folder) == {"ä": written}
    path = data_folder.studies / "ä.json"
    os.utime(path, ns=(1, 1))
    write_study_record(data_folder, "ä", dict(reversed(written.items())))
    assert path.stat().st_mtime_ns == 1
    write_study_record(data_folder, "ä", written | {"limit": 3})
    assert study_records(data_folder)["ä"]["limit"] == 3
    assert [p.name for p in data_folder.studies.iterdir()] == ["ä.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_record_is_named_and_mended_by_running_again(data_folder, content):
    manifest = study(data_folder)
    (data_folder.studies / "s.json").write_bytes(content)
    with pytest.raises(VlmAudioError, match=r"study record .*s\.json cannot be read: .*run the study again"):
        query(data_folder, "SELECT 1")
    write_study_record(data_folder, "s", manifest)
    assert ask(data_folder, "SELECT count(*) FROM clips") == [(6,)]
