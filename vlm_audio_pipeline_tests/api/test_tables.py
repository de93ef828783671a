"""Tables as pandas, Arrow and polars, in a terminal and in a notebook."""

import sys

import pyarrow as pa
import pytest

from vlm_audio_pipeline.api.tables import ResultTable
from vlm_audio_pipeline.contracts.errors import NotAvailable

SCORES = pa.map_(pa.string(), pa.float64())
ROWS = pa.table(
    {
        "clip": ["a", "b<b>"],
        "n": [1, None],
        "scores": pa.array([[("dog", 0.5), ("rain", 0.25), ("cat", 0.25), ("owl", 0.0)], None], SCORES),
        "image": pa.array([b"x", b"y"], pa.binary()),
        "empty": pa.nulls(2, pa.string()),
    }
)
TABLE = ResultTable(ROWS)


def test_arrow_and_python():
    assert TABLE.to_arrow() is ROWS and pa.table(TABLE) == ROWS
    assert len(TABLE) == 2 and TABLE.columns == ROWS.column_names
    assert TABLE["n"] == [1, None]
    assert TABLE["scores"][0] == {"dog": 0.5, "rain": 0.25, "cat": 0.25, "owl": 0.0}
    assert [row["clip"] for row in TABLE] == ["a", "b<b>"]
    with pytest.raises(KeyError, match="no column 'x'; the columns are clip, n, scores, image, empty"):
        _ = TABLE["x"]


def test_pandas():
    import pandas

    frame = pandas.DataFrame(TABLE.to_pandas())
    assert list(frame["clip"]) == ["a", "b<b>"] and frame["scores"][0]["dog"] == 0.5


def test_polars():
    import polars

    frame = TABLE.to_polars()
    assert isinstance(frame, polars.DataFrame) and frame["clip"].to_list() == ["a", "b<b>"]
    scores = frame["scores"][0]  # from version 2 a dictionary, before a list of (key, value)
    scores = scores if isinstance(scores, dict) else {pair["key"]: pair["value"] for pair in scores}
    assert scores == {"dog": 0.5, "rain": 0.25, "cat": 0.25, "owl": 0.0}
    assert polars.DataFrame(ResultTable(ROWS.select(["clip", "n"])))["n"].to_list() == [1, None]


@pytest.mark.parametrize(("package", "method"), [("pandas", "to_pandas"), ("polars", "to_polars")])
def test_a_missing_package_is_a_clear_error(package, method, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # how Python marks a package that cannot be imported
    with pytest.raises(NotAvailable, match=f"{method} needs the package {package}, .*`pip install {package}`"):
        getattr(TABLE, method)()


def test_text_shows_what_can_be_read():
    lines = str(TABLE).splitlines()
    assert lines[0].split() == ["clip", "n", "scores"]
    assert lines[1].split() == ["a", "1", "dog", "0.500,", "rain", "0.250,", "cat", "0.250,", "..."]
    assert repr(TABLE) == str(TABLE)


def test_long_tables_say_how_much_is_left_out():
    table = ResultTable(pa.table({"n": list(range(60))}))
    assert (
        str(table).splitlines()[-1] == "... and 10 more rows" and "<p>... and 10 more rows</p>" in table._repr_html_()
    )


def test_html_is_escaped():
    html = TABLE._repr_html_()
    assert "<td>b&lt;b&gt;</td>" in html and "image" not in html and html.count("<tr>") == 3
