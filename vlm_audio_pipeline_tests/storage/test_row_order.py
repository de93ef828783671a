"""Sorting and selecting rows: the same as Arrow, and also for columns of more than 2 GiB."""

import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.storage.row_order import sort_rows, take_rows


def images(rows: int, seed: int = 0) -> pa.Table:
    """Return a table in two chunks with two binary columns."""
    clips = [f"clip{n:04d}" for n in range(rows)]
    random.Random(seed).shuffle(clips)
    values = {"file": [c.encode() * 3 for c in clips], "clip": clips, "n": range(rows), "icon": [None] * rows}
    table = pa.table(
        values, pa.schema({"file": pa.binary(), "clip": pa.string(), "n": pa.int64(), "icon": pa.binary()})
    )
    return pa.concat_tables([table.slice(0, rows // 3), table.slice(rows // 3)])


@pytest.mark.parametrize("rows", [0, 1, 2, 130])
def test_sorted_and_selected_rows_equal_those_of_arrow(rows):
    table = images(rows)
    assert sort_rows(table, ("clip",)).equals(table.sort_by("clip"))
    indices = pa.array([*range(0, rows, 2), *range(0, rows, 3)], pa.int64())
    assert take_rows(table, indices).equals(table.take(indices))


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc"))))
def test_rows_are_sorted_by_all_columns_of_the_key(rows):
    table = pa.table({"n": [n for n, _ in rows], "s": pa.array([s for _, s in rows], pa.string())})
    assert [tuple(row.values()) for row in sort_rows(table, ("n", "s")).to_pylist()] == sorted(rows)


def test_files_of_more_than_two_gib_are_sorted():
    """Arrow fails here because its offsets have 32 bits. All files share the same memory, so that the test needs little."""
    megabytes = pa.array([bytes(64_000_000)])
    column = pa.chunked_array([megabytes] * 40)
    table = pa.table({"clip": [f"{n:02d}" for n in range(40)][::-1], "file": column})
    with pytest.raises(pa.ArrowInvalid, match="offset overflow"):
        table.sort_by("clip")
    ordered = sort_rows(table, ("clip",))
    assert ordered["clip"].to_pylist() == [f"{n:02d}" for n in range(40)]
    assert ordered["file"].nbytes > 2**31 and ordered["file"][39].as_buffer().size == 64_000_000


def test_a_sorted_table_is_returned_unchanged():
    table = images(10).sort_by("clip")
    assert sort_rows(table, ("clip",)) is table
