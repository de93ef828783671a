import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.folder import FolderDataset
from vlm_audio_pipeline.storage.data_folder import DataFolder


@pytest.fixture
def data_folder(tmp_path):
    return DataFolder(tmp_path / "data")


@pytest.fixture
def sounds(tmp_path):
    """Two classes of 6 recordings each, and files that must be ignored."""
    root = tmp_path / "My sounds"
    for label in ("rain", "dog"):
        (root / label).mkdir(parents=True)
        for i in range(6):
            (root / label / f"{i // 2}-{label}-{'ab'[i % 2]}.wav").touch()
    (root / ".cache").mkdir()
    (root / "dog" / ".hidden.wav").touch()
    (root / "dog" / "notes.txt").touch()
    (root / "loose.wav").touch()
    return root


def test_each_subfolder_is_a_class(sounds, data_folder):
    (sounds / "dog" / "later").mkdir()
    (sounds / "dog" / "later" / "x.FLAC").touch()
    (sounds / "dog" / "y.b.Ogg").touch()
    (sounds / "rain" / "z.mp3").touch()
    dataset = FolderDataset(path=sounds, n_folds=3).open(data_folder)
    assert dataset.root == sounds
    assert dataset.classes == ("dog", "rain")
    assert len(dataset.clips) == 15
    listed = {c.id: (c.label, c.file, c.source) for c in dataset.clips}
    assert listed["dog__0-dog-a"] == ("dog", "dog/0-dog-a.wav", "dog__0-dog-a")
    assert listed["dog__later__x"] == ("dog", "dog/later/x.FLAC", "dog__later__x")
    assert listed["dog__y.b"] == ("dog", "dog/y.b.Ogg", "dog__y.b")
    assert listed["rain__z"][1] == "rain/z.mp3"


def test_the_source_recording_is_extracted_from_the_file_name(sounds, data_folder):
    spec = FolderDataset(path=sounds, n_folds=3, source=r"^(\d+-\w+)-")
    clips = spec.open(data_folder).clips
    assert {c.source for c in clips} == {f"{i}-{label}" for i in range(3) for label in ("dog", "rain")}
    # 3 sources of 2 clips a class over 3 folds: each fold must have 2 clips of each class
    assert sorted((c.fold, c.label) for c in clips) == sorted([(f, s) for f in (1, 2, 3) for s in ("dog", "rain")] * 2)
    assert spec.folds(data_folder) == (1, 2, 3)


def test_a_new_recording_does_not_change_the_folds_of_others(sounds, data_folder):
    spec = FolderDataset(path=sounds, n_folds=3)
    before = {c.id: c.fold for c in spec.open(data_folder).clips}
    for name in ("0.wav", "00.wav", "zz.wav"):
        (sounds / "dog" / name).touch()
    after = {c.id: c.fold for c in spec.open(data_folder).clips}
    assert len(after) == len(before) + 3
    assert {i: f for i, f in after.items() if i in before} == before


def test_a_folder_of_the_same_name_elsewhere_has_its_own_fold_file(sounds, data_folder, tmp_path):
    # sources 0, 1 and 2 are in both folders
    def folds(where, data):
        return {c.source: c.fold for c in FolderDataset(path=where, n_folds=3, source=r"^(\w+)-").open(data).clips}

    elsewhere = tmp_path / "elsewhere" / sounds.name
    for label in ("rain", "dog"):
        (elsewhere / label).mkdir(parents=True)
        for i in (0, 1, 2, 7, 8, 9):
            (elsewhere / label / f"{i}-{label}-{'x' * i}.wav").touch()
    alone = folds(elsewhere, DataFolder(tmp_path / "fresh"))
    folds(sounds, data_folder)
    assert len(list((data_folder.datasets / "folds").iterdir())) == 1
    assert folds(elsewhere, data_folder) == alone
    assert len(list((data_folder.datasets / "folds").iterdir())) == 2


def test_other_fields_of_the_study_do_not_change_folds(sounds, data_folder):
    before = {c.id: c.fold for c in FolderDataset(path=sounds, n_folds=3).open(data_folder).clips}
    (sounds / "dog" / "0.wav").touch()
    (sounds / "cat").mkdir()
    for i in range(7):
        (sounds / "cat" / f"{i}.wav").touch()
    for fields in ({"on_bad_clip": "skip"}, {"classes": ("rain", "dog")}, {"name": "mine"}, {}):
        after = {c.id: c.fold for c in FolderDataset(path=sounds, n_folds=3, **fields).open(data_folder).clips}
        assert {i: f for i, f in after.items() if i in before} == before
    assert len(list((data_folder.datasets / "folds").iterdir())) == 1


def test_classes_select_folders_and_their_order(sounds, data_folder):
    (sounds / "empty").mkdir()
    dataset = FolderDataset(path=sounds, n_folds=2, classes=("rain", "dog")).open(data_folder)
    assert dataset.classes == ("rain", "dog")


def test_asset_names_depend_on_folders_and_parameters(sounds, tmp_path):
    assert FolderDataset(path=sounds).asset_name == "folder_my_sounds"
    assert FolderDataset(path=sounds, n_folds=3).asset_name.startswith("folder_my_sounds_")
    assert FolderDataset(path=sounds).download_size(DataFolder(tmp_path)) == 0


def test_wrong_folders_are_refused(sounds, data_folder, tmp_path):
    with pytest.raises(BadDataset, match=r"absent is not a folder; `path` must be a folder with one folder per class"):
        FolderDataset(path=tmp_path / "absent").open(data_folder)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.wav").touch()
    with pytest.raises(BadDataset, match=r"flat contains no folders; move the recordings"):
        FolderDataset(path=tmp_path / "flat").folds(data_folder)
    with pytest.raises(BadDataset, match=r"has no folder for the class 'dogs'; did you mean 'dog'\?"):
        FolderDataset(path=sounds, classes=("dogs", "rain")).open(data_folder)
    (sounds / "cat").mkdir()
    (sounds / "cat" / "c.txt").touch()
    formats = "wav, wave, bwf, rf64, w64, flac, ogg, oga, opus, mp3, aif, aiff, aifc, au, snd, caf, sph"
    with_av = ", m4a, m4b, mp4, m4v, mov, 3gp, webm, weba, mka, mkv, wma, asf"
    with pytest.raises(
        BadDataset, match=rf"cat contains no recordings \({formats}({with_av})?\); add recordings, or remove"
    ):
        FolderDataset(path=sounds).open(data_folder)


def test_a_class_with_one_recording_is_refused(sounds, data_folder):
    (sounds / "cat").mkdir()
    (sounds / "cat" / "c.wav").touch()
    with pytest.raises(BadDataset, match=r"`n_folds: 3`: class 'cat' occurs only in fold"):
        FolderDataset(path=sounds, n_folds=3).open(data_folder)


def test_wrong_source_patterns_are_refused(sounds, data_folder):
    with pytest.raises(ValidationError, match=r"source must be a regular expression, got '\(': .*; correct it"):
        FolderDataset(path=sounds, source="(")
    with pytest.raises(ValidationError, match=r"source must have a group, got 'x'; put \( \) around the part"):
        FolderDataset(path=sounds, source="x")
    with pytest.raises(BadDataset, match=r"0-dog-b.wav: the regular expression of `source`, '\^\(.*a\)"):
        FolderDataset(path=sounds, source="^(.*a)[.]").open(data_folder)


def test_a_recording_in_two_formats_is_named_with_both_files(sounds, data_folder):
    (sounds / "dog" / "rec.flac").touch()
    (sounds / "dog" / "rec.ogg").touch()
    with pytest.raises(
        BadDataset, match=r"dog/rec\.flac and dog/rec\.ogg \(clip dog__rec\)\. If they are copies .* remove one"
    ):
        FolderDataset(path=sounds, n_folds=3).open(data_folder)


def test_two_paths_with_one_clip_name_are_named(sounds, data_folder):
    (sounds / "dog" / "a").mkdir()
    (sounds / "dog" / "a" / "b.wav").touch()
    (sounds / "dog" / "a__b.wav").touch()
    with pytest.raises(BadDataset, match=r"dog/a/b\.wav and dog/a__b\.wav .*rename one"):
        FolderDataset(path=sounds, n_folds=3).open(data_folder)
