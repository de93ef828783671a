import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import fleiss_kappa as their_kappa

from vlm_audio_pipeline.evaluation.agreement import fleiss_kappa, scorings_agree, trial_kappa, trial_sd
from vlm_audio_pipeline.evaluation.rows import Rows
from vlm_audio_pipeline_tests.evaluation.test_metrics import CLASSES, predictions


def trials(*answers: str) -> Rows:
    """Clips that are all `a`, one letter a clip; `?` was not parsed."""
    made = [
        predictions([(1, "a", "unparseable" if c == "?" else c, None) for c in text], trial=t)
        for t, text in enumerate(answers)
    ]
    return Rows.of(pa.concat_tables(made), CLASSES)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(1, 15), st.integers(2, 5), st.integers(0, 10**6))
def test_kappa_is_that_of_statsmodels(raters, subjects, categories, seed):
    counts = np.random.default_rng(seed).multinomial(raters, np.full(categories, 1 / categories), subjects)
    if (counts.sum(axis=0) > 0).sum() == 1:
        assert fleiss_kappa(counts) is None
    else:
        assert fleiss_kappa(counts) == pytest.approx(their_kappa(counts))


def test_kappa_of_trials_takes_what_is_no_answer_for_a_category():
    # clips by trial: aa, ab, ??, bb. As counts of (a, b, ?): (2,0,0), (1,1,0), (0,0,2), (0,2,0)
    counts = np.array([[2, 0, 0], [1, 1, 0], [0, 0, 2], [0, 2, 0]])
    assert trial_kappa(trials("aa?b", "ab?b")).value == pytest.approx(their_kappa(counts))


def test_trials_that_agree_by_never_changing_have_no_kappa():
    found = trial_kappa(trials("aaa", "aaa"))
    assert (found.value, found.reason) == (None, "every prediction is the same")


def test_spread_between_trials():
    # accuracies 1, 1/2 and 0: standard deviation 1/2
    assert trial_sd(trials("aa", "ab", "bb")).value == pytest.approx(0.5)


@pytest.mark.parametrize("metric", [trial_sd, trial_kappa])
def test_without_trials_over_the_same_clips_there_is_no_spread(metric):
    for rows, reason in ((trials("ab"), "one trial"), (trials("ab", "a"), "trials do not hold the same clips")):
        assert (metric(rows).value, metric(rows).reason) == (None, reason)


def test_scorings_agree_trial_by_trial():
    # trial 0: same, not parsed on both sides; trial 1: other, same
    found = scorings_agree(trials("a?", "ab"), trials("a?", "bb"))
    assert (found.value, int(found.over.sum())) == (2 / 4, 4)
    apart = scorings_agree(trials("a").where(np.array([], int)), trials("a"))
    assert (apart.value, apart.reason) == (None, "no clips asked in both ways")
