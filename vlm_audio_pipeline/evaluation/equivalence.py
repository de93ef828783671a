"""Tests of equivalence: whether a difference is smaller than a margin that was declared in advance.

A difference that is not significant does not show that two sides are equal. Two one-sided tests do, up to the margin
(Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987; Lakens, Equivalence Tests, 2017).
"""

import numpy as np

from vlm_audio_pipeline.evaluation.standard_error import standard_error
from vlm_audio_pipeline.measures.uncertainty import smallest_effective_n, sum_by_source


def equivalence_p(differences: np.ndarray, sources: np.ndarray, margin: float) -> float:
    """Test by two one-sided t-tests whether the mean of paired differences is inside -margin to +margin.

    The p-value is the larger of the two; it is below 0.05 exactly if the 90 % interval of the difference is inside the
    margin. Standard errors are clustered by source, with C - 1 degrees of freedom for C sources.

    Clips with few differences show too small a spread. Two sides whose accuracies differ by `margin` differ on at least
    that share of the clips, with a variance of at least margin * (1 - margin). If this variance gives the larger standard error,
    for n^2 / (sum of squared numbers of clips of each source) independent clips, the test uses it.

    Args:
        differences: (n,) float from -1 to 1, n > 0.
        sources: (n,) str.
        margin: share of 1, above 0.

    Returns:
        The p-value; 1 for clips of a single source.
    """
    from scipy.stats import t

    error = standard_error(differences, sources)
    if error is None:
        return 1.0
    counts = sum_by_source(differences, sources)[1]
    smallest_error = np.sqrt(margin * (1 - margin) / smallest_effective_n(counts))
    distance = margin - abs(float(differences.mean()))
    return float(t.sf(distance / max(error, smallest_error), len(counts) - 1))


def equivalent_to(accuracy: np.ndarray, sources: np.ndarray, value: float, margin: float) -> float:
    """Test whether the accuracy of a classifier equals a number up to a margin: "reproduced" for a published result.

    The number itself counts as exact.

    Args:
        accuracy: (n,) float or bool, whether each prediction is correct, or the share of the predictions of each clip.
        sources: (n,) str.
        value: the number, a share of 1.
        margin: share of 1, above 0.

    Returns:
        The p-value of `equivalence_p`; below 0.05, the accuracy is inside value - margin to value + margin.
    """
    return equivalence_p(accuracy.astype(float) - value, sources, margin)
