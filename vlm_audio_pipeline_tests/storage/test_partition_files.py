import hashlib
import json
import math
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vlm_audio_pipeline.storage.file_checksum import CHECKSUM_KEY
from vlm_audio_pipeline.storage.partition_files import (
    FOOTER_KEY,
    Provenance,
    data_version,
    is_intact,
    read_partition,
    read_provenance,
    write_partition,
)
from vlm_audio_pipeline.storage.schemas import TABLES, Column, TableSchema
from vlm_audio_pipeline_tests.storage.example_tables import SCORES, TEXT_MAP, clips, embeddings, predictions

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


def test_the_data_version_of_metrics_does_not_depend_on_time_tokens_and_cost():
    rows = {"accuracy": 0.5, "median_seconds": 0.1, "tokens": 7.0, "usd": 0.2, "usd_per_correct": 0.3}

    def version(**changes: float) -> str:
        values = rows | changes
        columns = {
            "scoring": "likelihood",
            "control": "none",
            "subset": "all",
            "label": "",
            "predictions": 4,
            "clips": 4,
        }
        table = pa.Table.from_pylist([columns | {"metric": m, "value": v} for m, v in values.items()])
        return data_version(TABLES["metrics"], TABLES["metrics"].conform(table, study="s", classifier="c"))

    assert version(median_seconds=9.9, tokens=8.0, usd=1.0, usd_per_correct=2.0) == version()
    assert version(accuracy=0.6) != version()


@pytest.mark.parametrize("name", TABLES)
def test_a_partition_file_without_rows_is_valid(tmp_path, name):
    path = tmp_path / "part-0.parquet"
    write_partition(path, TABLES[name].empty(), PROVENANCE)
    assert read_partition(path, TABLES[name]) == (TABLES[name].empty(), PROVENANCE)


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


# ---------------------------------------------------------------- data versions


def version(**other) -> str:
    return data_version(TABLES["predictions"], predictions(3, **other))


BASE = version()


@given(st.permutations(range(3)))
def test_the_order_of_rows_does_not_change_the_data_version(order):
    shuffled = predictions().take(list(order))
    assert data_version(TABLES["predictions"], TABLES["predictions"].conform(shuffled)) == BASE


@given(st.integers(1, 999_999).map(lambda n: n / 1e6), st.integers(-4, 4))
def test_the_last_bits_of_a_number_do_not_change_the_data_version(x, steps):
    """n / 10^6 is in the middle of the interval that rounds to it at 6 digits: 4 units in the last place change nothing."""
    other = x
    for _ in range(abs(steps)):
        other = math.nextafter(other, math.copysign(math.inf, steps))
    assert version(confidence=[x] * 3) == version(confidence=[other] * 3)


def test_minus_zero_and_zero_have_the_same_data_version():
    assert version(confidence=[0.0] * 3) == version(confidence=[-0.0] * 3)


def test_a_difference_in_the_fifth_digit_changes_the_data_version():
    assert version(confidence=[0.7, 0.7, 0.70001]) != BASE


@pytest.mark.parametrize("other", [{"seconds": [9.9] * 3}, {"usd": [3.0] * 3}, {"tokens": [5, 6, 7]}])
def test_latency_cost_and_tokens_do_not_change_the_data_version(other):
    assert version(**other) == BASE


@pytest.mark.parametrize(
    "other",
    [
        {"label": ["dog", "rain", "rain"]},
        {"predicted": ["dog", "dog", None]},
        {"outcome": ["answered", "answered", "refused"]},
        {"correct": [True, False, True]},
        {"text": ["", None, None]},
        {"scores": pa.array([[("dog", 0.7), ("rain", 0.3)]] * 2 + [[("dog", 0.3), ("rain", 0.7)]], SCORES)},
        {"scores": pa.array([[("dog", 0.7), ("rain", 0.3)]] * 2 + [None], SCORES)},
        {"scores": pa.array([[("dog", 0.7), ("rain", 0.3)]] * 2 + [[]], SCORES)},
        {"scores": pa.array([[("dog", 0.7), ("rain", 0.3)]] * 2 + [[("dog", None), ("rain", 0.3)]], SCORES)},
        {"confidence": [0.7, 0.7, float("nan")]},
    ],
)
def test_a_change_of_any_other_column_changes_the_data_version(other):
    assert version(**other) != BASE


def test_a_missing_row_changes_the_data_version():
    assert data_version(TABLES["predictions"], predictions(2)) != BASE


texts = st.none() | st.text(max_size=4) | st.sampled_from(["", "None", "null", "nan", "0"])


@given(st.lists(texts, min_size=3, max_size=3), st.lists(texts, min_size=3, max_size=3))
@example(a=[None, "", "None"], b=["", None, "None"])
@example(a=[None] * 3, b=["None"] * 3)
@example(a=["ab", "c", ""], b=["a", "bc", ""])
@example(a=['a","b', "", ""], b=["a", "b", ""])
def test_data_versions_of_texts_are_equal_only_if_the_texts_are(a, b):
    same_version = version(text=pa.array(a, pa.string())) == version(text=pa.array(b, pa.string()))
    assert same_version == (a == b)


def test_the_order_within_a_map_does_not_change_the_data_version():
    a = pa.array([[("dog", 0.7), ("rain", 0.3)]] * 3, SCORES)
    b = pa.array([[("rain", 0.3), ("dog", 0.7)]] * 3, SCORES)
    assert version(scores=a) == version(scores=b)


@given(
    st.lists(st.dictionaries(st.text(max_size=3), texts, max_size=3), min_size=2, max_size=2),
    st.lists(st.dictionaries(st.text(max_size=3), texts, max_size=3), min_size=2, max_size=2),
)
def test_data_versions_of_maps_are_equal_only_if_the_maps_are(a, b):
    def of(maps):
        column = pa.array([list(m.items()) for m in maps], TEXT_MAP)
        return data_version(schema, pa.table({"texts": column}))

    schema = TableSchema("toy", "A toy.", (), (Column("texts", TEXT_MAP, "a map"),))

    assert (of(a) == of(b)) == (a == b)


def vectors(values) -> str:
    return data_version(TABLES["embeddings"], embeddings(values))


def test_one_bit_of_a_vector_changes_the_data_version():
    next_float = float(np.nextafter(np.float32(1.0), np.float32(2.0)))
    assert vectors([[1.0, 2.0], [3.0, 4.0]]) != vectors([[next_float, 2.0], [3.0, 4.0]])


def test_the_boundaries_of_vectors_change_the_data_version():
    n = {"dimensions": [2, 2]}
    a = embeddings([[1.0, 2.0, 3.0], [4.0]], **n)
    b = embeddings([[1.0, 2.0], [3.0, 4.0]], **n)
    assert data_version(TABLES["embeddings"], a) != data_version(TABLES["embeddings"], b)


@given(st.integers(0, 3), st.integers(0, 3))
def test_chunks_do_not_change_the_data_version(first, second):
    complete = embeddings([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    a, b = sorted((first, second))
    cut = pa.concat_tables([complete.slice(0, a), complete.slice(a, b - a), complete.slice(b)])
    assert data_version(TABLES["embeddings"], cut) == data_version(TABLES["embeddings"], complete)


def test_the_data_version_of_a_slice_covers_only_its_rows():
    complete = embeddings([[1.0, 2.0], [3.0, 4.0]])
    alone = embeddings([[3.0, 4.0]], clip=["1-1"], result_key=["1"])
    assert data_version(TABLES["embeddings"], complete.slice(1)) == data_version(TABLES["embeddings"], alone)


def images(*content: bytes) -> str:
    n = len(content)
    row = {"clip": [str(i) for i in range(n)], "image": list(content), "media_type": ["image/png"] * n}
    table = pa.table(row | {"width": [1] * n, "height": [1] * n, "image_sha256": ["x"] * n})
    return data_version(TABLES["spectrograms"], TABLES["spectrograms"].conform(table, study="s", rendering="r", fold=1))


@given(st.lists(st.binary(max_size=3), min_size=2, max_size=2), st.lists(st.binary(max_size=3), min_size=2, max_size=2))
@example(a=[b"ab", b"c"], b=[b"a", b"bc"])
def test_data_versions_of_images_are_equal_only_if_their_bytes_are(a, b):
    assert (images(*a) == images(*b)) == (a == b)


def rows_of_images(*chunks: pa.Array | list[bytes]) -> pa.Table:
    """Return rows of `spectrograms` with images in the given chunks; `conform` would join the chunks."""
    column = pa.chunked_array(chunks, pa.binary())
    n = len(column)
    values = {"study": ["s"] * n, "rendering": ["r"] * n, "fold": [1] * n, "media_type": ["image/png"] * n}
    values |= {"clip": [f"{i:02}" for i in range(n)], "width": [1] * n, "height": [1] * n, "image_sha256": ["x"] * n}
    schema = TABLES["spectrograms"].arrow
    return pa.table(values | {"image": column}).select(schema.names).cast(schema)


@given(st.integers(0, 3), st.integers(0, 3))
def test_the_data_version_of_images_is_computed_from_their_digests_for_any_chunks(first, second):
    schema = TABLES["spectrograms"]
    values = [b"a", b"", b"bc"]
    a, b = sorted((first, second))
    cut = rows_of_images(values[:a], values[a:b], values[b:])
    column_texts = {
        name: json.dumps(cut[name].to_pylist(), separators=(",", ":")) for name in cut.column_names if name != "image"
    }
    column_texts["image"] = "".join(hashlib.sha256(value).hexdigest() for value in values)
    written = "spectrograms" + "".join(name + column_texts[name] for name in schema.content_columns)
    expected = hashlib.sha256(written.encode()).hexdigest()
    longer = rows_of_images([*values, b"not shown"])
    assert data_version(schema, cut) == data_version(schema, longer.slice(0, 3)) == expected


@pytest.mark.slow
def test_images_of_more_than_two_gib_have_a_data_version():
    array = pa.array([b"\0" * 2**26])
    table = rows_of_images(*[array] * 33)  # more than 2^31 bytes, all in the same memory
    assert len(data_version(TABLES["spectrograms"], table)) == 64


def test_empty_tables_of_different_schemas_have_different_data_versions():
    versions = {data_version(schema, schema.empty()) for schema in TABLES.values()}
    assert len(versions) == len(TABLES)


def test_a_data_version_is_the_same_in_every_process():
    code = (
        "from vlm_audio_pipeline.storage.partition_files import data_version as v; from vlm_audio_pipeline.storage.schemas import *; "
        "from vlm_audio_pipeline_tests.storage.example_tables import *; "
        "print(v(TABLES['predictions'], predictions(3)), v(TABLES['clips'], clips(2, extra=[('b', '1'), ('a', '2')])))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "7")
    }
    expected = data_version(TABLES["clips"], clips(2, extra=[("a", "2"), ("b", "1")]))
    assert outputs == {f"{BASE} {expected}"}


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
