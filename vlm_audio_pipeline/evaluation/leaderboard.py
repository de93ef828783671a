"""The leaderboard: one row for each (classifier, scoring, control), and one for each classifier that was not run.

Belongs here: which rows are ranked, denominators in words, and the rows of chance and majority. Does not belong here:
whether a difference between two rows is significant (`contrasts`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.references import CHANCE, MAJORITY, expected_accuracy
from vlm_audio_pipeline.evaluation.tables import rows_of
from vlm_audio_pipeline.measures.declarations import MEASURES
from vlm_audio_pipeline.measures.predictions import PredictionArrays, by_scoring_and_control, subsets

NO_PREDICTIONS = "no predictions with today's settings yet"


@dataclass(frozen=True)
class LeaderboardEntry:
    """One classifier of the study.

    Attributes:
        classifier: its name in the study.
        kind: its kind.
        predictions: `predictions` rows of the folds that exist; None for none.
        expected_folds: the folds it is run on.
        not_run: why it could not be run, or None.
        expected_predictions: predictions it should have for each scoring and control; None where the number is not
            fixed (annotations).
    """

    classifier: str
    kind: str
    predictions: pa.Table | None
    expected_folds: tuple[int, ...]
    not_run: str | None = None
    expected_predictions: int | None = None


@dataclass(frozen=True)
class _StudyFacts:
    """What all rows of one leaderboard share; the attributes are those of `leaderboard_table`."""

    clips: Sequence[Clip]
    rejected_clips: int
    classes: tuple[str, ...]
    tuning_folds: tuple[int, ...]
    limited: bool


def leaderboard_table(
    entries: Sequence[LeaderboardEntry],
    *,
    clips: Sequence[Clip],
    rejected_clips: int,
    classes: tuple[str, ...],
    tuning_folds: tuple[int, ...],
    limited: bool,
) -> pa.Table:
    """Summarise every classifier, with chance and majority beside them.

    A row is ranked only where it is comparable: control "none", not partial, every clip of the dataset predicted, each
    equally often; and not the k-NN over a few-shot model's examples, which is that model's baseline. Equal accuracies
    share a rank, and the next rank counts them (1, 1, 3).

    Args:
        entries: the classifiers of the study.
        clips: usable clips of the dataset, over all folds.
        rejected_clips: number of clips that are unusable.
        classes: every label of the study.
        tuning_folds: folds of the dataset that choices were tuned on; without any, `accuracy_without_tuning_folds` is null.
        limited: whether the run took only some clips; then every row is partial.

    Returns:
        `leaderboard` rows without `study`: ranked ones first, then by accuracy, those without a number last.

    Raises:
        VlmAudioError: for predictions with labels outside `classes`, or of more clips than there are.
    """
    facts = _StudyFacts(clips, rejected_clips, classes, tuning_folds, limited)
    lines = [_reference_line(name, facts) for name in (CHANCE, MAJORITY)]
    for entry in entries:
        if entry.predictions is None or not entry.predictions.num_rows:
            lines.append(_not_run_line(entry, facts))
            continue
        lines += [
            _line(entry, scoring, control, rows, facts)
            for scoring, control, rows in by_scoring_and_control(entry.predictions)
        ]
    comparable = [line for line in lines if line.pop("comparable")]
    for line in comparable:  # compares exact fractions, so that 10 of 30 and 20 of 60 are equal
        line["rank"] = 1 + sum(
            other["correct"] * line["predictions"] > line["correct"] * other["predictions"] for other in comparable
        )
    lines.sort(
        key=lambda line: (
            line["rank"] is None,
            line["rank"] or 0,
            line["accuracy"] is None,
            -(line["accuracy"] or 0),
            line["classifier"],
        )
    )
    return rows_of("leaderboard", lines)


def _line(entry: LeaderboardEntry, scoring: str, control: str, rows: pa.Table, facts: _StudyFacts) -> dict[str, Any]:
    arrays = PredictionArrays.of(rows, facts.classes)
    folds = tuple(np.unique(arrays.fold).tolist())
    missing_folds = sorted(set(entry.expected_folds) - set(folds))
    times = np.unique(arrays.clip, return_counts=True)[1]
    clips, correct, predictions = len(times), int(arrays.correct.sum()), len(arrays.label)
    if clips > len(facts.clips):
        raise VlmAudioError(
            f"predictions of '{entry.classifier}' must be of the {len(facts.clips)} clips of the dataset, got {clips} "
            "clips; run the study again"
        )
    missing = max(0, (entry.expected_predictions or 0) - predictions)
    partial = bool(missing_folds) or facts.limited or missing > 0
    is_baseline = scoring == "examples_knn"
    complete = control == "none" and not partial and clips == len(facts.clips) and not is_baseline
    even = times.min() == times.max()  # otherwise clips predicted more often would weigh more
    is_annotation = scoring == "annotation"
    numbers = _numbers(arrays, facts.tuning_folds)
    notes = [f"{correct} of {predictions} {'annotations' if is_annotation else 'predictions'}"]
    if is_baseline:
        notes.append("baseline: k-NN over the examples shown")
    if not is_annotation and (sd := numbers["trial_sd"]) is not None:
        notes.append(f"standard deviation over trials {sd:.3f}")
    if clips != len(facts.clips):
        notes.append(f"{clips} of {len(facts.clips)} clips")
    if missing:
        notes.append(f"{missing} of {entry.expected_predictions} not made yet")
    if missing_folds:
        notes.append(f"folds {_join(folds)} of {_join(entry.expected_folds)}")
        if entry.not_run:
            notes.append(f"the others not run: {entry.not_run}")
    if facts.limited:
        notes.append("limited run")
    if complete and not even:
        verb = "annotated" if is_annotation else "predicted"
        notes.append(f"not ranked: clips were {verb} {times.min()} to {times.max()} times")
    if (answered := int(arrays.answered.sum())) < predictions:
        notes.append(f"{correct} of {answered} answered")
    outcomes = rows["outcome"].to_pylist()
    notes += [f"{outcomes.count(o)} {o}" for o in sorted(set(outcomes) - {"answered"})]
    notes += _rejected_note(facts.rejected_clips)
    interval = arrays.accuracy_interval
    return {
        "rank": None,
        "classifier": entry.classifier,
        "kind": entry.kind,
        "model": next((m for m in rows["model"].to_pylist() if m), None),
        "scoring": scoring,
        "control": control,
        **numbers,
        "interval": None if interval is None else interval.method,
        "predictions": predictions,
        "correct": correct,
        "answered": answered,
        "clips": clips,
        "dataset_clips": len(facts.clips),
        "rejected_clips": facts.rejected_clips,
        "trials": len(set(rows["annotator" if is_annotation else "trial"].to_pylist())),
        "folds": _join(folds),
        "training_clips": max((n for n in rows["training_clips"].to_pylist() if n is not None), default=None),
        "partial": partial,
        "note": ", ".join(notes),
        "comparable": complete and even,
    }


def _numbers(predictions: PredictionArrays, tuning_folds: tuple[int, ...]) -> dict[str, float | None]:
    """Compute the measures that are columns of the leaderboard, each on its subset; None where there is no such subset."""
    arrays = dict(subsets(predictions, tuning_folds))
    return {
        measure.name: measure.formula(arrays[measure.subset]).value if measure.subset in arrays else None
        for measure in MEASURES.values()
        if measure.leaderboard
    }


def _reference_line(name: str, facts: _StudyFacts) -> dict[str, Any]:
    folds = np.array([clip.fold for clip in facts.clips], int)
    labels = np.array([clip.label for clip in facts.clips], str)
    accuracy = expected_accuracy(name, labels, folds, len(facts.classes))
    defined = accuracy[~np.isnan(accuracy)]
    untuned = accuracy[~np.isin(folds, facts.tuning_folds) & ~np.isnan(accuracy)] if facts.tuning_folds else defined[:0]
    note = {
        CHANCE: f"expected of a guess among {len(facts.classes)} classes",
        MAJORITY: "expected of the most frequent class of the other folds"
        if len(defined)
        else "not known: there are no other folds",
    }[name]
    value = float(defined.mean()) if len(defined) else None
    return {
        "classifier": name,
        "kind": "reference",
        "scoring": "",
        "control": "none",
        "accuracy": value,
        "accuracy_answered": value,
        "accuracy_without_tuning_folds": float(untuned.mean()) if len(untuned) else None,
        **dict.fromkeys(("predictions", "answered", "clips"), len(defined)),
        "trials": 0,
        "dataset_clips": len(facts.clips),
        "rejected_clips": facts.rejected_clips,
        "folds": _join(np.unique(folds).tolist()),
        "rank": None,
        "partial": facts.limited,
        "comparable": False,
        "note": note,
    }


def _not_run_line(entry: LeaderboardEntry, facts: _StudyFacts) -> dict[str, Any]:
    reason = entry.not_run or NO_PREDICTIONS
    return {
        "classifier": entry.classifier,
        "kind": entry.kind,
        "scoring": "",
        "control": "none",
        "accuracy": None,
        **dict.fromkeys(("predictions", "correct", "answered", "clips", "trials"), 0),
        "dataset_clips": len(facts.clips),
        "rejected_clips": facts.rejected_clips,
        "folds": "",
        "rank": None,
        "partial": True,
        "comparable": False,
        "note": ", ".join([f"not run: {reason}", *_rejected_note(facts.rejected_clips)]),
    }


def _join(folds: Sequence[int]) -> str:
    return ",".join(str(f) for f in folds)


def _rejected_note(count: int) -> list[str]:
    return [f"{count} recording{'s' if count != 1 else ''} rejected"] if count else []
