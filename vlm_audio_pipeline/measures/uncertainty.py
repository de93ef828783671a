"""95 % intervals of shares and differences, clustered by source recording.

Clips cut from one recording are alike, so clips are not independent draws; recordings are. The bootstrap therefore draws
recordings with replacement, each with all its clips (Davison and Hinkley, Bootstrap Methods and their Application, 1997,
section 3.8; for language models: Miller, Adding Error Bars to Evals, arXiv 2411.00640).

Belongs here: intervals and the detectable difference. Does not belong here: tests (`evaluation.significance`).
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
    """A 95 % interval and the method that computed it."""

    low: float
    high: float
    method: str


def by_source(values: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum values by source.

    Args:
        values: (n,) float or bool.
        sources: (n,) str.

    Returns:
        (sources,) float64 sums and (sources,) float64 numbers of values; sources sorted by name.
    """
    _, source_of = np.unique(sources, return_inverse=True)
    return np.bincount(source_of, weights=values.astype(float)), np.bincount(source_of).astype(float)


def seed_of(*arrays: np.ndarray) -> int:
    """Return a seed that depends on these numbers alone, rounded to nine decimals."""
    return int(fingerprint(*(np.round(a, 9).tolist() for a in arrays)), 16)


def resampled_means(sums: np.ndarray, counts: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Draw as many sources as there are, with replacement, and return the mean over clips of each resample.

    Sources with equal sum and count are interchangeable: how often each such pair is drawn is multinomial, which is the
    same bootstrap at a fraction of its cost.

    Args:
        sums: (sources,) float.
        counts: (sources,) float, at least 1.
        resamples: number of resamples.

    Returns:
        (resamples,) float64; the same for the same sources in any order.
    """
    pairs, times = np.unique(np.round(np.stack([sums, counts], axis=1), 9), axis=0, return_counts=True)
    random = np.random.default_rng(seed_of(pairs, times))
    block = max(1, 2_000_000 // len(pairs))  # bounds memory
    blocks = [
        random.multinomial(len(sums), times / len(sums), size=min(block, resamples - start)) @ pairs
        for start in range(0, resamples, block)
    ]
    totals = np.concatenate(blocks)
    return totals[:, 0] / totals[:, 1]


def effective_n(counts: np.ndarray) -> float:
    """Return the number of independent clips that clustered ones are worth at worst: n / design effect, at least 1.

    Kish, Survey Sampling (1965), with clips of one source taken for exact copies (intraclass correlation 1):
    (sum of counts)^2 / sum of counts^2.
    """
    return float(counts.sum() ** 2 / (counts**2).sum())


def wilson(share: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a share of n independent draws.

    Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927). `n` may be a fraction.
    """
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _percentiles(means: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def share_interval(correct: np.ndarray, sources: np.ndarray) -> Interval | None:
    """Compute the interval of the share that is correct.

    Where every resample has the same share (all correct, all wrong, a single source) the bootstrap gives no interval,
    and Wilson's interval at the effective number of clips is used.

    Args:
        correct: (n,) bool, or float from 0 to 1.
        sources: (n,) str.

    Returns:
        None where n = 0.
    """
    if not len(correct):
        return None
    sums, counts = by_source(correct, sources)
    low, high = _percentiles(resampled_means(sums, counts))
    if high - low < 1e-12:
        return Interval(*wilson(float(sums.sum() / counts.sum()), effective_n(counts)), WILSON)
    return Interval(low, high, BOOTSTRAP)


def difference_interval(differences: np.ndarray, sources: np.ndarray) -> Interval:
    """Compute the interval of the mean of paired differences.

    Where every source has the same mean difference, the interval extends to both sides by Wilson's upper bound for a
    share of 0 in the effective number of clips.

    Args:
        differences: (n,) float from -1 to 1, n > 0.
        sources: (n,) str.
    """
    sums, counts = by_source(differences, sources)
    low, high = _percentiles(resampled_means(sums, counts))
    if high - low < 1e-12:
        margin = wilson(0.0, effective_n(counts))[1]
        return Interval(max(-1.0, low - margin), min(1.0, high + margin), WILSON)
    return Interval(low, high, BOOTSTRAP)


def detectable_difference(differences: np.ndarray, sources: np.ndarray) -> float | None:
    """Return the smallest mean difference that one test at 5 % would find with 80 % power on as many clips.

    (z(0.975) + z(0.8)) times the standard error, clustered by source, of the observed differences: Bloom, Minimum
    Detectable Effects, Evaluation Review 19 (1995).

    Args:
        differences: (n,) float from -1 to 1, n > 0.
        sources: (n,) str.

    Returns:
        None where the differences do not vary between sources, so that their spread is unknown.
    """
    error = float(resampled_means(*by_source(differences, sources)).std())
    return None if error < 1e-12 else (_Z + NormalDist().inv_cdf(POWER)) * error
