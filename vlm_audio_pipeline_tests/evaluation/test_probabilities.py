import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from vlm_audio_pipeline.evaluation.probabilities import bin_of, brier, ece, log_loss, tempered
from vlm_audio_pipeline.evaluation.rows import Rows
from vlm_audio_pipeline_tests.evaluation.test_metrics import CLASSES, predictions


def rows_of(given, confidence=None, classes=CLASSES) -> Rows:
    table = predictions(given)
    if confidence is not None:
        table = table.set_column(
            table.schema.get_field_index("confidence"), "confidence", pa.array(confidence, pa.float64())
        )
    return Rows.of(table, classes)


def random_rows(n, seed, power=1.0, folds=1):
    """Labels drawn from probabilities, and these probabilities raised to a power as scores."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(4), n)
    true = np.array([rng.choice(4, p=row) for row in p])
    scores = p**power / (p**power).sum(axis=1, keepdims=True)
    given = [
        (1 + i % folds, CLASSES[t], CLASSES[s.argmax()], s.tolist())
        for i, (t, s) in enumerate(zip(true, scores, strict=True))
    ]
    return rows_of(given, scores.max(axis=1)), true, scores


def test_brier_and_log_loss_by_hand():
    rows = rows_of(
        [(1, "a", "a", [0.7, 0.1, 0.1, 0.1]), (1, "b", "a", [0.5, 0.25, 0.25, 0.0]), (1, "c", "refused", None)]
    )
    # first: 0.3^2 + 3 * 0.1^2 = 0.12; second: 0.5^2 + 0.75^2 + 0.25^2 + 0 = 0.875; the refusal has no scores
    assert brier(rows).value == pytest.approx((0.12 + 0.875) / 2)
    assert log_loss(rows).value == pytest.approx(-(np.log(0.7) + np.log(0.25)) / 2)
    assert brier(rows).over.tolist() == [True, True, False]


def test_log_loss_and_brier_are_scikit_learns():
    rows, true, scores = random_rows(50, 1)
    assert log_loss(rows).value == pytest.approx(sk.log_loss(true, scores, labels=range(4)))
    assert brier(rows).value == pytest.approx(sk.brier_score_loss(true, scores, labels=range(4), scale_by_half=False))


def test_a_true_class_of_probability_0_has_no_log_loss():
    rows = rows_of([(1, "a", "b", [0.0, 1.0, 0.0, 0.0]), (1, "a", "a", [1.0, 0.0, 0.0, 0.0])])
    assert (log_loss(rows).value, log_loss(rows).reason) == (None, "infinite: 1 true classes were given probability 0")
    assert brier(rows).value == 1.0  # (1 + 1) / 2


@pytest.mark.parametrize("scores", [[0.5, 0.5, 0.5, 0.5], [-0.5, 1.5, 0.0, 0.0]])
def test_scores_that_are_no_probabilities(scores):
    rows = rows_of([(1, "a", "a", [0.25] * 4), (1, "a", "a", scores)])
    for metric in (log_loss, brier):
        assert (metric(rows).value, metric(rows).reason) == (None, "scores are not probabilities")


def test_calibration_error_by_hand():
    given = [
        (1, "a", "a", None),
        (1, "a", "b", None),
        (1, "a", "a", None),
        (1, "a", "a", None),
        (1, "a", "unparseable", None),
    ]
    rows = rows_of(given, [0.95, 0.91, 0.55, 0.3, None])
    # bin 10: 2 predictions, half of them right, mean confidence 0.93: |1 - 1.86| / 4; bin 6: |1 - 0.55| / 4; bin 3
    # (0.3 is its upper edge): |1 - 0.3| / 4; what was not answered has no confidence
    assert ece(rows).value == pytest.approx((0.86 + 0.45 + 0.7) / 4)
    assert ece(rows).over.tolist() == [True, True, True, True, False]


def test_edges_belong_to_the_bin_below():
    bins = {0.0: 0, 0.1: 0, 0.10000000016: 0, 0.1000001: 1, 0.3: 2, 0.6: 5, 0.7: 6, 0.9: 8, 0.95: 9, 1.0: 9}
    assert bin_of(np.array(list(bins))).tolist() == list(bins.values())


def test_confidences_beyond_1_are_none():
    assert ece(rows_of([(1, "a", "a", None)], [1.5])).reason == "confidence is not from 0 to 1"


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_comes_out(power):
    _, temperatures = tempered(random_rows(6000, 2, power, folds=2)[0])
    assert list(temperatures.values()) == pytest.approx([power] * 2, rel=0.08)


def test_the_temperature_is_where_the_likelihood_is_flat():
    """There the mean log score expected under the scaled probabilities equals that of the true classes."""
    rows, *_ = random_rows(600, 3, 2.0, folds=2)
    others = rows.fold == 2
    logs = np.log(rows.scores[others])
    scaled = np.exp(logs / tempered(rows)[1][1])
    scaled /= scaled.sum(axis=1, keepdims=True)
    own = logs[np.arange(len(logs)), rows.label_index[others]]
    assert (scaled * logs).sum(axis=1).mean() == pytest.approx(own.mean(), abs=1e-4)


def test_each_fold_is_scaled_by_the_others():
    rows, *_ = random_rows(90, 4, 3.0, folds=3)
    scores = rows.scores
    scaled, temperatures = tempered(rows)
    assert sorted(temperatures) == [1, 2, 3]
    here = rows.fold == 2
    expected = scores[here] ** (1 / temperatures[2])
    expected /= expected.sum(axis=1, keepdims=True)
    assert scaled.scores[here] == pytest.approx(expected)
    assert scaled.confidence[here] == pytest.approx(expected.max(axis=1))
    assert (scaled.scores.argmax(axis=1) == scores.argmax(axis=1)).all(), "no prediction changes"
    assert log_loss(scaled).value < log_loss(rows).value and ece(scaled).value < ece(rows).value


def test_where_no_temperature_can_be_fitted():
    alone, _, _ = random_rows(20, 5)
    assert np.isnan(tempered(alone)[0].scores).all() and tempered(alone)[1] == {}
    zeros = rows_of([(1, "a", "b", [0.0, 1.0, 0.0, 0.0]), (2, "a", "a", [0.7, 0.3, 0.0, 0.0])])
    # fold 2 would be scaled by fold 1, which gave a true class probability 0; fold 1 by fold 2, which did not
    assert list(tempered(zeros)[1]) == [1]


def test_tiny_probabilities_survive_scaling():
    given = [(f, "a", "a", [1 - 3e-300, 1e-300, 1e-300, 1e-300]) for f in (1, 2)]
    scaled, temperatures = tempered(rows_of(given))
    assert np.isfinite(scaled.scores).all() and set(temperatures) == {1, 2}
