import csv
from collections import Counter

import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.datasets.synthetic import SyntheticDataset
from vlm_audio_pipeline.storage.data_folder import DataFolder

SMALL = {"clips": 12, "n_folds": 2, "duration_s": 1.0, "classes": ("rain", "dog", "clock_tick")}


@pytest.fixture
def data_folder(tmp_path):
    return DataFolder(tmp_path)


def test_the_layout_is_that_of_esc50(data_folder):
    progress_calls = []
    dataset = SyntheticDataset(**SMALL).open(
        data_folder, lambda done, total, what: progress_calls.append((done, total, what))
    )
    assert dataset.classes == ("rain", "dog", "clock_tick")
    # 12 clips, 3 classes, 2 takes a source: 2 sources a class, one in each of 2 folds
    assert Counter((c.label, c.fold) for c in dataset.clips) == {(s, f): 2 for s in SMALL["classes"] for f in (1, 2)}
    assert set(Counter(c.source for c in dataset.clips).values()) == {2}
    with (dataset.root / "meta" / "esc50.csv").open(newline="") as file:
        rows = {row["filename"]: row for row in csv.DictReader(file)}
    # targets as in ESC-50: dog 0, rain 10, clock_tick 38
    assert {row["category"]: row["target"] for row in rows.values()} == {"dog": "0", "rain": "10", "clock_tick": "38"}
    for clip in dataset.clips:
        info = soundfile.info(dataset.root / clip.file)
        assert (info.samplerate, info.channels, info.frames, info.subtype) == (44100, 1, 44100, "PCM_16")
        fold, source, take, _ = clip.id.split("-")
        row = rows[f"{clip.id}.wav"]
        assert (row["fold"], row["src_file"], row["take"]) == (fold, source, take)
    assert progress_calls[-1] == (12, 12, "synthesising clips")
    assert [p.name for p in data_folder.datasets.iterdir()] == [dataset.root.name]  # no temporary files remain


def test_recordings_are_synthesised_once_and_missing_ones_again(data_folder):
    spec = SyntheticDataset(**SMALL)
    first = spec.open(data_folder)
    files = {c.file: (first.root / c.file).read_bytes() for c in first.clips}
    assert len(set(files.values())) == 12
    stamps = {f: (first.root / f).stat().st_mtime_ns for f in files}
    spec.open(data_folder)
    assert {f: (first.root / f).stat().st_mtime_ns for f in files} == stamps
    (first.root / first.clips[3].file).unlink()
    (data_folder.datasets / f".{first.root.name}.1.tmp").mkdir()  # as a killed process leaves it
    reopened = spec.open(data_folder)
    assert {c.file: (reopened.root / c.file).read_bytes() for c in reopened.clips} == files
    assert [p.name for p in data_folder.datasets.iterdir()] == [first.root.name]


def test_specs_with_other_sounds_have_other_folders(data_folder):
    changes = [{}, {"seed": 1}, {"duration_s": 1.5}, {"takes": 1}, {"clips": 14}, {"n_folds": 3}]
    roots = {SyntheticDataset(**{**SMALL, **c}, name="same").open(data_folder).root for c in changes}
    assert len(roots) == len(changes)


def test_listing_all_classes_changes_nothing(data_folder):
    assert SyntheticDataset()._root(data_folder) == SyntheticDataset(classes=ESC10, name="x", on_bad_clip="skip")._root(
        data_folder
    )


def test_folds_are_known_without_synthesis(data_folder):
    spec = SyntheticDataset()
    assert spec.folds(data_folder) == (1, 2, 3, 4, 5)
    assert spec.download_size(data_folder) == 0
    assert list(data_folder.root.iterdir()) == []
    # 200 clips: 10 classes, 5 folds, 4 clips each
    assert Counter(Counter((c.label, c.fold) for c, _, _ in spec._plan()).values()) == {4: 50}


@given(st.integers(20, 400), st.integers(2, 10), st.integers(1, 5), st.integers(2, 10))
def test_every_accepted_plan_has_training_clips_of_every_class(clips, n_folds, takes, n_classes):
    spec = SyntheticDataset(clips=clips, n_folds=n_folds, takes=takes, classes=ESC10[:n_classes])
    if clips < max(n_classes * (takes + 1), takes * n_folds):
        with pytest.raises(BadDataset, match=rf"clips must be at least \d+, got {clips}: "):
            list(spec._plan())
        return
    plan = [c for c, _, _ in spec._plan()]
    assert len({c.id for c in plan}) == clips
    assert {c.fold for c in plan} == set(range(1, n_folds + 1))
    assert max(Counter(c.label for c in plan).values()) - min(Counter(c.label for c in plan).values()) <= 1
    assert all(len({c.fold for c in plan if c.label == label}) >= 2 for label in spec.classes)
    assert len({(c.source, c.fold, c.label) for c in plan}) == len({c.source for c in plan})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"classes": ("dog", "rane")}, r"classes must be among those that can be synthesised, got 'rane'; did you mean 'rain'"),
        # 10 classes of two sources, of which one has 2 takes: 30
        ({"clips": 29}, r"clips must be at least 30, got 29: each of 10 classes needs two source recordings and each of 5"),
    ],
)  # fmt: skip
def test_wrong_specs_are_refused(data_folder, parameters, message):
    spec = SyntheticDataset(**parameters)
    with pytest.raises(BadDataset, match=message):
        spec.folds(data_folder)
    with pytest.raises(BadDataset, match=message):
        spec.open(data_folder)
