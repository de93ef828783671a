"""`vlm-audio doctor DATA` names every damage and what to do, and changes nothing."""

import hashlib
import shutil
import sqlite3
from contextlib import closing

import pyarrow.parquet as pq
import pytest

from vlm_audio_pipeline.api.project import doctor
from vlm_audio_pipeline.engines import doctor as machine
from vlm_audio_pipeline.engines.data_doctor import check_data
from vlm_audio_pipeline.storage import sqlite_files
from vlm_audio_pipeline.storage.catalogue import rebuild_catalogue
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.file_checksum import CHECKSUM_KEY
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_store import PAGE_SIZE_BYTES, ResultStore
from vlm_audio_pipeline_tests.cli.program import vlm_audio
from vlm_audio_pipeline_tests.storage.example_tables import study


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Return a data folder with two studies, results, a catalogue and a database of Dagster."""
    data_folder = DataFolder(tmp_path_factory.mktemp("doctor") / "data").create()
    study(data_folder, "one")
    study(data_folder, "two")
    store = ResultStore(data_folder.result_store)
    store.put("vector", [(f"{i:064}", bytes([i]) * 100) for i in range(20)])
    store.put("response", [("f" * 64, b"{}")])
    ledger = Ledger(store, "one", Budget(usd=1))
    ledger.reserve("gpt", 0.5)
    ledger.close()
    store.close()
    rebuild_catalogue(data_folder)
    data_folder.run_logs.mkdir(parents=True)
    for path in (data_folder.dagster_home / "history" / "runs.db", data_folder.run_logs / "index.db"):
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE t (a TEXT)")
            db.executemany("INSERT INTO t VALUES (?)", [("x" * 500,) for _ in range(50)])
    (data_folder.dagster_home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return data_folder


@pytest.fixture
def data_folder(template, tmp_path):
    shutil.copytree(template.root, tmp_path / "data")
    data_folder = DataFolder(tmp_path / "data")
    rebuild_catalogue(data_folder)  # its paths are absolute
    return data_folder


def contents(data_folder):
    """Return every file of a folder with the digest of its content, and every folder."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else path.is_dir()
        for path in data_folder.root.rglob("*")
    }


def findings(data_folder):
    """Return the findings that are not ok, and check that nothing was changed."""
    before = contents(data_folder)
    checks = check_data(data_folder)
    assert contents(data_folder) == before
    return [(check.state, check.text) for check in checks if check.state != "ok"]


def sql(path, statement):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def overwrite(path, start, end):
    content = bytearray(path.read_bytes())
    content[start:end] = b"\xaa" * (end - start)
    path.write_bytes(content)


def test_an_intact_data_folder_has_no_findings(data_folder):
    assert findings(data_folder) == []
    texts = " | ".join(check.text for check in check_data(data_folder))
    for words in (
        "21 results with the right checksums",
        "the records of the studies are intact: one, two",
        "partition files are intact",
    ):
        assert words in texts
    assert "catalogue results.duckdb can be read" in texts and "2 databases of Dagster are intact" in texts


def test_a_data_folder_that_does_not_exist_has_no_findings_and_is_not_created(tmp_path):
    assert check_data(DataFolder(tmp_path / "none")) == []
    assert not (tmp_path / "none").exists()


def damage_vector(folder):
    sql(
        folder.result_store,
        "UPDATE results SET payload = x'00' WHERE result_key = (SELECT min(result_key) FROM results)",
    )


def damage_response(folder):
    sql(folder.result_store, "UPDATE results SET payload = x'00' WHERE kind = 'response'")


def damage_amount(folder):
    sql(folder.result_store, "UPDATE spending SET nano_usd = 0")


def damage_store(folder):
    overwrite(folder.result_store, PAGE_SIZE_BYTES, 3 * PAGE_SIZE_BYTES)


def replace_store(folder):
    folder.result_store.write_bytes(b"no database" * 1000)


def damage_partition_file(folder):
    path = folder.partition_file("predictions", "one", "p", 1)
    overwrite(path, path.stat().st_size - 60, path.stat().st_size - 50)


def replace_partition_file(folder):
    path = folder.partition_file("predictions", "one", "p", 1)
    path.unlink()
    path.mkdir()


def delete_record(folder):
    (folder.studies / "one.json").unlink()


def damage_record(folder):
    path = folder.studies / "one.json"
    path.write_bytes(path.read_bytes().replace(b"fold=1", b"fold=7", 1))


def leave_log(folder):
    folder.catalogue.with_name("results.duckdb.wal").write_bytes(b"half a log")


def damage_catalogue(folder):
    folder.catalogue.write_bytes(b"no database" * 1000)


def damage_history(folder):
    overwrite(folder.dagster_home / "history" / "runs.db", 4096, 8192)


def replace_event_log(folder):
    path = folder.run_logs / "index.db"
    path.unlink()
    path.mkdir()


def damage_config(folder):
    (folder.dagster_home / "dagster.yaml").write_text("[1, 2")


def damage_format(folder):
    folder.format_file.write_text("{")


@pytest.mark.parametrize(
    ("damage", "state", "words"),
    [
        (damage_vector, "bad", ["1 of 21 results", "1 of kind vector", "computes them again"]),
        (damage_response, "bad", ["1 of kind response", "paid for, again", "restore your backup first"]),
        (damage_amount, "bad", ["1 amounts in the spending ledger", "restore your backup", "WHERE id IN (1)"]),
        (damage_store, "bad", ["results.sqlite is damaged", ".recover", "backup"]),
        (replace_store, "bad", ["file is not a database", "ledger"]),
        (damage_partition_file, "bad", ["1 of", "part-0.parquet", "run one again"]),
        (replace_partition_file, "bad", ["1 of", "part-0.parquet", "run one again"]),
        (delete_record, "bad", ["study 'one' has partition files but no record", "run it again"]),
        (damage_record, "bad", ["one.json is damaged", "run the study again"]),
        (leave_log, "warn", ["results.duckdb.wal", "the next command"]),
        (damage_catalogue, "warn", ["the catalogue", "the next command makes it again"]),
        (damage_history, "bad", ["runs.db is damaged", "set aside"]),
        (replace_event_log, "bad", ["index.db is damaged: it is a folder"]),
        (damage_config, "bad", ["dagster.yaml is not a YAML mapping", "delete it"]),
        (damage_format, "bad", ["format.json cannot be read"]),
    ],
)
def test_each_damage_is_named_with_what_to_do(data_folder, damage, state, words):
    damage(data_folder)
    ((found_state, text),) = findings(data_folder)
    assert found_state == state
    for word in words:
        assert word.casefold() in text.casefold()


def test_a_damaged_record_is_not_counted_as_intact(data_folder):
    damage_record(data_folder)
    assert any(check.text == "the records of the studies are intact: two" for check in check_data(data_folder))


@pytest.mark.parametrize("name", ["result_store", "dagster"])
def test_a_locked_database_is_reported_as_not_checked(data_folder, monkeypatch, name):
    monkeypatch.setattr(sqlite_files, "READ_TIMEOUT_S", 0.01)
    path = data_folder.result_store if name == "result_store" else data_folder.run_logs / "index.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("BEGIN EXCLUSIVE")
        ((state, text),) = [(c.state, c.text) for c in check_data(data_folder) if c.state != "ok"]
        assert state == "warn" and str(path) in text and "was not checked" in text


def test_partition_files_of_an_older_version_are_named(data_folder):
    path = data_folder.partition_file("predictions", "one", "p", 1)
    with pq.ParquetFile(path) as file:
        rows = file.read()
    metadata = {key: value for key, value in rows.schema.metadata.items() if key != CHECKSUM_KEY}
    pq.write_table(rows.replace_schema_metadata(metadata), path, write_page_checksum=True)
    rebuild_catalogue(data_folder)
    ((state, text),) = findings(data_folder)
    assert state == "warn"
    assert "1 of" in text and f"have no checksum, because an older version wrote them: {path}" in text
    assert "run one again" in text


def test_the_python_function_checks_the_data_folder_of_any_format(data_folder, monkeypatch):
    monkeypatch.setattr(machine, "check_machine", lambda folder: [])  # it loads torch
    damage_vector(data_folder)
    data_folder.format_file.write_text('{"format_version": 99}')
    texts = [row["text"] for row in doctor(data=data_folder.root).to_pylist() if row["state"] == "bad"]
    assert any("has format version 99" in text for text in texts) and any("1 of 21 results" in text for text in texts)


def test_results_of_an_older_version_have_no_checksums(data_folder):
    sql(data_folder.result_store, "DROP INDEX results_by_checksum")
    sql(data_folder.result_store, "ALTER TABLE results DROP COLUMN sha256")
    assert findings(data_folder) == []
    assert any("older version" in check.text for check in check_data(data_folder))


@pytest.mark.slow
def test_the_command_reports_the_data_folder_and_its_exit_code_says_whether_something_must_be_fixed(data_folder):
    ok = vlm_audio("doctor", data_folder.root)
    assert ok.code == 0 and "21 results with the right checksums" in ok.out
    damage_vector(data_folder)
    damaged = vlm_audio("doctor", data_folder.root)
    assert damaged.code == 1 and "1 of 21 results" in damaged.out.replace("\n", " ")
    assert vlm_audio("doctor", data=data_folder.root).code == 1
