"""95 % intervals of accuracies and of their differences, clustered by source recording.

Clips of one source recording are similar, so clips are not independent; source recordings are. An accuracy gets Wilson's interval at
the effective number of clips: the number of independent clips whose accuracy would have the same variance. A difference
combines the intervals of its two sides. `benchmarks/interval_coverage.py` simulates how often both contain the true value. For
language models see Miller, Adding Error Bars to Evals, arXiv 2411.00640.

Belongs here: intervals. Does not belong here: tests (`evaluation.significance`) and power (`evaluation.power`).
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from vlm_audio_pipeline.contracts.hashing import fingerprint

LEVEL = 0.95
_Z = NormalDist().inv_cdf(1 - (1 - LEVEL) / 2)
_TINY = 1e-12

WILSON = "Wilson at n / design effect"
WILSON_OVER_DRAWS = "Wilson at n / design effect of sources and draws"
MOVER = "MOVER of Wilson at n / design effect"

CLIPS = "clips"
THESE_EXAMPLES = "clips, for these examples"
CLIPS_AND_DRAWS = "clips and draws of examples"

SAMPLED_STRATEGY = "random"
"""The only selection strategy whose draws are a sample; draws of the others are ranks."""
MIN_DRAWS = 3
"""Fewest random draws for an interval that covers the draws; with fewer, their variance is too uncertain."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval.

    Attributes:
        low: lower end.
        high: upper end.
        method: how it was computed.
        scope: what a repetition of the study would draw again: clips, or clips and draws of examples.
    """

    low: float
    high: float
    method: str = WILSON
    scope: str = CLIPS


def sum_by_source(values: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def smallest_effective_n(counts: np.ndarray) -> float:
    """Return the effective number of independent clips if clips of one source were exact copies, at least 1.

    Kish, Survey Sampling (1965), at an intraclass correlation of 1: (sum of counts)^2 / sum of counts^2.
    """
    return float(counts.sum() ** 2 / (counts**2).sum())


def wilson_interval(share: float, n: float, quantile: float = _Z) -> tuple[float, float]:
    """Return Wilson's score interval of a share of n independent draws.

    Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927).

    Args:
        share: 0 to 1.
        n: above 0; it may be a fraction, and infinite for a share without error.
        quantile: number of standard errors; by default that of a 95 % interval of the normal distribution.
    """
    centre = (share + quantile**2 / (2 * n)) / (1 + quantile**2 / n)
    half = quantile / (1 + quantile**2 / n) * np.sqrt(share * (1 - share) / n + quantile**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


@dataclass(frozen=True)
class ClusteredMean:
    """The mean of values from 0 to 1, and its effective number of independent values.

    Attributes:
        mean: mean over all values.
        deviations: (sources,) float64, sum of (value - mean) over the values of each source.
        effective_n: n / design effect; infinite for a constant between 0 and 1, which has no error.
    """

    mean: float
    deviations: np.ndarray
    effective_n: float

    @classmethod
    def from_values(cls, values: np.ndarray, sources: np.ndarray) -> "ClusteredMean":
        """Compute the mean and its clustered variance v; effective n = mean (1 - mean) / v.

        v = C / (C - 1) sum of deviations^2 / n^2 for C sources, the variance of a ratio under sampling of sources (Cochran,
        Sampling Techniques, 1977, section 6.4; cluster-robust in Cameron and Miller, J. Human Resources 50, 2015). v of few
        sources is uncertain, so it is at least that of independent values and at most twice that of sources whose values are
        copies. If all values are 0, or all are 1, nothing can be estimated, and values of one source count as copies.

        Args:
            values: (n,) bool, or float from 0 to 1; n > 0.
            sources: (n,) str.
        """
        sums, counts = sum_by_source(values, sources)
        n, smallest_n = float(counts.sum()), smallest_effective_n(counts)
        mean = float(sums.sum()) / n
        deviations = sums - mean * counts
        spread, value_variance = mean * (1 - mean), float(values.astype(float).var())
        if spread < _TINY:
            return cls(round(mean), deviations, smallest_n)
        if value_variance < _TINY:
            return cls(mean, deviations, float("inf"))
        if len(counts) == 1:
            return cls(mean, deviations, spread / value_variance)
        variance = len(counts) / (len(counts) - 1) * float(deviations @ deviations) / n**2
        return cls(mean, deviations, spread / min(max(variance, value_variance / n), 2 * value_variance / smallest_n))

    @property
    def variance(self) -> float:
        """Variance of the mean that `effective_n` corresponds to."""
        return self.mean * (1 - self.mean) / self.effective_n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval at the effective n."""
        return wilson_interval(self.mean, self.effective_n)


def share_interval(
    correct: np.ndarray,
    sources: np.ndarray,
    draws: np.ndarray | None = None,
    selection: str | None = None,
) -> Interval | None:
    """Compute the interval of the share that is correct.

    With `MIN_DRAWS` or more random draws of examples, the interval covers other clips and other draws. Otherwise it
    holds for the examples that were used.

    Args:
        correct: (n,) bool.
        sources: (n,) str.
        draws: (n,) int, draw of the examples of each prediction; None or -1 without examples.
        selection: strategy that selected the examples; None without examples.

    Returns:
        None if n = 0.
    """
    if not len(correct):
        return None
    mean = ClusteredMean.from_values(correct, sources)
    if selection is None or draws is None:
        return Interval(*mean.interval)
    if selection != SAMPLED_STRATEGY or len(np.unique(draws)) < MIN_DRAWS:
        return Interval(*mean.interval, scope=THESE_EXAMPLES)
    return Interval(*_interval_over_draws(mean, correct, sources, draws), WILSON_OVER_DRAWS, CLIPS_AND_DRAWS)


def _interval_over_draws(
    mean: ClusteredMean, correct: np.ndarray, sources: np.ndarray, draws: np.ndarray
) -> tuple[float, float]:
    """Return Wilson's interval with the variance of crossed sources and draws.

    The variance is v(sources) + v(draws) - v(source x draw), each clustered by the named factor (Cameron, Gelbach and
    Miller, J. Business and Economic Statistics 29, 2011; Owen's pigeonhole bootstrap, Annals of Applied Statistics 1, 2007,
    resamples both in the same way). Few draws are allowed for by the quantile of Student's t with Satterthwaite's degrees of
    freedom (Biometrics Bulletin 2, 1946).
    """
    from scipy.special import stdtrit

    _, draw_of = np.unique(draws, return_inverse=True)
    _, source_of = np.unique(sources, return_inverse=True)
    deviations = correct - mean.mean
    count, n = int(draw_of.max()) + 1, len(correct)
    by_draw = np.bincount(draw_of, deviations)
    by_both = np.bincount(source_of * count + draw_of, deviations)
    draw_variance = count / (count - 1) * float(by_draw @ by_draw) / n**2
    between_draws = max(0.0, draw_variance - float(by_both @ by_both) / n**2)
    if draw_variance < _TINY:
        return mean.interval
    variance = mean.variance + between_draws
    degrees = variance**2 / (draw_variance**2 / (count - 1))
    quantile = float(stdtrit(degrees, (1 + LEVEL) / 2))
    return wilson_interval(mean.mean, mean.mean * (1 - mean.mean) / variance, quantile)


def difference_interval(first: np.ndarray, second: np.ndarray, sources: np.ndarray) -> Interval:
    """Compute the interval of the mean of paired differences, first - second.

    It combines the distances of the two means to the ends of their intervals, allowing for the correlation of the two means
    (MOVER: Zou and Donner, Statistics in Medicine 27, 2008, equation 3; for independent clips it is method 10 of Newcombe,
    Statistics in Medicine 17, 1998, without its continuity correction). Where all differences are equal, the interval extends
    to both sides by Wilson's upper bound for a share of 0.

    Args:
        first: (n,) float from 0 to 1, n > 0: a clip's share of correct predictions.
        second: (n,) float from 0 to 1, of the same clips.
        sources: (n,) str.
    """
    a, b = (ClusteredMean.from_values(values, sources) for values in (first, second))
    difference = a.mean - b.mean
    if (first - second).var() < _TINY:
        margin = wilson_interval(0.0, smallest_effective_n(sum_by_source(first, sources)[1]))[1]
        return Interval(max(-1.0, difference - margin), min(1.0, difference + margin), WILSON)
    product = float(np.sqrt((a.deviations @ a.deviations) * (b.deviations @ b.deviations)))
    correlation = float(a.deviations @ b.deviations) / product if product > _TINY else 0.0

    def distance(x: float, y: float) -> float:
        return float(np.sqrt(max(0.0, x**2 + y**2 - 2 * correlation * x * y)))

    (a_low, a_high), (b_low, b_high) = a.interval, b.interval
    return Interval(
        max(-1.0, difference - distance(a.mean - a_low, b_high - b.mean)),
        min(1.0, difference + distance(a_high - a.mean, b.mean - b_low)),
        MOVER,
    )
