"""Leaderboard and contrasts of multi-label studies for the terminal, and those of a study of any task."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich.console import Group, RenderableType

from vlm_audio_pipeline.cli.printing import PlainTable, PlainText
from vlm_audio_pipeline.cli.settings import name_study
from vlm_audio_pipeline.cli.tables import contrasts_table, group_notes, leaderboard_table, table_or_title
from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.evaluation.result_names import result_name
from vlm_audio_pipeline.evaluation.significance import p_value_text
from vlm_audio_pipeline.reports.lookup import find_leaderboards
from vlm_audio_pipeline.storage.data_folder import DataFolder

_HEADINGS = {"cmap": "cmAP", "auroc_macro": "AUROC", "f1_macro": "F1", "lwlrap": "lwlrap", "exact_match": "exact match"}


def label_leaderboard_table(rows: Sequence[dict[str, Any]], title: str, study: str | None = None) -> RenderableType:
    """Return the leaderboard: rank, classifier, cmAP with interval, other measures, numbers of labels and clips, notes below.

    A classifier without results has no row: a note gives the reason. `study` is the argument that selects the study, for advice in the notes.
    """
    table = PlainTable(title=title)
    table.add_column("", no_wrap=True)
    table.add_column("classifier")
    ranking, *others = _HEADINGS
    headings = [_HEADINGS[ranking], "95 % interval", *(_HEADINGS[name] for name in others), "labels", "clips"]
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="right", no_wrap=True, optional=position > 2)
    notes = []
    for row in rows:
        name = _name(row["classifier"], row["scoring"], row["control"])
        low, high = row[f"{ranking}_low"], row[f"{ranking}_high"]
        if low is None or (row["rank"] is None and row["kind"] != "reference"):
            notes.append((name, row["note"]))
        if not row["clips"]:
            continue
        interval = "none" if low is None else f"{rounded_text(low, 3)} - {rounded_text(high, 3)}"
        table.add_row(
            "" if row["rank"] is None else str(row["rank"]),
            name,
            _share(row[ranking]),
            interval,
            *(_share(row[other]) for other in others),
            str(row["positives"]),
            str(row["clips"]),
            style="dim" if row["partial"] else "",
        )
    return Group(table, *(PlainText(name_study(note, study), style="dim") for note in group_notes(notes)))


def recordings_table(rows: Sequence[dict[str, Any]], title: str, study: str | None = None) -> RenderableType:
    """Return the measures of whole recordings: classifier, pooling, cmAP with interval, other measures, number of recordings.

    A run that is not finished has no row: a note gives the reason.
    """
    table = PlainTable(title=title)
    for name in ("classifier", "pooling"):
        table.add_column(name)
    ranking, *others = _HEADINGS
    headings = [_HEADINGS[ranking], "95 % interval", *(_HEADINGS[name] for name in others), "labels", "recordings"]
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="right", no_wrap=True, optional=position > 2)
    notes = []
    for row in rows:
        name = _name(row["classifier"], row["scoring"], row["control"])
        if not row["classes"]:
            notes.append((name, row["note"]))
            continue
        low, high = row[f"{ranking}_low"], row[f"{ranking}_high"]
        table.add_row(
            name,
            row["pooling"],
            _share(row[ranking]),
            "none" if low is None else f"{rounded_text(low, 3)} - {rounded_text(high, 3)}",
            *(_share(row[other]) for other in others),
            str(row["positives"]),
            str(row["recordings"]),
        )
    lines = [name_study(line, study) for line in group_notes(list(dict.fromkeys(notes)))]
    return Group(table_or_title(table), *(PlainText(line, style="dim") for line in lines))


def label_contrasts_table(rows: Sequence[dict[str, Any]], title: str, study: str | None = None) -> RenderableType:
    """Return the contrasts: measure, difference with interval, p after Holm, verdict.

    A comparison that was not possible has no row: a note gives the reason.
    """
    table = PlainTable(title=title)
    for name in ("classifier", "against"):
        table.add_column(name)
    for name in ("measure", "difference", "95 % interval", "p (Holm)", "clips"):
        table.add_column(name, justify="right", no_wrap=True, optional=name == "clips")
    table.add_column("verdict")
    notes = []
    for row in rows:
        subset = "" if row["subset"] == "all" else f", {row['subset']}"
        names = [
            _name(row["classifier"], row["scoring"], row["control"]),
            _name(row["against"], row["against_scoring"], row["against_control"]),
        ]
        if row["difference"] is None:
            notes.append((f"{names[0]} and {names[1]}{subset}", f"not compared in {row['measure']}: {row['reason']}"))
            continue
        low, high = (rounded_text(row[end], 3, sign=True) for end in ("low", "high"))
        table.add_row(
            *names,
            row["measure"],
            rounded_text(row["difference"], 3, sign=True),
            f"{low} to {high}",
            p_value_text(row["p_equivalence_holm" if row["verdict"] == "equivalent" else "p_holm"]),
            str(row["clips"]),
            row["verdict"] + subset,
        )
    lines = group_notes(notes)
    if tests := max((row["holm_over"] for row in rows), default=0):
        lines.append(f"p is corrected for {tests} test{'s' * (tests > 1)}; intervals are not corrected")
    return Group(table_or_title(table), *(PlainText(name_study(line, study), style="dim") for line in lines))


def _name(classifier: str, scoring: str | None, control: str) -> str:
    """Return the name of a row; scores have no scoring in it."""
    name = result_name(classifier, scoring, control)
    return name if scoring in (None, "", "score") else f"{name} ({scoring})"


def _share(value: float | None) -> str:
    return "undefined" if value is None else rounded_text(value, 3)


_VIEWS = {"leaderboard": leaderboard_table, "multi_label_leaderboard": label_leaderboard_table}
_CONTRAST_VIEWS = {"contrasts": contrasts_table, "multi_label_contrasts": label_contrasts_table}


def find_and_show_leaderboard(data_folder: DataFolder, study: str) -> tuple[pa.Table, RenderableType]:
    """Return the leaderboard of a study of any task, and its view.

    Raises:
        VlmAudioError: if the study was not run.
    """
    tables = find_leaderboards(data_folder, study)
    name, rows = next((name, rows) for name, rows in tables.items() if rows.num_rows)
    return rows, _VIEWS[name](rows.to_pylist(), study)


def show_contrasts(tables: Mapping[str, pa.Table]) -> tuple[pa.Table, RenderableType]:
    """Return the contrasts of a study of any task, and their view.

    Args:
        tables: the rows of the study in each table of contrasts, by name; at most one has rows.
    """
    name = next((name for name, rows in tables.items() if rows.num_rows), "contrasts")
    return tables[name], _CONTRAST_VIEWS[name](tables[name].to_pylist(), "contrasts")
