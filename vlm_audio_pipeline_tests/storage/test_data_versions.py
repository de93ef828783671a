"""Data versions: equal if and only if the content is, apart from the last digits, latency and cost."""

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vlm_audio_pipeline.storage.partition_files import (
    data_version,
)
from vlm_audio_pipeline.storage.schemas import TABLES, Column, TableSchema
from vlm_audio_pipeline_tests.storage.example_tables import SCORES, TEXT_MAP, clips, embeddings, predictions


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
    versions = {data_version(schema, schema.empty_table()) for schema in TABLES.values()}
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
