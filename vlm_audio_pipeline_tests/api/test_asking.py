"""`ask`: the responses of a study."""

import pytest
import soundfile

import vlm_audio_pipeline as vap
from vlm_audio_pipeline.contracts.errors import BadClips, BadStudy
from vlm_audio_pipeline_tests.api.conftest import CLASSES
from vlm_audio_pipeline_tests.api.test_embedding import DEMO
from vlm_audio_pipeline_tests.cli.program import vlm_audio

pytestmark = pytest.mark.slow


def stored_responses(sounds, classifier):
    rows = sounds.rows(
        f"SELECT * FROM responses WHERE classifier = '{classifier}' AND control = 'none' AND trial = 0 ORDER BY clip"
    )
    texts = [row["text"] for row in rows if row["scoring"] == "generation"]
    return texts, [dict(row["log_probabilities"]) for row in rows if row["scoring"] == "likelihood"]


@pytest.mark.parametrize("classifier", ["janus", "janus_one_shot"])
def test_the_response_is_the_stored_one(sounds, classifier):
    texts, scores = stored_responses(sounds, classifier)
    assert len(texts) == len(sounds.files)
    for file, text, log_probabilities in list(zip(sounds.files, texts, scores, strict=True))[:3]:
        response = vap.ask(file, classifier, study=sounds.study, data=sounds.data)
        assert response.text == text and response.error is None
        assert response.log_probabilities == pytest.approx(log_probabilities)
        assert response.likeliest == max(log_probabilities, key=log_probabilities.get)


def test_a_model_without_a_study_gives_the_same_response(sounds, tmp_path):
    texts, scores = stored_responses(sounds, "janus")
    recording = soundfile.read(sounds.files[0], dtype="float32")
    response = vap.ask(recording, "demo-janus", classes=CLASSES, rendering=DEMO, data=tmp_path)
    assert response.text == texts[0] and response.label == texts[0].strip()
    assert response.log_probabilities == pytest.approx(scores[0], abs=1e-4)
    assert response.image.bytes == vap.render(recording, DEMO).bytes


def without_trailing_spaces(text):
    return "\n".join(line.rstrip() for line in text.rstrip("\n").split("\n"))


def test_it_is_printed_as_by_the_command(sounds):
    command = ("try", sounds.files[0], "--study", sounds.study, "--classifier", "janus")
    response = vap.ask(sounds.files[0], "janus", study=sounds.study, data=sounds.data)
    assert repr(response) == without_trailing_spaces(vlm_audio(*command, data=sounds.data).out)
    shown = vap.ask(sounds.files[0], "janus", study=sounds.study, data=sounds.data, messages=True)
    assert repr(shown) == without_trailing_spaces(vlm_audio(*command, "--messages", data=sounds.data).out)
    assert "Which sound does this spectrogram show?" in shown.rendered_messages
    request = without_trailing_spaces(shown.rendered_messages)
    assert request in repr(shown) and request not in repr(response)


def test_errors_are_those_of_the_command(sounds):
    command = ("try", sounds.files[0], "--study", sounds.study, "--classifier", "knn")
    with pytest.raises(vap.VlmAudioError) as error:
        vap.ask(sounds.files[0], "knn", study=sounds.study, data=sounds.data)
    assert vlm_audio(*command, data=sounds.data).err == f"error: {error.value}\n"


def test_mistakes(sounds, tmp_path):
    sound = vap.example_sound()
    with pytest.raises(BadStudy, match="`classes` is required without `study`"):
        vap.ask(sound, "demo-janus", data=tmp_path)
    with pytest.raises(BadStudy, match="classes must be set in the study"):
        vap.ask(sound, "janus", study=sounds.study, classes=CLASSES, data=tmp_path)
    with pytest.raises(BadStudy, match="promt: unknown key"):
        vap.ask(sound, "demo-janus", classes=CLASSES, promt="paper", data=tmp_path)
    with pytest.raises(BadClips, match=r"^array 0 cannot be used: not finite"):
        vap.ask(([float("nan")], 8000), "demo-janus", classes=CLASSES, rendering=DEMO, data=tmp_path)
