import numpy as np
import pytest

from vlm_audio_pipeline.evaluation.temperature_scaling import apply_temperature
from vlm_audio_pipeline.measures.probabilities import ece, log_loss
from vlm_audio_pipeline_tests.measures.test_probabilities import random_arrays, score_arrays


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_the_temperature_of_simulated_scores_is_recovered(power):
    scaled = apply_temperature(random_arrays(6000, 2, power, folds=2)[0])
    assert list(scaled.temperatures.values()) == pytest.approx([power] * 2, rel=0.08)


def test_the_fitted_temperature_maximises_the_likelihood():
    """At the optimum, the mean log score expected under the scaled probabilities equals that of the true classes."""
    arrays, *_ = random_arrays(600, 3, 2.0, folds=2)
    others = arrays.fold == 2
    logs = np.log(arrays.scores[others])
    scaled = np.exp(logs / apply_temperature(arrays).temperatures[1])
    scaled /= scaled.sum(axis=1, keepdims=True)
    own = logs[np.arange(len(logs)), arrays.label_index[others]]
    assert (scaled * logs).sum(axis=1).mean() == pytest.approx(own.mean(), abs=1e-4)


def test_each_fold_uses_the_temperature_of_the_other_folds():
    arrays, *_ = random_arrays(90, 4, 3.0, folds=3)
    scores = arrays.scores
    result = apply_temperature(arrays)
    scaled, temperatures = result.scaled, result.temperatures
    assert sorted(temperatures) == [1, 2, 3]
    in_fold = arrays.fold == 2
    expected = scores[in_fold] ** (1 / temperatures[2])
    expected /= expected.sum(axis=1, keepdims=True)
    assert scaled.scores[in_fold] == pytest.approx(expected)
    assert scaled.confidence[in_fold] == pytest.approx(expected.max(axis=1))
    assert (scaled.scores.argmax(axis=1) == scores.argmax(axis=1)).all(), "no predicted class changes"
    assert log_loss(scaled).value < log_loss(arrays).value and ece(scaled).value < ece(arrays).value


def test_folds_without_a_fitted_temperature_are_not_scaled():
    alone, _, _ = random_arrays(20, 5)
    result = apply_temperature(alone)
    assert np.isnan(result.scaled.scores).all() and result.temperatures == {}
    zeros = score_arrays([(1, "a", "b", [0.0, 1.0, 0.0, 0.0]), (2, "a", "a", [0.7, 0.3, 0.0, 0.0])])
    # fold 2 cannot be scaled by fold 1, which has a true class with probability 0; fold 1 is scaled by fold 2
    assert list(apply_temperature(zeros).temperatures) == [1]


def test_very_small_probabilities_are_scaled_without_overflow():
    rows = [(f, "a", "a", [1 - 3e-300, 1e-300, 1e-300, 1e-300]) for f in (1, 2)]
    result = apply_temperature(score_arrays(rows))
    assert np.isfinite(result.scaled.scores).all() and set(result.temperatures) == {1, 2}
