import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.measures.predictions import PredictionArrays
from vlm_audio_pipeline.measures.probabilities import brier, confidence_bin, ece, log_loss
from vlm_audio_pipeline_tests.measures.prediction_tables import CLASSES, predictions_table


def score_arrays(rows, confidence=None, classes=CLASSES) -> PredictionArrays:
    table = predictions_table(rows)
    if confidence is not None:
        table = table.set_column(
            table.schema.get_field_index("confidence"), "confidence", pa.array(confidence, pa.float64())
        )
    return PredictionArrays.from_table(table, classes)


def random_arrays(n, seed, power=1.0, folds=1):
    """Draw labels from random probabilities; the scores are these probabilities raised to a power."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(4), n)
    true = np.array([rng.choice(4, p=row) for row in p])
    scores = p**power / (p**power).sum(axis=1, keepdims=True)
    rows = [
        (1 + i % folds, CLASSES[t], CLASSES[s.argmax()], s.tolist())
        for i, (t, s) in enumerate(zip(true, scores, strict=True))
    ]
    return score_arrays(rows, scores.max(axis=1)), true, scores


def test_brier_and_log_loss_by_hand():
    arrays = score_arrays(
        [(1, "a", "a", [0.7, 0.1, 0.1, 0.1]), (1, "b", "a", [0.5, 0.25, 0.25, 0.0]), (1, "c", "refused", None)]
    )
    # first: 0.3^2 + 3 * 0.1^2 = 0.12; second: 0.5^2 + 0.75^2 + 0.25^2 + 0 = 0.875; the refusal has no scores
    assert brier(arrays).value == pytest.approx((0.12 + 0.875) / 2)
    assert log_loss(arrays).value == pytest.approx(-(np.log(0.7) + np.log(0.25)) / 2)
    assert brier(arrays).included.tolist() == [True, True, False]


def test_log_loss_and_brier_equal_scikit_learn():
    from sklearn import metrics as sk

    arrays, true, scores = random_arrays(50, 1)
    assert log_loss(arrays).value == pytest.approx(sk.log_loss(true, scores, labels=range(4)))
    assert brier(arrays).value == pytest.approx(sk.brier_score_loss(true, scores, labels=range(4), scale_by_half=False))


def test_a_true_class_with_probability_0_has_no_log_loss():
    arrays = score_arrays([(1, "a", "b", [0.0, 1.0, 0.0, 0.0]), (1, "a", "a", [1.0, 0.0, 0.0, 0.0])])
    assert (log_loss(arrays).value, log_loss(arrays).reason) == (
        None,
        "infinite: 1 true classes have probability 0",
    )
    assert brier(arrays).value == 1.0  # (1 + 1) / 2


@pytest.mark.parametrize("scores", [[0.5, 0.5, 0.5, 0.5], [-0.5, 1.5, 0.0, 0.0]])
def test_scores_that_are_not_probabilities_have_no_value(scores):
    arrays = score_arrays([(1, "a", "a", [0.25] * 4), (1, "a", "a", scores)])
    for measure in (log_loss, brier):
        assert (measure(arrays).value, measure(arrays).reason) == (None, "scores are not probabilities")


def test_calibration_error_by_hand():
    rows = [
        (1, "a", "a", None),
        (1, "a", "b", None),
        (1, "a", "a", None),
        (1, "a", "a", None),
        (1, "a", "unparseable", None),
    ]
    arrays = score_arrays(rows, [0.95, 0.91, 0.55, 0.3, None])
    # bin 10: 2 predictions, half of them correct, mean confidence 0.93: |1 - 1.86| / 4; bin 6: |1 - 0.55| / 4; bin 3
    # (0.3 is its upper edge): |1 - 0.3| / 4; an unparseable response has no confidence
    assert ece(arrays).value == pytest.approx((0.86 + 0.45 + 0.7) / 4)
    assert ece(arrays).included.tolist() == [True, True, True, True, False]


def test_an_upper_edge_belongs_to_the_lower_bin():
    bins = {0.0: 0, 0.1: 0, 0.10000000016: 0, 0.1000001: 1, 0.3: 2, 0.6: 5, 0.7: 6, 0.9: 8, 0.95: 9, 1.0: 9}
    assert confidence_bin(np.array(list(bins))).tolist() == list(bins.values())


def test_confidences_above_1_are_refused():
    assert ece(score_arrays([(1, "a", "a", None)], [1.5])).reason == "confidence is not from 0 to 1"
