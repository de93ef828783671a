"""Every kind recognises its own layout, and folders of annotated recordings are recognised by their annotation files."""

import pytest

from vlm_audio_pipeline.datasets.recognition import recognise_dataset
from vlm_audio_pipeline_tests.datasets.annotations.instances import AUDACITY, INSTANCES
from vlm_audio_pipeline_tests.datasets.test_conformance import SPECS


@pytest.mark.parametrize(
    "kind", ["esc50", "fsd50k", "icbhi", "urbansound8k", "annotated_recordings", "huggingface_folder"]
)
def test_the_folder_of_a_dataset_is_recognised(kind, tmp_path, tone):
    root = SPECS[kind](tmp_path / "files", tone)["path"]
    recognised, guess = recognise_dataset(root)
    assert recognised == kind and guess.fields["path"] == root


@pytest.mark.parametrize("kind", ["csv", "folder", "esc10"])
def test_other_layouts_are_left_to_their_kinds(kind, tmp_path, tone):
    assert recognise_dataset(SPECS[kind](tmp_path / "files", tone)["path"]) is None


def test_files_of_a_known_dataset_are_recognised(tmp_path, tone):
    for kind, file in {
        "urbansound8k": "metadata/UrbanSound8K.csv",
        "fsd50k": "FSD50K.ground_truth/dev.csv",
        "icbhi": "ICBHI_final_database/101_1b1_Al_sc_Meditron.txt",
    }.items():
        root = SPECS[kind](tmp_path / kind, tone)["path"]
        recognised, guess = recognise_dataset(root / file)
        assert recognised == kind and guess.fields["path"] == root


@pytest.mark.parametrize("name", ["raven", "audacity", "label_studio", "birdnet", "bacpipe", "dcase", "audioset"])
def test_an_annotation_file_beside_recordings_is_recognised(name, tmp_path, tone):
    file, text, _ = INSTANCES[name]
    tone(tmp_path / "rec_7.wav", 5)
    (tmp_path / file).write_text(text)
    kind, guess = recognise_dataset(tmp_path / file)
    assert kind == "annotated_recordings"
    assert (guess.fields["path"], guess.fields["annotations"], guess.fields["format"]) == (
        tmp_path,
        tmp_path / file,
        name,
    )


def test_classes_of_one_recording_are_left_out_and_named(tmp_path, tone):
    for name in ("x", "y"):
        tone(tmp_path / f"{name}.wav", 4)
        (tmp_path / f"{name}.txt").write_text(AUDACITY)
    (tmp_path / "y.txt").write_text(AUDACITY + "3.2\t3.9\tfox\n")
    _, guess = recognise_dataset(tmp_path)
    # In segments of 1 s: wren in 1-2, robin song in 2-3; in 3-4 of y, the click is beside the fox.
    assert guess.fields["segment"]["seconds"] == 1
    assert guess.fields["classes"] == ["robin song", "wren"] and guess.fields["n_folds"] == 2
    assert guess.notes["classes"].endswith("with this label alone: click, fox")
    # The click is not in `classes`, but a segment of a fox and a click has two labels.
    assert guess.notes["segment"].endswith("; a label that is not in `classes` counts, unless `rename` makes it null")
