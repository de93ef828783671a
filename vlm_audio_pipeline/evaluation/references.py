"""Expected accuracies of two references that ignore the audio: chance, and the most frequent class."""

import numpy as np

CHANCE = "chance"
MAJORITY = "majority"
REFERENCES = (CHANCE, MAJORITY)
"""Reserved names, which no classifier can have."""


def expected_accuracy(reference: str, labels: np.ndarray, folds: np.ndarray, classes: int) -> np.ndarray:
    """Return the expected accuracy of a reference on each clip.

    Chance is 1 / classes. Majority predicts the most frequent class of the OTHER folds; if several classes are
    equally frequent, it predicts each of them with the same probability.

    Args:
        reference: "chance" or "majority".
        labels: (n,) str, true classes.
        folds: (n,) int.
        classes: number of classes of the study.

    Returns:
        (n,) float64; NaN for majority without other folds.
    """
    if reference == CHANCE:
        return np.full(len(labels), 1 / classes)
    names, label = np.unique(labels, return_inverse=True)
    accuracy = np.full(len(labels), np.nan)
    for fold in np.unique(folds):
        in_fold = folds == fold
        counts = np.bincount(label[~in_fold], minlength=len(names))
        if counts.any():
            is_majority = counts == counts.max()
            accuracy[in_fold] = is_majority[label[in_fold]] / is_majority.sum()
    return accuracy
