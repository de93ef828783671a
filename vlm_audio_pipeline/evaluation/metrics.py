"""The tables `metrics` and `confusion`: every measure of one classifier's predictions, and its confusion counts.

Belongs here: the scorings, controls and subsets that measures are computed for. Does not belong here: formulas (`measures`).
"""

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from vlm_audio_pipeline.evaluation.completeness import mixed_responses
from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.evaluation.temperature_scaling import apply_temperature
from vlm_audio_pipeline.measures.agreement import OTHER_SCORING
from vlm_audio_pipeline.measures.declarations import MEASURES
from vlm_audio_pipeline.measures.predictions import (
    ALL_CLIPS,
    Number,
    PredictionArrays,
    refuse_unknown_labels,
    split_by_scoring_and_control,
    subsets,
)


def metrics_table(
    predictions: pa.Table,
    classes: tuple[str, ...],
    tuning_folds: tuple[int, ...],
    accepted_models: tuple[str, ...] | None = None,
) -> pa.Table:
    """Compute every measure of a classifier, for every scoring, control and subset.

    If two models answered the requests of a scoring and control, all its measures are undefined, with that reason.

    Args:
        predictions: `predictions` rows of one classifier, of any folds.
        classes: every label of the study.
        tuning_folds: folds that choices were tuned on; empty for none.
        accepted_models: see `ExpectedRun`.

    Returns:
        `metrics` rows without `study` and `classifier`.

    Raises:
        VlmAudioError: for predictions with labels outside `classes`.
    """
    tables = {(scoring, control): rows for scoring, control, rows in split_by_scoring_and_control(predictions)}
    runs = {key: PredictionArrays.from_table(rows, classes) for key, rows in tables.items()}
    lines = []
    for (scoring, control), run in runs.items():
        other_key = (OTHER_SCORING.get(scoring, ""), control)
        mixed = mixed_responses(tables[scoring, control], accepted_models)
        tables_of_both = [tables[key] for key in ((scoring, control), other_key) if key in tables]
        # This measure reads both scorings.
        reasons = {"scorings_agree": mixed_responses(pa.concat_tables(tables_of_both), accepted_models)}
        for subset, arrays in subsets(replace(apply_temperature(run), other_scoring=runs.get(other_key)), tuning_folds):
            lines += [
                {
                    "scoring": scoring,
                    "control": control,
                    "subset": subset,
                    "metric": name,
                    "label": label,
                    "value": None if reason else number.value,
                    "reason": reason or number.reason,
                    "predictions": int(number.included.sum()),
                    "clips": len(set(arrays_of_measure.clip[number.included].tolist())),
                }
                for name, label, arrays_of_measure, number in _numbers(arrays)
                for reason in (reasons.get(name, mixed),)
            ]
    return build_rows("metrics", lines, added_columns=("study", "classifier"))


def _numbers(predictions: PredictionArrays) -> Iterator[tuple[str, str, PredictionArrays, Number]]:
    """Yield each measure as (name, class label, or "" for all classes, the predictions that it covers, number)."""
    for measure in MEASURES.values():
        if measure.subset != ALL_CLIPS:
            continue
        rows = measure.rows(predictions)
        if measure.per_class:
            for label in predictions.classes:
                yield measure.name, label, rows, measure.formula(rows, label)
        else:
            yield measure.name, "", rows, measure.formula(rows)


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
    for scoring, control, rows in split_by_scoring_and_control(predictions):
        counts = {(true, other): 0 for true in classes for other in classes}
        columns = (rows[name].to_pylist() for name in ("label", "predicted", "outcome"))
        for label, predicted, outcome in zip(*columns, strict=True):
            column = predicted if outcome == "answered" else f"({outcome})"
            counts[label, column] = counts.get((label, column), 0) + 1
        lines += [
            {"scoring": scoring, "control": control, "label": label, "predicted": predicted, "count": count}
            for (label, predicted), count in counts.items()
        ]
    return build_rows("confusion", lines, added_columns=("study", "classifier"))
