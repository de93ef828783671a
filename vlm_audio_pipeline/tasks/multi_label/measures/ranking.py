"""Measures of an order of clips by score: average precision, area under the ROC curve, and label-weighted ranking precision.

Each is computed for several selections of the clips at once: all clips, and all but those of some recordings, for its interval. Clips
with equal scores are one step of the curve, as in scikit-learn, so that the order of rows does not matter.
"""

import numpy as np


def average_precision(truth: np.ndarray, score: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the sum over score thresholds of (recall - recall at the next higher threshold) * precision.

    It is not interpolated (Robertson, SIGIR 2008; scikit-learn's `average_precision_score`). A constant score has the share of
    positives, a perfect order has 1.

    Args:
        truth: (n,) bool, whether the clip has the class; or (n, selections), where it differs between selections.
        score: (n,) float, finite.
        kept: (n, selections) bool, the clips of each selection; (n, 1) for all.

    Returns:
        (selections,) float64; NaN for a selection without positives.
    """
    positives, negatives = _curve(truth, score, kept)
    steps = np.diff(positives, axis=0, prepend=0.0)
    precision = positives / np.maximum(positives + negatives, 1.0)
    return _divide((steps * precision).sum(axis=0), positives[-1])


def roc_area(truth: np.ndarray, score: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the probability that a random positive has a higher score than a random negative; equal scores count half.

    It is the area under the ROC curve by the trapezoidal rule (Hanley and McNeil, Radiology 143, 1982).

    Args:
        truth: (n,) bool, whether the clip has the class; or (n, selections), where it differs between selections.
        score: (n,) float, finite.
        kept: (n, selections) bool, the clips of each selection; (n, 1) for all.

    Returns:
        (selections,) float64; NaN for a selection without positives, or without negatives.
    """
    positives, negatives = _curve(truth, score, kept)
    heights = positives - np.diff(positives, axis=0, prepend=0.0) / 2
    widths = np.diff(negatives, axis=0, prepend=0.0)
    return _divide((heights * widths).sum(axis=0), positives[-1] * negatives[-1])


def ranking_precision(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum over the labels of each clip of the precision at that label's rank among the classes of the clip.

    The sum over clips divided by the number of labels is the label-weighted label-ranking average precision, lwlrap (Fonseca et
    al., Audio tagging with noisy labels and minimal supervision, DCASE 2019). Classes with equal scores share the lowest
    of their ranks.

    Args:
        truth: (n, classes) bool.
        score: (n, classes) float, finite.

    Returns:
        (n,) float64 sums, and (n,) float64 numbers of labels.
    """
    sums = np.zeros(len(truth))
    for label in range(truth.shape[1]):
        is_above = score >= score[:, label : label + 1]
        precision = (is_above & truth).sum(axis=1) / is_above.sum(axis=1)
        sums += np.where(truth[:, label], precision, 0.0)
    return sums, truth.sum(axis=1).astype(float)


def _curve(truth: np.ndarray, score: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of positives and of negatives at or above each distinct score, descending: (thresholds, selections)."""
    order = np.argsort(-score, kind="stable")
    last_of_score = np.append(np.diff(score[order]) != 0, True)
    is_positive, weights = truth[order].reshape(len(order), -1), kept[order].astype(float)
    positives = np.cumsum(weights * is_positive, axis=0)[last_of_score]
    negatives = np.cumsum(weights * ~is_positive, axis=0)[last_of_score]
    return positives, negatives


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    quotient = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
