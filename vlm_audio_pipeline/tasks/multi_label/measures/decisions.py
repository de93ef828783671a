"""Measures of decisions, and the threshold that turns a score into a decision."""

import numpy as np


def best_threshold(truth: np.ndarray, score: np.ndarray) -> float:
    """Return the threshold with the highest F1; clips with this score or a higher one have the class.

    Of several such thresholds it returns the highest. It lies halfway between the two scores that it separates, so that it suits
    other clips, too. Below the lowest score it is that score.

    Args:
        truth: (n,) bool, whether the clip has the class; at least one.
        score: (n,) float, finite.

    Raises:
        ValueError: without positives, for which F1 is undefined.
    """
    if not truth.any():
        raise ValueError("a threshold needs at least one positive clip, got none")
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    is_last_of_score = np.append(np.diff(ordered) != 0, True)
    hits = np.cumsum(truth[order])[is_last_of_score]
    accepted = np.flatnonzero(is_last_of_score) + 1
    f1 = 2 * hits / (accepted + truth.sum())
    best = int(np.argmax(f1))  # the first, which is the highest threshold
    lowest_accepted = float(ordered[accepted[best] - 1])
    if accepted[best] == len(ordered):
        return lowest_accepted
    threshold = (lowest_accepted + float(ordered[accepted[best]])) / 2
    return threshold if threshold > ordered[accepted[best]] else lowest_accepted  # neighbouring floats have no middle


def f1_counts(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return for each clip the numerator and the denominator of F1: 2 * hit, and label + prediction.

    F1 = sum of numerators / sum of denominators = 2 TP / (2 TP + FP + FN).

    Args:
        truth: (n, ...) bool.
        predicted: (n, ...) bool.

    Returns:
        (2, n, ...) float64.
    """
    return np.stack([2.0 * (truth & predicted), truth.astype(float) + predicted])


def is_exact_match(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return whether all classes of a clip are predicted correctly, (n,) bool (also called subset accuracy)."""
    match: np.ndarray = (truth == predicted).all(axis=1)
    return match
