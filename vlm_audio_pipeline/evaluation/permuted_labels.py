"""The reference for embedding measures: the same embeddings with permuted labels.

The chance level of a silhouette or of NMI is not 0. Labels are permuted by source recording, because clips of one source
recording are similar and have the same class. If single clips were permuted, the reference would be too low.

Belongs here: permutations and their p-value. Does not belong here: the measures.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

PERMUTATIONS = 100


@dataclass(frozen=True)
class PermutedReference:
    """The values of one measure over permuted labels: their mean, 2.5th and 97.5th percentile, and the one-sided p-value.

    The p-value is (b + 1) / (m + 1), b of m permutations with at least the measured value (Phipson and Smyth, Permutation
    P-values Should Never Be Zero, 2010).
    """

    mean: float
    low: float
    high: float
    p: float


def permuted_labels(label: np.ndarray, source: np.ndarray, permutations: int = PERMUTATIONS) -> Iterator[np.ndarray]:
    """Yield the labels of permuted source recordings: each source recording gets the classes of another one.

    If the other one has fewer clips, its classes are repeated; if it has more, the first ones are taken. Class sizes change a
    little, the number of clips of each source recording does not. The seed is fixed.

    Args:
        label: (n,) int.
        source: (n,) int from 0, without gaps.
        permutations: number of permutations.
    """
    random = np.random.default_rng(0)
    order = np.argsort(source, kind="stable")
    sizes = np.bincount(source)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    position = np.arange(len(label)) - np.repeat(starts, sizes)  # of a clip within its source recording
    for _ in range(permutations):
        other = np.repeat(random.permutation(len(sizes)), sizes)
        permuted = np.empty_like(label)
        permuted[order] = label[order][starts[other] + position % sizes[other]]
        yield permuted


def permuted_reference(value: float, permuted: np.ndarray) -> PermutedReference | None:
    """Compare a value with the values over permuted labels.

    Args:
        value: measured.
        permuted: (permutations,) float64; NaN where the measure is undefined.

    Returns:
        None if the measure is undefined for every permutation.
    """
    permuted = permuted[~np.isnan(permuted)]
    if not len(permuted):
        return None
    low, high = np.quantile(permuted, [0.025, 0.975])
    p = (int((permuted >= value - 1e-12).sum()) + 1) / (len(permuted) + 1)
    return PermutedReference(float(permuted.mean()), float(low), float(high), p)
