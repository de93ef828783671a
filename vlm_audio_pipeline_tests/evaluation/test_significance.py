import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests

from vlm_audio_pipeline.evaluation.significance import FLIPS, holm, mcnemar, sign_flip
from vlm_audio_pipeline_tests.evaluation.test_uncertainty import correlated


def own_sources(values):
    return np.array([f"s{i}" for i in range(len(values))])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_that_of_statsmodels(b, c):
    theirs = their_mcnemar([[9, b], [c, 4]], exact=True).pvalue
    assert mcnemar(b, c) == pytest.approx(1.0 if math.isnan(theirs) else theirs, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 1000).map(lambda n: n / 1000), max_size=12))
def test_holm_is_that_of_statsmodels(ps):
    assert holm(ps) == pytest.approx(multipletests(ps, method="holm")[1].tolist() if ps else [])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([-1.0, -0.9, 0.0, 0.1, 1.0, 1 / 3]), min_size=1, max_size=10))
def test_exact_is_all_ways_to_choose_signs(values):
    met = abs(sum(values))
    all_ways = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(values))
    ]
    p, method = sign_flip(np.array(values), own_sources(values))
    assert method == "exact"
    assert p == pytest.approx(np.mean([w >= met - 1e-6 for w in all_ways]))


def test_exact_is_scipys():
    values = np.random.default_rng(4).normal(0.3, 1, 13)
    theirs = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(values, own_sources(values)) == (pytest.approx(theirs.pvalue), "exact")


def test_signs_of_clips_of_one_source_flip_together():
    # 8 clips of 2 sources, all +1: sums 4 and 4; 4 ways, of which ++ and -- are as far: 1/2. As 8 sources: 2/256.
    values = np.ones(8)
    assert sign_flip(values, np.array(list("aaaabbbb"))) == (0.5, "exact")
    assert sign_flip(values, own_sources(values))[0] == 2 / 256


def test_without_a_difference_nothing_is_found():
    assert sign_flip(np.zeros(5), own_sources(np.zeros(5))) == (1.0, "exact")


def test_of_single_clips_with_one_answer_it_is_mcnemar():
    values = np.array([1.0] * 30 + [-1.0] * 14 + [0.0] * 56)
    assert sign_flip(values, own_sources(values))[0] == pytest.approx(mcnemar(30, 14))


def test_many_different_sums_are_flipped_at_random():
    values = np.random.default_rng(5).normal(0.15, 1, 200)
    p, method = sign_flip(values, own_sources(values))
    assert method == f"{FLIPS} random flips"
    # the sum of +-v is nearly normal with variance sum v^2
    expected = math.erfc(abs(values.sum()) / math.sqrt(2 * (values**2).sum()))
    assert p == pytest.approx(expected, abs=4 * math.sqrt(expected / FLIPS))
    assert sign_flip(values[::-1], own_sources(values))[0] == p, "the same clips in another order"
    far = sign_flip(np.abs(values), own_sources(values))[0]
    assert far == 1 / (FLIPS + 1), "never 0"


def two_alike(rng, sources: int, clips: int, share: float):
    """Two classifiers as good as each other; clips of a source share most of their fate."""
    of = np.concatenate([np.arange(sources), rng.integers(0, sources, clips - sources)])

    def one():
        return np.where(rng.random(clips) < 0.8, (rng.random(sources) < share)[of], rng.random(clips) < share)

    return one().astype(float), one().astype(float), of.astype(str)


def test_guessers_are_seldom_found_better_than_chance():
    rng, worlds = np.random.default_rng(7), 500
    better = worse = 0
    for _ in range(worlds):
        right, sources = correlated(rng, 60, 80, 0.1)
        found = sign_flip(right - 0.1, sources)[0] < 0.05
        better += found and right.mean() > 0.1
        worse += found and right.mean() < 0.1
    print(f"guessers found better {better / worlds:.3f}, worse {worse / worlds:.3f}")  # noqa: T201
    assert better / worlds <= 0.02 and worse / worlds <= 0.11


def test_false_findings_under_correlated_sources_are_as_rare_as_said():
    rng, worlds = np.random.default_rng(6), 1000
    found = by_clip = chance = 0
    for _ in range(worlds):
        a, b, sources = two_alike(rng, 100, 250, 0.4)
        found += sign_flip(a - b, sources)[0] < 0.05
        by_clip += mcnemar(int((a > b).sum()), int((a < b).sum())) < 0.05
        chance += sign_flip(a - 0.4, sources)[0] < 0.05
    rates = [n / worlds for n in (found, by_clip, chance)]
    print("false findings: sign flips {:.3f}, McNemar {:.3f}, against a constant {:.3f}".format(*rates))  # noqa: T201
    # 0.05 +- 3 standard errors of 1000 worlds, 0.0069 each
    assert 0.03 <= rates[0] <= 0.07
    assert 0.03 <= rates[2] <= 0.07
    assert rates[1] > 0.10, "taking clips for independent finds what is not there"
