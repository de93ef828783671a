"""Expected values follow https://huggingface.co/docs/datasets/about_dataset_features and .../repository_structure."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml

from vlm_audio_pipeline.datasets.huggingface_folder import HuggingFaceFolder
from vlm_audio_pipeline.reports.exports.huggingface import export_huggingface
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline_tests.reports.exports.answers import RAW_TEXT, png, tone


@pytest.fixture(scope="module")
def folder(answers, tmp_path_factory):
    out = tmp_path_factory.mktemp("huggingface") / "out"
    paths = export_huggingface(answers, out)
    names = [f"{config}/fold_{fold}.parquet" for fold in (1, 2) for config in ("clips", "predictions")]
    assert [path.relative_to(out).as_posix() for path in paths] == names
    return out


def features(path):
    return json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]


def test_the_card_names_the_files_of_each_split(folder):
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    clips, predictions = yaml.safe_load(front)["configs"]
    assert clips == {
        "config_name": "clips",
        "default": True,
        "data_files": [
            {"split": "fold_1", "path": "clips/fold_1.parquet"},
            {"split": "fold_2", "path": "clips/fold_2.parquet"},
        ],
    }
    assert predictions == {
        "config_name": "predictions",
        "data_files": [
            {"split": "fold_1", "path": "predictions/fold_1.parquet"},
            {"split": "fold_2", "path": "predictions/fold_2.parquet"},
        ],
    }
    assert "Licence of the recordings" in body


def test_features_of_clips(folder):
    columns = features(folder / "clips" / "fold_1.parquet")
    assert columns["audio"] == {"_type": "Audio"} and columns["image_small"] == {"_type": "Image"}
    assert columns["label"] == {"names": ["dog", "rain", "sea"], "_type": "ClassLabel"}
    assert columns["fold"] == {"dtype": "int64", "_type": "Value"}


def test_a_clip_has_the_recording_and_the_image_unchanged(folder):
    rows = pq.read_table(folder / "clips" / "fold_2.parquet").to_pylist()
    assert [(row["clip"], row["label"]) for row in rows] == [("2-dog", 0), ("2-rain", 1), ("2-sea", 2)]
    assert rows[0]["image_small"] == {"bytes": png(6), "path": "2-dog.png"}
    assert rows[0]["audio"]["path"] == "2-dog.wav" and rows[0]["audio_note"] is None
    samples, rate = soundfile.read(io.BytesIO(rows[0]["audio"]["bytes"]), dtype="float32")
    assert rate == 8000 and np.array_equal(samples, tone(3))


def test_a_prediction_without_a_class_has_neither_a_label_nor_a_score(folder):
    rows = [
        row
        for fold in (1, 2)
        for row in pq.read_table(folder / "predictions" / f"fold_{fold}.parquet").to_pylist()
        if row["scoring"] == "generation"
    ]
    assert {row["clip"]: (row["outcome"], row["predicted"], row["correct"]) for row in rows} == {
        "1-dog": ("answered", 0, True),
        "1-rain": ("truncated", None, None),
        "1-sea": ("error", None, None),
        "2-dog": ("refused", None, None),
        "2-rain": ("unparseable", None, None),
        "2-sea": ("answered", 1, False),
    }
    dog = rows[0]
    assert (dog["text"], dog["reasoning"]) == (RAW_TEXT, "Short bursts <think>, so a dog.")
    assert (dog["model"], dog["revision"], dog["usd"]) == ("org/vlm-1", "vlm-1-0501", 0.002)
    assert json.loads(dog["messages"])[0]["content"][0]["text"] == "Which sound? dog, rain, sea"
    assert rows[2]["error"] == "HTTP 500 after 5 attempts"


def test_scores_are_a_column_for_each_class(folder):
    [row] = [
        row
        for row in pq.read_table(folder / "predictions" / "fold_1.parquet").to_pylist()
        if (row["clip"], row["scoring"]) == ("1-sea", "likelihood")
    ]
    assert row["scores"] == {"dog": 0.7, "rain": 0.2, "sea": 0.1} and row["correct"] is False


def test_a_recording_that_changed_is_left_out_with_a_reason(answers, tmp_path):
    shutil.copytree(answers.dataset.root, tmp_path / "recordings")
    soundfile.write(tmp_path / "recordings" / "1-dog.wav", tone(9), 8000, subtype="PCM_16")
    changed = replace(answers, dataset=replace(answers.dataset, root=tmp_path / "recordings"))
    export_huggingface(changed, tmp_path / "out")
    first, second, _ = pq.read_table(tmp_path / "out" / "clips" / "fold_1.parquet").to_pylist()
    assert first["audio"] is None and "changed while the study was running" in first["audio_note"]
    assert second["audio"] is not None


def test_the_export_is_a_dataset_that_can_be_read_back(folder, answers, tmp_path):
    spec = HuggingFaceFolder(path=folder)
    dataset = spec.open(DataFolder(tmp_path))
    original = answers.dataset
    expected = [(c.id, c.label, c.fold, c.source) for c in original.clips]
    assert [(c.id, c.label, c.fold, c.source) for c in dataset.clips] == expected
    assert dataset.classes == original.classes
    for clip, other in zip(dataset.clips, original.clips, strict=True):
        assert (dataset.root / clip.file).read_bytes() == (original.root / other.file).read_bytes()
