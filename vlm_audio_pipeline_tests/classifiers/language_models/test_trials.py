"""Trials: every combination once, in an order in which neighbours share most."""

from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.trials import Trial, trials

COUNT = st.integers(1, 4)


@given(COUNT, COUNT, COUNT, COUNT)
def test_every_combination_is_one_trial(draws, orders, wordings, repeats):
    all_trials = trials(draws, orders, wordings, repeats)
    assert [t.trial for t in all_trials] == list(range(draws * orders * wordings * repeats))
    which = [(t.draw, t.class_order, t.wording, t.repeat) for t in all_trials]
    assert len(set(which)) == len(which)
    assert which == sorted(which), "draws change slowest: examples are shared by neighbours"


def test_the_first_order_is_the_prompts_own_and_others_are_permutations_of_it():
    classes = ("dog", "rain", "rooster", "wind", "sea", "fire")
    orders = [t.ordered(classes, seed=3) for t in trials(1, 5, 1, 1)]
    assert orders[0] == classes
    assert all(sorted(order) == sorted(classes) for order in orders)
    assert len(set(orders)) == 5  # 720 permutations: five equal ones would be a defect of the seed


def test_an_order_is_fixed_by_its_number_and_the_seed():
    first, other = Trial(7, 3, 2, 1, 0), Trial(0, 0, 2, 0, 4)
    classes = tuple("abcdefgh")
    assert first.ordered(classes, 1) == other.ordered(classes, 1)
    assert first.ordered(classes, 1) != first.ordered(classes, 2)
