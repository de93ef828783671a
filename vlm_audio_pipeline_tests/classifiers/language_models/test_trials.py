"""Trials: every combination occurs once, in an order in which consecutive trials share their examples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.trials import Trial, trials

COUNT = st.integers(1, 4)


@given(COUNT, COUNT, COUNT, COUNT)
def test_every_combination_is_one_trial(draws, orders, wordings, repeats):
    all_trials = trials(draws, orders, wordings, repeats)
    assert [t.trial for t in all_trials] == list(range(draws * orders * wordings * repeats))
    combinations = [(t.draw, t.class_order, t.wording, t.repeat) for t in all_trials]
    assert len(set(combinations)) == len(combinations)
    assert combinations == sorted(combinations), "draws change slowest, so that consecutive trials share examples"


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 10, 50])
def test_as_many_orders_as_classes_have_every_class_at_every_position_once(n):
    classes = tuple(f"class {i}" for i in range(n))
    orders = [t.order_classes(classes, seed=3) for t in trials(1, 2 * n, 1, 1)]
    assert orders[0] == classes
    for square in (orders[:n], orders[n:]):
        assert all(sorted(position) == sorted(classes) for position in zip(*square, strict=True))
        assert all(sorted(order) == sorted(classes) for order in square)


def test_the_second_square_has_another_neighbour_of_each_class():
    classes = tuple(f"class {i}" for i in range(10))
    orders = [t.order_classes(classes, seed=3) for t in trials(1, 20, 1, 1)]
    assert len(set(orders)) == 20
    followers = [{(o[i], o[(i + 1) % 10]) for o in square for i in range(10)} for square in (orders[:10], orders[10:])]
    # rotations of one order have 10 pairs of cyclic neighbours; a random order shares about one of them
    assert [len(pairs) for pairs in followers] == [10, 10] and len(followers[0] & followers[1]) < 5


def test_a_class_order_depends_only_on_its_number_and_the_seed():
    first, other = Trial(7, 3, 9, 1, 0), Trial(0, 0, 9, 0, 4)
    classes = tuple("abcdefgh")
    assert first.order_classes(classes, 1) == other.order_classes(classes, 1)
    assert first.order_classes(classes, 1) != first.order_classes(classes, 2)
