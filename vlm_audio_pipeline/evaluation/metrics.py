"""The tables `metrics` and `confusion`: every measure of one classifier's predictions, and its confusion counts.

Belongs here: for which scorings, controls and subsets measures are computed. Does not belong here: formulas (`measures`).
"""

from dataclasses import replace

import pyarrow as pa

from vlm_audio_pipeline.evaluation.tables import rows_of
from vlm_audio_pipeline.evaluation.temperature_scaling import apply_temperature
from vlm_audio_pipeline.measures.agreement import OTHER_SCORING
from vlm_audio_pipeline.measures.declarations import MEASURES
from vlm_audio_pipeline.measures.predictions import (
    ALL_CLIPS,
    Number,
    PredictionArrays,
    by_scoring_and_control,
    refuse_unknown_labels,
    subsets,
)


def metrics_table(predictions: pa.Table, classes: tuple[str, ...], tuning_folds: tuple[int, ...]) -> pa.Table:
    """Compute every measure of a classifier, for every scoring, control and subset.

    Args:
        predictions: `predictions` rows of one classifier, of any folds.
        classes: every label of the study.
        tuning_folds: folds that choices were tuned on; empty for none.

    Returns:
        `metrics` rows without `study` and `classifier`.

    Raises:
        VlmAudioError: for predictions with labels outside `classes`.
    """
    runs = {
        (scoring, control): PredictionArrays.of(rows, classes)
        for scoring, control, rows in by_scoring_and_control(predictions)
    }
    lines = []
    for (scoring, control), run in runs.items():
        other = runs.get((OTHER_SCORING.get(scoring, ""), control))
        for subset, arrays in subsets(replace(apply_temperature(run), other_scoring=other), tuning_folds):
            lines += [
                {
                    "scoring": scoring,
                    "control": control,
                    "subset": subset,
                    "metric": name,
                    "label": label,
                    "value": number.value,
                    "reason": number.reason,
                    "predictions": int(number.included.sum()),
                    "clips": len(set(arrays.clip[number.included].tolist())),
                }
                for (name, label), number in _numbers(arrays).items()
            ]
    return rows_of("metrics", lines, filled=("study", "classifier"))


def _numbers(predictions: PredictionArrays) -> dict[tuple[str, str], Number]:
    """Compute all measures: (name, class label, or "" for all classes) -> number."""
    numbers: dict[tuple[str, str], Number] = {}
    for measure in MEASURES.values():
        if measure.subset != ALL_CLIPS:
            continue
        if measure.per_class:
            numbers |= {(measure.name, label): measure.formula(predictions, label) for label in predictions.classes}
        else:
            numbers[measure.name, ""] = measure.formula(predictions)
    return numbers


def confusion_table(predictions: pa.Table, classes: tuple[str, ...]) -> pa.Table:
    """Count how often each true class was predicted as each label or ended with another outcome.

    Args:
        predictions: `predictions` rows of one classifier, of any folds.
        classes: every label of the study.

    Returns:
        `confusion` rows without `study` and `classifier`: one for every pair of classes, zeros included, and for
        outcomes such as "(unparseable)" that occur.

    Raises:
        VlmAudioError: for predictions with labels outside `classes`.
    """
    refuse_unknown_labels(predictions, classes)
    lines: list[dict[str, str | int]] = []
    for scoring, control, rows in by_scoring_and_control(predictions):
        counts = {(true, other): 0 for true in classes for other in classes}
        columns = (rows[name].to_pylist() for name in ("label", "predicted", "outcome"))
        for label, predicted, outcome in zip(*columns, strict=True):
            column = predicted if outcome == "answered" else f"({outcome})"
            counts[label, column] = counts.get((label, column), 0) + 1
        lines += [
            {"scoring": scoring, "control": control, "label": label, "predicted": predicted, "count": count}
            for (label, predicted), count in counts.items()
        ]
    return rows_of("confusion", lines, filled=("study", "classifier"))
