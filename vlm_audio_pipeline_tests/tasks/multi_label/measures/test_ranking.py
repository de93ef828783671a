"""Average precision, ROC area and lwlrap: hand arithmetic, and agreement with scikit-learn."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.tasks.multi_label.measures.ranking import average_precision, ranking_precision, roc_area

PLUS_MINUS = {"+": True, "-": False}


def truths(signs: str) -> np.ndarray:
    return np.array([PLUS_MINUS[s] for s in signs])


def of_all(measure, signs: str, scores) -> float:
    """Compute a measure on all clips."""
    return float(measure(truths(signs), np.array(scores, float), np.ones((len(signs), 1), bool))[0])


@pytest.mark.parametrize(
    ("signs", "scores", "precision", "area"),
    [
        ("++---", [5, 4, 3, 2, 1], 1, 1),  # perfect
        ("++---", [1, 1, 1, 1, 1], 2 / 5, 1 / 2),  # constant: the share of positives, and a coin
        ("++---", [1, 2, 3, 4, 5], (1 / 4 + 2 / 5) / 2, 0),  # worst: the positives are at ranks 4 and 5
        ("+-+-", [4, 3, 2, 1], (1 / 1 + 2 / 3) / 2, 3 / 4),  # 3 of 4 pairs are in order
        # threshold 2: precision 1/2, recall 1/2; threshold 1: precision 2/3, recall 1
        ("+-+-", [2, 2, 1, 0], 1 / 2 * 1 / 2 + 1 / 2 * 2 / 3, (1 / 2 + 1 + 0 + 1) / 4),
    ],
)
def test_hand_arithmetic(signs, scores, precision, area):
    assert of_all(average_precision, signs, scores) == pytest.approx(precision, abs=1e-12)
    assert of_all(roc_area, signs, scores) == pytest.approx(area, abs=1e-12)


def test_a_random_scorer_has_the_mean_over_all_orders():
    # one positive among three: AP is 1, 1/2 or 1/3, each equally often
    orders = list(permutations(range(3)))
    mean = sum(of_all(average_precision, "+--", order) for order in orders) / len(orders)
    assert mean == pytest.approx(float(Fraction(1, 3) * (1 + Fraction(1, 2) + Fraction(1, 3))), abs=1e-12)
    assert sum(of_all(roc_area, "+--", order) for order in orders) / len(orders) == pytest.approx(1 / 2, abs=1e-12)


def test_the_order_of_rows_does_not_matter():
    random = np.random.default_rng(0)
    truth, score = random.random(50) < 0.3, random.integers(0, 5, 50).astype(float)
    kept = np.ones((50, 1), bool)
    for _ in range(5):
        order = random.permutation(50)
        for measure in (average_precision, roc_area):
            assert measure(truth[order], score[order], kept) == pytest.approx(measure(truth, score, kept), abs=1e-12)


def test_each_selection_has_the_value_of_its_clips():
    random = np.random.default_rng(1)
    truth, score, kept = random.random(40) < 0.4, random.integers(0, 6, 40).astype(float), random.random((40, 7)) < 0.6
    for measure in (average_precision, roc_area):
        alone = [measure(truth[c], score[c], np.ones((c.sum(), 1), bool))[0] for c in kept.T]
        assert measure(truth, score, kept) == pytest.approx(alone, abs=1e-12)


def test_without_positives_or_negatives_a_measure_is_undefined():
    assert np.isnan(of_all(average_precision, "--", [1, 2]))
    assert np.isnan(of_all(roc_area, "--", [1, 2]))
    assert np.isnan(of_all(roc_area, "++", [1, 2]))
    assert of_all(average_precision, "++", [1, 2]) == 1


TRUTH_AND_SCORE = st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=40).filter(
    lambda rows: 0 < sum(t for t, _ in rows) < len(rows)
)


@settings(max_examples=40, deadline=None)
@given(TRUTH_AND_SCORE)
def test_agreement_with_scikit_learn(rows):
    from sklearn.metrics import average_precision_score, roc_auc_score

    truth, score = np.array([t for t, _ in rows]), np.array([s for _, s in rows], float)
    kept = np.ones((len(rows), 1), bool)
    assert average_precision(truth, score, kept)[0] == pytest.approx(average_precision_score(truth, score), abs=1e-9)
    assert roc_area(truth, score, kept)[0] == pytest.approx(roc_auc_score(truth, score), abs=1e-9)


def test_lwlrap_by_hand():
    # clip 1: labels at ranks 1 and 3 of 3: precisions 1 and 2/3. clip 2: one label at rank 2: 1/2. clip 3: no label.
    truth = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 0]], bool)
    score = np.array([[9, 5, 1], [7, 3, 5], [1, 2, 3]], float)
    sums, labels = ranking_precision(truth, score)
    assert sums == pytest.approx([1 + 2 / 3, 1 / 2, 0])
    assert labels.tolist() == [2, 1, 0]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(2, 5), st.integers(0, 10**6))
def test_lwlrap_agrees_with_scikit_learn(clips, classes, seed):
    from sklearn.metrics import label_ranking_average_precision_score

    random = np.random.default_rng(seed)
    truth, score = random.random((clips, classes)) < 0.5, random.integers(0, 4, (clips, classes)).astype(float)
    if not truth.any():
        return
    sums, labels = ranking_precision(truth, score)
    weighted = label_ranking_average_precision_score(truth, score, sample_weight=truth.sum(axis=1))
    assert sums.sum() / labels.sum() == pytest.approx(weighted, abs=1e-9)
