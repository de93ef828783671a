from dataclasses import replace

import numpy as np
import pytest

from vlm_audio_pipeline.evaluation.answer_notes import answer_notes
from vlm_audio_pipeline_tests.measures.prediction_tables import prediction_arrays, predictions_table


def arrays(labels, predicted, folds=None, **columns):
    rows = [(f, true, p, None) for f, true, p in zip(folds or [1] * len(labels), labels, predicted, strict=True)]
    added = {name: np.array(values) for name, values in columns.items()}
    return replace(prediction_arrays(predictions_table(rows)), **added)


@pytest.mark.parametrize(
    ("labels", "count", "reported"),
    [
        ("abcd" * 10, 40, True),
        ("abcd" * 10, 26, True),  # (26/40 - 1/4) / (3/4) = 0.53
        ("abcd" * 10, 24, False),  # 0.47
        ("ab" * 20, 31, True),  # (31/40 - 1/2) / (1/2) = 0.55
        ("ab" * 20, 29, False),  # 0.45
        ("aaab" * 10, 30, False),  # as frequent as its class
        ("a" * 40, 40, False),  # there is one class
    ],
)
def test_a_label_beyond_what_its_class_explains_is_reported(labels, count, reported):
    predicted = "a" * count + "bcd" * 20
    notes = list(answer_notes(arrays(labels, predicted[: len(labels)]), "none"))
    assert notes == ([f"{count} of 40 predictions are 'a'"] if reported else [])


def test_constant_answers_to_blank_images_are_expected():
    constant = arrays("abcd" * 5, "aaaa" * 5)
    assert list(answer_notes(constant, "blank")) == [] == list(answer_notes(constant, "no_image"))
    assert list(answer_notes(constant, "time_shuffled")) == ["20 of 20 predictions are 'a'"]
    assert list(answer_notes(arrays("abcd" * 4, "aaaa" * 4), "none")) == [], "too few predictions"


def test_predictions_that_follow_another_clip_are_counted():
    predictions = arrays("aabb", ["b", "b", "a", "refused"], shown_label=list("bcaa"))
    assert list(answer_notes(predictions, "other_clip")) == ["2 of 4 follow the class of the other clip"]
    assert list(answer_notes(predictions, "none")) == ["2 of 4 follow the permuted label of the examples"]


def test_a_calibration_that_lowers_the_accuracy_of_a_fold_is_reported():
    # fold 1: 2 of 2 become 1 of 2; fold 2: 1 of 2 become 2 of 2; fold 3: 2 of 2 become 0 of 2
    predictions = arrays("abababab"[:6], "aaabba", [1, 1, 2, 2, 3, 3], label_before_calibration=list("abaaab"))
    assert list(answer_notes(predictions, "none")) == [
        "contextual calibration lowers the accuracy of 2 of 3 folds, most in fold 3: 1.000 to 0.000"
    ]
    helpful = arrays("abab", "abab", [1, 1, 2, 2], label_before_calibration=list("aaab"))
    assert list(answer_notes(helpful, "none")) == []
