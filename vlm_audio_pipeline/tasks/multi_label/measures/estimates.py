"""Every measure of multi-label predictions, with its interval, its numbers of labels and, where it is undefined, the reason.

A measure of all classes is the mean over the classes with a positive clip (macro). If it is undefined for one of these, it is undefined.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vlm_audio_pipeline.measures.uncertainty import share_interval
from vlm_audio_pipeline.tasks.multi_label.measures.arrays import LabelArrays, missing_score_reason
from vlm_audio_pipeline.tasks.multi_label.measures.decisions import f1_counts, is_exact_match
from vlm_audio_pipeline.tasks.multi_label.measures.intervals import jackknife_interval, roc_effective_n, selections
from vlm_audio_pipeline.tasks.multi_label.measures.ranking import average_precision, ranking_precision, roc_area

NO_POSITIVES = "no clip has this class"
NO_NEGATIVES = "every clip has this class"
NO_CLIPS = "no predictions"


@dataclass(frozen=True)
class Estimate:
    """The value of a measure.

    Attributes:
        value: the measure; None if it is undefined.
        reason: why it is undefined.
        low: lower end of the 95 % interval; None without an interval.
        high: upper end.
        interval: the method of the interval, or why there is none.
        positives: number of labels (clips that have the class, summed over classes) that it covers.
        negatives: number of pairs of a clip and a class that the clip does not have.
        clips: number of distinct clips that it covers.
        classes: number of classes that it covers.
    """

    value: float | None
    reason: str | None
    low: float | None
    high: float | None
    interval: str | None
    positives: int
    negatives: int
    clips: int
    classes: int


@dataclass(frozen=True)
class _Curve:
    """The values of a measure for each selection of clips, or the reason why it is undefined, and what it covers."""

    values: np.ndarray | None
    reason: str | None
    truth: np.ndarray
    arrays: LabelArrays


ClassMeasure = Callable[[LabelArrays, int, np.ndarray], tuple[np.ndarray | None, str | None]]
"""Function of (predictions without failed requests, class, selections) to the values for each selection, or the reason."""


def class_average_precision(arrays: LabelArrays, label: int, kept: np.ndarray) -> tuple[np.ndarray | None, str | None]:
    """Compute the average precision of one class."""
    reason = _order_reason(arrays, label)
    if reason:
        return None, reason
    return average_precision(arrays.truth[:, label], arrays.score[:, label], kept), None


def class_roc_area(arrays: LabelArrays, label: int, kept: np.ndarray) -> tuple[np.ndarray | None, str | None]:
    """Compute the area under the ROC curve of one class."""
    reason = _order_reason(arrays, label)
    if reason is None and arrays.truth[:, label].all():
        reason = NO_NEGATIVES
    if reason:
        return None, reason
    return roc_area(arrays.truth[:, label], arrays.score[:, label], kept), None


def class_f1(arrays: LabelArrays, label: int, kept: np.ndarray) -> tuple[np.ndarray | None, str | None]:
    """Compute F1 of one class; NaN for a selection without positives. A response without a decision misses the label."""
    truth = arrays.truth[:, label]
    reason = _positives_reason(truth) or (None if arrays.is_decided[:, label].any() else "no decisions")
    if reason:
        return None, reason
    numerator, denominator = f1_counts(truth, arrays.predicted[:, label]) @ kept
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=truth @ kept > 0), None


def _order_reason(arrays: LabelArrays, label: int) -> str | None:
    return _positives_reason(arrays.truth[:, label]) or missing_score_reason(
        arrays.score[:, label], arrays.outcome[:, label]
    )


def _positives_reason(truth: np.ndarray) -> str | None:
    return NO_CLIPS if not len(truth) else None if truth.any() else NO_POSITIVES


def estimate_classes(arrays: LabelArrays, measure: ClassMeasure) -> tuple[list[Estimate], Estimate]:
    """Compute a measure of each class, and its mean over the classes with a positive clip.

    Args:
        arrays: the predictions.
        measure: the measure of one class.
    """
    curves = _curves(arrays, measure)
    effective_n = roc_effective_n if measure is class_roc_area else None
    estimated = [_class_estimate(curve, effective_n) for curve in curves]
    return estimated, _mean_estimate(curves, arrays.classes, effective_n)


def mean_of_classes(arrays: LabelArrays, measure: ClassMeasure) -> np.ndarray:
    """Return the mean of `estimate_classes` for each selection of `selections(arrays.source)`.

    Args:
        arrays: predictions without failed requests, for which the mean is defined.
        measure: the measure of one class.

    Returns:
        (1 + groups,) float64; NaN for a selection without a positive clip.
    """
    return _mean_values([curve for curve in _curves(arrays, measure) if curve.truth.any()])


def _curves(arrays: LabelArrays, measure: ClassMeasure) -> list[_Curve]:
    kept = selections(arrays.source)
    curves = []
    for label in range(len(arrays.classes)):
        rows = ~arrays.is_error[:, label]
        answered = arrays.select(rows)
        values, reason = measure(answered, label, kept[rows])
        curves.append(_Curve(values, reason, answered.truth[:, label], answered))
    return curves


EffectiveN = Callable[[Sequence[float], Sequence[tuple[int, int]]], float]
"""Function of values and (positives, negatives) of classes to the largest effective number of labels of their mean."""


def _class_estimate(curve: _Curve, effective_n: EffectiveN | None) -> Estimate:
    positives, total = int(curve.truth.sum()), len(curve.truth)
    facts = (positives, total - positives, len(np.unique(curve.arrays.clip)), 1)
    if curve.values is None:
        return Estimate(None, curve.reason, None, None, None, *facts)
    value = float(curve.values[0])
    most = None if effective_n is None else effective_n([value], [(positives, total - positives)])
    interval = jackknife_interval(curve.values, curve.truth.astype(float), curve.arrays.source, most)
    return Estimate(value, None, interval.low, interval.high, interval.method, *facts)


def _mean_estimate(curves: Sequence[_Curve], classes: tuple[str, ...], effective_n: EffectiveN | None) -> Estimate:
    covered = {name: curve for name, curve in zip(classes, curves, strict=True) if curve.truth.any()}
    counts = [(int(c.truth.sum()), int((~c.truth).sum())) for c in covered.values()]
    clips = {clip for curve in covered.values() for clip in curve.arrays.clip.tolist()}
    facts = (sum(p for p, _ in counts), sum(n for _, n in counts), len(clips), len(covered))
    undefined = [f"{name}: {curve.reason}" for name, curve in covered.items() if curve.values is None]
    if undefined or not covered:
        more = f", and {len(undefined) - 3} more classes" if len(undefined) > 3 else ""
        reason = "; ".join(undefined[:3]) + more if undefined else "no clip has any of the classes"
        return Estimate(None, reason, None, None, None, *facts)
    means = _mean_values(list(covered.values()))
    sources = np.concatenate([curve.arrays.source for curve in covered.values()])
    labels = np.concatenate([curve.truth for curve in covered.values()]).astype(float)
    values = [float(curve.values[0]) for curve in covered.values() if curve.values is not None]
    most = None if effective_n is None else effective_n(values, counts)
    interval = jackknife_interval(means, labels, sources, most)
    return Estimate(float(means[0]), None, interval.low, interval.high, interval.method, *facts)


def _mean_values(curves: Sequence[_Curve]) -> np.ndarray:
    values = np.array([curve.values for curve in curves])
    # Without some recordings a class may have no positive clip; like any class without one it is then not covered.
    defined = ~np.isnan(values)
    means: np.ndarray = np.where(defined, values, 0).sum(axis=0) / np.maximum(defined.sum(axis=0), 1)
    means[~defined.any(axis=0)] = np.nan
    return means


def estimate_lwlrap(arrays: LabelArrays) -> Estimate:
    """Compute the label-weighted label-ranking average precision; clips without labels have no weight."""
    answered = arrays.without_errors
    facts = _facts(answered)
    reason = NO_CLIPS if not len(answered.clip) else None if facts[0] else "no clip has any of the classes"
    reason = reason or missing_score_reason(answered.score, answered.outcome)
    if reason:
        return Estimate(None, reason, None, None, None, *facts)
    values = lwlrap_values(answered)
    interval = jackknife_interval(values, answered.truth.sum(axis=1).astype(float), answered.source)
    return Estimate(float(values[0]), None, interval.low, interval.high, interval.method, *facts)


def lwlrap_values(arrays: LabelArrays) -> np.ndarray:
    """Return lwlrap for each selection of `selections(arrays.source)`; NaN for a selection without labels.

    Args:
        arrays: predictions without failed requests, each with a score.
    """
    sums, labels = ranking_precision(arrays.truth, arrays.score)
    kept = selections(arrays.source)
    numerator, denominator = sums @ kept, labels @ kept
    values = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=values, where=denominator > 0)
    return values


def estimate_exact_match(arrays: LabelArrays) -> Estimate:
    """Compute the share of clips whose classes are all decided correctly; a class without a decision is not correct."""
    answered = arrays.without_errors
    facts = _facts(answered)
    reason = NO_CLIPS if not len(answered.clip) else None if answered.is_decided.any() else "no decisions"
    if reason:
        return Estimate(None, reason, None, None, None, *facts)
    is_right = _is_right(answered)
    interval = share_interval(is_right, answered.source)
    assert interval is not None  # there are clips
    return Estimate(float(is_right.mean()), None, interval.low, interval.high, interval.method, *facts)


def exact_match_values(arrays: LabelArrays) -> np.ndarray:
    """Return the share of exact matches for each selection of `selections(arrays.source)`.

    Args:
        arrays: predictions without failed requests.
    """
    kept = selections(arrays.source)
    values: np.ndarray = _is_right(arrays).astype(float) @ kept / kept.sum(axis=0)
    return values


def _is_right(arrays: LabelArrays) -> np.ndarray:
    is_right: np.ndarray = is_exact_match(arrays.truth, arrays.predicted) & arrays.is_decided.all(axis=1)
    return is_right


def _facts(arrays: LabelArrays) -> tuple[int, int, int, int]:
    positives = int(arrays.truth.sum())
    return positives, arrays.truth.size - positives, len(np.unique(arrays.clip)), len(arrays.classes)
