"""95 % intervals of measures from 0 to 1, clustered by source recording.

A measure of an order (average precision) is no mean over clips, so its error is that of the jackknife: it is computed again without
each source recording (Tukey, Annals of Mathematical Statistics 29, 1958); without each of 100 random groups of them if there are more. The
interval is Wilson's at the effective number of independent labels with that error, with the quantile of Student's distribution, so that it
stays within 0 and 1. Where the error is 0 (a perfect class), the labels of one source recording count as copies.

Belongs here: the interval. Does not belong here: formulas of measures.
"""

from collections.abc import Sequence

import numpy as np

from vlm_audio_pipeline.evaluation.embedding_intervals import (
    MIN_SOURCES,
    SpreadInterval,
    jackknife_error,
    masks_without_groups,
    student_quantile,
)
from vlm_audio_pipeline.measures.uncertainty import smallest_effective_n, wilson_interval

METHOD = "jackknife by source recording, Wilson at effective n"
_NO_ERROR = 1e-12


def selections(sources: np.ndarray) -> np.ndarray:
    """Return the selections of clips for a measure and its interval: all clips, then all but each group of source recordings.

    Args:
        sources: (n,) str, source recordings.

    Returns:
        (n, 1 + groups) bool.
    """
    if not len(sources):
        return np.ones((0, 1), bool)
    index = np.unique(sources, return_inverse=True)[1]
    return np.column_stack([np.ones(len(sources), bool), *masks_without_groups(index)])


def jackknife_interval(
    values: np.ndarray, labels: np.ndarray, sources: np.ndarray, max_effective: float | None = None
) -> SpreadInterval:
    """Return the interval of a measure.

    Args:
        values: (1 + groups,) float64, the measure of each selection of `selections`.
        labels: (n,) float, the number of labels of each clip that the measure is about.
        sources: (n,) str, source recordings.
        max_effective: largest effective number of labels; by default the number of labels, which suits means over labels.

    Returns:
        The interval; without numbers, and with the reason as its method, for fewer than 10 source recordings, or if the measure is
        undefined without one of the groups.
    """
    if len(values) - 1 < MIN_SOURCES:
        return SpreadInterval(None, None, f"none: fewer than {MIN_SOURCES} source recordings")
    if np.isnan(values).any():
        return SpreadInterval(None, None, "none: without one of the source recordings the measure is undefined")
    value, error = float(values[0]), jackknife_error(values[1:])
    counts = np.bincount(np.unique(sources, return_inverse=True)[1], weights=labels)
    if error < _NO_ERROR:
        effective = smallest_effective_n(counts)
    else:
        effective = min(float(counts.sum()) if max_effective is None else max_effective, value * (1 - value) / error**2)
    low, high = wilson_interval(value, max(effective, 1.0), student_quantile(len(values) - 2))
    return SpreadInterval(min(low, value), max(high, value), METHOD)  # rounding puts an end of 1 just below 1


def roc_effective_n(areas: Sequence[float], counts: Sequence[tuple[int, int]]) -> float:
    """Return the effective number of independent labels of a mean of ROC areas, if clips and classes were independent.

    v (1 - v) / (sum of variances / classes^2) for the mean area v. The variance of one area is that of Hanley and McNeil, The
    meaning and use of the area under a ROC curve, Radiology 143 (1982), with their exponential approximation.

    Args:
        areas: the area of each class.
        counts: (positives, negatives) of each class, both 1 or more.

    Returns:
        The number; infinite if all areas are 0 or 1.
    """
    variances = []
    for area, (positives, negatives) in zip(areas, counts, strict=True):
        two_positives, two_negatives = area / (2 - area), 2 * area**2 / (1 + area)
        spread = area * (1 - area)
        spread += (positives - 1) * (two_positives - area**2) + (negatives - 1) * (two_negatives - area**2)
        variances.append(spread / (positives * negatives))
    mean, variance = float(np.mean(areas)), sum(variances) / len(variances) ** 2
    return mean * (1 - mean) / variance if variance > 0 else float("inf")
