"""What a query can reach. The data folder is `data`; `other` beside it must stay untouched and unread."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline_tests.storage.example_tables import study


def create_folders(folder):
    other = folder / "data_other"
    other.mkdir()
    (other / "secret.csv").write_text("a\nsecret\n")
    data_folder = DataFolder(folder / "data").create()
    study(data_folder)
    (data_folder.root / "list.csv").write_text("a\n1\n")
    (data_folder.root / "link").symlink_to(other)
    query(data_folder, "SELECT 1")  # builds the catalogue
    return data_folder, other


@pytest.fixture
def folders(tmp_path):
    return create_folders(tmp_path)


@pytest.fixture(scope="module")
def shared_folders(tmp_path_factory):
    return create_folders(tmp_path_factory.mktemp("shared"))


def files(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


READING = [
    "SELECT count(*) FROM clips",
    "FROM predictions p JOIN clips c USING (study, clip)",
    "SHOW TABLES",
    "DESCRIBE clips",
    "SUMMARIZE clips",
    "PRAGMA table_info('clips')",
    "EXPLAIN SELECT * FROM clips",
    "EXPLAIN ANALYZE SELECT * FROM clips",
    "WITH x AS (SELECT label FROM clips) SELECT * FROM x",
    "PIVOT clips ON label USING count(*)",
    "SELECT 'copy' AS \"copy\", 'ä' AS a -- copy",
    "SELECT 1; SELECT label FROM clips",
    "SELECT * FROM read_csv('{data}/list.csv')",
    "SELECT * FROM read_parquet('{data}/tables/clips/**/*.parquet')",
]
FORBIDDEN = [
    "FROM '{other}/secret.csv'",
    "FROM '{data}/../data_other/secret.csv'",
    "FROM '{data}/link/secret.csv'",
    "SELECT * FROM read_text('{other}/secret.csv')",
    "SELECT * FROM read_blob('/proc/self/environ')",
    "SELECT * FROM glob('{other}/*')",
    "SELECT * FROM sniff_csv('{other}/secret.csv')",
    "FROM 'https://127.0.0.1:9/x.csv'",
    "FROM tables",  # a variable of the program
    "COPY (SELECT 1) TO '{other}/new.csv'",
    "COPY (SELECT 1) TO '{data}/new.csv'",
    "copy clips to '{data}/tables/clips/new.parquet'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{data}/new.csv'",
    "explain /* a */ analyze /* b */ copy (SELECT 1) TO '{data}/new.csv'",
    "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{data}/new.csv'",
    "WITH w AS (COPY (SELECT 1) TO '{data}/new.csv') SELECT * FROM w",
    "SELECT 'ä', 'ö'; WITH w AS(COPY(SELECT 1)TO'{data}/new.csv')SELECT 'ü'",
    "WITH w AS (COPY (SELECT 1) TO '{data}/new.csv') PIVOT w ON Count USING sum(Count)",
    "SELECT 1; COPY (SELECT 1) TO '{data}/new.csv'",
    "EXPORT DATABASE '{data}/new'",
    "EXPLAIN ANALYZE EXPORT DATABASE '{data}/new'",
    "ATTACH '{data}/new.duckdb'",
    "ATTACH '{other}/new.duckdb' AS n",
    "CREATE TABLE n AS SELECT 1",
    "CREATE TEMP TABLE n AS SELECT 1",
    "PREPARE n AS COPY (SELECT 1) TO '{data}/new.csv'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET lock_configuration = false",
    "SET enable_external_access = true",
    "PRAGMA enable_profiling",
    "CALL enable_logging(storage = 'file', storage_path = '{data}')",
    "CHECKPOINT",
]


def fill(sql, folders):
    return sql.replace("{data}", str(folders[0].root)).replace("{other}", str(folders[1]))


@pytest.mark.parametrize("sql", READING)
def test_a_query_reads_the_data_folder(shared_folders, sql):
    assert query(shared_folders[0], fill(sql, shared_folders), is_trusted=False).num_rows


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_a_query_reaches_no_other_file_and_writes_none(shared_folders, sql):
    data_folder, other = shared_folders
    before = files(other.parent)
    with pytest.raises(VlmAudioError) as error:
        query(data_folder, fill(sql, shared_folders), is_trusted=False)
    assert "secret\n" not in str(error.value)
    assert files(other.parent) == before


@pytest.mark.parametrize("sql", ["COPY (SELECT 1) TO '{other}/new.csv'", "FROM '{other}/secret.csv'"])
def test_a_trusted_query_reads_and_writes_other_files(folders, sql):
    query(folders[0], fill(sql, folders))


def test_results_on_another_disk_are_read(folders):
    """A person may move `tables` and leave a link behind."""
    data_folder, other = folders
    data_folder.tables.rename(other / "tables")
    data_folder.tables.symlink_to(other / "tables")
    assert query(data_folder, "SELECT * FROM clips", is_trusted=False).num_rows
    with pytest.raises(VlmAudioError):
        query(data_folder, f"FROM '{other}/secret.csv'", is_trusted=False)


def test_columns_with_the_same_name_are_numbered(folders):
    rows = query(folders[0], "SELECT p.*, c.* FROM predictions p JOIN clips c USING (study, clip)")
    assert len(set(rows.column_names)) == rows.num_columns
    assert {"clip", "clip_1"} <= set(rows.column_names)
    assert query(folders[0], "SELECT 1 AS a, 2 AS a, 3 AS a_1").to_pylist() == [{"a": 1, "a_2": 2, "a_1": 3}]


READ_ONLY = """
import os, sys
from pathlib import Path
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder

def count_clips(folder):
    return query(DataFolder(Path(folder)), "SELECT count(*) AS n FROM clips", is_trusted=False).to_pylist()

read_only, writable = sys.argv[1:]
count_clips(writable)  # imports every module, because another user may not be able to read the files of this Python
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
assert not os.access(read_only, os.W_OK)
print(count_clips(read_only))
"""


@pytest.mark.parametrize("catalogue", ["current", "stale", "missing"])
def test_a_read_only_data_folder_is_queried(folders, catalogue):
    """As another user, because nothing is read-only for root. Other users cannot open the temporary folders of pytest."""
    data_folder = folders[0]
    if catalogue == "missing":
        data_folder.catalogue.unlink()
    elif catalogue == "stale":
        study(data_folder, "another")
    with tempfile.TemporaryDirectory() as public:
        Path(public).chmod(0o755)
        root = Path(public) / "data"
        shutil.copytree(data_folder.root, root, symlinks=True)
        for path in [root, *root.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o555 if path.is_dir() else 0o444)
        before = files(root)
        command = [sys.executable, "-c", READ_ONLY, str(root), str(data_folder.root)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HOME": "/nonexistent"})
        after = files(root)
        for path in [root, *root.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"[{{'n': {12 if catalogue == 'stale' else 6}}}]\n"  # clips of two studies, or of one
    assert after == before
