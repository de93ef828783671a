import hashlib
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vlm_audio_pipeline.storage.partition_files import (
    FOOTER_KEY,
    Provenance,
    data_version,
    read_partition,
    read_provenance,
    write_partition,
)
from vlm_audio_pipeline.storage.schemas import TABLES, Column, TableSchema
from vlm_audio_pipeline_tests.storage.making import SCORES, TEXT_MAP, clips, embeddings, predictions

MADE_FROM = Provenance(
    "predictions/p", "1:0a1b", {"clips|1": "ab", "probes/p|1": "cd"}, "ef", {"seconds": 0.5, "made_at": "2026-01-01"}
)


def write(folder: Path) -> Path:
    path = folder / "deep" / "part-0.parquet"
    write_partition(path, predictions(), MADE_FROM)
    return path


def test_what_is_written_is_read_with_its_provenance(tmp_path):
    path = write(tmp_path)
    assert read_provenance(path) == MADE_FROM
    table, provenance = read_partition(path, TABLES["predictions"])
    assert provenance == MADE_FROM
    assert table.equals(predictions())
    assert [p.name for p in path.parent.iterdir()] == ["part-0.parquet"]


@pytest.mark.parametrize("name", TABLES)
def test_an_empty_part_is_a_part(tmp_path, name):
    path = tmp_path / "part-0.parquet"
    write_partition(path, TABLES[name].empty(), MADE_FROM)
    assert read_partition(path, TABLES[name]) == (TABLES[name].empty(), MADE_FROM)


def test_any_parquet_reader_finds_the_documentation(tmp_path):
    field = pq.read_schema(write(tmp_path)).field("outcome")
    assert field.metadata[b"doc"].startswith(b"answered, unparseable")


def test_no_part_no_provenance(tmp_path):
    assert read_provenance(tmp_path / "none.parquet") is None
    with pytest.raises(FileNotFoundError):
        read_partition(tmp_path / "none.parquet", TABLES["predictions"])


def refused(path: Path) -> str:
    with pytest.raises(pa.ArrowInvalid, match="delete it and run again") as caught:
        read_partition(path, TABLES["predictions"])
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.9999])
def test_a_truncated_part_is_none(tmp_path, share):
    path = write(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert read_provenance(path) is None
    refused(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"clip,label\n", b"\0" * 5000])
def test_what_is_not_parquet_is_no_part(tmp_path, content):
    path = tmp_path / "part-0.parquet"
    path.write_bytes(content)
    assert read_provenance(path) is None
    refused(path)


def test_every_damaged_byte_is_noticed_or_harmless(tmp_path):
    path = write(tmp_path)
    whole = path.read_bytes()
    outcomes = {"refused": 0, "harmless": 0}
    for at in range(0, len(whole), 17):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        path.write_bytes(damaged)
        read_provenance(path)  # whatever it says, it does not raise
        try:
            table, _ = read_partition(path, TABLES["predictions"])
        except pa.ArrowInvalid:
            outcomes["refused"] += 1
        else:
            data = whole.rfind(b"ARROW:schema")  # the footer is not checked, but all data pages lie before it
            assert at > data or table.equals(predictions()), f"byte {at}"
            outcomes["harmless"] += 1
    assert outcomes["refused"] > 50


@pytest.mark.parametrize("footer", [None, b"", b"[]", b"{}", b'{"step": "x"}', b"\xff\xfe", b'{"other": 1}', b"null"])
def test_foreign_parquet_is_no_part(tmp_path, footer):
    path = tmp_path / "part-0.parquet"
    table = predictions()
    metadata = {**(table.schema.metadata or {}), **({FOOTER_KEY: footer} if footer is not None else {})}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    assert read_provenance(path) is None
    refused(path)


def test_a_part_of_another_schema_is_refused(tmp_path):
    path = tmp_path / "part-0.parquet"
    write_partition(path, predictions().drop_columns("annotator"), MADE_FROM)
    assert "annotator" in refused(path)


def test_a_folder_in_its_place_is_no_part(tmp_path):
    (tmp_path / "part-0.parquet").mkdir()
    assert read_provenance(tmp_path / "part-0.parquet") is None
    refused(tmp_path / "part-0.parquet")


def test_a_failed_write_leaves_the_old_part_and_nothing_else(tmp_path):
    path = write(tmp_path)
    with pytest.raises(TypeError):
        write_partition(path, predictions(1), Provenance("x", "1:0", {}, "d", {"not json": object()}))
    too_many = predictions(1).append_column(
        "union", pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    )
    with pytest.raises(pa.ArrowNotImplementedError):  # parquet has no unions: fails when the file is open already
        write_partition(path, too_many, MADE_FROM)
    assert read_partition(path, TABLES["predictions"])[0].equals(predictions())
    assert [p.name for p in path.parent.iterdir()] == ["part-0.parquet"]


KILLED = """
import os, signal, sys
from pathlib import Path
from vlm_audio_pipeline.storage import partition_files as parts
from vlm_audio_pipeline_tests.storage.making import predictions

written = []
def killed(number):
    print(os.listdir(Path(sys.argv[1]).parent), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = killed  # the temporary file is written, the old one still in its place
parts.write_partition(Path(sys.argv[1]), predictions(1), parts.Provenance("new", "2:0", {}, "new"))
"""


def test_a_kill_while_writing_leaves_the_old_part(tmp_path):
    path = write(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == -signal.SIGKILL
    assert ".tmp" in done.stdout  # it was in the middle of it
    assert read_partition(path, TABLES["predictions"]) == (predictions(), MADE_FROM)
    assert [p.name for p in path.parent.glob("*.parquet")] == ["part-0.parquet"]
    left = [p for p in path.parent.iterdir() if p != path]
    assert all(p.name.startswith(".") and p.suffix == ".tmp" for p in left)
    write_partition(path, predictions(2), MADE_FROM)
    assert read_partition(path, TABLES["predictions"])[0].num_rows == 2


def test_readers_see_one_part_or_the_other(tmp_path):
    path = write(tmp_path)
    with path.open("rb") as old:
        write_partition(path, predictions(1), MADE_FROM)
        assert pq.read_table(old).num_rows == 3
    assert read_partition(path, TABLES["predictions"])[0].num_rows == 1


# ---------------------------------------------------------------- data versions


def version(**other) -> str:
    return data_version(TABLES["predictions"], predictions(3, **other))


BASE = version()


@given(st.permutations(range(3)))
def test_the_order_of_rows_does_not_matter(order):
    shuffled = predictions().take(list(order))
    assert data_version(TABLES["predictions"], TABLES["predictions"].conform(shuffled)) == BASE


@given(st.integers(1, 999_999).map(lambda n: n / 1e6), st.integers(-4, 4))
def test_the_last_bits_of_a_number_do_not_matter(x, steps):
    """n / 10^6 lies in the middle of what rounds to it at 6 digits, so that 4 units in the last place change nothing."""
    other = x
    for _ in range(abs(steps)):
        other = math.nextafter(other, math.copysign(math.inf, steps))
    assert version(confidence=[x] * 3) == version(confidence=[other] * 3)


def test_minus_zero_is_zero():
    assert version(confidence=[0.0] * 3) == version(confidence=[-0.0] * 3)


def test_a_difference_in_the_fifth_digit_matters():
    assert version(confidence=[0.7, 0.7, 0.70001]) != BASE


@pytest.mark.parametrize("other", [{"seconds": [9.9] * 3}, {"usd": [3.0] * 3}, {"tokens": [5, 6, 7]}])
def test_latency_cost_and_tokens_do_not_matter(other):
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
def test_everything_else_matters(other):
    assert version(**other) != BASE


def test_a_row_less_matters():
    assert data_version(TABLES["predictions"], predictions(2)) != BASE


texts = st.none() | st.text(max_size=4) | st.sampled_from(["", "None", "null", "nan", "0"])


@given(st.lists(texts, min_size=3, max_size=3), st.lists(texts, min_size=3, max_size=3))
@example(a=[None, "", "None"], b=["", None, "None"])
@example(a=[None] * 3, b=["None"] * 3)
@example(a=["ab", "c", ""], b=["a", "bc", ""])
@example(a=['a","b', "", ""], b=["a", "b", ""])
def test_texts_agree_just_where_they_are_the_same(a, b):
    same = version(text=pa.array(a, pa.string())) == version(text=pa.array(b, pa.string()))
    assert same == (a == b)


def test_the_order_within_a_map_does_not_matter():
    a = pa.array([[("dog", 0.7), ("rain", 0.3)]] * 3, SCORES)
    b = pa.array([[("rain", 0.3), ("dog", 0.7)]] * 3, SCORES)
    assert version(scores=a) == version(scores=b)


@given(
    st.lists(st.dictionaries(st.text(max_size=3), texts, max_size=3), min_size=2, max_size=2),
    st.lists(st.dictionaries(st.text(max_size=3), texts, max_size=3), min_size=2, max_size=2),
)
def test_maps_agree_just_where_they_are_the_same(a, b):
    def of(maps):
        column = pa.array([list(m.items()) for m in maps], TEXT_MAP)
        return data_version(schema, pa.table({"said": column}))

    schema = TableSchema("toy", "A toy.", (), (Column("said", TEXT_MAP, "a map"),))

    assert (of(a) == of(b)) == (a == b)


def vectors(values) -> str:
    return data_version(TABLES["embeddings"], embeddings(values))


def test_one_bit_of_a_vector_matters():
    one_up = float(np.nextafter(np.float32(1.0), np.float32(2.0)))
    assert vectors([[1.0, 2.0], [3.0, 4.0]]) != vectors([[one_up, 2.0], [3.0, 4.0]])


def test_where_one_vector_ends_matters():
    n = {"dimensions": [2, 2]}
    a = embeddings([[1.0, 2.0, 3.0], [4.0]], **n)
    b = embeddings([[1.0, 2.0], [3.0, 4.0]], **n)
    assert data_version(TABLES["embeddings"], a) != data_version(TABLES["embeddings"], b)


@given(st.integers(0, 3), st.integers(0, 3))
def test_how_a_table_is_cut_into_chunks_does_not_matter(first, second):
    whole = embeddings([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    a, b = sorted((first, second))
    cut = pa.concat_tables([whole.slice(0, a), whole.slice(a, b - a), whole.slice(b)])
    assert data_version(TABLES["embeddings"], cut) == data_version(TABLES["embeddings"], whole)


def test_a_slice_is_hashed_as_what_it_shows():
    whole = embeddings([[1.0, 2.0], [3.0, 4.0]])
    alone = embeddings([[3.0, 4.0]], clip=["1-1"], result_key=["1"])
    assert data_version(TABLES["embeddings"], whole.slice(1)) == data_version(TABLES["embeddings"], alone)


def images(*content: bytes) -> str:
    n = len(content)
    row = {"clip": [str(i) for i in range(n)], "image": list(content), "media_type": ["image/png"] * n}
    table = pa.table(row | {"width": [1] * n, "height": [1] * n, "image_sha256": ["x"] * n})
    return data_version(TABLES["spectrograms"], TABLES["spectrograms"].conform(table, study="s", rendering="r", fold=1))


@given(st.lists(st.binary(max_size=3), min_size=2, max_size=2), st.lists(st.binary(max_size=3), min_size=2, max_size=2))
@example(a=[b"ab", b"c"], b=[b"a", b"bc"])
def test_images_agree_just_where_their_bytes_do(a, b):
    assert (images(*a) == images(*b)) == (a == b)


def rows_of_images(*chunks: pa.Array | list[bytes]) -> pa.Table:
    """Give rows of `spectrograms` with images in chunks, as they are: `conform` would join the chunks."""
    column = pa.chunked_array(chunks, pa.binary())
    n = len(column)
    given = {"study": ["s"] * n, "rendering": ["r"] * n, "fold": [1] * n, "media_type": ["image/png"] * n}
    given |= {"clip": [f"{i:02}" for i in range(n)], "width": [1] * n, "height": [1] * n, "image_sha256": ["x"] * n}
    schema = TABLES["spectrograms"].arrow
    return pa.table(given | {"image": column}).select(schema.names).cast(schema)


@given(st.integers(0, 3), st.integers(0, 3))
def test_the_version_of_images_is_that_of_their_digests_however_they_are_cut(first, second):
    schema = TABLES["spectrograms"]
    values = [b"a", b"", b"bc"]
    a, b = sorted((first, second))
    cut = rows_of_images(values[:a], values[a:b], values[b:])
    said = {
        name: json.dumps(cut[name].to_pylist(), separators=(",", ":")) for name in cut.column_names if name != "image"
    }
    said["image"] = "".join(hashlib.sha256(value).hexdigest() for value in values)
    written = "spectrograms" + "".join(name + said[name] for name in schema.content_columns)
    expected = hashlib.sha256(written.encode()).hexdigest()
    longer = rows_of_images([*values, b"not shown"])
    assert data_version(schema, cut) == data_version(schema, longer.slice(0, 3)) == expected


@pytest.mark.slow
def test_more_images_than_one_array_can_hold_have_a_version():
    one = pa.array([b"\0" * 2**26])
    table = rows_of_images(*[one] * 33)  # more than 2^31 bytes, all in the same memory
    assert len(data_version(TABLES["spectrograms"], table)) == 64


def test_two_tables_without_rows_differ():
    versions = {data_version(schema, schema.empty()) for schema in TABLES.values()}
    assert len(versions) == len(TABLES)


def test_a_version_is_the_same_in_every_process():
    code = (
        "from vlm_audio_pipeline.storage.partition_files import data_version as v; from vlm_audio_pipeline.storage.schemas import *; "
        "from vlm_audio_pipeline_tests.storage.making import *; "
        "print(v(TABLES['predictions'], predictions(3)), v(TABLES['clips'], clips(2, extra=[('b', '1'), ('a', '2')])))"
    )
    given = {
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
    here = data_version(TABLES["clips"], clips(2, extra=[("a", "2"), ("b", "1")]))
    assert given == {f"{BASE} {here}"}


def test_temporary_names_differ_between_processes(tmp_path, monkeypatch):
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append(Path(a)), replace(a, b)))
    write(tmp_path)
    assert seen[0].parent == tmp_path / "deep"
    assert str(os.getpid()) in seen[0].name
