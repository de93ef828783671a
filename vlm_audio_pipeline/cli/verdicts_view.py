"""The table of verdicts on vision-language models for the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType

from vlm_audio_pipeline.cli.printing import PlainTable, PlainText
from vlm_audio_pipeline.cli.settings import name_study
from vlm_audio_pipeline.cli.tables import group_notes, table_or_title
from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.evaluation.result_names import result_title

_VERDICT_COLUMNS = {
    "image": "accuracy",
    "blank": "blank_accuracy",
    "shuffled": "time_shuffled_accuracy",
    "audio": "audio_accuracy",
    "pixels": "pixels_accuracy",
}
_MISSING_NUMBERS = {"blank": "not run", "shuffled": "not run", "audio": "none", "pixels": "none"}
_MISSING_NUMBER_NOTES = {
    "not run": "not run: the study has no such control for the model, or the control is not complete",
    "none": "none: no such baseline has results for all clips of the model",
}


def verdicts_table(rows: Sequence[dict[str, Any]], study: str, study_argument: str | None = None) -> RenderableType:
    """Return the verdicts on vision-language models: answer and accuracies; below, the references and undecided answers.

    The accuracies are those on the images, on blank and time-shuffled images, of the audio baseline, and of a probe on the
    pixels if the study has one. Without that probe the table fits into 80 columns for names of up to 30 characters. A model
    without a complete run has no row: a note gives the reason.
    """
    cautions = list(dict.fromkeys(row["caution"] for row in rows if row.get("caution")))
    title = f"{study}{' (demonstration, not a finding)' if cautions else ''}: can it hear what it sees?"
    table = PlainTable(title=title)
    for name in ("model", "answer"):
        table.add_column(name)
    measured = [row for row in rows if row["accuracy"] is not None]
    has_pixels = any(row["pixels_accuracy"] is not None for row in rows)
    columns = {name: column for name, column in _VERDICT_COLUMNS.items() if name != "pixels" or has_pixels}
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    missing: set[str] = set()
    for row in measured:
        cells = {name: row[column] for name, column in columns.items()}
        missing |= {_MISSING_NUMBERS[name] for name, value in cells.items() if value is None}
        table.add_row(
            result_title(row["classifier"], row["scoring"]),
            row["answer"],
            *(_MISSING_NUMBERS[n] if value is None else rounded_text(value, 3) for n, value in cells.items()),
        )
    chance = next((rounded_text(row["chance_accuracy"], 3) for row in rows if row["chance_accuracy"] is not None), None)
    references = {
        "chance": {chance} - {None},
        **{kind: {row[f"{kind}_classifier"] for row in rows} - {None} for kind in ("audio", "pixels")},
    }
    notes = [
        *cautions,
        ", ".join(f"{name}: {', '.join(sorted(values))}" for name, values in references.items() if values),
        *(note for word, note in _MISSING_NUMBER_NOTES.items() if word in missing),
    ]
    undecided: dict[str, str] = {}
    for row in measured:
        if row["answer"] == "cannot be decided":
            undecided.setdefault(row["classifier"], row["statement"])  # scorings of a model share most reasons
    notes += undecided.values()
    tests = max((row["holm_over"] for row in measured if ", p = " in undecided.get(row["classifier"], "")), default=0)
    if tests > 1:
        notes.append(
            f"p: corrected for {tests} tests against chance and blank images (Holm); declared comparisons are corrected for "
            "their own number of tests, so the same test can have another p there"
        )
    without_run = group_notes(
        [(row["classifier"], _short_verdict_reason(row["reason"])) for row in rows if row["accuracy"] is None]
    )
    notes += [f"cannot be decided for {note}" for note in without_run]
    return Group(
        table_or_title(table),
        *(PlainText(name_study(note, study_argument or study), style="dim") for note in notes if note),
    )


def _short_verdict_reason(reason: str) -> str:
    """Leave out why a model was not run: a note below the leaderboard says it."""
    return "not run (the reason is below the leaderboard)" if reason.startswith("not run: ") else reason
