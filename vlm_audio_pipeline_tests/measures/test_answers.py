from dataclasses import replace
from math import log

import numpy as np
import pytest

from vlm_audio_pipeline.measures.answers import (
    accuracy_before_calibration,
    follow_rate,
    label_entropy,
    top_label_share,
)
from vlm_audio_pipeline_tests.measures.prediction_tables import prediction_arrays, predictions_table


def answers(*predicted, labels=None):
    rows = [(1, label, p, None) for label, p in zip(labels or "a" * len(predicted), predicted, strict=True)]
    return prediction_arrays(predictions_table(rows))


def test_the_entropy_of_the_predicted_labels():
    assert label_entropy(answers("a", "a", "a")).value == 0
    assert label_entropy(answers("a", "b", "c", "d")).value == pytest.approx(1)
    # shares 1/2, 1/4, 1/4: 1.5 bits of 2 bits; the response that cannot be parsed has no label
    assert label_entropy(answers("a", "a", "b", "c", "unparseable")).value == pytest.approx(1.5 / 2)
    assert label_entropy(answers("unparseable")).reason == "no prediction was answered"


def test_the_entropy_equals_scipy():
    from scipy.stats import entropy

    assert label_entropy(answers(*"aaaaabbcd")).value == pytest.approx(entropy([5, 2, 1, 1]) / log(4))


def test_the_share_of_the_most_frequent_label():
    assert top_label_share(answers("a", "b", "b", "refused")).value == pytest.approx(2 / 3)
    undefined = top_label_share(answers("refused"))
    assert (undefined.value, undefined.reason) == (None, "no prediction was answered")


def test_the_follow_rate_counts_predictions_of_the_shown_class():
    predictions = replace(answers("a", "b", "c", "refused"), shown_label=np.array(["b", "b", "c", "d"]))
    assert follow_rate(predictions).value == 2 / 4
    assert follow_rate(answers("a", "b")).reason == "the input shows the clip's own class, or no class"


def test_the_accuracy_before_calibration():
    predictions = replace(answers("a", "b", "b", labels="aab"), label_before_calibration=np.array(["a", "a", "a"]))
    assert accuracy_before_calibration(predictions).value == pytest.approx(2 / 3)
    assert accuracy_before_calibration(answers("a")).reason == "no contextual calibration"
