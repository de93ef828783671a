import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.evaluation.significance import FLIPS, mcnemar, sign_flip


def one_source_each(values):
    return np.array([f"s{i}" for i in range(len(values))])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([-1.0, -0.9, 0.0, 0.1, 1.0, 1 / 3]), min_size=1, max_size=10))
def test_the_exact_test_equals_an_enumeration_of_signs(values):
    observed = abs(sum(values))
    all_totals = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(values))
    ]
    p, method = sign_flip(np.array(values), one_source_each(values))
    assert method == "exact"
    assert p == pytest.approx(np.mean([w >= observed - 1e-6 for w in all_totals]))


def test_exact_equals_scipy():
    from scipy.stats import permutation_test

    values = np.random.default_rng(4).normal(0.3, 1, 13)
    result = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(values, one_source_each(values)) == (pytest.approx(result.pvalue), "exact")


def test_signs_of_clips_of_one_source_flip_together():
    # 8 clips of 2 sources, all +1: sums 4 and 4; 4 ways, of which ++ and -- are as far: 1/2. As 8 sources: 2/256.
    values = np.ones(8)
    assert sign_flip(values, np.array(list("aaaabbbb"))) == (0.5, "exact")
    assert sign_flip(values, one_source_each(values))[0] == 2 / 256


def test_without_differences_p_is_1():
    assert sign_flip(np.zeros(5), one_source_each(np.zeros(5))) == (1.0, "exact")


def test_with_one_clip_for_each_source_the_test_equals_mcnemar():
    values = np.array([1.0] * 30 + [-1.0] * 14 + [0.0] * 56)
    assert sign_flip(values, one_source_each(values))[0] == pytest.approx(mcnemar(30, 14))


def test_many_different_sums_use_random_flips():
    values = np.random.default_rng(5).normal(0.15, 1, 200)
    p, method = sign_flip(values, one_source_each(values))
    assert method == f"{FLIPS} random flips"
    # the sum of +-v is nearly normal with variance sum v^2
    expected = math.erfc(abs(values.sum()) / math.sqrt(2 * (values**2).sum()))
    assert p == pytest.approx(expected, abs=4 * math.sqrt(expected / FLIPS))
    assert sign_flip(values[::-1], one_source_each(values))[0] == p, "the same clips in another order"
    p_of_equal_signs = sign_flip(np.abs(values), one_source_each(values))[0]
    assert p_of_equal_signs == 1 / (FLIPS + 1), "never 0"


def equal_classifiers(rng, sources: int, clips: int, share: float):
    """Simulate two equally accurate classifiers whose outcomes are correlated within a source."""
    source_of = np.concatenate([np.arange(sources), rng.integers(0, sources, clips - sources)])

    def predict():
        return np.where(rng.random(clips) < 0.8, (rng.random(sources) < share)[source_of], rng.random(clips) < share)

    return predict().astype(float), predict().astype(float), source_of.astype(str)


def test_false_findings_with_correlated_clips_are_at_the_nominal_level():
    rng, repetitions = np.random.default_rng(6), 1000
    findings = by_clip = 0
    for _ in range(repetitions):
        a, b, sources = equal_classifiers(rng, 100, 250, 0.4)
        findings += sign_flip(a - b, sources)[0] < 0.05
        by_clip += mcnemar(int((a > b).sum()), int((a < b).sum())) < 0.05
    rates = [n / repetitions for n in (findings, by_clip)]
    print("false findings: sign flips {:.3f}, McNemar {:.3f}".format(*rates))  # noqa: T201
    # 0.05 +- 3 standard errors of 1000 simulations, 0.0069 each
    assert 0.03 <= rates[0] <= 0.07
    assert rates[1] > 0.10, "assuming independent clips gives too many false findings"
