"""The comparison of two sides of a multi-label study on their common clips, in one measure.

Most measures of the task are no means over clips, so the difference is computed again without each source recording (jackknife;
without each of 100 random groups if there are more), for both sides at once. From this follow the influence of each recording on
the difference, the test (sign flips of these influences), and the correlation of the two sides for the interval (MOVER). For
a mean over clips in recordings of equal size, the test is exactly that of the task with one class per clip.

Equal scores are put in random order first, the mean of several orders: a block of equal scores has a lower average precision than the
same clips in random order (McSherry and Najork, Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied
Scores, ECIR 2008). A model with random scores would otherwise be "better" than the same model on blank images, where all scores are equal.

Belongs here: the numbers of one comparison. Does not belong here: which comparisons a study makes (`contrast_results`).
"""

from dataclasses import dataclass, replace

import numpy as np

from vlm_audio_pipeline.evaluation.equivalence import equivalence_p
from vlm_audio_pipeline.evaluation.power import detectable_standard_errors
from vlm_audio_pipeline.evaluation.significance import sign_flip
from vlm_audio_pipeline.evaluation.standard_error import standard_error
from vlm_audio_pipeline.measures.uncertainty import smallest_effective_n, wilson_interval
from vlm_audio_pipeline.tasks.multi_label.chance import chance_level
from vlm_audio_pipeline.tasks.multi_label.measures.arrays import LabelArrays
from vlm_audio_pipeline.tasks.multi_label.measures.declarations import MEASURE_VALUES, TIE_SENSITIVE, estimate
from vlm_audio_pipeline.tasks.multi_label.measures.estimates import Estimate

ORDERS = 10
"""Number of random orders of equal scores."""
_TINY = 1e-12


@dataclass(frozen=True)
class LabelComparison:
    """The numbers of a comparison, on the common clips of both sides.

    Attributes:
        value: measure of the first side, share of 1.
        against_value: the same of the second side.
        low: lower end of the 95 % interval of `difference`, by source recording.
        high: upper end.
        p: two-sided p-value of the difference.
        p_method: the test, and how `p` was computed.
        p_equivalence: p-value of the equivalence test; None without a margin.
        standard_error: standard error of `difference`; None if the difference is the same without each recording.
        clips: number of common clips.
        sources: number of source recordings of these clips.
        positives: number of labels that the measure covers.
        classes: number of classes that it covers.
    """

    value: float
    against_value: float
    low: float
    high: float
    p: float
    p_method: str
    p_equivalence: float | None
    standard_error: float | None
    clips: int
    sources: int
    positives: int
    classes: int

    @property
    def difference(self) -> float:
        """Measure of the first side minus that of the second."""
        return self.value - self.against_value

    def detectable_difference(self, tests: int) -> float | None:
        """Return the difference that about 8 of 10 studies with as many recordings and this spread would find.

        Args:
            tests: number of tests that Holm corrects for.
        """
        return None if self.standard_error is None else detectable_standard_errors(tests) * self.standard_error


def compare_labels(
    first: LabelArrays, second: LabelArrays, measure: str, margin: float | None = None
) -> LabelComparison | str:
    """Compare two sides on their common clips.

    Args:
        first: predictions of a classifier, without failed requests.
        second: predictions of another classifier, or of its control.
        measure: name of a measure of all classes.
        margin: margin of the equivalence test, share of 1; None: no such test.

    Returns:
        The numbers, or why there are none.
    """
    common = np.intersect1d(first.clip, second.clip)
    if not len(common):
        return "they have no clips in common"
    first, second = (side.select(np.isin(side.clip, common)) for side in (first, second))
    pairs = [(first, second)]
    if measure in TIE_SENSITIVE and (_has_ties(first) or _has_ties(second)):
        pairs = [(break_ties(first, seed), break_ties(second, seed)) for seed in range(ORDERS)]
    first_estimate, second_estimate = (estimate(side, measure) for side in pairs[0])
    for side in (first_estimate, second_estimate):
        if reason := _missing_reason(side, measure):
            return reason
    a = np.mean([MEASURE_VALUES[measure](side) for side, _ in pairs], axis=0)
    b = np.mean([MEASURE_VALUES[measure](side) for _, side in pairs], axis=0)
    effects = recording_influences(a - b)
    groups = np.arange(len(effects)).astype(str)
    p, method = sign_flip(effects, groups)
    sources = len(np.unique(first.source))
    unit = "source recording" if len(effects) == sources else f"{len(effects)} groups of source recordings"
    error = standard_error(effects, groups)
    low, high = _difference_interval(first_estimate, second_estimate, a, b, first)
    return LabelComparison(
        value=float(a[0]),
        against_value=float(b[0]),
        low=low,
        high=high,
        p=p,
        p_method=f"sign flips of jackknife influences by {unit}, {method}",
        p_equivalence=None if margin is None else equivalence_p(effects, groups, margin),
        standard_error=None if error is None or error < _TINY else error,
        clips=len(common),
        sources=sources,
        positives=first_estimate.positives,
        classes=first_estimate.classes,
    )


def compare_with_chance(first: LabelArrays, measure: str, margin: float | None = None) -> LabelComparison | str:
    """Compare a classifier with its chance level; see `chance`.

    The interval of the difference is that of the measure minus the chance level, which counts as exact.

    Args:
        first: predictions of a classifier, without failed requests.
        measure: name of a measure of all classes.
        margin: margin of the equivalence test, share of 1; None: no such test.

    Returns:
        The numbers, or why there are none.
    """
    first_estimate = estimate(first, measure)
    if reason := _missing_reason(first_estimate, measure):
        return reason
    assert first_estimate.value is not None and first_estimate.low is not None and first_estimate.high is not None
    chance = chance_level(first, measure, first_estimate.value)
    effects = recording_influences(MEASURE_VALUES[measure](first) - chance.value)
    groups = np.arange(len(effects)).astype(str)
    error = standard_error(effects, groups)
    return LabelComparison(
        value=first_estimate.value,
        against_value=chance.value,
        low=first_estimate.low - chance.value,
        high=first_estimate.high - chance.value,
        p=chance.p,
        p_method=chance.method,
        p_equivalence=None if margin is None else equivalence_p(effects, groups, margin),
        standard_error=None if error is None or error < _TINY else error,
        clips=len(np.unique(first.clip)),
        sources=len(np.unique(first.source)),
        positives=first_estimate.positives,
        classes=first_estimate.classes,
    )


def break_ties(arrays: LabelArrays, seed: int) -> LabelArrays:
    """Return the predictions with ranks in the place of scores; equal scores get ranks in random order.

    Args:
        arrays: n predictions; NaN stays NaN.
        seed: seed of the order.
    """
    score = arrays.score.ravel()
    order = np.lexsort((np.random.default_rng(seed).random(len(score)), score))
    ranks = np.empty(len(score))
    ranks[order] = np.arange(len(score))
    ranks[np.isnan(score)] = np.nan
    return replace(arrays, score=ranks.reshape(arrays.score.shape))


def _has_ties(arrays: LabelArrays) -> bool:
    """Return whether two clips have the same score of a class, or two classes the same score of a clip."""
    return any(bool((np.diff(np.sort(arrays.score, axis=axis), axis=axis) == 0).any()) for axis in (0, 1))


def _missing_reason(side: Estimate, measure: str) -> str | None:
    if side.value is None:
        return f"{measure} is undefined: {side.reason}"
    if side.low is None:
        return f"{measure} has no interval: {str(side.interval).removeprefix('none: ')}"
    return None


def recording_influences(values: np.ndarray) -> np.ndarray:
    """Return the influence of each source recording, or group of them, on a statistic; their mean is the statistic.

    d + (G - 1) (mean of d without each group - d without group g): the pseudo-values of Tukey's jackknife, without its
    correction for bias (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 11.5).

    Args:
        values: (1 + G,) float64, the statistic of all recordings, then without each group.

    Returns:
        (G,) float64.
    """
    without = values[1:]
    influences: np.ndarray = values[0] + (len(without) - 1) * (without.mean() - without)
    return influences


def _difference_interval(
    first: Estimate, second: Estimate, a: np.ndarray, b: np.ndarray, arrays: LabelArrays
) -> tuple[float, float]:
    """Return MOVER's interval of the difference; see `measures.uncertainty.difference_interval`.

    Where the difference is the same without each recording, it extends to both sides by Wilson's upper bound for a share of 0.
    """
    difference = float(a[0] - b[0])
    if float((a - b)[1:].std()) < _TINY:
        counts = np.unique(arrays.source, return_counts=True)[1].astype(float)
        margin = wilson_interval(0.0, smallest_effective_n(counts))[1]
        return max(-1.0, difference - margin), min(1.0, difference + margin)
    spread = float(a[1:].std() * b[1:].std())
    correlation = 0.0 if spread < _TINY**2 else float(np.corrcoef(a[1:], b[1:])[0, 1])

    def distance(x: float, y: float) -> float:
        return float(np.sqrt(max(0.0, x**2 + y**2 - 2 * correlation * x * y)))

    assert first.low is not None and first.high is not None and second.low is not None and second.high is not None
    assert first.value is not None and second.value is not None
    low = difference - distance(first.value - first.low, second.high - second.value)
    high = difference + distance(first.high - first.value, second.value - second.low)
    return max(-1.0, low), min(1.0, high)
