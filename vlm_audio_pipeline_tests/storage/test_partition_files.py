import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlm_audio_pipeline.storage.file_checksum import CHECKSUM_KEY
from vlm_audio_pipeline.storage.partition_files import (
    FOOTER_KEY,
    Provenance,
    is_intact,
    read_partition,
    read_provenance,
    write_partition,
)
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.storage.example_tables import predictions

PROVENANCE = Provenance(
    "predictions/p", "1:0a1b", {"clips|1": "ab", "probes/p|1": "cd"}, "ef", {"seconds": 0.5, "made_at": "2026-01-01"}
)


def write(folder: Path) -> Path:
    path = folder / "deep" / "part-0.parquet"
    write_partition(path, predictions(), PROVENANCE)
    return path


def test_a_partition_file_is_read_back_with_its_provenance(tmp_path):
    path = write(tmp_path)
    assert read_provenance(path) == PROVENANCE
    table, provenance = read_partition(path, TABLES["predictions"])
    assert provenance == PROVENANCE
    assert table.equals(predictions())
    assert [p.name for p in path.parent.iterdir()] == ["part-0.parquet"]


@pytest.mark.parametrize("name", TABLES)
def test_a_partition_file_without_rows_is_valid(tmp_path, name):
    path = tmp_path / "part-0.parquet"
    write_partition(path, TABLES[name].empty_table(), PROVENANCE)
    assert read_partition(path, TABLES[name]) == (TABLES[name].empty_table(), PROVENANCE)


def test_the_column_documentation_is_in_the_parquet_schema(tmp_path):
    field = pq.read_schema(write(tmp_path)).field("outcome")
    assert field.metadata[b"doc"].startswith(b"answered, unparseable")


def test_a_missing_partition_file_has_no_provenance(tmp_path):
    assert read_provenance(tmp_path / "none.parquet") is None
    with pytest.raises(FileNotFoundError):
        read_partition(tmp_path / "none.parquet", TABLES["predictions"])


def test_the_provenance_of_a_replaced_file_is_read_again(tmp_path):
    path = write(tmp_path)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    assert read_provenance(path) == PROVENANCE
    write_partition(path, predictions(), other := replace(PROVENANCE, data_version="eg"))
    os.utime(path, ns=times)
    assert read_provenance(path) == other


def refused(path: Path) -> str:
    with pytest.raises(pa.ArrowInvalid, match="delete it and run again") as caught:
        read_partition(path, TABLES["predictions"])
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.9999])
def test_a_truncated_partition_file_is_refused(tmp_path, share):
    path = write(tmp_path)
    complete = path.read_bytes()
    path.write_bytes(complete[: int(len(complete) * share)])
    assert read_provenance(path) is None
    refused(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"clip,label\n", b"\0" * 5000])
def test_a_file_that_is_not_parquet_is_refused(tmp_path, content):
    path = tmp_path / "part-0.parquet"
    path.write_bytes(content)
    assert read_provenance(path) is None
    refused(path)


def test_every_damaged_byte_is_detected_or_harmless(tmp_path):
    path = write(tmp_path)
    complete = path.read_bytes()
    counts = {"refused": 0, "harmless": 0}
    for position in range(0, len(complete), 17):
        damaged = bytearray(complete)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        read_provenance(path)  # the result does not matter, but it must not raise
        try:
            table, _ = read_partition(path, TABLES["predictions"])
        except pa.ArrowInvalid:
            counts["refused"] += 1
        else:
            data = complete.rfind(b"ARROW:schema")  # the footer is not checked, but all data pages lie before it
            assert position > data or table.equals(predictions()), f"byte {position}"
            counts["harmless"] += 1
    assert counts["refused"] > 50


@pytest.mark.parametrize("footer", [None, b"", b"[]", b"{}", b'{"step": "x"}', b"\xff\xfe", b'{"other": 1}', b"null"])
def test_a_parquet_file_without_provenance_is_refused(tmp_path, footer):
    path = tmp_path / "part-0.parquet"
    table = predictions()
    metadata = {**(table.schema.metadata or {}), **({FOOTER_KEY: footer} if footer is not None else {})}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    assert read_provenance(path) is None
    refused(path)


def test_a_partition_file_of_another_schema_is_refused(tmp_path):
    path = tmp_path / "part-0.parquet"
    write_partition(path, predictions().drop_columns("annotator"), PROVENANCE)
    assert "annotator" in refused(path)


def test_a_folder_at_the_path_of_a_partition_file_is_refused(tmp_path):
    (tmp_path / "part-0.parquet").mkdir()
    assert read_provenance(tmp_path / "part-0.parquet") is None
    refused(tmp_path / "part-0.parquet")


def test_a_failed_write_leaves_only_the_old_partition_file(tmp_path):
    path = write(tmp_path)
    with pytest.raises(TypeError):
        write_partition(path, predictions(1), Provenance("x", "1:0", {}, "d", {"not json": object()}))
    too_many = predictions(1).append_column(
        "union", pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    )
    with pytest.raises(pa.ArrowNotImplementedError):  # parquet has no unions: fails when the file is open already
        write_partition(path, too_many, PROVENANCE)
    assert read_partition(path, TABLES["predictions"])[0].equals(predictions())
    assert [p.name for p in path.parent.iterdir()] == ["part-0.parquet"]


KILL_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from vlm_audio_pipeline.storage import partition_files
from vlm_audio_pipeline_tests.storage.example_tables import predictions

written = []
def killed(number):
    print(os.listdir(Path(sys.argv[1]).parent), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = killed  # the temporary file is written, the old one still in its place
partition_files.write_partition(Path(sys.argv[1]), predictions(1), partition_files.Provenance("new", "2:0", {}, "new"))
"""


def test_a_kill_while_writing_leaves_the_old_partition_file(tmp_path):
    path = write(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", KILL_WHILE_WRITING, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == -signal.SIGKILL
    assert ".tmp" in done.stdout  # the process was killed while it was writing
    assert read_partition(path, TABLES["predictions"]) == (predictions(), PROVENANCE)
    assert [p.name for p in path.parent.glob("*.parquet")] == ["part-0.parquet"]
    leftover_files = [p for p in path.parent.iterdir() if p != path]
    assert all(p.name.startswith(".") and p.suffix == ".tmp" for p in leftover_files)
    write_partition(path, predictions(2), PROVENANCE)
    assert read_partition(path, TABLES["predictions"])[0].num_rows == 2


def test_an_open_file_keeps_its_rows_while_the_partition_file_is_replaced(tmp_path):
    path = write(tmp_path)
    with path.open("rb") as old:
        write_partition(path, predictions(1), PROVENANCE)
        assert pq.read_table(old).num_rows == 3
    assert read_partition(path, TABLES["predictions"])[0].num_rows == 1


def test_temporary_names_differ_between_processes(tmp_path, monkeypatch):
    temporary_paths = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (temporary_paths.append(Path(a)), replace(a, b)))
    write(tmp_path)
    assert temporary_paths[0].parent == tmp_path / "deep"
    assert str(os.getpid()) in temporary_paths[0].name


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("step", [331, pytest.param(23, marks=pytest.mark.slow)])
def test_a_flipped_bit_anywhere_in_a_partition_file_is_detected(tmp_path, step):
    """The bytes of the footer have no checksum in the parquet format. A bit in the name of the checksum itself hides only it."""
    path = write(tmp_path)
    content = path.read_bytes()
    assert is_intact(path, None)
    for position in range(0, len(content), step):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        if is_intact(path, None):
            assert read_partition(path, TABLES["predictions"]) == (predictions(), PROVENANCE)
            assert CHECKSUM_KEY not in path.read_bytes()
        else:
            with pytest.raises(pa.ArrowInvalid, match=re.escape(str(path))):
                read_partition(path, TABLES["predictions"])


def write_older(path: Path) -> bytes:
    """Write a partition file as an older version did: without a checksum of the file. Return its bytes."""
    footer = {FOOTER_KEY: json.dumps(asdict(PROVENANCE)).encode()}
    pq.write_table(predictions().replace_schema_metadata(footer), path, compression="zstd", write_page_checksum=True)
    return path.read_bytes()


def test_a_partition_file_of_an_older_version_is_intact_without_a_checksum(tmp_path):
    path = tmp_path / "part-0.parquet"
    write_older(path)
    assert is_intact(path, None)
    assert read_partition(path, TABLES["predictions"]) == (predictions(), PROVENANCE)


def test_an_older_file_that_arrow_reads_and_duckdb_does_not_is_damaged(tmp_path):
    """A changed bit of the footer that only DuckDB needs; which one it is depends on the writer, so it is searched."""
    path = tmp_path / "part-0.parquet"
    content = write_older(path)
    for position in range(len(content) - 8, 0, -1):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        if can_arrow_read(path) and not can_duckdb_read(path):
            break
    else:
        pytest.fail("no such byte")
    assert not is_intact(path, None)


def can_arrow_read(path: Path) -> bool:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            file.read()
    except (pa.ArrowException, OSError, ValueError):
        return False
    return True


def can_duckdb_read(path: Path) -> bool:
    try:
        duckdb.sql(f"SELECT * FROM read_parquet('{path}')").fetchall()
    except duckdb.Error:
        return False
    return True


@pytest.mark.parametrize("kind", ["folder", "full folder", "pipe"])
def test_something_else_in_the_place_of_a_partition_file_is_damaged_and_a_folder_is_set_aside(tmp_path, kind):
    path = write(tmp_path)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    if kind == "full folder":
        (path / "notes.txt").write_text("mine")
    assert not is_intact(path, None)
    assert read_provenance(path) is None
    with pytest.raises(pa.ArrowInvalid):
        read_partition(path, TABLES["predictions"])
    write_partition(path, predictions(), PROVENANCE)
    assert read_partition(path, TABLES["predictions"]) == (predictions(), PROVENANCE)
    kept = [p.read_text() for p in path.parent.rglob("notes.txt")]
    assert kept == (["mine"] if kind == "full folder" else [])
