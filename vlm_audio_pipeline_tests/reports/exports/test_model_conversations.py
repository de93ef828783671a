import shutil

from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart
from vlm_audio_pipeline.reports.exports.model_conversations import messages_json, prompt_text, read_model_runs
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline_tests.reports.exports.answers import PREDICTIONS, png


def test_runs_are_classifiers_scorings_and_controls(answers):
    assert [(run.name, run.spec.model) for run in read_model_runs(answers)] == [
        ("vlm_generation", "org/vlm-1"),
        ("vlm_likelihood", "org/vlm-1"),
    ]


def test_messages_are_built_as_they_were_sent(answers):
    conversations = {c.prediction["clip"]: c for c in read_model_runs(answers)[0].conversations()}
    assert list(conversations) == list(PREDICTIONS)
    dog = conversations["1-dog"]
    assert dog.note is None, "the key of the stored response is the hash of these messages"
    assert dog.response["reasoning"] == "Short bursts <think>, so a dog."
    images = [part for message in dog.messages for part in message.parts if isinstance(part, ImagePart)]
    # the examples come from the other fold, the query is the last image
    assert [image.data for image in images] == [png(6), png(7), png(8), png(3)]
    assert prompt_text(dog.messages) == (
        "user: Which sound? dog, rain, sea<image>\n\nassistant: dog\n\nuser: <image>\n\nassistant: rain\n\n"
        "user: <image>\n\nassistant: sea\n\nuser: <image>"
    )
    assert messages_json(dog.messages)[1] == {"role": "assistant", "content": [{"type": "text", "text": "dog"}]}


def test_messages_that_differ_from_those_that_were_sent_are_marked(answers):
    conversations = {c.prediction["clip"]: c for c in read_model_runs(answers)[0].conversations(2)}
    assert conversations["2-dog"].note.startswith("the messages were built again and differ from those that were sent")
    assert conversations["2-rain"].note is None


def test_without_images_the_responses_remain(answers, tmp_path):
    shutil.copytree(answers.data_folder.root, tmp_path / "data")
    copied = DataFolder(tmp_path / "data")
    copied.partition_file("spectrograms", "s", "small", 2).unlink()
    conversation = next(read_model_runs(StudyResults.load(copied, "s"))[0].conversations())
    assert (conversation.prediction["clip"], conversation.messages) == ("1-dog", ())
    assert (
        conversation.note == "the messages cannot be built again: clip 2-dog has no image of small; run the study again"
    )
