import numpy as np
import pytest
from scipy.stats import norm

from vlm_audio_pipeline.evaluation.power import (
    Assumptions,
    PlannedContrast,
    detectable_standard_errors,
    source_sizes,
)
from vlm_audio_pipeline.evaluation.significance import sign_flip

INDEPENDENT = Assumptions(accuracy=0.5, side_correlation=0.0, source_correlation=0.0, trial_correlation=1.0)


def test_standard_errors_of_a_detectable_difference():
    # z(0.975) + z(0.8) = 1.960 + 0.842; with four tests z(1 - 0.05 / 8) = 2.498
    assert detectable_standard_errors(1) == pytest.approx(2.80, abs=0.005)
    assert detectable_standard_errors(4) == pytest.approx(3.34, abs=0.005)


def test_two_classifiers_by_hand():
    # variance of a difference of independent outcomes 2 * 0.25, standard error sqrt(0.5 / 400) = 0.03536
    contrast = PlannedContrast((1,) * 400, trials=(1, 1))
    assert contrast.detectable_difference(INDEPENDENT) == pytest.approx(2.8016 * (0.5 / 400) ** 0.5, rel=1e-4)
    # correlation 0.3 between the sides: 2 * 0.25 * 0.7
    assert contrast.detectable_difference(Assumptions(source_correlation=0.0)) == pytest.approx(
        2.8016 * (0.35 / 400) ** 0.5, rel=1e-4
    )


def test_clips_of_one_source_count_less():
    # pairs: 1 + (2 - 1) * 0.5 times the variance
    alone, pairs = PlannedContrast((1,) * 400, (1, 1)), PlannedContrast((2,) * 200, (1, 1))
    assumptions = Assumptions(trial_correlation=1.0, source_correlation=0.5)
    assert pairs.detectable_difference(assumptions) == pytest.approx(
        1.5**0.5 * alone.detectable_difference(assumptions)
    )


def test_against_chance_the_reference_has_no_variance():
    from scipy.optimize import brentq

    contrast = PlannedContrast((1,) * 80, trials=(1,), reference_accuracy=0.1)

    def missing(difference):
        p = 0.1 + difference
        return 1.95996 * (0.09 / 80) ** 0.5 + 0.84162 * (p * (1 - p) / 80) ** 0.5 - difference

    assert contrast.detectable_difference(INDEPENDENT) == pytest.approx(brentq(missing, 0.01, 0.5), abs=1e-5)


def test_trials_reduce_only_their_own_part_of_the_variance():
    assumptions = Assumptions(source_correlation=0.0)
    one, many = (PlannedContrast((1,) * 400, (m, m)) for m in (1, 1000))
    # 2 * 0.25 * (1 - 0.3) and, with many trials, 2 * 0.25 * (0.7 - 0.3)
    assert many.detectable_difference(assumptions) / one.detectable_difference(assumptions) == pytest.approx(
        (0.4 / 0.7) ** 0.5, rel=1e-3
    )


def test_draws_of_examples_add_to_the_difference_over_all_draws():
    contrast = PlannedContrast((1,) * 400, (5, 1), random_draws=(5,))
    assumptions = Assumptions(draw_sd=0.045)
    fixed, over_draws = (
        contrast.detectable_difference(assumptions),
        contrast.detectable_difference(assumptions, new_draws=True),
    )
    assert over_draws**2 - fixed**2 == pytest.approx((2.8016 * 0.045) ** 2 / 5, rel=1e-3)


@pytest.mark.parametrize("reference", [None, 0.1])
@pytest.mark.parametrize("tests", [1, 4])
def test_the_needed_clips_trials_and_draws_detect_the_difference(reference, tests):
    assumptions = Assumptions()
    trials = (1,) if reference else (1, 1)
    contrast = PlannedContrast((2,) * 200, trials, (1,), tests, reference)
    clips = contrast.clips_for(0.08, assumptions)
    enough = PlannedContrast((2,) * (clips // 2 + 1), trials, (), tests, reference)
    assert enough.detectable_difference(assumptions) <= 0.08
    if reference is None:
        assert PlannedContrast((2,) * (clips // 2 - 1), trials, (), tests).detectable_difference(assumptions) > 0.08
    target = contrast.detectable_difference(assumptions) * (0.95 if reference is None else 1.1)
    count = contrast.trials_for(target, assumptions)
    assert (
        PlannedContrast((2,) * 200, (count,) * len(trials), (), tests, reference).detectable_difference(assumptions)
        <= target
    )
    difference = 1.6 * contrast.detectable_difference(assumptions)
    draws = contrast.draws_for(difference, assumptions)
    with_draws = PlannedContrast((2,) * 200, trials, (draws,), tests, reference)
    assert with_draws.detectable_difference(assumptions, new_draws=True) <= difference * 1.0001


def test_some_differences_need_more_than_trials_or_draws():
    contrast = PlannedContrast((1,) * 100, (1, 1), (1,))
    assert contrast.trials_for(0.02, Assumptions()) is None
    assert contrast.draws_for(0.02, Assumptions()) is None
    assert PlannedContrast((1,) * 100, (1, 1)).draws_for(0.02, Assumptions()) == 0


def test_sizes_of_sources():
    assert sorted(source_sizes(["x", "y", "x", "z"])) == [1, 1, 2]
    assert source_sizes([]) == ()


def correlated_outcomes(rng, source_of, assumptions, accuracies):
    """Simulate outcomes with the assumed correlations: thresholds of normal variables with a common part.

    The correlation of two outcomes of probability 0.5 is 2 / pi * arcsin of that of the normal variables.
    """
    n, sources = len(source_of), source_of.max() + 1

    def normal(correlation):
        return np.sin(np.pi / 2 * correlation)

    between_sides, between_clips = normal(assumptions.side_correlation), normal(assumptions.source_correlation)
    common = np.sqrt(between_clips) * rng.standard_normal(sources)[source_of] + np.sqrt(
        1 - between_clips
    ) * rng.standard_normal(n)
    outcomes = []
    for accuracy in accuracies:
        own = np.sqrt(between_clips) * rng.standard_normal(sources)[source_of] + np.sqrt(
            1 - between_clips
        ) * rng.standard_normal(n)
        z = np.sqrt(between_sides) * common + np.sqrt(1 - between_sides) * own
        outcomes.append((z < norm.ppf(accuracy)).astype(float))
    return outcomes


@pytest.mark.slow
@pytest.mark.parametrize("tests", [1, 4])
@pytest.mark.parametrize("sources", [61, 304])
def test_about_8_of_10_studies_find_the_detectable_difference(sources, tests):
    rng, repetitions, assumptions = np.random.default_rng(5), 600, Assumptions(trial_correlation=1.0)
    clips = {61: 80, 304: 400}[sources]
    source_of = np.concatenate([np.arange(sources), rng.integers(0, sources, clips - sources)])
    contrast = PlannedContrast(source_sizes(source_of.astype(str)), (1, 1), tests=tests)
    difference = contrast.detectable_difference(assumptions)
    found = 0
    for _ in range(repetitions):
        a, b = correlated_outcomes(rng, source_of, assumptions, (0.5 + difference / 2, 0.5 - difference / 2))
        found += sign_flip(a - b, source_of.astype(str))[0] * tests < 0.05
    print(f"{clips} clips, {tests} tests: {100 * difference:.1f} points found in {found / repetitions:.3f}")  # noqa: T201
    assert 0.7 <= found / repetitions <= 0.9
