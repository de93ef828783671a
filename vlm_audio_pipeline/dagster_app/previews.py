"""The metadata that the Dagster UI shows for a step: counts, times, figures and the first rows."""

import re
from collections.abc import Sequence
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlm_audio_pipeline.contracts.control_names import CONTROL_SEPARATOR
from vlm_audio_pipeline.contracts.escapes import escape_markdown
from vlm_audio_pipeline.dagster_app.pages import page_link
from vlm_audio_pipeline.dagster_app.thumbnails import markdown_image, thumbnails
from vlm_audio_pipeline.planning.execution import NodeResult
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.reports.preview_figures import Values, axes_of_rendering, preview_figures
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.storage.table_schema import TableSchema

MAX_ROWS = 10
_MAX_CELL = 60  # characters


def preview(graph: Graph, node: Node, result: NodeResult) -> dict[str, Any]:
    """Return the metadata of a materialization, in the order of the UI: row count, figures, rows, time, files."""
    name, table = next(iter(result.tables.items()))
    figures = preview_figures(result.tables, graph.dataset())
    if name == "spectrograms":
        figures |= _axes_sentence(graph, node)
    rows = first_rows(table)
    more_rows = table.num_rows - rows.num_rows
    return {
        "dagster/row_count": table.num_rows,
        **page_link(graph, graph.steps[node.step]),
        **{
            title: dg.MetadataValue.md(markdown_image(value, title)) if isinstance(value, bytes) else value
            for title, value in figures.items()
        },
        "preview": dg.MetadataValue.md(
            markdown_table(rows, TABLES[name], thumbnails(graph, node, name, rows), more_rows)
        ),
        **{f"{other} rows": rows.num_rows for other, rows in list(result.tables.items())[1:]},
        "seconds": round(result.seconds, 3),
        "files": ", ".join(
            p.relative_to(graph.data_folder.root).as_posix() for p in graph.partition_files(node).values()
        ),
    }


def _axes_sentence(graph: Graph, node: Node) -> Values:
    """Return a sentence about the axes of a rendering's images, if they show none."""
    component = graph.steps[node.step].component
    path = graph.partition_files(Node("clips", node.fold))["clips"]
    if not path.exists():
        return {}
    recipe = graph.study.renderings.get(component.partition(CONTROL_SEPARATOR)[0])
    return axes_of_rendering(component, recipe, pq.read_table(path, columns=["duration_s", "sample_rate_hz"]))


def first_rows(table: pa.Table, max_rows: int = MAX_ROWS) -> pa.Table:
    """Return the first rows of a table: the best ranks, or rows with the original input before those of controls."""
    if "rank" in table.column_names:
        table = table.sort_by("rank")
    if "control" in table.column_names:
        is_original = pc.equal(table["control"], "none")
        table = pa.concat_tables([table.filter(is_original), table.filter(pc.invert(is_original))])
    return table.slice(0, max_rows)


def markdown_table(table: pa.Table, schema: TableSchema, images: Sequence[str] = (), more_rows: int = 0) -> str:
    """Write a table as Markdown.

    Columns without a value are left out. Columns with one value in all rows are listed below the table.

    Args:
        table: the rows.
        schema: their table.
        images: a Markdown image for each row, for a column `image`; empty: no such column.
        more_rows: number of rows that are not shown.
    """
    hidden_columns = {column.name for column in schema.columns if not column.in_preview}
    names = [name for name in table.column_names if name not in hidden_columns]
    first = schema.preview_first
    names.sort(key=lambda name: first.index(name) if name in first else len(first))
    cells = {name: [_cell(value, name) for value in table[name].to_pylist()] for name in names}
    constants = {name: column[0] for name, column in cells.items() if len(column) > 1 and len(set(column)) == 1}
    names = [name for name in names if name not in constants] or names[:1]
    if images:
        cells["image"] = list(images)
        names.insert(1, "image")
    lines = [f"| {' | '.join(_cell(name) for name in names)} |", f"|{'---|' * len(names)}"]
    lines += ["| " + " | ".join(row) + " |" for row in zip(*(cells[n] for n in names), strict=True)]
    if more_rows:
        lines.append(f"\n... and {more_rows} more rows")
    if constant_values := [f"{_cell(name)} {value}" for name, value in constants.items() if value]:
        lines.append(f"\nThe same in all rows: {', '.join(constant_values)}")
    return "\n".join(lines)


def _cell(value: Any, column: str = "") -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if column == "clip" and re.fullmatch(r"[\w.-]+", str(value)):
        return f"`{value}`"  # as code, an id is not broken at its hyphens
    text = str(value) if len(str(value)) <= _MAX_CELL else str(value)[: _MAX_CELL - 3] + "..."
    return str(value) if isinstance(value, bool | int) else escape_markdown(text)
