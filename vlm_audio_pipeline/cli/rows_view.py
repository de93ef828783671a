"""The result of any query for the terminal."""

from typing import Any

import pyarrow as pa
from rich.console import Group, RenderableType

from vlm_audio_pipeline.cli.app import print_to_stdout
from vlm_audio_pipeline.cli.printing import PlainTable, PlainText, console, has_width, natural_width


def print_rows(rows: pa.Table) -> None:
    """Print rows as a table, or one value per line if the terminal is too narrow."""
    out = console()
    table = rows_table(rows)
    if not has_width(out) or natural_width(out, table) <= out.width:
        print_to_stdout(table)
        return
    max_rows = 50
    width = max(len(name) for name in rows.column_names)
    for row in rows.slice(0, max_rows).to_pylist():
        for name, value in row.items():
            print_to_stdout(PlainText.assemble((f"{name:<{width}}  ", "bold"), cell(value)))
        print_to_stdout("")
    if rows.num_rows > max_rows:
        print_to_stdout(f"... and {rows.num_rows - max_rows} more rows; --format csv prints all")


def rows_table(rows: pa.Table, max_rows: int = 50) -> RenderableType:
    """Return any query result as a table; long values are cut, rows after `max_rows` are counted."""
    table = PlainTable()
    for name in rows.column_names:
        numeric = pa.types.is_integer(rows.schema.field(name).type) or pa.types.is_floating(
            rows.schema.field(name).type
        )
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows.slice(0, max_rows).to_pylist():
        table.add_row(*(cell(row[n]) for n in rows.column_names))
    if rows.num_rows > max_rows:
        return Group(
            table, PlainText(f"... and {rows.num_rows - max_rows} more rows; --format csv prints all", style="dim")
        )
    return table


def cell(value: Any) -> str:
    """Format one value: floats to six digits, long values cut to 200 characters."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."
