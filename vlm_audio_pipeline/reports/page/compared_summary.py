"""The sentences at the top of a page that compares results."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from vlm_audio_pipeline.evaluation.significance import ALPHA
from vlm_audio_pipeline.reports.page.compared_results import ComparedResults

_OUTCOMES = {
    "better": "{n} {is_} more accurate",
    "worse": "{n} {is_} less accurate",
    "undecided": "{n} {has} other predictions, but no difference in accuracy is shown",
    "equal": "{n} {has} the same predictions",
    "single": "{n} {has} predictions in only one of the two",
    "no clip": "{n} {has} no clip in common",
}
"""Outcome of the comparison of a classifier and scoring -> its words."""


def summarise_column(rows: Sequence[dict[str, Any]], compared: Sequence[ComparedResults], number: int) -> str:
    """Return in words how many classifiers are more accurate, less accurate or equal in one of the compared results.

    Controls are not counted: for them, a lower accuracy is not worse.
    """
    originals = [row for row in rows if row["is_original"]]
    counts = Counter(_outcome(row["cells"][0], row["cells"][number]) for row in originals)
    parts = [
        words.format(n=f"{n:,}", is_="is" if n == 1 else "are", has="has" if n == 1 else "have")
        for key, words in _OUTCOMES.items()
        if (n := counts[key])
    ]
    noun = "classifier and scoring" if len(originals) == 1 else "classifiers and scorings"
    text = (
        f"{compared[number].name} compared with {compared[0].name}: of {len(originals):,} {noun}, {'; '.join(parts)}."
    )
    if others := len(rows) - len(originals):
        text += f" {others:,} control{'s' * (others > 1)} and references are not counted."
    return text


def _outcome(first: dict[str, Any] | None, cell: dict[str, Any] | None) -> str:
    if first is None or cell is None:
        return "single"
    if cell["is_equal"]:
        return "equal"
    if cell.get("p_holm") is None:
        return "no clip"
    if cell["p_holm"] >= ALPHA:
        return "undecided"
    return "better" if cell["difference"] > 0 else "worse"


def descriptions(compared: Sequence[ComparedResults]) -> list[tuple[list[str], str]]:
    """Return the descriptions of the studies, each with the names of the studies that have it."""
    names: dict[str, dict[str, None]] = {}
    for side in compared:
        if text := side.results.spec.get("description"):
            names.setdefault(text, {})[side.results.study] = None
    return [(list(studies), text) for text, studies in names.items()]
