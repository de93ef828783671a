import numpy as np
import pytest

from vlm_audio_pipeline.evaluation.equivalence import equivalence_p, equivalent_to
from vlm_audio_pipeline.evaluation.standard_error import standard_error


def own_sources(n):
    return np.array([f"s{i}" for i in range(n)])


def test_the_standard_error_by_hand():
    # sources a (1, 0), b (1), c (0, 0): mean 0.4, sums of deviations 0.2, 0.6, -0.8; sqrt(3/2 * 1.04) / 5
    values, sources = np.array([1.0, 0, 1, 0, 0]), np.array(list("aabcc"))
    assert standard_error(values, sources) == pytest.approx((1.5 * 1.04) ** 0.5 / 5)
    assert standard_error(np.ones(3), np.array(["a"] * 3)) is None


def test_with_one_clip_for_each_source_it_is_two_one_sided_t_tests():
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], 200, p=[0.15, 0.7, 0.15])
    for margin in (0.1, 0.2):
        one_sided = [
            ttest_1samp(values, bound, alternative=side).pvalue
            for bound, side in ((-margin, "greater"), (margin, "less"))
        ]
        assert equivalence_p(values, own_sources(200), margin) == pytest.approx(max(one_sided))


def test_sides_that_never_differ_are_equivalent_only_on_enough_clips():
    # smallest standard error sqrt(0.05 * 0.95 / n): 0.0109 for 400 clips, 0.0487 for 20; t = 4.6 and 1.03
    assert equivalence_p(np.zeros(400), own_sources(400), 0.05) < 0.001
    assert equivalence_p(np.zeros(20), own_sources(20), 0.05) == pytest.approx(0.16, abs=0.01)
    assert equivalence_p(np.zeros(4), np.array(["s"] * 4), 0.05) == 1


def test_an_accuracy_is_equivalent_to_a_published_number():
    accuracy = np.array([1.0] * 340 + [0.0] * 60)  # 0.85, standard error 0.0179
    assert equivalent_to(accuracy, own_sources(400), 0.85, 0.05) == pytest.approx(0.0027, abs=0.0005)  # t = 2.80
    assert equivalent_to(accuracy, own_sources(400), 0.90, 0.05) == pytest.approx(0.5)
    assert equivalent_to(accuracy, own_sources(400), 0.95, 0.05) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("sources", [60, 304])
def test_sides_that_differ_by_the_margin_are_seldom_equivalent(sources):
    rng, repetitions, margin = np.random.default_rng(2), 3000, 0.05
    clips = {60: 80, 304: 400}[sources]
    found = 0
    for _ in range(repetitions):
        source_of = np.concatenate([np.arange(sources), rng.integers(0, sources, clips - sources)])
        is_common = rng.random(clips) < 0.7
        # the second side loses 15 % of the clips and wins 10 %
        draws = np.where(is_common, rng.random(sources)[source_of], rng.random(clips))
        differences = np.select([draws < 0.10, draws < 0.25], [1.0, -1.0], 0.0)
        found += equivalence_p(differences, source_of.astype(str), margin) < 0.05
    print(f"{clips} clips: equivalent {found / repetitions:.3f}")  # noqa: T201
    assert found / repetitions <= 0.06
