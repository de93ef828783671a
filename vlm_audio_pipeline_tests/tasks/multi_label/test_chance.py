"""The chance level: all drawings by hand, and agreement of every measure with its own formula."""

from itertools import permutations

import numpy as np
import pytest

from vlm_audio_pipeline.tasks.multi_label.chance import chance_level, measure_of_truths
from vlm_audio_pipeline.tasks.multi_label.measures.declarations import TITLES, estimate
from vlm_audio_pipeline_tests.tasks.multi_label.measures.label_arrays import label_arrays


@pytest.mark.parametrize("measure", TITLES)
def test_measures_of_drawn_labels_are_those_of_the_estimates(measure):
    random = np.random.default_rng(0)
    score, predicted = random.integers(0, 5, (14, 3)) / 4, random.random((14, 3)) < 0.5
    truths = np.array([random.permutation(random.random((14, 3)) < 0.4) for _ in range(4)])
    truths[:, 0], truths[:, 1] = True, False  # every class has positives and negatives
    expected = [estimate(label_arrays(truth, score, predicted), measure).value for truth in truths]
    assert measure_of_truths(label_arrays(truths[0], score, predicted), measure, truths) == pytest.approx(expected)


def test_the_level_is_the_mean_over_all_orders_of_recordings():
    # Four recordings of one clip; one of them has the class. Its score can be at rank 1, 2, 3 or 4: AP 1, 1/2, 1/3 or 1/4.
    arrays = label_arrays([[1], [0], [0], [0]], [[0.9], [0.5], [0.3], [0.1]])
    found = chance_level(arrays, "cmap", 1.0)
    mean = (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4
    assert found.value == pytest.approx(mean, abs=0.02)
    assert found.p == pytest.approx(1 / 4, abs=0.03)  # only rank 1 is as far from the mean
    assert found.method == "2000 drawings of the labels of source recordings"
    assert chance_level(arrays, "cmap", 1.0) == found  # the same drawings in every run


def test_clips_of_a_recording_stay_together():
    # Recordings x, y, z of two clips. The class is in both clips of x, which have the two highest scores.
    arrays = label_arrays([[1], [1], [0], [0], [0], [0]], [[9], [8], [7], [6], [5], [4]], source=list("xxyyzz"))
    by_hand = {
        tuple(order): np.mean([(i + 1) / (order.index("x") * 2 + i + 1) for i in range(2)])
        for order in permutations("xyz")
    }  # at ranks 1 and 2: 1; at 3 and 4: (1/3 + 2/4) / 2; at 5 and 6: (1/5 + 2/6) / 2
    found = chance_level(arrays, "cmap", 1.0)
    assert found.value == pytest.approx(np.mean(list(by_hand.values())), abs=0.02)
    assert found.p == pytest.approx(1 / 3, abs=0.03)
