"""Significance tests of paired differences, and their correction.

Belongs here: p-values. Does not belong here: intervals (`measures.uncertainty`), and which comparisons are made
(`contrasts`).
"""

from collections import Counter
from collections.abc import Sequence
from math import comb

import numpy as np

from vlm_audio_pipeline.measures.uncertainty import by_source, seed_of

ALPHA = 0.05
FLIPS = 20_000
_UNITS = 5 * 232_792_560
"""5 * lcm(1, ..., 20): in these units, shares of up to 20 trials minus a chance level of 1/10, 1/50 or 1/100 are whole
numbers."""
_MAX_TOTALS = 500_000
"""With more possible totals than this, signs are flipped at random instead of enumerated."""


def sign_flip(differences: np.ndarray, sources: np.ndarray) -> tuple[float, str]:
    """Test whether the mean of paired differences is 0, by flipping the signs of whole sources.

    If the two sides were alike, the sum of a source's differences would be equally likely with the other sign. The
    p-value is the share of all choices of signs for which the total is at least as far from 0 as the observed one
    (Fisher, The Design of Experiments, 1935, section 21). It is exact while few totals are possible, as with counts of
    correct predictions; otherwise `FLIPS` random choices give (b + 1) / (flips + 1) (Phipson and Smyth, Permutation
    P-values Should Never Be Zero, 2010).

    Against a constant, such as the chance level, differences are not symmetric, and the test holds its level only
    approximately. Simulated with chance at 0.1: of guessers, 1.1 % are found better and 4.5 % worse on 400 clips of 304
    sources; 0.2 % better and 7.4 % worse on 80 clips of 60.

    Args:
        differences: (n,) float.
        sources: (n,) str.

    Returns:
        The two-sided p-value, and "exact" or the number of random flips in words.
    """
    sums = np.sort(np.rint(by_source(differences, sources)[0] * _UNITS).astype(np.int64))
    observed = abs(int(sums.sum())) - len(sums)  # tolerance of one unit a source, for rounding
    totals: np.ndarray = np.zeros(1, np.int64)
    probabilities: np.ndarray = np.ones(1)
    for size, times in Counter(np.abs(sums[sums != 0]).tolist()).items():
        if len(totals) * (times + 1) > _MAX_TOTALS:
            return _random_flips(sums, observed)
        # Of `times` sources of one size, k are positive with probability C(times, k) / 2^times.
        reachable = np.add.outer(totals, size * (2 * np.arange(times + 1) - times)).ravel()
        binomial = np.array([comb(times, k) / 2**times for k in range(times + 1)])
        weights = np.multiply.outer(probabilities, binomial).ravel()
        totals, total_of = np.unique(reachable, return_inverse=True)
        probabilities = np.bincount(total_of, weights=weights)
    return min(1.0, float(probabilities[np.abs(totals) >= observed].sum())), "exact"


def _random_flips(sums: np.ndarray, observed: int) -> tuple[float, str]:
    random = np.random.default_rng(seed_of(sums))
    block = max(1, 4_000_000 // len(sums))  # bounds memory
    at_least_as_far = 0
    for start in range(0, FLIPS, block):
        signs = random.integers(0, 2, (min(block, FLIPS - start), len(sums)), dtype=np.int8) * 2.0 - 1.0
        at_least_as_far += int((np.abs(signs @ sums) >= observed).sum())
    return (at_least_as_far + 1) / (FLIPS + 1), f"{FLIPS} random flips"


def mcnemar(only_first: int, only_second: int) -> float:
    """Test whether the clips that only one side has correct are split evenly: McNemar's exact test.

    Two-sided binomial test of one half; 1 where both sides are correct on the same clips. It assumes independent clips,
    which clips of one recording are not (McNemar, Psychometrika 12, 1947).

    >>> mcnemar(0, 5)  # 2 / 2^5
    0.0625
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    return min(1.0, 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number: the probability of any false finding stays at the level.

    The k-th smallest of m is multiplied by m - k + 1, and none may fall below one before it (Holm, A Simple
    Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6, 1979).

    >>> holm([0.04, 0.01])
    [0.04, 0.02]
    """
    order = np.argsort(p_values, kind="stable")
    multiplied = np.array([p_values[i] for i in order]) * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(multiplied))
    return corrected.tolist()
