"""The previews of materializations in the UI."""

import base64
import io

import PIL.Image
import pyarrow as pa
import pytest

from vlm_audio_pipeline.dagster_app.previews import first_rows, markdown_table, preview
from vlm_audio_pipeline.planning.execution import NodeResult
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.storage.partition_files import read_partition
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.bench import Bench


def with_column(table: pa.Table, **values) -> pa.Table:
    """Return a table with one value in all rows of some columns."""
    for name, value in values.items():
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.field(index), pa.array([value] * table.num_rows, table.field(index).type))
    return table


@pytest.mark.parametrize(
    ("other_values", "expected"),
    [
        ({"control": "blank"}, 0.75),  # only the clip without control
        ({"scoring": "examples_knn"}, 0.75),  # the few-shot baseline is not the model
        ({"scoring": "likelihood"}, 0.0),  # the default scoring is used
    ],
)
def test_the_accuracy_in_a_preview_is_that_of_the_model_without_control(done, other_values, expected):
    graph, node = done.graph(), Node("predictions/probe", 1)
    table, provenance = read_partition(graph.partition_files(node)["predictions"], TABLES["predictions"])
    rows = with_column(table, scoring="generation")
    correct = pa.array([True, True, False, True])  # 3 of 4
    index = rows.schema.get_field_index("correct")
    rows = rows.set_column(index, rows.field(index), correct)
    other_rows = with_column(rows, correct=False, **other_values)
    metadata = preview(
        graph, node, NodeResult(provenance, {"predictions": pa.concat_tables([rows, other_rows])}, (), 1.0)
    )
    assert metadata["accuracy (share of 1)"] == expected


def test_special_characters_in_a_cell_are_escaped():
    text = markdown_table(pa.table({"a|b": ["x|y\nz"], "n": [0.123456]}), TABLES["leaderboard"])
    assert text.splitlines() == ["| a\\|b | n |", "|---|---|", "| x\\|y z | 0.1235 |"]


def test_a_preview_shows_the_best_rows_first_and_the_number_of_the_others():
    columns = {"study": ["s"] * 12, "clips": list(range(12)), "rank": [None, *range(11, 0, -1)]}
    rows = first_rows(pa.table({**columns, "kind": ["knn"] * 12, "text": pa.nulls(12)}))
    lines = markdown_table(rows, TABLES["leaderboard"], more_rows=2).splitlines()
    assert lines[:3] == ["| rank | clips |", "|---|---|", "| 1 | 11 |"]
    assert [line.split("|")[1].strip() for line in lines[2:12]] == [str(rank) for rank in range(1, 11)]
    assert lines[12:] == ["", "... and 2 more rows", "", "The same in all rows: kind knn"]


def test_a_preview_shows_the_original_input_before_controls():
    table = pa.table({"clip": ["a", "b", "c"], "control": ["blank", "none", "blank"]})
    assert first_rows(table)["clip"].to_pylist() == ["b", "a", "c"]


def test_a_preview_has_thumbnails_instead_of_hashes_and_whole_ids(tmp_path):
    bench = Bench(tmp_path)
    bench.study["renderings"] = {"small": {"transform": "mel", "n_mels": 24, "width": 224, "height": 112}}
    assert not bench.run(only=("spectrograms/small",), fold=1).report.failed
    graph, node = bench.graph(), Node("spectrograms/small", 1)
    table, provenance = read_partition(graph.partition_files(node)["spectrograms"], TABLES["spectrograms"])
    metadata = preview(graph, node, NodeResult(provenance, {"spectrograms": table}, (), 1.0))
    axes = metadata["axes of the images"]  # the clips of the small study are 0.25 s long
    assert axes.startswith("time from left to right, 0 to 0.25 s; frequency from bottom to top, 0 to 11")
    assert axes.endswith(" kHz, mel scale")
    header, _, first, *_ = metadata["preview"].value.splitlines()
    assert header == "| clip | image |"
    clip, image = (cell.strip() for cell in first.strip("|").split("|"))
    assert clip == "`1-high-0`"  # as code, which is not broken at its hyphens
    content = base64.b64decode(image.removeprefix("![image](data:image/webp;base64,").removesuffix(")"))
    with PIL.Image.open(io.BytesIO(content)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("WEBP", (56, 28))  # 224 x 112 at a quarter


def test_a_preview_without_rows_or_with_equal_rows_is_a_table():
    assert markdown_table(pa.table({"clip": [], "kind": []}), TABLES["clips"]).splitlines() == [
        "| clip | kind |",
        "|---|---|",
    ]
    assert markdown_table(pa.table({"kind": ["knn", "knn"]}), TABLES["clips"]).splitlines()[:3] == [
        "| kind |",
        "|---|",
        "| knn |",
    ]
