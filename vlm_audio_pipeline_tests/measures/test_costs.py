import numpy as np
import pytest

from vlm_audio_pipeline.measures.costs import COST_MEASURES, usd_per_correct
from vlm_audio_pipeline_tests.measures.prediction_tables import prediction_arrays, predictions_table

CORRECT, WRONG = (1, "a", "a", None), (1, "a", "b", None)


def test_costs_count_only_predictions_with_a_recorded_cost():
    arrays = prediction_arrays(
        predictions_table([CORRECT, WRONG], tokens=100, seconds=1.0, usd=0.02),
        predictions_table([CORRECT], tokens=50, seconds=4.0, usd=0.05, trial=1),
        predictions_table([CORRECT, CORRECT], trial=2),  # no cost recorded
    )
    numbers = {measure.name: measure.formula(arrays) for measure in COST_MEASURES}
    assert {name: (number.value, int(number.included.sum())) for name, number in numbers.items()} == {
        "median_seconds": (1.0, 3),
        "tokens": (250.0, 3),
        "usd": (pytest.approx(0.09), 3),
        "usd_per_correct": (pytest.approx(0.045), 3),  # two of the three are correct
    }


def test_usd_per_correct_is_undefined_without_a_correct_prediction():
    number = usd_per_correct(prediction_arrays(predictions_table([WRONG], usd=0.1)))
    assert (number.value, number.reason) == (None, "no prediction is correct")


def test_a_cost_of_zero_is_zero_and_not_undefined():
    arrays = prediction_arrays(predictions_table([CORRECT], usd=0.0))
    assert usd_per_correct(arrays).value == 0.0
    assert np.isnan(arrays.seconds).all()
