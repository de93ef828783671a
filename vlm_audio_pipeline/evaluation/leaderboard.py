"""The leaderboard: one row for each (classifier, scoring, control), and one for each classifier that was not run.

Belongs here: which rows are ranked, the notes of a row, and the rows of chance and majority. Does not belong here:
whether a difference between two rows is significant (`contrasts`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.answer_notes import answer_notes
from vlm_audio_pipeline.evaluation.completeness import mixed_responses
from vlm_audio_pipeline.evaluation.references import CHANCE, MAJORITY, expected_accuracy
from vlm_audio_pipeline.evaluation.result_names import EXAMPLES_KNN
from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.measures.declarations import MEASURES
from vlm_audio_pipeline.measures.predictions import PredictionArrays, split_by_scoring_and_control, subsets
from vlm_audio_pipeline.measures.uncertainty import CLIPS, CLIPS_AND_DRAWS, SAMPLED_STRATEGY, Interval

NO_PREDICTIONS = "no predictions with the current settings yet"


@dataclass(frozen=True)
class LeaderboardEntry:
    """One classifier of the study.

    Attributes:
        classifier: its name in the study.
        kind: its kind.
        predictions: `predictions` rows of the folds that exist, or None.
        expected_folds: the folds it is run on.
        not_run_reason: reason why it could not be run, or None.
        expected_predictions: number of predictions of a complete run, for each scoring and control; None if it is not
            fixed (annotations).
        accepted_models: see `ExpectedRun`.
    """

    classifier: str
    kind: str
    predictions: pa.Table | None
    expected_folds: tuple[int, ...]
    not_run_reason: str | None = None
    expected_predictions: int | None = None
    accepted_models: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _StudyFacts:
    """The values that all rows of one leaderboard share; the attributes are arguments of `leaderboard_table`."""

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

    A failed request makes a row partial: a failure is not a wrong answer of the model. Responses of two models make a row partial
    and its measures undefined.
    A row is ranked only if it is comparable: its control is "none", it is not partial, and it predicts every clip of the
    dataset equally often. The k-NN over the examples of a few-shot model is a baseline of that model and is not ranked.
    Equal accuracies share a rank, and the ranks after it are skipped (1, 1, 3).

    Args:
        entries: the classifiers of the study.
        clips: usable clips of the dataset, over all folds.
        rejected_clips: number of clips that cannot be used.
        classes: every label of the study.
        tuning_folds: folds of the dataset that choices were tuned on; without any, `accuracy_without_tuning_folds` is null.
        limited: whether the run was limited to a part of the clips; then every row is partial.

    Returns:
        `leaderboard` rows without `study`: ranked rows first, then by accuracy; rows without accuracy last.

    Raises:
        VlmAudioError: for predictions with labels outside `classes`, or of more clips than the dataset has.
    """
    facts = _StudyFacts(clips, rejected_clips, classes, tuning_folds, limited)
    lines = [_reference_line(name, facts) for name in (CHANCE, MAJORITY)]
    for entry in entries:
        if entry.predictions is None or not entry.predictions.num_rows:
            lines.append(_not_run_line(entry, facts, entry.not_run_reason or NO_PREDICTIONS))
            continue
        lines += [
            _line(entry, scoring, control, rows, facts)
            for scoring, control, rows in split_by_scoring_and_control(entry.predictions)
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
            line["scoring"],
            line["control"],
        )
    )
    return build_rows("leaderboard", lines)


def _line(entry: LeaderboardEntry, scoring: str, control: str, rows: pa.Table, facts: _StudyFacts) -> dict[str, Any]:
    all_arrays = PredictionArrays.from_table(rows, facts.classes)
    arrays = all_arrays.without_errors
    outcomes = rows["outcome"].to_pylist()
    failed = outcomes.count("error")
    if failed == rows.num_rows:
        reason = f"all {failed} requests failed: run the study again"
        return _not_run_line(entry, facts, reason) | {"scoring": scoring, "control": control}
    folds = tuple(np.unique(arrays.fold).tolist())
    missing_folds = sorted(set(entry.expected_folds) - set(folds))
    prediction_counts = np.unique(arrays.clip, return_counts=True)[1]
    clips, correct, predictions = len(prediction_counts), int(arrays.correct.sum()), len(arrays.label)
    if clips > len(facts.clips):
        raise VlmAudioError(
            f"'{entry.classifier}' has predictions for {clips} clips, but the dataset has only {len(facts.clips)}; run the "
            "study again"
        )
    missing = max(0, (entry.expected_predictions or 0) - rows.num_rows)
    if mixed := mixed_responses(rows, entry.accepted_models):
        return _mixed_line(entry, scoring, control, rows, mixed, facts)
    partial = bool(missing_folds) or facts.limited or missing > 0 or failed > 0
    is_baseline = scoring == EXAMPLES_KNN
    is_rankable = control == "none" and not partial and clips == len(facts.clips) and not is_baseline
    # A clip with more predictions than others would have more weight.
    is_balanced = prediction_counts.min() == prediction_counts.max()
    is_annotation = scoring == "annotation"
    measure_values = _measure_values(all_arrays, facts.tuning_folds)
    notes = [f"{correct} of {predictions} {'annotations' if is_annotation else 'predictions'} correct"]
    if is_baseline:
        notes.append("k-NN over the examples in the prompt, without the model")
    if not is_annotation and (sd := measure_values["trial_sd"]) is not None:
        notes.append(f"standard deviation over trials {rounded_text(sd, 3)}")
    interval = arrays.accuracy_interval
    notes += _examples_notes(arrays, interval)
    if clips != len(facts.clips):
        notes.append(f"{clips:,} of {len(facts.clips):,} clips")
    if missing:
        notes.append(f"{missing} of {entry.expected_predictions} not computed yet")
    if failed:
        notes.append(f"{failed} requests failed: run the study again")
    if missing_folds:
        notes.append(f"folds {_join(folds)} of {_join(entry.expected_folds)}")
        if entry.not_run_reason:
            notes.append(f"other folds not run: {entry.not_run_reason}")
    if facts.limited:
        notes.append("limited run")
    if is_rankable and not is_balanced:
        verb = "annotated" if is_annotation else "predicted"
        notes.append(f"not ranked: clips were {verb} {prediction_counts.min()} to {prediction_counts.max()} times")
    if (answered := int(arrays.answered.sum())) < predictions:
        notes.append(f"{correct} of {answered} answered")
    notes += answer_notes(arrays, control)
    notes += [f"{outcomes.count(o)} {o}" for o in sorted(set(outcomes) - {"answered", "error"})]
    notes += _rejected_note(facts.rejected_clips)
    return {
        "rank": None,
        "classifier": entry.classifier,
        "kind": entry.kind,
        "model": next((m for m in rows["model"].to_pylist() if m), None),
        "scoring": scoring,
        "control": control,
        **measure_values,
        "interval": None if interval is None else interval.method,
        "interval_scope": None if interval is None else interval.scope,
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
        "comparable": is_rankable and is_balanced,
    }


def _examples_notes(arrays: PredictionArrays, interval: Interval | None) -> list[str]:
    """Return what the interval of a few-shot row covers, and whether its draws of examples are a sample."""
    if interval is None or interval.scope == CLIPS:
        return []
    draws = len(np.unique(arrays.draw))
    if interval.scope == CLIPS_AND_DRAWS:
        return [f"interval over clips and {draws} random draws of examples"]
    ranks = draws > 1 and arrays.selection != SAMPLED_STRATEGY
    return [
        "interval for these examples",
        *([f"{draws} draws of {arrays.selection} examples are ranks, not a sample: no spread"] if ranks else []),
    ]


def _measure_values(predictions: PredictionArrays, tuning_folds: tuple[int, ...]) -> dict[str, float | None]:
    """Compute the measures that are columns of the leaderboard, each on its subset; None without that subset."""
    arrays = dict(subsets(predictions, tuning_folds))
    return {
        measure.name: measure.formula(measure.rows(arrays[measure.subset])).value if measure.subset in arrays else None
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
        CHANCE: f"expected accuracy of a guess among {len(facts.classes)} classes",
        MAJORITY: "expected accuracy of always predicting the most frequent class of the other folds"
        if len(defined)
        else "undefined: there are no other folds",
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


def _mixed_line(
    entry: LeaderboardEntry, scoring: str, control: str, rows: pa.Table, reason: str, facts: _StudyFacts
) -> dict[str, Any]:
    """Return the row of a scoring and control that two models answered: without any measure."""
    return _not_run_line(entry, facts, reason) | {
        "scoring": scoring,
        "control": control,
        "model": next((m for m in rows["model"].to_pylist() if m), None),
        "correct": None,
        "predictions": rows.num_rows,
        "clips": len(set(rows["clip"].to_pylist())),
        "trials": len(set(rows["trial"].to_pylist())),
        "folds": _join(sorted(set(rows["fold"].to_pylist()))),
        "note": ", ".join([f"not comparable: {reason}", *_rejected_note(facts.rejected_clips)]),
    }


def _not_run_line(entry: LeaderboardEntry, facts: _StudyFacts, reason: str) -> dict[str, Any]:
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
