import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.evaluation.contrasts import Contrast, Operand


@pytest.mark.parametrize(
    ("text", "operand"),
    [
        ("janus", ("janus", None, "none")),
        ("janus_7b@blank", ("janus_7b", None, "blank")),
        ("janus:generation", ("janus", "generation", "none")),
        ("janus:examples_knn@time_shuffled", ("janus", "examples_knn", "time_shuffled")),
        ("chance", ("chance", None, "none")),
    ],
)
def test_a_side_is_parsed_into_classifier_scoring_and_control(text, operand):
    assert Operand.parse(text) == operand


def test_a_contrast_of_a_study_file():
    contrast = Contrast.model_validate({"classifier": "janus", "against": ["chance", "janus@blank", "clap"]})
    assert (contrast.scoring, contrast.folds) == (None, "all")
    assert contrast.classifier_names() == ("janus", "clap")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classifier": "janus", "against": []}, "at least 1 item"),
        ({"classifier": "janus", "against": ["clap"], "fold": 1}, "Extra inputs"),
        ({"classifier": "chance", "against": ["clap"]}, "must name a classifier, got 'chance'"),
        ({"classifier": "janus", "against": ["chance@blank"]}, "got 'chance@blank'"),
        ({"classifier": "janus", "against": ["Clap"]}, "got 'Clap'"),
        ({"classifier": "janus:best", "against": ["clap"]}, "got 'janus:best'"),
        ({"classifier": "janus", "against": ["clap", "clap"]}, "each side must be named once, got janus, clap, clap"),
        ({"classifier": "janus", "against": ["janus"]}, "each side must be named once"),
        ({"classifier": "janus", "against": ["clap"], "scoring": "best"}, "'likelihood', 'score'"),
        ({"classifier": "janus", "against": ["clap"], "folds": "1"}, "'all' or 'without_tuning'"),
    ],
)
def test_a_wrong_contrast_is_refused(values, message):
    with pytest.raises(ValidationError) as caught:
        Contrast.model_validate(values)
    assert message in str(caught.value)
