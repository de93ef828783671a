"""The metadata that the Dagster UI shows for a step: counts, times, figures and the first rows."""

import base64
from typing import Any

import dagster as dg
import pyarrow as pa

from vlm_audio_pipeline.planning.execution import StepResult
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.reports.preview_figures import preview_figures
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.storage.table_schema import TableSchema

MAX_ROWS = 10
_MAX_CELL = 60  # characters


def preview(graph: Graph, node: Node, result: StepResult) -> dict[str, Any]:
    """Return the metadata of a materialization, in the order shown: row count, figures, rows, time, files."""
    name, table = next(iter(result.tables.items()))
    figures = preview_figures(result.tables, graph.dataset())
    return {
        "dagster/row_count": table.num_rows,
        **{title: _image(value) if isinstance(value, bytes) else value for title, value in figures.items()},
        "preview": dg.MetadataValue.md(markdown_table(table, TABLES[name])),
        **{f"{other} rows": rows.num_rows for other, rows in list(result.tables.items())[1:]},
        "seconds": round(result.seconds, 3),
        "files": ", ".join(
            p.relative_to(graph.data_folder.root).as_posix() for p in graph.partition_files(node).values()
        ),
    }


def _image(png: bytes) -> dg.MetadataValue:
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(png).decode()})")


def markdown_table(table: pa.Table, schema: TableSchema, max_rows: int = MAX_ROWS) -> str:
    """Write the first rows of a table as Markdown; a table with a column `rank` is sorted by it.

    Columns without a value are left out. Columns with one value in all rows are listed below the table.
    """
    hidden = {column.name for column in schema.columns if not column.in_preview}
    names = [name for name in table.column_names if name not in hidden]
    first = schema.preview_first
    names.sort(key=lambda name: first.index(name) if name in first else len(first))
    if "rank" in names:
        table = table.sort_by("rank")
    cells = {name: [_cell(value) for value in table[name].to_pylist()] for name in names}
    constants = {name: column[0] for name, column in cells.items() if len(column) > 1 and len(set(column)) == 1}
    names = [name for name in names if name not in constants] or names[:1]
    lines = [f"| {' | '.join(map(_cell, names))} |", f"|{'---|' * len(names)}"]
    lines += ["| " + " | ".join(row) + " |" for row in zip(*(cells[n][:max_rows] for n in names), strict=True)]
    if table.num_rows > max_rows:
        lines.append(f"\n... and {table.num_rows - max_rows} more rows")
    if same := [f"{_cell(name)} {value}" for name, value in constants.items() if value]:
        lines.append(f"\nThe same in all rows: {', '.join(same)}")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= _MAX_CELL else text[: _MAX_CELL - 3] + "..."
