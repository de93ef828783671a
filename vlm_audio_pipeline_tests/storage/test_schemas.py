import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts.errors import BadTable
from vlm_audio_pipeline.storage.schemas import TABLES, Column, TableSchema
from vlm_audio_pipeline_tests.storage.example_tables import TEXT_MAP, clips, predictions

CONFUSION = TABLES["confusion"]


def confusion(**other) -> pa.Table:
    columns = {
        "scoring": ["score", "score"],
        "control": ["none", "none"],
        "label": ["rain", "dog"],
        "predicted": ["dog", "dog"],
        "count": [1, 2],
    }
    return pa.table({k: v for k, v in (columns | other).items() if v is not None})


def conform(table: pa.Table, **constants) -> pa.Table:
    return CONFUSION.conform(table, **{"study": "s", "classifier": "p"} | constants)


@pytest.mark.parametrize("schema", TABLES.values(), ids=TABLES)
def test_every_table_is_declared_completely(schema):
    names = [c.name for c in schema.columns]
    assert names[0] == "study"
    assert len({n.casefold() for n in names}) == len(names)  # SQL ignores case
    assert schema.key
    assert set(schema.key) <= set(names)
    assert not [c.name for c in schema.columns if c.nullable and c.name in schema.key]
    assert schema.component is None or schema.component in names
    assert schema.catalogue_kind in ("view", "table")
    assert not schema.per_fold or "fold" in names
    assert TABLES[schema.name] is schema


@pytest.mark.parametrize("schema", TABLES.values(), ids=TABLES)
def test_every_table_and_column_is_documented(schema):
    assert re.fullmatch(r"[A-Z].{20,}\.", schema.doc)
    for column in schema.columns:
        assert len(column.doc) >= 8, column.name
        assert column.doc != column.name
        assert schema.arrow.field(column.name).metadata[b"doc"].decode() == column.doc
        numbers = {"_s": ", s", "_hz": "Hz"}
        for suffix, unit in numbers.items():
            assert not column.name.endswith(suffix) or unit in column.doc, column.name


@pytest.mark.parametrize("schema", TABLES.values(), ids=TABLES)
def test_lists_contain_floats_because_their_bytes_are_hashed(schema):
    lists = [c.type.value_type for c in schema.columns if pa.types.is_list(c.type)]
    assert all(map(pa.types.is_floating, lists))


@pytest.mark.parametrize("schema", TABLES.values(), ids=TABLES)
def test_an_empty_table_has_the_schema(schema):
    empty = schema.empty_table()
    assert empty.num_rows == 0
    assert empty.schema.equals(schema.arrow)
    assert schema.conform(empty, study="s").equals(empty)


def test_columns_that_differ_between_runs_are_not_content():
    excluded = {c.name for s in TABLES.values() for c in s.columns if not c.in_data_version}
    assert {"seconds", "usd", "answered_at"} <= excluded
    assert not excluded & {"label", "predicted", "outcome", "scores", "vector", "image", "clip", "trial"}


def test_conform_adds_constants_and_orders_columns_and_rows():
    table = conform(confusion())
    assert table.schema.equals(CONFUSION.arrow)
    assert table.to_pylist() == [
        {"study": "s", "classifier": "p", "scoring": "score", "control": "none", **rest}
        for rest in (
            {"label": "dog", "predicted": "dog", "count": 2},
            {"label": "rain", "predicted": "dog", "count": 1},
        )
    ]


def test_constants_that_are_not_in_the_schema_are_ignored():
    assert "fold" not in conform(confusion(), fold=3).column_names


def test_missing_nullable_columns_are_added():
    table = predictions(2)
    assert table["annotator"].to_pylist() == [None, None]
    assert table.schema.equals(TABLES["predictions"].arrow)


@given(st.permutations(range(5)))
def test_rows_are_sorted_by_their_key(order):
    labels = [f"l{i}" for i in order]
    table = pa.table(
        {"scoring": ["x"] * 5, "control": ["n"] * 5, "label": labels, "predicted": ["p"] * 5, "count": list(order)}
    )
    table = conform(table)
    assert table["count"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["label"].to_pylist() == ["l0", "l1", "l2", "l3", "l4"]


def test_conforming_twice_changes_nothing():
    assert conform(conform(confusion())).equals(conform(confusion()))


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (confusion(count=None), r"missing \['count'\], unknown \[\]"),
        (confusion(extra=[1, 2]), r"missing \[\], unknown \['extra'\]"),
        (confusion(count=["one", "two"]), "'count' must be int64, got string"),
        (confusion(count=["1", "2"]), "'count' must be int64, got string"),
        (confusion(label=[1, 2]), "'label' must be string, got int64"),
        (confusion(count=[1.5, 2.0]), "must match its schema"),
        (confusion(count=[1, None]), "no null in 'count', got 1"),
        (confusion(label=[None, None]), "no null in 'label', got 2"),
        (confusion(label=["dog", "dog"]), "one row for each .*label.*, got 2 rows with 1 distinct keys"),
        (confusion(study=["s", "other"]), r"only 's' in 'study' of this partition, got \['other'\]"),
        (confusion(classifier=["q", "q"]), r"only 'p' in 'classifier' of this partition, got \['q'\]"),
    ],
)
def test_a_table_that_breaks_its_schema_is_refused(table, expected):
    with pytest.raises(BadTable, match=expected) as caught:
        conform(table)
    assert "'confusion'" in str(caught.value)


def test_rows_of_another_fold_are_refused():
    with pytest.raises(BadTable, match=r"only 1 in 'fold' of this partition, got \[2\]"):
        TABLES["clips"].conform(clips(2, fold=2), fold=1)


def test_a_duplicate_column_is_refused():
    table = confusion()
    with pytest.raises(BadTable, match=r"\['label'\] more than once"):
        conform(table.append_column("label", table["label"]))


def test_a_missing_constant_is_refused():
    with pytest.raises(BadTable, match=r"missing \['study'\]"):
        CONFUSION.conform(confusion(), classifier="p")


def test_a_null_constant_is_refused_for_a_column_without_nulls():
    with pytest.raises(BadTable, match="no null in 'fold', got 2"):
        TABLES["clips"].conform(clips(2).drop_columns("fold"), fold=None)


def test_nulls_inside_vectors_are_refused():
    schema = TABLES["embeddings"]
    row = {c.name: ["x"] for c in schema.columns} | {"fold": [1], "dimensions": [2]}
    vector = pa.array([[1.0, None]], pa.list_(pa.float32()))
    with pytest.raises(BadTable, match="no null inside 'vector', got 1"):
        schema.conform(pa.table(row | {"vector": vector}))


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_arrow_string_type_is_accepted(kind):
    if pa.types.is_string_view(kind) and not hasattr(pa, "string_view"):
        pytest.skip("this pyarrow has no string views")
    labels = pa.array(["rain", "dog"]).cast(kind)
    assert conform(confusion(label=labels)).equals(conform(confusion()))


def test_a_column_of_nulls_gets_the_type_of_its_schema():
    table = TABLES["predictions"].conform(
        predictions(2).drop_columns("confidence").append_column("confidence", pa.nulls(2))
    )
    assert table["confidence"].type == pa.float64()


def test_maps_keep_their_entries():
    table = clips(2, extra=[("site", "A"), ("note", "")])
    assert table["extra"].to_pylist() == [[("site", "A"), ("note", "")]] * 2
    assert table["extra"].type == TEXT_MAP


def test_a_table_without_key_keeps_its_order():
    schema = TableSchema("t", "t", key=(), columns=(Column("a", pa.int64(), "a"),))
    assert schema.conform(pa.table({"a": [2, 1, 2]}))["a"].to_pylist() == [2, 1, 2]
