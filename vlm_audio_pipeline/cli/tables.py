"""Tables of results for the terminal."""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType

from vlm_audio_pipeline.cli.printing import PlainTable, PlainText
from vlm_audio_pipeline.cli.rows_view import cell
from vlm_audio_pipeline.cli.settings import name_study
from vlm_audio_pipeline.contracts.number_text import points_text, rounded_text
from vlm_audio_pipeline.evaluation.result_names import EXAMPLES_KNN, result_name, result_title
from vlm_audio_pipeline.evaluation.significance import p_value_text
from vlm_audio_pipeline.measures.declarations import MEASURES, RANKING_MEASURE, measures_for_display
from vlm_audio_pipeline.measures.uncertainty import THESE_EXAMPLES

CONTRASTS_TITLE = "comparisons (contrasts of the study file)"
_CONTRAST_NOTE = (
    "points: accuracy of the first side minus that of the second, in percentage points; interval: by source recording, not "
    "corrected; p: permutation test by source recording, corrected for {tests} test{s} (Holm)"
)


def leaderboard_table(rows: Sequence[dict[str, Any]], title: str, study: str | None = None) -> RenderableType:
    """Return the leaderboard: rank, classifier, accuracy with interval and denominator, other measures, notes below.

    `study` is the argument that selects the study, for advice in the notes.

    Measures of time and cost have a column if any row has a value. The k-NN baseline on the examples of a few-shot model
    comes directly below that model. A classifier without an accuracy has no row: a note gives the reason.
    """
    table = PlainTable(title=title)
    table.add_column("", no_wrap=True)
    table.add_column("classifier")
    table.add_column("scoring", no_wrap=True)
    results = measures_for_display("terminal", in_data_version=True)
    costs = [
        m
        for m in measures_for_display("terminal", in_data_version=False)
        if any(row.get(m.name) is not None for row in rows)
    ]
    headings = [RANKING_MEASURE, "95 % interval", "correct / total", *(m.heading for m in results), "training clips"]
    headings += [m.heading for m in costs]
    for position, name in enumerate(headings):
        table.add_column(name, justify="right", no_wrap=True, optional=position > 2)
    notes: list[tuple[str, str]] = []
    for row in _move_baselines(rows):
        name = result_name(row["classifier"], row["scoring"], row["control"])
        if note := re.sub(r"^\d+ of \d+ (predictions|annotations) correct(, |$)", "", row["note"] or ""):
            notes.append((name, note))
        if row["accuracy"] is None:
            continue
        is_reference = row["kind"] == "reference"
        undefined, none = ("", "") if is_reference else ("undefined", "none")
        table.add_row(
            "" if row["rank"] is None else str(row["rank"]),
            name,
            "" if row["scoring"] == EXAMPLES_KNN else row["scoring"],
            MEASURES[RANKING_MEASURE].format(row[RANKING_MEASURE], undefined),
            _interval(row, "expected" if is_reference else "not computed"),
            "" if row["correct"] is None else f"{row['correct']} / {row['predictions']}",
            *(m.format(row.get(m.name), undefined) for m in results),
            none if row["training_clips"] is None else str(row["training_clips"]),
            *(m.format(row.get(m.name), none) for m in costs),
            style="dim" if row["partial"] else "",
        )
    return Group(table, *(PlainText(name_study(n, study), style="dim") for n in group_notes(notes)))


def _interval(row: dict[str, Any], missing: str) -> str:
    low, high = row["accuracy_low"], row["accuracy_high"]
    return missing if low is None else f"{rounded_text(low, 3)} - {rounded_text(high, 3)}"


def group_notes(notes: Sequence[tuple[str, str]]) -> list[str]:
    """Return one line for each note, after the names of the rows that share it: "janus, gpt: not run: no network"."""
    names: dict[str, dict[str, None]] = {}
    for name, note in notes:
        names.setdefault(note, {})[name] = None
    return [f"{', '.join(names_of_note)}: {note}" for note, names_of_note in names.items()]


def _move_baselines(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Move each row with scoring examples_knn below the first row of its classifier."""
    ordered = [row for row in rows if row["scoring"] != EXAMPLES_KNN]
    for row in rows:
        if row["scoring"] == EXAMPLES_KNN:
            positions = [i for i, other in enumerate(ordered) if other["classifier"] == row["classifier"]]
            ordered.insert(positions[0] + 1 if positions else len(ordered), row)
    return ordered


def contrasts_table(rows: Sequence[dict[str, Any]], title: str, study: str | None = None) -> RenderableType:
    """Return the contrasts: difference in percentage points with interval, p after Holm, verdict; notes below.

    A comparison that was not possible has no row: a note gives the reason.
    """
    table = PlainTable(title=title)
    for name in ("classifier", "against"):
        table.add_column(name)
    for name in ("points", "95 % interval", "p (Holm)", "clips"):
        table.add_column(name, justify="right", no_wrap=True, optional=name == "clips")
    table.add_column("verdict")
    notes: list[str] = []
    not_compared: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        subset = "" if row["subset"] == "all" else f", {row['subset']}"
        names = [
            result_title(row[name], row[scoring], row[control])
            for name, scoring, control in (
                ("classifier", "scoring", "control"),
                ("against", "against_scoring", "against_control"),
            )
        ]
        if row["difference"] is None:
            not_compared.setdefault((names[0], _short_contrast_reason(row["reason"])), []).append(names[1] + subset)
            continue
        p = row["p_equivalence_holm" if row["verdict"] == "equivalent" else "p_holm"]
        table.add_row(
            *names,
            points_text(row["difference"]),
            f"{points_text(row['low'])} to {points_text(row['high'])}",
            p_value_text(p),
            str(row["clips"]),
            row["verdict"] + subset,
        )
        if row.get("interval_scope") == THESE_EXAMPLES:
            notes.append(f"{names[0]} against {names[1]}: interval and p for these examples")
    notes += [f"{first}: not compared with {', '.join(others)}: {why}" for (first, why), others in not_compared.items()]
    if tests := max((row.get("holm_over") or 0 for row in rows), default=0):
        notes.append(_CONTRAST_NOTE.format(tests=tests, s="s" * (tests > 1)))
    return Group(table_or_title(table), *(PlainText(name_study(n, study), style="dim") for n in notes))


def _short_contrast_reason(reason: str) -> str:
    """Leave out why a classifier was not run: a note below the leaderboard says it."""
    return re.sub(r"(\S+ was not run): .*?(?=; \S+ was not run|$)", r"\1", reason)


def table_or_title(table: PlainTable) -> RenderableType:
    """Return a table; only its title if it has no rows."""
    return table if table.row_count or table.title is None else PlainText(str(table.title), "table.title")


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
        lines += [*([PlainText()] if lines else []), *_clip_lines(study, predictions[0])]
        for row in predictions:
            lines += _prediction_lines(row)
    return Group(*lines)


def _clip_lines(study: str, row: dict[str, Any]) -> list[RenderableType]:
    columns = ("source", "fold", "file", "duration_s", "sample_rate_hz", "channels", "peak", "rms")
    values = [f"{n} {cell(row[n])}" for n in columns if row.get(n) is not None]
    return [
        PlainText.assemble(f"{study}: ", (row["clip"], "bold"), f" {row['label']}"),
        PlainText("  ".join(values), style="dim"),
    ]


def _prediction_lines(row: dict[str, Any]) -> list[RenderableType]:
    lines: list[RenderableType] = [
        PlainText.assemble(
            "\n",
            (row["classifier"], "bold"),
            f" ({row['kind']}, {row['scoring']}, control {row['control']}, trial {row['trial']}): ",
            (
                row["predicted"] if row["outcome"] == "answered" else f"({row['outcome']})",
                "green" if row["correct"] else "red",
            ),
            "  correct" if row["correct"] else "  wrong",
        )
    ]
    columns = ("encoder", "rendering", "model", "revision", "prompt", "shots", "training_clips", "annotator", "seconds")
    values = [f"{n} {cell(row[n])}" for n in columns if row.get(n) is not None]
    if values:
        lines.append(PlainText("  " + "  ".join(values), style="dim"))
    if row.get("text"):
        lines.append(PlainText(f"  response: {row['text']}"))
    if row.get("scores"):
        scores = dict(row["scores"])
        width = max(len(k) for k in scores)
        for label, score in sorted(scores.items(), key=lambda pair: -pair[1]):
            bar = "█" * round(20 * max(0.0, min(1.0, score)))
            lines.append(PlainText(f"  {label:<{width}}  {rounded_text(score, 4):>7}  {bar}"))
    return lines
