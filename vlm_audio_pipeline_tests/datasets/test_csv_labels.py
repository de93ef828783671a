"""The csv kind with any number of classes per clip."""

import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.csv_file import CsvDataset
from vlm_audio_pipeline.storage.result_store import ResultStore

LABELS = {"r1": "dog;rain", "r2": "", "r3": "", "r4": " dog ; sea ", "r5": "sea", "r6": "rain"}
"""Odd recordings are in fold 1, even ones in fold 2."""


def listing(folder, labels=LABELS, **fields) -> CsvDataset:
    rows = "".join(f"{name}.wav,{text},{1 + i % 2}\n" for i, (name, text) in enumerate(labels.items()))
    (folder / "clips.csv").write_text(f"path,classes,fold\n{rows}")
    for name in labels:
        (folder / f"{name}.wav").write_bytes(name.encode())
    return CsvDataset(path=folder / "clips.csv", columns={"labels": "classes"}, **fields)


def test_a_clip_has_the_classes_of_its_cell(tmp_path, data_folder):
    dataset = listing(tmp_path).open(data_folder)
    assert dataset.classes == ("dog", "rain", "sea")
    assert {c.id: (c.label, c.labels) for c in dataset.clips} == {
        "r1": ("dog; rain", ("dog", "rain")),
        "r2": ("", ()),
        "r3": ("", ()),
        "r4": ("dog; sea", ("dog", "sea")),
        "r5": ("sea", ("sea",)),
        "r6": ("rain", ("rain",)),
    }


def test_a_class_in_one_fold_only_is_refused_and_clips_without_classes_are_not(tmp_path, data_folder):
    with pytest.raises(BadDataset, match="class 'rain' occurs only in fold 1"):
        listing(tmp_path, LABELS | {"r6": ""}).open(data_folder)


def test_a_study_can_use_some_classes_and_keeps_clips_without_them(tmp_path, data_folder):
    dataset = listing(tmp_path, classes=("sea", "dog")).open(data_folder)
    assert {c.id: c.labels for c in dataset.clips} == {
        "r1": ("dog",),
        "r2": (),
        "r3": (),
        "r4": ("dog", "sea"),
        "r5": ("sea",),
        "r6": (),
    }


@pytest.mark.parametrize("text", ["dog;dog", "dog;", ";rain"])
def test_empty_and_repeated_classes_are_refused_with_the_line(tmp_path, data_folder, text):
    with pytest.raises(BadDataset, match=r"line 2: labels must be different classes with ';' between them"):
        listing(tmp_path, LABELS | {"r1": text}).open(data_folder)


def test_the_separator_can_be_another_text(tmp_path, data_folder):
    labels = {name: text.replace(";", "|") for name, text in LABELS.items()}
    assert listing(tmp_path, labels, label_separator="|").open(data_folder).clips[0].labels == ("dog", "rain")


def test_another_class_of_a_clip_changes_the_version_of_its_fold_only(tmp_path, data_folder):
    store = ResultStore(data_folder.result_store)
    before = listing(tmp_path).open(data_folder).fold_versions(store)
    after = listing(tmp_path, LABELS | {"r5": "rain;sea"}).open(data_folder).fold_versions(store)
    assert before[1] != after[1]
    assert before[2] == after[2]


def test_folds_are_assigned_by_every_class_of_a_clip(tmp_path, data_folder):
    dataset = listing(tmp_path, n_folds=2)
    dataset = dataset.model_copy(update={"columns": dataset.columns.model_copy(update={"fold": None})})
    clips = dataset.open(data_folder).clips
    for label in ("dog", "rain", "sea"):
        assert {c.fold for c in clips if label in c.labels} == {1, 2}
