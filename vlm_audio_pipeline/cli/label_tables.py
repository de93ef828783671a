"""The leaderboard of multi-label studies for the terminal, and the leaderboard of a study of any task."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from rich.console import Group, RenderableType

from vlm_audio_pipeline.cli.printing import PlainTable, PlainText
from vlm_audio_pipeline.cli.settings import name_study
from vlm_audio_pipeline.cli.tables import group_notes, leaderboard_table
from vlm_audio_pipeline.contracts.number_text import rounded_text
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
        name = row["classifier"] + ("" if row["control"] in ("", "none") else f" @ {row['control']}")
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


def _share(value: float | None) -> str:
    return "undefined" if value is None else rounded_text(value, 3)


_VIEWS = {"leaderboard": leaderboard_table, "multi_label_leaderboard": label_leaderboard_table}


def find_and_show_leaderboard(data_folder: DataFolder, study: str) -> tuple[pa.Table, RenderableType]:
    """Return the leaderboard of a study of any task, and its view.

    Raises:
        VlmAudioError: if the study was not run.
    """
    tables = find_leaderboards(data_folder, study)
    name, rows = next((name, rows) for name, rows in tables.items() if rows.num_rows)
    return rows, _VIEWS[name](rows.to_pylist(), study)
