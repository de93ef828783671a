"""What can be had without hearing anything: chance, and always saying the most frequent class.

What belongs here: the share right to expect of either, clip by clip. What does not: anything that looks at a clip.
"""

import numpy as np

CHANCE = "chance"
MAJORITY = "majority"
REFERENCES = (CHANCE, MAJORITY)
"""Names no classifier can have."""


def expected(reference: str, labels: np.ndarray, folds: np.ndarray, classes: int) -> np.ndarray:
    """Give the share right to expect of a reference on each clip.

    Chance is 1 / classes. Majority answers with the most frequent class of the OTHER folds; where several are as
    frequent, each of them as often.

    Args:
        reference: "chance" or "majority".
        labels: (n,) str, true classes.
        folds: (n,) int.
        classes: number of classes of the study.

    Returns:
        (n,) float64; NaN for majority where there are no other folds.
    """
    if reference == CHANCE:
        return np.full(len(labels), 1 / classes)
    names, label = np.unique(labels, return_inverse=True)
    share = np.full(len(labels), np.nan)
    for fold in np.unique(folds):
        here = folds == fold
        counts = np.bincount(label[~here], minlength=len(names))
        if counts.any():
            most = counts == counts.max()
            share[here] = most[label[here]] / most.sum()
    return share
