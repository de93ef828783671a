"""What a materialization shows of itself in the UI."""

import pyarrow as pa
import pytest

from vlm_audio_pipeline.dagster_app.previews import markdown_table, preview
from vlm_audio_pipeline.planning.execution import StepResult
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.storage.partition_files import read_partition
from vlm_audio_pipeline.storage.schemas import TABLES


def with_column(table: pa.Table, **values) -> pa.Table:
    """Give a table with one value in all rows of some columns."""
    for name, value in values.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.field(at), pa.array([value] * table.num_rows, table.field(at).type))
    return table


@pytest.mark.parametrize(
    ("also", "shown"),
    [
        ({"control": "blank"}, 0.75),  # the clip as it is, alone
        ({"scoring": "examples_knn"}, 0.75),  # the few-shot baseline is not the model
        ({"scoring": "likelihood"}, 0.0),  # the scoring that is meant where none is named comes first
    ],
)
def test_the_accuracy_of_a_folds_predictions_is_the_models(done, also, shown):
    graph, node = done.graph(), Node("predictions/probe", 1)
    table, provenance = read_partition(graph.partition_files(node)["predictions"], TABLES["predictions"])
    mine = with_column(table, scoring="generation")
    correct = pa.array([True, True, False, True])  # 3 of 4
    at = mine.schema.get_field_index("correct")
    mine = mine.set_column(at, mine.field(at), correct)
    others = with_column(mine, correct=False, **also)
    told = preview(graph, node, StepResult(provenance, {"predictions": pa.concat_tables([mine, others])}, (), 1.0))
    assert told["accuracy (share of 1)"] == shown


def test_a_cell_cannot_break_the_preview():
    text = markdown_table(pa.table({"a|b": ["x|y\nz"], "n": [0.123456]}), TABLES["leaderboard"])
    assert text.splitlines() == ["| a\\|b | n |", "|---|---|", "| x\\|y z | 0.1235 |"]


def test_a_preview_shows_the_best_first_and_says_how_many_are_left():
    columns = {"study": ["s"] * 12, "clips": list(range(12)), "rank": [None, *range(11, 0, -1)]}
    lines = markdown_table(
        pa.table({**columns, "kind": ["knn"] * 12, "text": pa.nulls(12)}), TABLES["leaderboard"]
    ).splitlines()
    assert lines[:3] == ["| rank | clips |", "|---|---|", "| 1 | 11 |"]
    assert [line.split("|")[1].strip() for line in lines[2:12]] == [str(rank) for rank in range(1, 11)]
    assert lines[12:] == ["", "... and 2 more rows", "", "The same in all rows: kind knn"]


def test_a_preview_of_nothing_or_of_one_value_is_still_a_table():
    assert markdown_table(pa.table({"clip": [], "kind": []}), TABLES["clips"]).splitlines() == [
        "| clip | kind |",
        "|---|---|",
    ]
    assert markdown_table(pa.table({"kind": ["knn", "knn"]}), TABLES["clips"]).splitlines()[:3] == [
        "| kind |",
        "|---|",
        "| knn |",
    ]
