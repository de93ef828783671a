from dataclasses import replace

import numpy as np
import pytest

from vlm_audio_pipeline.measures.agreement import scorings_agree, trial_kappa, trial_sd
from vlm_audio_pipeline_tests.measures.prediction_tables import trials


def test_trials_that_are_always_the_same_class_have_no_kappa():
    number = trial_kappa(trials("aaa", "aaa"))
    assert (number.value, number.reason) == (None, "every prediction is the same")


def test_standard_deviation_over_trials():
    # accuracies 1, 1/2 and 0: standard deviation 1/2
    assert trial_sd(trials("aa", "ab", "bb")).value == pytest.approx(0.5)


@pytest.mark.parametrize("measure", [trial_sd, trial_kappa])
def test_trials_need_two_or_more_over_the_same_clips(measure):
    for arrays, reason in ((trials("ab"), "one trial"), (trials("ab", "a"), "trials do not cover the same clips")):
        assert (measure(arrays).value, measure(arrays).reason) == (None, reason)


@pytest.mark.parametrize("measure", [trial_sd, trial_kappa])
@pytest.mark.parametrize(
    ("selection", "draw", "reason"),
    [
        ("medoid", [0, 0, 1, 1], "draws of medoid examples are ranks, not a sample"),
        ("diverse", [0, 0, 1, 1], "draws of diverse examples are ranks, not a sample"),
        ("medoid", [0, 0, 0, 0], None),  # one draw, two orders of the classes
        ("random", [0, 0, 1, 1], None),
    ],
)
def test_draws_that_are_ranks_have_no_spread(measure, selection, draw, reason):
    number = measure(replace(trials("ab", "ba"), selection=selection, draw=np.array(draw)))
    assert number.reason == reason and (number.value is None) == (reason is not None)


def test_agreement_of_scorings_is_counted_trial_by_trial():
    # trial 0: same, not parsed on both sides; trial 1: other, same
    number = scorings_agree(replace(trials("a?", "ab"), other_scoring=trials("a?", "bb")))
    assert (number.value, int(number.included.sum())) == (2 / 4, 4)
    apart = scorings_agree(replace(trials("a").select(np.array([], int)), other_scoring=trials("a")))
    assert (apart.value, apart.reason) == (None, "no clips in common under both scorings")
