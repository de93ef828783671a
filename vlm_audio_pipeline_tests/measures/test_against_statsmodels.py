"""Statistics against statsmodels. Its import takes seconds, so all these tests are in this file and import it lazily."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.evaluation.significance import holm, mcnemar
from vlm_audio_pipeline.measures.agreement import fleiss_kappa, trial_kappa
from vlm_audio_pipeline.measures.uncertainty import share_interval, wilson_interval
from vlm_audio_pipeline_tests.measures.prediction_tables import trials

pytestmark = pytest.mark.slow


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar(b, c):
    from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

    expected = statsmodels_mcnemar([[9, b], [c, 4]], exact=True).pvalue
    assert mcnemar(b, c) == pytest.approx(1.0 if math.isnan(expected) else expected, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 1000).map(lambda n: n / 1000), max_size=12))
def test_holm(p_values):
    from statsmodels.stats.multitest import multipletests

    expected = multipletests(p_values, method="holm")[1].tolist() if p_values else []
    assert holm(p_values) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(1, 15), st.integers(2, 5), st.integers(0, 10**6))
def test_kappa(raters, subjects, categories, seed):
    from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_kappa

    counts = np.random.default_rng(seed).multinomial(raters, np.full(categories, 1 / categories), subjects)
    if (counts.sum(axis=0) > 0).sum() == 1:
        assert fleiss_kappa(counts) is None
    else:
        assert fleiss_kappa(counts) == pytest.approx(statsmodels_kappa(counts))


def test_kappa_of_trials_has_a_category_for_each_outcome_without_a_label():
    from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_kappa

    # clips by trial: aa, ab, ??, bb. As counts of (a, b, ?): (2,0,0), (1,1,0), (0,0,2), (0,2,0)
    counts = np.array([[2, 0, 0], [1, 1, 0], [0, 0, 2], [0, 2, 0]])
    assert trial_kappa(trials("aa?b", "ab?b")).value == pytest.approx(statsmodels_kappa(counts))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson(pair):
    from statsmodels.stats.proportion import proportion_confint

    correct, n = pair
    assert wilson_interval(correct / n, n) == pytest.approx(proportion_confint(correct, n, method="wilson"), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_effective_n_and_its_interval(seed):
    """v is the cluster-robust variance of a regression on a constant, which statsmodels corrects by C / (C - 1)."""
    from statsmodels.regression.linear_model import OLS
    from statsmodels.stats.proportion import proportion_confint

    rng = np.random.default_rng(seed)
    sources = np.concatenate([np.arange(40), rng.integers(0, 40, 40)])
    correct = np.where(rng.random(80) < 0.5, (rng.random(40) < 0.6)[sources], rng.random(80) < 0.6).astype(float)
    fit = OLS(correct, np.ones(80)).fit(cov_type="cluster", cov_kwds={"groups": sources})
    p, counts = correct.mean(), np.bincount(sources)
    n = min(max(p * (1 - p) / float(fit.bse[0]) ** 2, 80**2 / (counts**2).sum() / 2), 80)
    interval = share_interval(correct, sources)
    assert (interval.low, interval.high) == pytest.approx(proportion_confint(p * n, n, method="wilson"), abs=1e-12)


def test_wilson_of_half_a_clip():
    from statsmodels.stats.proportion import proportion_confint

    assert wilson_interval(0.5, 1) == pytest.approx(proportion_confint(0.5, 1, method="wilson"), abs=1e-12)
