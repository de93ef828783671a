"""95 % intervals of embedding measures, by source recording.

They answer: in which range is the measure for other source recordings of the same kind, in a collection of the same size? The
bootstrap does not apply to neighbours: a resample contains copies of a clip, which would be its nearest neighbours. Therefore both
methods below leave clips out.

- Means over clips (silhouette, neighbours, retrieval): the mean of two variances, that over queries and that of the jackknife over
  source recordings, which leaves out a source recording both as queries and as neighbours (Tukey, Annals of Mathematical Statistics 29, 1958). The
  first is too small, the second too large on average (Efron and Stein, Annals of Statistics 9, 1981).
  `benchmarks/embedding_intervals.py` measures how often the intervals cover.
- Clusters: k-means is fitted again to random halves of the source recordings (delete-d jackknife with d = n / 2: Shao and Wu,
  Annals of Statistics 17, 1989). The variance between halves estimates the variance of the measure on all clips, with that of the
  k-means seed.

Both methods use vectors that were standardised over all clips.

Belongs here: intervals of embedding measures. Does not belong here: intervals of accuracies (`measures.uncertainty`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vlm_audio_pipeline.measures.uncertainty import smallest_effective_n, wilson_interval

MAX_GROUPS = 100
"""Maximum number of groups of source recordings that the jackknife leaves out in turn."""
MIN_SOURCES = 10
"""Minimum number of source recordings for an interval."""
HALVES = 30
"""Number of random halves of the source recordings."""
JACKKNIFE = "queries and jackknife by source recording"
HALF_SAMPLES = "halves of the source recordings, k-means fitted again"


@dataclass(frozen=True)
class SpreadInterval:
    """A 95 % interval with its method; or, where `low` and `high` are None, why there is none."""

    low: float | None
    high: float | None
    method: str


NO_INTERVAL = SpreadInterval(None, None, "none: the value is undefined")
TOO_FEW_SOURCES = SpreadInterval(None, None, f"none: fewer than {MIN_SOURCES} source recordings")


def masks_without_groups(source: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the clips that stay when each group of source recordings is left out: (n,) bool masks.

    A group is one source recording; with more than `MAX_GROUPS`, that many random groups of equal size (within one).

    Args:
        source: (n,) int from 0, without gaps.
    """
    sources = source.max() + 1
    group = np.random.default_rng(0).permutation(sources) % min(sources, MAX_GROUPS)
    for number in range(min(sources, MAX_GROUPS)):
        yield group[source] != number


def halves(source: np.ndarray) -> Iterator[np.ndarray]:
    """Yield (n,) bool masks of the clips of random halves of the source recordings; none for fewer than `MIN_SOURCES`.

    Args:
        source: (n,) int from 0, without gaps.
    """
    sources = source.max() + 1
    if sources < MIN_SOURCES:
        return
    random = np.random.default_rng(0)
    for _ in range(HALVES):
        chosen = np.zeros(sources, bool)
        chosen[random.permutation(sources)[: sources // 2]] = True
        yield chosen[source]


def standard_error(values: np.ndarray, without: np.ndarray, source: np.ndarray) -> float | None:
    """Return the standard error of a mean over clips: the root of the mean of two variances.

    The first is that of a mean of independent queries, clustered by source recording (Miller, arXiv 2411.00640). It is too small,
    because all queries share one collection. The second is that of the jackknife, (G - 1) / G times the sum of squared deviations of
    the G values. It is too large on average: it counts what two clips have in common twice.

    Args:
        values: (n,) float64, the value of each clip; NaN for clips without one.
        without: (G,) float64, the mean without each group of source recordings (`masks_without_groups`).
        source: (n,) int, source recordings from 0.

    Returns:
        None if the mean is undefined without one of the groups.
    """
    if np.isnan(without).any():
        return None
    has_value = ~np.isnan(values)
    deviations = np.where(has_value, values - values[has_value].mean(), 0)
    sums = np.bincount(source, weights=deviations)
    clusters = len(np.unique(source[has_value]))
    query_variance = float((sums**2).sum()) / has_value.sum() ** 2 * clusters / max(clusters - 1, 1)
    return float(np.sqrt((query_variance + jackknife_error(without) ** 2) / 2))


def jackknife_error(without: np.ndarray) -> float:
    """Return the standard error of the jackknife; NaN if a value is undefined.

    Args:
        without: (G,) float64, the statistic without each group.
    """
    return float(np.sqrt((len(without) - 1) * without.var()))


def mean_interval(values: np.ndarray, without: np.ndarray, source: np.ndarray, is_share: bool) -> SpreadInterval:
    """Return the interval of a mean over clips.

    A share has Wilson's interval at the effective number of clips p (1 - p) / error², at most the number of clips, or at
    `smallest_effective_n` if the error is 0; other measures have value ± t x error. t is the quantile of Student's distribution with one degree of freedom less than groups.

    Args:
        values: (n,) float64, the value of each clip; NaN for clips without one.
        without: (G,) float64, the mean without each group of source recordings.
        source: (n,) int, source recordings from 0.
        is_share: whether it is a mean of numbers from 0 to 1; else it is from -1 to 1.
    """
    if len(without) < MIN_SOURCES:
        return TOO_FEW_SOURCES
    error = standard_error(values, without, source)
    if error is None:
        return SpreadInterval(None, None, "none: without one of the source recordings the measure is undefined")
    clips = int((~np.isnan(values)).sum())
    value, quantile = float(np.nanmean(values)), student_quantile(len(without) - 1)
    if not is_share:
        return SpreadInterval(
            max(-1.0, value - quantile * error), min(1.0, value + quantile * error), f"{JACKKNIFE}, t"
        )
    sizes = np.bincount(source[~np.isnan(values)]).astype(float)
    effective = smallest_effective_n(sizes) if error < 1e-12 else min(clips, value * (1 - value) / error**2)
    low, high = wilson_interval(value, max(effective, 1.0), quantile)
    return SpreadInterval(low, high, f"{JACKKNIFE}, Wilson at effective n")


def half_sample_interval(value: float, values: np.ndarray) -> SpreadInterval:
    """Return value ± t x the standard deviation between halves, within -1 and 1.

    There is no interval for too few source recordings, if the measure is undefined in more than half of the halves, or if it is the same in all.

    Args:
        value: the measure over all clips.
        values: (halves,) float64, the measure of each half; NaN where undefined; empty for too few source recordings.
    """
    if not len(values):
        return TOO_FEW_SOURCES
    values = values[~np.isnan(values)]
    if len(values) < HALVES / 2:
        return SpreadInterval(None, None, "none: halves of the source recordings have too few classes")
    error = float(np.sqrt(((values - values.mean()) ** 2).mean()))
    if error < 1e-12:
        return SpreadInterval(None, None, "none: the value is the same in all halves of the source recordings")
    margin = student_quantile(len(values) - 1) * error
    return SpreadInterval(max(-1.0, value - margin), min(1.0, value + margin), HALF_SAMPLES)


def student_quantile(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's distribution."""
    from scipy.stats import t

    return float(t.ppf(0.975, degrees))
