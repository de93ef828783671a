"""Estimates: what each measure covers, and the reason where it is undefined."""

import numpy as np
import pytest

from vlm_audio_pipeline.tasks.multi_label.measures.declarations import RANKING_MEASURE, estimates
from vlm_audio_pipeline_tests.tasks.multi_label.measures.label_arrays import label_arrays


def all_estimates(arrays):
    return {(name, label): estimate for name, label, estimate in estimates(arrays)}


def test_a_class_without_positives_is_undefined_and_not_part_of_the_mean():
    # a: + - at ranks 1, 2: AP 1. b: no positive. c: + at ranks 1 and 2: AP 1, no negative.
    found = all_estimates(label_arrays([[1, 0, 1], [0, 0, 1]], [[0.9, 0.1, 0.8], [0.2, 0.3, 0.7]]))
    assert found["ap", "b"].value is None
    assert found["ap", "b"].reason == "no clip has this class"
    assert found["cmap", ""].value == 1
    assert (found["cmap", ""].classes, found["cmap", ""].positives, found["cmap", ""].negatives) == (2, 3, 1)
    assert found["auroc", "c"].reason == "every clip has this class"
    assert found["auroc", "c"].value is None
    assert found["auroc_macro", ""].value is None
    assert found["auroc_macro", ""].reason == "c: every clip has this class"


def test_the_mean_is_that_of_the_classes():
    # a: - + at ranks 1, 2: AP 1/2. b: + - at ranks 1, 2: AP 1.
    found = all_estimates(label_arrays([[1, 1], [0, 0]], [[0.1, 0.9], [0.2, 0.3]]))
    assert [found["ap", "a"].value, found["ap", "b"].value, found[RANKING_MEASURE, ""].value] == [0.5, 1, 0.75]


def test_a_failed_request_is_not_an_answer_and_an_unparseable_one_is_a_miss():
    outcome = [["answered", "answered"], ["answered", "error"], ["unparseable", "answered"]]
    found = all_estimates(label_arrays([[1, 1], [0, 1], [1, 0]], [[0.9, 0.8], [0.1, 0.9], [0.9, 0.1]], outcome=outcome))
    assert found["ap", "a"].reason == "1 of 3 predictions have no score (1 unparseable)"
    assert found["ap", "a"].value is None
    assert (found["ap", "b"].value, found["ap", "b"].positives, found["ap", "b"].clips) == (1, 1, 2)
    assert found["cmap", ""].reason == "a: 1 of 3 predictions have no score (1 unparseable)"
    assert found["f1", "a"].value == pytest.approx(2 / 3)  # hit, miss: 2 * 1 / (2 * 1 + 0 + 1)
    assert (found["exact_match", ""].value, found["exact_match", ""].clips) == (
        0.5,
        2,
    )  # the clip with the failure is left out


def test_decisions_without_scores_have_no_order():
    found = all_estimates(label_arrays([[1, 0], [0, 1]], predicted=[[1, 0], [0, 0]]))
    assert found["cmap", ""].value is None
    assert "no scores: the classifier decides without a score" in found["cmap", ""].reason
    assert found["lwlrap", ""].value is None
    assert (found["f1", "a"].value, found["f1", "b"].value, found["f1_macro", ""].value) == (1, 0, 0.5)
    assert found["exact_match", ""].value == 0.5


def test_without_predictions_every_measure_has_the_reason():
    found = all_estimates(label_arrays(np.zeros((0, 2)), np.zeros((0, 2))))
    assert {e.value for e in found.values()} == {None}
    assert all(e.reason for e in found.values())


def test_every_value_from_many_recordings_has_an_interval_around_it():
    random = np.random.default_rng(0)
    truth = random.random((120, 3)) < [0.5, 0.3, 0.2]
    score = truth + random.normal(0, 1, truth.shape)
    source = [f"r{i // 4}" for i in range(120)]
    for key, estimate in all_estimates(label_arrays(truth, score, source=source)).items():
        assert estimate.low < estimate.value < estimate.high, key
        assert estimate.clips == 120


def test_f1_is_undefined_without_the_only_recording_that_has_the_class():
    # a: in recording 0 alone, predicted there and in recording 1. b: in recordings 0 to 5, predicted there.
    truth = np.array([[i == 0, i < 6] for i in range(12)])
    predicted = np.array([[i <= 1, i < 6] for i in range(12)])
    found = all_estimates(label_arrays(truth, predicted=predicted))
    a, mean = found["f1", "a"], found["f1_macro", ""]
    assert a.value == pytest.approx(2 / 3)  # 2 * 1 / (2 * 1 + 1)
    assert (a.low, a.high) == (None, None)
    assert a.interval == "none: without one of the source recordings the measure is undefined"
    # The mean is (2/3 + 1) / 2 = 5/6. It is 1 without recording 0 (b alone has positives) and without recording 1, else 5/6.
    # Squared error of the jackknife: 11/12 * (10 (1/36)^2 + 2 (5/36)^2) = 55/1296, so n = 5/36 / (55/1296) = 36/11. With
    # Student's 2.200985 (11 degrees of freedom) Wilson's interval is 0.634397 - 0.349951 to 0.634397 + 0.349951.
    assert mean.value == pytest.approx(5 / 6)
    assert (mean.low, mean.high) == pytest.approx((0.284446, 0.984348), abs=1e-5)


def test_perfect_scores_are_one_in_every_measure():
    truth = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 0]], bool)
    assert {e.value for e in all_estimates(label_arrays(truth, truth.astype(float))).values()} == {1}


def test_a_constant_scorer_has_the_share_of_positives():
    truth = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [0, 0]], bool)  # 3/5 and 2/5
    found = all_estimates(label_arrays(truth, np.full(truth.shape, 0.3)))
    assert [found["ap", c].value for c in "ab"] == pytest.approx([3 / 5, 2 / 5])
    assert found["cmap", ""].value == pytest.approx(1 / 2)
    assert found["auroc_macro", ""].value == pytest.approx(1 / 2)
