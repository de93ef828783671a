"""What a person sees of a step in the UI: counts, timing, the first rows, pictures and plots."""

import base64
from typing import Any

import dagster as dg
import pyarrow as pa

from vlm_audio_pipeline.planning.execution import Outcome
from vlm_audio_pipeline.planning.graph import Graph, Node
from vlm_audio_pipeline.renderings.sheet import clip_gallery, contact_sheet
from vlm_audio_pipeline.reports import figures

ROWS = 10
FIRST = ("rank", "classifier", "clip", "accuracy", "correct", "predictions", "label", "predicted")
"""Columns shown first, for the page has room for six or so."""
HIDDEN = (
    "study",
    "vector",
    "picture",
    "scores",
    "kept",
    "row_key",
    "samples_sha256",
    "log_probabilities",
    "label_tokens",
)


def preview(graph: Graph, node: Node, outcome: Outcome) -> dict[str, Any]:
    """Give the metadata of a materialization, in the order shown: what it says, pictures, rows, files."""
    tables = outcome.tables
    first = next(iter(tables.values()))
    shown: dict[str, Any] = {"dagster/row_count": first.num_rows}
    if "predictions" in tables and (real := figures.of_the_model(first)).num_rows:
        shown["accuracy (share of 1)"] = round(sum(real["correct"].to_pylist()) / real.num_rows, 4)
    if "leaderboard" in tables:
        shown["accuracy"] = _picture(figures.accuracy_chart(tables["leaderboard"]))
    if "confusion" in tables:
        value = figures.headline(tables["metrics"])
        if value is not None:
            shown["accuracy (share of 1)"] = value
        shown["confusion"] = _picture(figures.confusion_chart(tables["confusion"], graph.dataset().classes))
    if "clips" in tables and first.num_rows:
        shown["pictures"] = _picture(clip_gallery(graph.dataset(), first.to_pylist()))
    if "spectrograms" in tables and first.num_rows:
        shown["pictures"] = _picture(_sheet(graph, first))
    return shown | {
        "preview": dg.MetadataValue.md(markdown_table(first)),
        **{f"{name} rows": table.num_rows for name, table in list(tables.items())[1:]},
        "seconds": round(outcome.seconds, 3),
        "files": ", ".join(p.relative_to(graph.layout.root).as_posix() for p in graph.parts(node).values()),
    }


def _sheet(graph: Graph, spectrograms: pa.Table) -> bytes:
    """Put the first pictures of each class on a sheet, by the labels of the fold's clips."""
    labels = {clip.id: clip.label for clip in graph.dataset().clips}
    few: dict[str, list[tuple[str, bytes]]] = {}
    for clip, picture in zip(spectrograms["clip"], spectrograms["picture"], strict=True):
        row = few.setdefault(labels[clip.as_py()], [])
        if len(row) < 4:
            row.append((labels[clip.as_py()], picture.as_py()))
    return contact_sheet([shown for row in few.values() for shown in row])


def _picture(png: bytes) -> dg.MetadataValue:
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(png).decode()})")


def markdown_table(table: pa.Table, rows: int = ROWS) -> str:
    """Write the first rows of a table as Markdown, the best ranked where it has ranks.

    Columns too wide to read, and those without a value, are left out; those with one value for all rows are told once.
    """
    names = [n for n in table.column_names if n not in HIDDEN]
    names.sort(key=lambda n: FIRST.index(n) if n in FIRST else len(FIRST))
    if "rank" in names:
        table = table.sort_by("rank")
    cells = {n: [_cell(v) for v in table[n].to_pylist()] for n in names}
    told = {n: column[0] for n, column in cells.items() if len(column) > 1 and len(set(column)) == 1}
    names = [n for n in names if n not in told] or names[:1]
    lines = [f"| {' | '.join(map(_cell, names))} |", f"|{'---|' * len(names)}"]
    lines += ["| " + " | ".join(row) + " |" for row in zip(*(cells[n][:rows] for n in names), strict=True)]
    if table.num_rows > rows:
        lines.append(f"\n... and {table.num_rows - rows} more rows")
    if same := [f"{_cell(n)} {value}" for n, value in told.items() if value]:
        lines.append(f"\nThe same in all rows: {', '.join(same)}")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."
