"""Tables of results for the terminal."""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from vlm_audio_pipeline.measures.declarations import MEASURES, RANKED_BY, shown_measures


def leaderboard_table(rows: Sequence[dict[str, Any]], title: str) -> RenderableType:
    """Return the leaderboard: rank, classifier, accuracy with interval and denominator, other measures, notes below.

    Measures of time and cost have a column if any row has a value. The k-NN baseline on the examples of a few-shot model
    comes directly below that model.
    """
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name in ("", "classifier", "scoring"):
        table.add_column(name, no_wrap=True)
    results = shown_measures("terminal", content=True)
    costs = [m for m in shown_measures("terminal", content=False) if any(row.get(m.name) is not None for row in rows)]
    headings = [RANKED_BY, "95 % interval", "correct / total", *(m.heading for m in results), "training clips"]
    headings += [m.heading for m in costs]
    for name in headings:
        table.add_column(name, justify="right", no_wrap=True)
    notes = []
    for row in _baselines_below(rows):
        name = _with_control(row["classifier"], row["control"])
        if row["note"] and not re.fullmatch(r"\d+ of \d+ (predictions|annotations)|expected of .*", row["note"]):
            notes.append(f"{name}: {row['note']}")
        if row["accuracy"] is None:
            table.add_row("", escape(name), "", *["-"] * len(headings), style="dim")
            continue
        table.add_row(
            "" if row["rank"] is None else str(row["rank"]),
            escape(name),
            row["scoring"],
            MEASURES[RANKED_BY].format(row[RANKED_BY], "-"),
            "-" if row["accuracy_low"] is None else f"{row['accuracy_low']:.3f} - {row['accuracy_high']:.3f}",
            "-" if row["correct"] is None else f"{row['correct']} / {row['predictions']}",
            *(m.format(row.get(m.name), "-") for m in results),
            "-" if row["training_clips"] is None else str(row["training_clips"]),
            *(m.format(row.get(m.name), "-") for m in costs),
            style="dim" if row["partial"] else "",
        )
    return Group(table, *(Text(n, style="dim") for n in notes))


def _with_control(classifier: str, control: str) -> str:
    return classifier + ("" if control in ("", "none") else f" @ {control}")


def _baselines_below(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Move each row with scoring examples_knn below the first row of its classifier."""
    ordered = [row for row in rows if row["scoring"] != "examples_knn"]
    for row in rows:
        if row["scoring"] == "examples_knn":
            same = [i for i, other in enumerate(ordered) if other["classifier"] == row["classifier"]]
            ordered.insert(same[0] + 1 if same else len(ordered), row)
    return ordered


def contrasts_table(rows: Sequence[dict[str, Any]], title: str) -> RenderableType:
    """Return the contrasts: difference in percentage points with interval, p after Holm, verdict; notes below."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name in ("classifier", "against"):
        table.add_column(name, no_wrap=True)
    for name in ("points", "95 % interval", "p (Holm)", "clips"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    notes = []
    for row in rows:
        subset = "" if row["subset"] == "all" else f", {row['subset']}"
        names = [
            escape(_with_scoring(row[name], row[scoring], row[control]))
            for name, scoring, control in (
                ("classifier", "scoring", "control"),
                ("against", "against_scoring", "against_control"),
            )
        ]
        if row["difference"] is None:
            table.add_row(*names, "-", "-", "-", "-", row["verdict"] + subset, style="dim")
            notes.append(row["statement"])
            continue
        table.add_row(
            *names,
            f"{100 * row['difference']:+.1f}",
            f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}",
            "< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}",
            str(row["clips"]),
            row["verdict"] + subset,
        )
    return Group(table, *(Text(n, style="dim") for n in notes))


def _with_scoring(classifier: str, scoring: str | None, control: str) -> str:
    """Return the name of a classifier with its control, and its scoring unless that is `score`."""
    return _with_control(classifier + ("" if scoring in (None, "score") else f" ({scoring})"), control)


def rows_table(rows: pa.Table, max_rows: int = 50) -> RenderableType:
    """Return any query result as a table; long values are cut, rows after `max_rows` are counted."""
    table = Table(header_style="bold", box=None, pad_edge=False)
    for name in rows.column_names:
        numeric = pa.types.is_integer(rows.schema.field(name).type) or pa.types.is_floating(
            rows.schema.field(name).type
        )
        table.add_column(escape(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows.slice(0, max_rows).to_pylist():
        table.add_row(*(escape(cell(row[n])) for n in rows.column_names))
    if rows.num_rows > max_rows:
        return Group(table, Text(f"... and {rows.num_rows - max_rows} more rows; --format csv prints all", style="dim"))
    return table


def cell(value: Any) -> str:
    """Format one value: floats to six digits, long values cut to 200 characters."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."


def prediction_view(rows: Sequence[dict[str, Any]]) -> RenderableType:
    """Return all predictions of one clip, by study.

    Args:
        rows: predictions joined with the `clips` row, ordered by study.

    Returns:
        For each study the clip, then each prediction.
    """
    lines: list[RenderableType] = []
    for study, group in groupby(rows, key=lambda row: row["study"]):
        predictions = list(group)
        lines += [*([Text()] if lines else []), *_clip_lines(study, predictions[0])]
        for row in predictions:
            lines += _prediction_lines(row)
    return Group(*lines)


def _clip_lines(study: str, row: dict[str, Any]) -> list[RenderableType]:
    facts = ("source", "fold", "file", "duration_s", "sample_rate_hz", "channels", "peak", "rms")
    values = [f"{n} {cell(row[n])}" for n in facts if row.get(n) is not None]
    return [
        Text.assemble(f"{study}: ", (row["clip"], "bold"), f" {row['label']}"),
        Text("  ".join(values), style="dim"),
    ]


def _prediction_lines(row: dict[str, Any]) -> list[RenderableType]:
    lines: list[RenderableType] = [
        Text.assemble(
            "\n",
            (row["classifier"], "bold"),
            f" ({row['kind']}, {row['scoring']}, control {row['control']}, trial {row['trial']}): ",
            (f"{row['predicted'] or row['outcome']}", "green" if row["correct"] else "red"),
            "  correct" if row["correct"] else "  wrong",
        )
    ]
    facts = ("encoder", "rendering", "model", "revision", "prompt", "shots", "training_clips", "annotator", "seconds")
    values = [f"{n} {cell(row[n])}" for n in facts if row.get(n) is not None]
    if values:
        lines.append(Text("  " + "  ".join(values), style="dim"))
    if row.get("text"):
        lines.append(Text(f"  response: {row['text']}"))
    if row.get("scores"):
        scores = dict(row["scores"])
        width = max(len(k) for k in scores)
        for label, score in sorted(scores.items(), key=lambda pair: -pair[1]):
            bar = "█" * round(20 * max(0.0, min(1.0, score)))
            lines.append(Text(f"  {label:<{width}}  {score:7.4f}  {bar}"))
    return lines
