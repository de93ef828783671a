import pytest

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.reports.exports.tracking import tracked_results
from vlm_audio_pipeline.storage.data_folder import DataFolder


@pytest.fixture(scope="module")
def results(answers):
    return {result.name: result for result in tracked_results(answers.data_folder, "s")}


def test_results_are_in_the_order_of_the_leaderboard(results):
    assert list(results) == ["vlm_likelihood", "vlm_generation", "chance"]


def test_an_undefined_measure_is_a_reason_and_no_number(results):
    result = results["vlm_generation"]
    assert result.metrics == {"accuracy": 0.2, "accuracy_answered": 0.5}
    assert result.tags == {
        "study": "s",
        "classifier": "vlm",
        "scoring": "generation",
        "control": "none",
        "models": "org/vlm-1@vlm-1-0501",
        "is_partial": "false",
        "note": "a note",
        "undefined": "ece: no confidence",
        "vlm_audio_pipeline": __version__,
    }


def test_parameters_are_texts(results):
    parameters = results["vlm_generation"].parameters
    assert (parameters["model"], parameters["shots"], parameters["max_tokens"]) == ("org/vlm-1", "1", "8")
    assert all(isinstance(value, str) for value in parameters.values())
    assert results["chance"].parameters == {} and results["chance"].metrics == {"accuracy": 1 / 3}


def test_an_unknown_study_is_refused(tmp_path):
    with pytest.raises(VlmAudioError, match="study 's' has no results in"):
        tracked_results(DataFolder(tmp_path), "s")
