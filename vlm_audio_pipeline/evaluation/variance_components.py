"""Variance components of a classifier's correctness: clip, draw of examples, class order, wording, repeat and their interactions.

Every clip is classified in every trial, and the trials are all combinations of draws, orders, wordings and repeats. This is a
balanced crossed design, and the components follow from its mean squares (analysis of variance with random effects: Searle, Casella
and McCulloch, Variance Components, 1992, chapter 4). The response is 1 for a correct prediction, else 0.

Belongs here: the components of one balanced array, and their intervals. Does not belong here: reading predictions
(`trial_variance`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

import numpy as np

from vlm_audio_pipeline.evaluation.embedding_intervals import masks_without_groups

SIMULATIONS = 20_000
REPEAT = "repeat"


@dataclass(frozen=True)
class VarianceComponent:
    """The variance of one effect.

    Attributes:
        effect: its factors, such as ("clip", "draw").
        levels: number of its levels, the product over its factors.
        variance: unbiased estimate; it can be below 0 if the true variance is small.
        low: lower end of the 95 % interval, at least 0.
        high: upper end.
    """

    effect: tuple[str, ...]
    levels: int
    variance: float
    low: float
    high: float

    @property
    def variance_of_mean(self) -> float:
        """What the effect adds to the variance of the mean accuracy: variance / levels."""
        return self.variance / self.levels


@dataclass(frozen=True)
class _MeanSquare:
    """A mean square with the degrees of freedom of its approximate chi-squared distribution, and the number of observations per level."""

    value: float
    degrees: float
    per_level: int


def variance_components(correct: np.ndarray, factors: Sequence[str], source: np.ndarray) -> list[VarianceComponent]:
    """Estimate the variance components of a balanced crossed design.

    In such a design the expected mean square of an effect is the sum, over all effects that contain it, of their variance times the
    number of observations per level (Searle, Casella and McCulloch 1992, section 4.4). The variances follow by inclusion and
    exclusion. The interval is that of the linear combination of mean squares, each with a scaled chi-squared distribution
    (generalized confidence interval: Weerahandi, JASA 88, 1993; by simulation with a fixed seed). Degrees of freedom of effects
    with clips come from a jackknife over source recordings, because 0 and 1 are not normal and clips of one source recording are
    similar; the others have those of the design.

    The interaction of all factors includes the residual of single predictions, unless requests are repeated.

    Args:
        correct: (clips, levels of the second factor, ..., repeats) float: 0 or 1. Every factor has at least 2 levels.
        factors: names of the axes but the last: "clip" first.
        source: (clips,) int from 0, source recordings without gaps.

    Returns:
        One for each effect, main effects first; the variance between repeats last, if there are several repeats.

    Raises:
        ValueError: for a factor with one level, or fewer than three source recordings.
    """
    if min(correct.shape[:-1]) < 2 or source.max() < 2:
        raise ValueError(
            f"every factor must have at least 2 levels, and there must be at least 3 source recordings, got an array of shape {correct.shape} and {source.max() + 1} source recordings"
        )
    effects = [c for size in range(1, len(factors) + 1) for c in combinations(range(len(factors)), size)]
    repeats = correct.shape[-1]
    squares = {e: _mean_square_with_degrees(correct, e, source) for e in ([*effects, ()] if repeats > 1 else effects)}
    random = np.random.default_rng(0)
    samples = {e: s.value * s.degrees / random.chisquare(s.degrees, SIMULATIONS) for e, s in squares.items()}
    components = []
    for effect in effects:
        larger = [e for e in effects if set(effect) <= set(e)]
        weights = {e: (-1) ** (len(e) - len(effect)) for e in larger}
        if len(effect) == len(factors) and repeats > 1:
            weights[()] = -1
        per_level = squares[effect].per_level
        estimate = sum(w * squares[e].value for e, w in weights.items()) / per_level
        simulated = sum((w * samples[e] for e, w in weights.items()), np.zeros(SIMULATIONS)) / per_level
        levels = prod(correct.shape[i] for i in effect)
        components.append(_component(tuple(factors[i] for i in effect), levels, estimate, simulated))
    if repeats > 1:
        components.append(_component((REPEAT,), correct.size, squares[()].value, samples[()]))
    return components


def mean_square(correct: np.ndarray, effect: tuple[int, ...]) -> float:
    """Return the mean square of an effect, given by the axes of its factors; of the empty effect: that between repeats.

    It is the number of observations per level times the sum of squared effects, over the degrees of freedom: the product of the
    numbers of levels, each minus 1.
    """
    if not effect:
        return float(correct.var(axis=-1, ddof=1).mean())
    effects = correct.mean(axis=tuple(i for i in range(correct.ndim) if i not in effect))
    for axis in range(effects.ndim):
        effects = effects - effects.mean(axis=axis, keepdims=True)
    per_level = correct.size / effects.size
    return float(per_level * (effects**2).sum() / prod(n - 1 for n in effects.shape))


def _mean_square_with_degrees(correct: np.ndarray, effect: tuple[int, ...], source: np.ndarray) -> _MeanSquare:
    value = mean_square(correct, effect)
    shape = [correct.shape[i] for i in effect]
    degrees = float(prod(n - 1 for n in shape)) if effect else float(correct.size / correct.shape[-1])
    if 0 in effect or not effect:
        without = np.array([mean_square(correct[keep], effect) for keep in masks_without_groups(source)])
        variance = (len(without) - 1) * float(without.var())
        degrees = degrees if variance < 1e-18 else 2 * value**2 / variance  # the variance of chi-squared is 2 x degrees
    return _MeanSquare(value, max(degrees, 1.0), correct.size // prod(shape))


def _component(effect: tuple[str, ...], levels: int, estimate: float, simulated: np.ndarray) -> VarianceComponent:
    low, high = np.maximum(np.quantile(simulated, [0.025, 0.975]), 0)
    return VarianceComponent(effect, levels, estimate, float(low), float(high))
