"""Results as tables that fit a terminal."""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text


def leaderboard_table(rows: Sequence[dict[str, Any]], title: str) -> RenderableType:
    """Lay out leaderboard rows: place, classifier, accuracy with interval and denominator, and notes below.

    The k-NN over a few-shot model's examples stands right below that model.
    """
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name in ("", "classifier", "scoring"):
        table.add_column(name, no_wrap=True)
    for name in ("accuracy", "95 % interval", "right / asked", "macro F1", "learnt from"):
        table.add_column(name, justify="right", no_wrap=True)
    if paid := any(row.get("usd") is not None for row in rows):
        table.add_column("USD", justify="right", no_wrap=True)
    notes = []
    for row in _baselines_below(rows):
        name = _named(row["classifier"], row["control"])
        if row["note"] and not re.fullmatch(r"\d+ of \d+ (predictions|judgements)|expected of .*", row["note"]):
            notes.append(f"{name}: {row['note']}")
        if row["accuracy"] is None:
            table.add_row("", escape(name), "", *["-"] * (6 if paid else 5), style="dim")
            continue
        cost = "-" if row.get("usd") is None else f"{row['usd']:.2f}"
        table.add_row(
            "" if row["rank"] is None else str(row["rank"]),
            escape(name),
            row["scoring"],
            f"{row['accuracy']:.3f}",
            "-" if row["accuracy_low"] is None else f"{row['accuracy_low']:.3f} - {row['accuracy_high']:.3f}",
            "-" if row["correct"] is None else f"{row['correct']} / {row['predictions']}",
            "-" if row["macro_f1"] is None else f"{row['macro_f1']:.3f}",
            "-" if row["training_clips"] is None else str(row["training_clips"]),
            *([cost] if paid else []),
            style="dim" if row["partial"] else "",
        )
    return Group(table, *(Text(n, style="dim") for n in notes))


def _named(classifier: str, control: str) -> str:
    return classifier + ("" if control in ("", "none") else f" @ {control}")


def _baselines_below(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Move each row of scoring examples_knn below the first row of its classifier, as far as there is one."""
    ordered = [row for row in rows if row["scoring"] != "examples_knn"]
    for row in rows:
        if row["scoring"] == "examples_knn":
            same = [i for i, other in enumerate(ordered) if other["classifier"] == row["classifier"]]
            ordered.insert(same[0] + 1 if same else len(ordered), row)
    return ordered


def contrasts_table(rows: Sequence[dict[str, Any]], title: str) -> RenderableType:
    """Lay out contrasts: difference in points with its interval, p after Holm, the verdict; below, what could not be."""
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
            escape(_scored(row[name], row[scoring], row[control]))
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


def _scored(classifier: str, scoring: str | None, control: str) -> str:
    """Name one side, with its scoring where this is not the only one most classifiers have."""
    return _named(classifier + ("" if scoring in (None, "score") else f" ({scoring})"), control)


def rows_table(rows: pa.Table, most: int = 50) -> RenderableType:
    """Lay out any query result; wide values are cut, and rows beyond `most` are counted."""
    table = Table(header_style="bold", box=None, pad_edge=False)
    for name in rows.column_names:
        numeric = pa.types.is_integer(rows.schema.field(name).type) or pa.types.is_floating(
            rows.schema.field(name).type
        )
        table.add_column(escape(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows.slice(0, most).to_pylist():
        table.add_row(*(escape(cell(row[n])) for n in rows.column_names))
    if rows.num_rows > most:
        return Group(table, Text(f"... and {rows.num_rows - most} more rows; --format csv prints all", style="dim"))
    return table


def cell(value: Any) -> str:
    """Write one value for a table: floats to six digits, long values cut."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."


def prediction_view(rows: Sequence[dict[str, Any]]) -> RenderableType:
    """Lay out everything about predictions of one clip, study by study.

    Args:
        rows: predictions with what their study knows of the clip, those of one study in a row.

    Returns:
        For each study what is known of the clip, then each prediction.
    """
    lines: list[RenderableType] = []
    for study, here in groupby(rows, key=lambda row: row["study"]):
        predictions = list(here)
        lines += [*([Text()] if lines else []), *_clip_lines(study, predictions[0])]
        for row in predictions:
            lines += _prediction_lines(row)
    return Group(*lines)


def _clip_lines(study: str, row: dict[str, Any]) -> list[RenderableType]:
    facts = ("source", "fold", "file", "duration_s", "rate_hz", "channels", "peak", "rms")
    known = [f"{n} {cell(row[n])}" for n in facts if row.get(n) is not None]
    return [
        Text.assemble(f"{study}: ", (row["clip"], "bold"), f" {row['label']}"),
        Text("  ".join(known), style="dim"),
    ]


def _prediction_lines(row: dict[str, Any]) -> list[RenderableType]:
    lines: list[RenderableType] = [
        Text.assemble(
            "\n",
            (row["classifier"], "bold"),
            f" ({row['kind']}, {row['scoring']}, control {row['control']}, trial {row['trial']}): ",
            (f"{row['predicted'] or row['outcome']}", "green" if row["correct"] else "red"),
            "  right" if row["correct"] else "  wrong",
        )
    ]
    facts = ("encoder", "rendering", "model", "revision", "prompt", "shots", "training_clips", "reader", "seconds")
    known = [f"{n} {cell(row[n])}" for n in facts if row.get(n) is not None]
    if known:
        lines.append(Text("  " + "  ".join(known), style="dim"))
    if row.get("text"):
        lines.append(Text(f"  answer: {row['text']}"))
    if row.get("scores"):
        scores = dict(row["scores"])
        width = max(len(k) for k in scores)
        for label, score in sorted(scores.items(), key=lambda pair: -pair[1]):
            bar = "█" * round(20 * max(0.0, min(1.0, score)))
            lines.append(Text(f"  {label:<{width}}  {score:7.4f}  {bar}"))
    return lines


def console(*, stderr: bool = False) -> Console:
    """Give a console that never breaks words of paths and keys by highlighting."""
    return Console(stderr=stderr, highlight=False, soft_wrap=False)
