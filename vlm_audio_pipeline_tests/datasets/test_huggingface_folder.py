"""Folders of Hugging Face datasets: every layout, folds, several labels, and what is refused."""

import io
import json
import shutil

import numpy as np
import pytest
import soundfile

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.huggingface_folder import HuggingFaceFolder
from vlm_audio_pipeline_tests.datasets.clip_rows import typed_row
from vlm_audio_pipeline_tests.datasets.hub_folders import (
    AUDIO,
    AUDIO_AND_LABEL,
    CLASSES,
    save_dict_to_disk,
    save_to_disk,
    write_parquet,
)

INT, TEXT = {"dtype": "int64", "_type": "Value"}, {"dtype": "string", "_type": "Value"}


def wav(seed, format="WAV"):
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.random.default_rng(seed).standard_normal(400), 8000, format=format)
    return file.getvalue()


def rows(*seeds, **columns):
    return [
        {"audio": {"bytes": wav(seed), "path": f"rec{seed}.wav"}, "label": seed % 2}
        | {name: values[i] for name, values in columns.items()}
        for i, seed in enumerate(seeds)
    ]


def listed(dataset):
    return [(clip.id, clip.label, clip.fold) for clip in dataset.clips]


SPLITS = {"train": rows(0, 1, 2, 3), "test": rows(4, 5)}
OF_SPLITS = [
    ("rec0", "rain", 1),
    ("rec1", "dog", 1),
    ("rec2", "rain", 1),
    ("rec3", "dog", 1),
    ("rec4", "rain", 2),
    ("rec5", "dog", 2),
]


def test_the_splits_of_a_saved_dict_are_folds(tmp_path, data_folder):
    save_dict_to_disk(tmp_path / "d", SPLITS, AUDIO_AND_LABEL)
    spec = HuggingFaceFolder(path=tmp_path / "d")
    assert spec.folds(data_folder) == (1, 2) and not spec.is_local(data_folder)
    dataset = spec.open(data_folder)
    assert spec.is_local(data_folder) and dataset.classes == ("rain", "dog") and listed(dataset) == OF_SPLITS
    assert (dataset.root / dataset.clips[3].file).read_bytes() == wav(3)  # unchanged
    assert dataset.samples(typed_row(dataset, dataset.clips[3]), 8000).shape == (400,)


def test_shards_and_parquet_files_of_a_repository_are_read_in_their_order(tmp_path, data_folder):
    save_to_disk(tmp_path / "shards", SPLITS["train"], AUDIO_AND_LABEL, shards=2)
    one_split = HuggingFaceFolder(path=tmp_path / "shards", n_folds=2).open(data_folder)
    assert [clip.id for clip in one_split.clips] == ["rec0", "rec1", "rec2", "rec3"] and one_split.folds == (1, 2)
    for split, split_rows in SPLITS.items():
        write_parquet(tmp_path / "hub" / "data" / f"{split}-00000-of-00001.parquet", split_rows, AUDIO_AND_LABEL)
    assert listed(HuggingFaceFolder(path=tmp_path / "hub").open(data_folder)) == OF_SPLITS
    only_train = HuggingFaceFolder(path=tmp_path / "hub", splits=("train",), n_folds=2).open(data_folder)
    assert len(only_train.clips) == 4 and only_train.folds == (1, 2)


def test_the_card_of_a_repository_names_configurations(tmp_path, data_folder):
    write_parquet(tmp_path / "small" / "part_b.parquet", rows(0, 1), AUDIO_AND_LABEL)
    write_parquet(tmp_path / "small" / "part_a.parquet", rows(2, 3), AUDIO_AND_LABEL)
    write_parquet(tmp_path / "text" / "a.parquet", [{"words": "x"}], {"words": TEXT})
    (tmp_path / "README.md").write_text(
        "---\nlicense: cc-by-4.0\npretty_name: Yard\nconfigs:\n- config_name: text\n  data_files: text/*.parquet\n"
        "- config_name: small\n  default: true\n  data_files:\n  - {split: b, path: small/part_b.parquet}\n"
        "  - {split: a, path: [small/part_a.parquet]}\n---\n# Yard\n"
    )
    dataset = HuggingFaceFolder(path=tmp_path).open(data_folder)
    assert listed(dataset) == [("rec0", "rain", 1), ("rec1", "dog", 1), ("rec2", "rain", 2), ("rec3", "dog", 2)]
    assert (dataset.card.title, dataset.card.licence) == ("Yard", "cc-by-4.0")
    with pytest.raises(BadDataset, match="has no column with audio inside, only words"):
        HuggingFaceFolder(path=tmp_path, config="text").open(data_folder)
    with pytest.raises(BadDataset, match="has no configuration 'smal'; did you mean 'small'"):
        HuggingFaceFolder(path=tmp_path, config="smal").open(data_folder)


def test_a_column_of_folds_comes_before_splits(tmp_path, data_folder):
    features = {**AUDIO_AND_LABEL, "fold": INT, "source": TEXT, "take": TEXT}
    columns = {"fold": [1, 1, 3, 3], "source": ["a", "a", "b", "c"], "take": ["w", "x", "y", "z"]}
    save_to_disk(tmp_path / "d", rows(0, 1, 2, 3, **columns), features)
    dataset = HuggingFaceFolder(path=tmp_path / "d").open(data_folder)
    assert [(c.fold, c.source) for c in dataset.clips] == [(1, "a"), (1, "a"), (3, "b"), (3, "c")]
    assigned = HuggingFaceFolder(path=tmp_path / "d", folds_from="assigned", n_folds=2, columns={"id": "take"})
    assert [c.id for c in assigned.open(data_folder).clips] == ["w", "x", "y", "z"]
    with pytest.raises(BadDataset, match="folds from the split: folds must be at least two"):
        HuggingFaceFolder(path=tmp_path / "d", folds_from="split").folds(data_folder)


@pytest.mark.parametrize("kind", ["List", "Sequence"])
def test_lists_of_classes_are_several_labels(kind, tmp_path, data_folder):
    features = {"audio": AUDIO, "label": {"feature": CLASSES, "_type": kind}}
    several = [{**row, "label": labels} for row, labels in zip(rows(0, 1, 2, 3), [[0, 1], [1], [], [0]], strict=True)]
    save_to_disk(tmp_path / "d", several, features)
    clips = HuggingFaceFolder(path=tmp_path / "d", n_folds=2).open(data_folder).clips
    assert [clip.labels for clip in clips] == [("dog", "rain"), ("dog",), (), ("rain",)]


def test_labels_may_be_texts_and_names_of_recordings_may_repeat(tmp_path, data_folder):
    texts = [
        {"sound": {"bytes": wav(i, "FLAC"), "path": None}, "category": name}
        for i, name in enumerate(["b", "a", "b", "a"])
    ]
    save_to_disk(tmp_path / "d", texts, {"sound": AUDIO, "category": TEXT})
    dataset = HuggingFaceFolder(path=tmp_path / "d", n_folds=2).open(data_folder)
    assert dataset.classes == ("a", "b")
    assert [(clip.id, clip.label) for clip in dataset.clips][:2] == [("train-00000", "b"), ("train-00001", "a")]
    assert all(clip.file.endswith(".flac") for clip in dataset.clips)


def test_rows_without_label_or_audio_stop_or_are_left_out(tmp_path, data_folder):
    incomplete = rows(0, 1, 2, 3, 4, 5)
    incomplete[4]["label"], incomplete[5]["audio"] = -1, None
    save_to_disk(tmp_path / "d", incomplete, AUDIO_AND_LABEL)
    with pytest.raises(
        BadDataset, match=r"2 rows of .* cannot be used:\n  .*: has no label in column 'label'\n  .*: has no audio"
    ):
        HuggingFaceFolder(path=tmp_path / "d", n_folds=2).open(data_folder)
    dataset = HuggingFaceFolder(path=tmp_path / "d", n_folds=2, on_bad_clip="skip").open(data_folder)
    assert len(dataset.clips) == 4 and len(dataset.left_out) == 2


def test_a_changed_folder_is_read_again_and_other_recordings_are_kept(tmp_path, data_folder):
    save_to_disk(tmp_path / "d", rows(0, 1, 2, 3), AUDIO_AND_LABEL)
    spec = HuggingFaceFolder(path=tmp_path / "d", n_folds=2)
    before = {clip.id: clip.file for clip in spec.open(data_folder).clips}
    shutil.rmtree(tmp_path / "d")
    save_to_disk(tmp_path / "d", rows(0, 1, 2, 7), AUDIO_AND_LABEL)
    assert not spec.is_local(data_folder)
    after = {clip.id: clip.file for clip in spec.open(data_folder).clips}
    assert after.keys() - before.keys() == {"rec7"} and all(
        after[name] == before[name] for name in after.keys() & before.keys()
    )
    (spec.open(data_folder).root / after["rec7"]).unlink()
    assert (spec.open(data_folder).root / after["rec7"]).read_bytes() == wav(7)


def damage_state(folder):
    (folder / "state.json").write_text("{")


def lead_outside(folder):
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "_data_files": [{"filename": "../other.arrow"}]}))


def cut_file(folder):
    (path,) = folder.glob("*.arrow")
    path.write_bytes(path.read_bytes()[:100])


def remove_file(folder):
    next(folder.glob("*.arrow")).unlink()


def select_by_index(folder):
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "_indices_data_files": [{"filename": "indices.arrow"}]}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_state, "state.json is not JSON"),
        (lead_outside, "names '../other.arrow', which is outside of the folder"),
        (cut_file, r"data-00000-of-00001.arrow cannot be read: .*; copy it again"),
        (remove_file, "is missing, although state.json names it"),
        (select_by_index, r"call `flatten_indices\(\)`"),
        (shutil.rmtree, "is not a folder"),
    ],
)
def test_a_damaged_folder_is_refused(damage, message, tmp_path, data_folder):
    save_to_disk(tmp_path / "d", rows(0, 1, 2, 3), AUDIO_AND_LABEL)
    damage(tmp_path / "d")
    with pytest.raises(BadDataset, match=message):
        HuggingFaceFolder(path=tmp_path / "d", n_folds=2).open(data_folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"splits": ("tset",)}, "has no split 'tset'"),
        ({"columns": {"label": "lable"}}, "`columns.label` must name a column, got 'lable'; did you mean 'label'"),
        ({"folds_from": "column"}, "needs a column of folds; name it in `columns.fold`"),
        ({"columns": {"audio": "label"}}, "has no column with audio inside"),
        ({"classes": ("rain", "cat")}, "class 'cat' has no clips"),
        ({"config": "x"}, "has no configurations|has no split|is no folder"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message, tmp_path, data_folder):
    write_parquet(tmp_path / "data" / "train.parquet", rows(0, 1, 2, 3), AUDIO_AND_LABEL)
    with pytest.raises(BadDataset, match=message):
        HuggingFaceFolder(path=tmp_path, n_folds=2, **fields).open(data_folder)
