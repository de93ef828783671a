"""Significance tests of paired differences, and the correction for several tests.

Belongs here: p-values. Does not belong here: intervals (`measures.uncertainty`), and which comparisons a study
declares (`contrasts`).
"""

from collections import Counter
from collections.abc import Sequence
from math import comb

import numpy as np

from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.measures.uncertainty import seed_of, sum_by_source

ALPHA = 0.05
FLIPS = 20_000
_UNITS = 5 * 232_792_560
"""5 * lcm(1, ..., 20): in these units, shares of up to 20 trials minus a chance level of 1/10, 1/50 or 1/100 are whole
numbers."""
_MAX_TOTALS = 500_000
"""Maximum number of possible totals that are enumerated; above it, signs are flipped at random."""


def sign_flip(differences: np.ndarray, sources: np.ndarray) -> tuple[float, str]:
    """Test whether the mean of paired differences is 0, by flipping the signs of whole source recordings.

    If both sides were equally good, the sum of the differences of a source recording would be equally likely with the opposite sign. The
    p-value is the share of all choices of signs for which the total is at least as far from 0 as the observed one
    (Fisher, The Design of Experiments, 1935, section 21). It is exact if the flips give few different totals, as with counts
    of correct predictions; otherwise `FLIPS` random choices give (b + 1) / (flips + 1) (Phipson and Smyth, Permutation
    P-values Should Never Be Zero, 2010).

    Against a constant, such as the chance level, differences are not symmetric; use `chance_test`.

    Args:
        differences: (n,) float.
        sources: (n,) str.

    Returns:
        The two-sided p-value, and "exact" or the number of random flips in words.
    """
    sums = np.sort(np.rint(sum_by_source(differences, sources)[0] * _UNITS).astype(np.int64))
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
    extreme_count = 0
    for start in range(0, FLIPS, block):
        signs = random.integers(0, 2, (min(block, FLIPS - start), len(sums)), dtype=np.int8) * 2.0 - 1.0
        extreme_count += int((np.abs(signs @ sums) >= observed).sum())
    return (extreme_count + 1) / (FLIPS + 1), f"{FLIPS} random flips"


def mcnemar(only_first: int, only_second: int) -> float:
    """Test by McNemar's exact test whether each side alone is correct on equally many clips.

    Two-sided binomial test of one half; 1 where both sides are correct on the same clips. It assumes independent clips,
    which clips of one recording are not (McNemar, Psychometrika 12, 1947).

    >>> mcnemar(0, 5)  # 2 / 2^5
    0.0625
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    two_sided: float = 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n
    return min(1.0, two_sided)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests, so that the probability of any false positive stays below the level.

    The k-th smallest of m p-values is multiplied by m - k + 1, and no result is smaller than a previous one (Holm, A Simple
    Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6, 1979).

    >>> holm([0.04, 0.01])
    [0.04, 0.02]
    """
    order = np.argsort(p_values, kind="stable")
    multiplied = np.array([p_values[i] for i in order]) * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(multiplied))
    return corrected.tolist()


def p_value_text(p: float) -> str:
    """Return a p-value with three decimals, and with more where three would hide on which side of 0.05 it is.

    >>> p_value_text(0.0002), p_value_text(0.0312), p_value_text(0.04996)
    ('< 0.001', '0.031', '0.04996')
    """
    if p < 0.001:
        return "< 0.001"
    digits = 3
    while p < ALPHA <= float(rounded_text(p, digits)) and digits < 9:
        digits += 1
    return rounded_text(p, digits)


def p_text(p: float) -> str:
    """Return a p-value with its name, such as "p = 0.031".

    >>> p_text(0.0002), p_text(0.0312)
    ('p < 0.001', 'p = 0.031')
    """
    text = p_value_text(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"
