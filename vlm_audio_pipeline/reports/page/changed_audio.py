"""The section of changed audio: the accuracy of each classifier over the signal-to-noise ratio, the level or the low-pass limit."""

from collections.abc import Sequence
from typing import Any

from vlm_audio_pipeline.datasets.perturbation import Perturb, Perturbation
from vlm_audio_pipeline.reports.page.runs import PageRun
from vlm_audio_pipeline.reports.page.study_results import StudyResults

UNITS = {"snr_db": "dB", "gain_db": "dB", "low_pass_hz": "Hz"}
"""What a perturbation sets -> its unit."""
AXES = {
    "snr_db": "signal-to-noise ratio (dB)",
    "gain_db": "change of the level (dB)",
    "low_pass_hz": "limit of the low-pass filter (Hz)",
}
"""What a perturbation sets -> the name of the axis."""


def perturbations(results: StudyResults) -> dict[str, dict[str, Perturbation]]:
    """Return classifier -> name of the condition -> change of the audio, as the study was run."""
    classifiers: dict[str, dict[str, Any]] = results.spec.get("classifiers", {})
    values = {name: spec["perturb"] for name, spec in classifiers.items() if spec.get("perturb")}
    return {
        name: {change.name: change for change in Perturb.model_validate(perturb).perturbations}
        for name, perturb in values.items()
    }


def changed_audio(
    runs: Sequence[PageRun], changes: dict[str, dict[str, Perturbation]], chance: float | None
) -> list[dict[str, Any]]:
    """Return one plot and table for each kind of change: white noise, noise of a file, gain, low-pass.

    Values ascend from left to right at equal distances; the original is the last column.

    Args:
        runs: all runs, in the order in which the page numbers them.
        changes: from `perturbations`.
        chance: the chance level, a share of 1.

    Returns:
        For each: `title`, `axis`, `columns` (the texts of the values and "original"), `chance`, and `lines`. A line has `name`,
        `scoring`, `color` (0 to 6) and `points`: for each column None, or `run` (its number on the page), `row` (of the leaderboard) and
        `x`, a share of the width.
    """
    names = sorted({(change.quantity, change.series) for of_name in changes.values() for change in of_name.values()})
    return [_series(runs, changes, *name, chance) for name in sorted(names, key=lambda name: [*AXES].index(name[0]))]


def _series(
    runs: Sequence[PageRun],
    changes: dict[str, dict[str, Perturbation]],
    quantity: str,
    series: str,
    chance: float | None,
) -> dict[str, Any]:
    values_of = {
        classifier: {
            change.name: change.value
            for change in by_name.values()
            if (change.quantity, change.series) == (quantity, series)
        }
        for classifier, by_name in changes.items()
    }
    values = sorted({value for by_name in values_of.values() for value in by_name.values()})
    numbers = {(run.classifier, run.scoring, run.control): i for i, run in enumerate(runs)}
    keys = [(run.classifier, run.scoring) for run in runs if run.control == "none" and values_of.get(run.classifier)]
    lines: list[dict[str, Any]] = []
    for i, (classifier, scoring) in enumerate(keys):
        control_at = {value: name for name, value in values_of[classifier].items()}
        controls = [*(control_at.get(value) for value in values), "none"]
        points = [numbers.get((classifier, scoring, control or "")) for control in controls]
        if all(number is None for number in points[:-1]):
            continue
        shift = 0.08 * ((i + 1) / (len(keys) + 1) - 0.5)  # beside each other, so that intervals do not overlap
        lines.append(
            {
                "name": classifier,
                "scoring": scoring,
                "color": len(lines) % 7,
                "points": [
                    None
                    if number is None
                    else {"run": number, "row": runs[number].row, "x": (column + 0.5) / len(controls) + shift}
                    for column, number in enumerate(points)
                ],
            }
        )
    return {
        "title": series,
        "axis": AXES[quantity],
        "columns": [*(f"{value:g} {UNITS[quantity]}" for value in values), "original"],
        "chance": chance,
        "lines": lines,
    }
