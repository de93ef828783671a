"""How sure a number is: 95 % intervals from clips that come in clusters, the source recordings.

What belongs here: intervals, and what a number of clips could show at all. What does not: tests (`significance`).

Clips cut from one recording are alike, so that clips are no independent draws; recordings are. The bootstrap therefore
draws recordings with replacement, each with all its clips (Davison and Hinkley, Bootstrap Methods and their
Application, 1997, section 3.8; for language models: Miller, Adding Error Bars to Evals, arXiv 2411.00640).
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from vlm_audio_pipeline.contracts.hashing import fingerprint

RESAMPLES = 10_000
LEVEL = 0.95
POWER = 0.80
_Z = NormalDist().inv_cdf(1 - (1 - LEVEL) / 2)

BOOTSTRAP = "bootstrap by source"
WILSON = "Wilson, effective n"


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, and how it was made."""

    low: float
    high: float
    method: str


def by_source(values: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum up values by source.

    Args:
        values: (n,) float or bool.
        sources: (n,) str.

    Returns:
        (sources,) float64, the sums, and (sources,) float64, how many values each is of; sources sorted by name.
    """
    _, of = np.unique(sources, return_inverse=True)
    return np.bincount(of, weights=values.astype(float)), np.bincount(of).astype(float)


def seed_of(*arrays: np.ndarray) -> int:
    """Give a seed that depends on these numbers alone, to nine decimals."""
    return int(fingerprint(*(np.round(a, 9).tolist() for a in arrays)), 16)


def resampled_means(sums: np.ndarray, counts: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Draw as many sources as there are, with replacement, over and over, and give the mean over clips each time.

    Sources with equal sum and count are interchangeable: how often each such pair is drawn is multinomial, which is the
    same bootstrap at a small part of its cost.

    Args:
        sums: (sources,) float.
        counts: (sources,) float, at least 1.
        resamples: how often.

    Returns:
        (resamples,) float64; the same for the same sources in any order.
    """
    pairs, times = np.unique(np.round(np.stack([sums, counts], axis=1), 9), axis=0, return_counts=True)
    random = np.random.default_rng(seed_of(pairs, times))
    block = max(1, 2_000_000 // len(pairs))  # draws held in memory at once
    drawn = [
        random.multinomial(len(sums), times / len(sums), size=min(block, resamples - start)) @ pairs
        for start in range(0, resamples, block)
    ]
    totals = np.concatenate(drawn)
    return totals[:, 0] / totals[:, 1]


def effective_n(counts: np.ndarray) -> float:
    """Give the number of independent clips that clustered ones are worth at worst: n / design effect, at least 1.

    Kish, Survey Sampling (1965), with clips of one source taken for exact copies (intraclass correlation 1):
    (sum of counts)^2 / sum of counts^2.
    """
    return float(counts.sum() ** 2 / (counts**2).sum())


def wilson(share: float, n: float) -> tuple[float, float]:
    """Give Wilson's 95 % score interval of a share of n independent draws.

    Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927). `n` may be a fraction.
    """
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _percentiles(means: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def share_interval(right: np.ndarray, sources: np.ndarray) -> Interval | None:
    """Give the interval of the share that is right.

    Where every resample gives the same share (all right, all wrong, a single source) the bootstrap says nothing, and
    Wilson's interval at the effective number of clips stands in.

    Args:
        right: (n,) bool, or float from 0 to 1.
        sources: (n,) str.

    Returns:
        None where n = 0.
    """
    if not len(right):
        return None
    sums, counts = by_source(right, sources)
    low, high = _percentiles(resampled_means(sums, counts))
    if high - low < 1e-12:
        return Interval(*wilson(float(sums.sum() / counts.sum()), effective_n(counts)), WILSON)
    return Interval(low, high, BOOTSTRAP)


def difference_interval(differences: np.ndarray, sources: np.ndarray) -> Interval:
    """Give the interval of the mean of paired differences.

    Where every source has the same mean difference, the bound is that of a departure seen in none of the effective n
    clips (Wilson's for a share of 0), to both sides.

    Args:
        differences: (n,) float from -1 to 1, n > 0.
        sources: (n,) str.
    """
    sums, counts = by_source(differences, sources)
    low, high = _percentiles(resampled_means(sums, counts))
    if high - low < 1e-12:
        unseen = wilson(0.0, effective_n(counts))[1]
        return Interval(max(-1.0, low - unseen), min(1.0, high + unseen), WILSON)
    return Interval(low, high, BOOTSTRAP)


def detectable(differences: np.ndarray, sources: np.ndarray) -> float | None:
    """Give the smallest mean difference that as many clips would show with 80 % power, in a test of its own at 5 %.

    (z(0.975) + z(0.8)) times the standard error, clustered by source, of the differences that were met: Bloom, Minimum
    Detectable Effects, Evaluation Review 19 (1995).

    Args:
        differences: (n,) float from -1 to 1, n > 0.
        sources: (n,) str.

    Returns:
        None where the differences do not vary between sources, so that nothing is known of their spread.
    """
    error = float(resampled_means(*by_source(differences, sources)).std())
    return None if error < 1e-12 else (_Z + NormalDist().inv_cdf(POWER)) * error
