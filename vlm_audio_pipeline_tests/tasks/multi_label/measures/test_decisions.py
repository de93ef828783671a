"""Thresholds, F1 and exact match."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.tasks.multi_label.measures.decisions import best_threshold, f1_counts, is_exact_match


def test_a_threshold_lies_halfway_between_the_scores_that_it_separates():
    # accepting 9 and 5: TP 2, FP 0, FN 0
    assert best_threshold(np.array([True, True, False, False]), np.array([9.0, 5, 2, 1])) == 3.5


def test_of_equal_f1_the_highest_threshold_wins():
    # accept 1 clip: 2 * 1 / (1 + 2) = 2/3; accept 4: 2 * 2 / (4 + 2) = 2/3; accept 2 or 3: 2/4, 2/5
    assert best_threshold(np.array([True, False, False, True]), np.array([4.0, 3, 2, 1])) == 3.5


def test_if_every_clip_is_accepted_the_threshold_is_the_lowest_score():
    assert best_threshold(np.array([False, True]), np.array([2.0, 1.0])) == 1.0


def test_equal_scores_are_not_separated():
    # the clips with score 1 are accepted together: TP 2, FP 1; 2 * 2 / (3 + 2)
    assert best_threshold(np.array([True, True, False, False]), np.array([2.0, 1, 1, 0])) == 0.5


def test_a_class_without_positives_has_no_threshold():
    with pytest.raises(ValueError, match="at least one positive"):
        best_threshold(np.array([False, False]), np.array([1.0, 2.0]))


def f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """F1 = 2 TP / (2 TP + FP + FN)."""
    hits = int((truth & predicted).sum())
    return 2 * hits / (2 * hits + int((predicted & ~truth).sum()) + int((truth & ~predicted).sum()))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=25).filter(
        lambda r: any(t for t, _ in r)
    )
)
def test_no_other_threshold_has_a_higher_f1(rows):
    truth, score = np.array([t for t, _ in rows]), np.array([s for _, s in rows], float)
    chosen = f1(truth, score >= best_threshold(truth, score))
    assert chosen == pytest.approx(max(f1(truth, score >= s) for s in np.unique(score)), abs=1e-12)


def test_f1_agrees_with_scikit_learn():
    from sklearn.metrics import f1_score

    random = np.random.default_rng(0)
    truth, predicted = random.random((30, 4)) < 0.4, random.random((30, 4)) < 0.5
    numerator, denominator = f1_counts(truth, predicted).sum(axis=1)
    assert numerator / denominator == pytest.approx(f1_score(truth, predicted, average=None), abs=1e-9)


def test_exact_match_needs_every_class():
    truth = np.array([[1, 0], [1, 1], [0, 0]], bool)
    assert is_exact_match(truth, np.array([[1, 0], [1, 0], [0, 0]], bool)).tolist() == [True, False, True]
