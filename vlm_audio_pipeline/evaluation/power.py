"""Statistical power: the difference that a contrast detects, and the clips, trials and draws that a difference needs.

A difference is detectable if 8 of 10 studies find it: if it is z(1 - 0.05 / (2 m)) + z(0.8) standard errors, for m tests of
the study. That is 2.80 for one test (Bloom, Minimum Detectable Effects, Evaluation Review 19, 1995) and 3.34 for four. It
holds if only this contrast has a difference: Holm's correction then multiplies its p-value by m. With more differences Holm
multiplies by less, and smaller differences are found.

Belongs here: the arithmetic. Does not belong here: the contrasts of a study (`planning.contrast_power`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np

from vlm_audio_pipeline.evaluation.significance import ALPHA

POWER = 0.80
_Z_POWER = NormalDist().inv_cdf(POWER)


def _z_level(tests: int) -> float:
    return NormalDist().inv_cdf(1 - ALPHA / (2 * tests))


def detectable_standard_errors(tests: int) -> float:
    """Return the number of standard errors that a detectable difference has.

    Args:
        tests: number of tests that Holm corrects for, 1 or more.

    >>> [round(detectable_standard_errors(m), 2) for m in (1, 4)]
    [2.8, 3.34]
    """
    return _z_level(tests) + _Z_POWER


@dataclass(frozen=True)
class Assumptions:
    """Quantities that are unknown before a study runs. All are shares of 1.

    Attributes:
        accuracy: accuracy of the compared classifiers; 0.5 has the largest variance. Against chance, the accuracy is the
            chance level plus the difference.
        side_correlation: correlation of the two sides' outcomes (correct or not) on a clip.
        source_correlation: correlation of the outcomes on two clips of one source recording.
        trial_correlation: correlation of the outcomes of two trials on a clip.
        draw_sd: standard deviation of the accuracy over random draws of examples, on the same clips.
    """

    accuracy: float = 0.5
    side_correlation: float = 0.3
    source_correlation: float = 0.5
    trial_correlation: float = 0.7
    draw_sd: float = 0.045


@dataclass(frozen=True)
class PlannedContrast:
    """The sizes of a contrast that was not run yet.

    Attributes:
        source_sizes: number of common clips of each source recording.
        trials: number of passes over the clips of each side that predicts; one number against a reference.
        random_draws: number of random draws of examples of each side that draws examples.
        tests: number of tests that Holm corrects for.
        reference_accuracy: accuracy of the reference; None if both sides are classifiers.
    """

    source_sizes: tuple[int, ...]
    trials: tuple[int, ...]
    random_draws: tuple[int, ...] = ()
    tests: int = 1
    reference_accuracy: float | None = None

    @property
    def clips(self) -> int:
        """Number of common clips."""
        return sum(self.source_sizes)

    def design_effect(self, assumptions: Assumptions) -> float:
        """Return the factor by which clips of the same source increase the variance (Kish, Survey Sampling, 1965)."""
        mean_size = sum(size**2 for size in self.source_sizes) / self.clips
        return 1 + (mean_size - 1) * assumptions.source_correlation

    def clip_variance(self, accuracy: float, assumptions: Assumptions) -> tuple[float, float]:
        """Return the variance of a clip's difference: the part between clips, with the design effect, and the part of the trials."""
        outcome = accuracy * (1 - accuracy)
        shared = 0.0 if self.reference_accuracy is not None else 2 * assumptions.side_correlation
        between = outcome * max(0.0, len(self.trials) * assumptions.trial_correlation - shared)
        trial_variance = outcome * (1 - assumptions.trial_correlation) * sum(1 / m for m in self.trials)
        return self.design_effect(assumptions) * between, trial_variance

    def detectable_difference(self, assumptions: Assumptions, *, new_draws: bool = False) -> float:
        """Return the difference that 8 of 10 such studies find, a share of 1.

        Args:
            assumptions: the unknown quantities.
            new_draws: whether the difference is that over all draws of examples, instead of that for the examples drawn.
        """

        def error(accuracy: float) -> float:
            variance = sum(self.clip_variance(accuracy, assumptions)) / self.clips
            return sqrt(variance + (self._draw_variance(assumptions) if new_draws else 0.0))

        if self.reference_accuracy is None:
            return detectable_standard_errors(self.tests) * error(assumptions.accuracy)
        # The test uses the variance of the reference, and the power that of the classifier, which depends on the difference.
        difference = 0.0
        for _ in range(50):
            accuracy = min(max(self.reference_accuracy + difference, self.reference_accuracy), 0.999)
            difference = _z_level(self.tests) * error(self.reference_accuracy) + _Z_POWER * error(accuracy)
        return difference

    def _draw_variance(self, assumptions: Assumptions) -> float:
        return assumptions.draw_sd**2 * sum(1 / draws for draws in self.random_draws)

    def _largest_error(self, difference: float) -> float:
        return difference / detectable_standard_errors(self.tests)

    def _accuracy(self, difference: float, assumptions: Assumptions) -> float:
        if self.reference_accuracy is None:
            return assumptions.accuracy
        return min(
            self.reference_accuracy + difference, 0.5
        )  # the larger of the two variances: a little too many clips

    def clips_for(self, difference: float, assumptions: Assumptions) -> int:
        """Return the clips that a difference needs, with as many clips for each source and as many trials as now."""
        variance = sum(self.clip_variance(self._accuracy(difference, assumptions), assumptions))
        return ceil(variance / self._largest_error(difference) ** 2)

    def trials_for(self, difference: float, assumptions: Assumptions) -> int | None:
        """Return the trials of each side that a difference needs on the same clips; None if no number of trials is enough."""
        between, trial_variance = self.clip_variance(self._accuracy(difference, assumptions), assumptions)
        one_trial_variance = trial_variance / sum(1 / m for m in self.trials) * len(self.trials)
        return _count(one_trial_variance, self._largest_error(difference) ** 2 * self.clips - between)

    def draws_for(self, difference: float, assumptions: Assumptions) -> int | None:
        """Return the random draws of each side that a difference over all draws needs on the same clips.

        Returns:
            None if no number of draws is enough; 0 if no side draws examples.
        """
        if not self.random_draws:
            return 0
        variance = sum(self.clip_variance(self._accuracy(difference, assumptions), assumptions)) / self.clips
        one_draw_variance = assumptions.draw_sd**2 * len(self.random_draws)
        return _count(one_draw_variance, self._largest_error(difference) ** 2 - variance)


def _count(variance: float, remaining: float) -> int | None:
    """Return the smallest count with variance / count of at most `remaining`; None if there is none."""
    return max(1, ceil(variance / remaining)) if remaining > 0 else None


def source_sizes(sources: Sequence[str]) -> tuple[int, ...]:
    """Return the number of clips of each source recording."""
    return tuple(np.unique(np.array(sources, str), return_counts=True)[1].tolist()) if len(sources) else ()
