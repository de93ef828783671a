import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.datasets.esc50 import Esc50

HEADER = "filename,fold,target,category,esc10,src_file,take"
# The first lines of the real file, and one of another class and fold.
LINES = (
    "1-100032-A-0.wav,1,0,dog,True,100032,A",
    "1-100038-A-14.wav,1,14,chirping_birds,False,100038,A",
    "2-100210-B-36.wav,2,36,vacuum_cleaner,False,100210,B",
    "5-9032-A-0.wav,5,0,dog,True,9032,A",
)


@pytest.fixture
def make_spec(tmp_path, data_folder):
    def make_spec(*lines: str, header: str = HEADER, **parameters) -> Esc50:
        (tmp_path / "esc50" / "meta").mkdir(parents=True, exist_ok=True)
        (tmp_path / "esc50" / "meta" / "esc50.csv").write_text("\n".join([header, *lines]) + "\n")
        return Esc50(path=tmp_path / "esc50", **parameters)

    return make_spec


def test_clips_are_listed_from_esc50_csv(make_spec, data_folder):
    spec = make_spec(*reversed(LINES))
    data = spec.open(data_folder)
    assert [c.id for c in data.clips] == ["1-100032-A-0", "1-100038-A-14", "2-100210-B-36", "5-9032-A-0"]
    bird = data.clips[1]
    assert (bird.label, bird.fold, bird.source) == ("chirping_birds", 1, "100038")
    assert (bird.file, bird.extra) == ("audio/1-100038-A-14.wav", {"take": "A"})
    assert data.classes == ("dog", "chirping_birds", "vacuum_cleaner")  # targets 0, 14, 36
    assert spec.folds(data_folder) == data.folds == (1, 2, 5)
    assert spec.download_size(data_folder) == 0
    assert "CC BY-NC 3.0" in data.card.licence


def test_only_esc10_selects_the_clips_of_esc10(make_spec, data_folder):
    data = make_spec(*LINES, only_esc10=True).open(data_folder)
    assert {c.label for c in data.clips} == {"dog"}
    assert data.classes == ("dog",)


def test_classes_are_used_in_the_order_of_the_study(make_spec, data_folder):
    data = make_spec(*LINES, classes=("vacuum_cleaner", "dog")).open(data_folder)
    assert data.classes == ("vacuum_cleaner", "dog")
    assert [c.label for c in data.clips] == ["dog", "vacuum_cleaner", "dog"]


def test_an_unknown_class_gets_a_suggestion(make_spec, data_folder):
    with pytest.raises(
        BadDataset, match=r"`classes` must be classes of the dataset, got 'vacuum'; did you mean 'vacuum_cleaner'\?"
    ):
        make_spec(*LINES, classes=("dog", "vacuum")).open(data_folder)


def test_missing_columns_are_named(make_spec, data_folder):
    with pytest.raises(
        BadDataset,
        match=r"must have the columns filename, .*, got filename, fold; add target, category, esc10, src_file, take$",
    ):
        make_spec(header="filename,fold").open(data_folder)


def test_an_empty_file_has_no_columns(make_spec, data_folder):
    with pytest.raises(BadDataset, match="got none; add filename, fold"):
        make_spec(header="").open(data_folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.wav,one,0,dog,True,1,A", "line 2: 'fold' must be a whole number, got 'one'"),
        ("a.wav,1,x,dog,True,1,A", "line 2: 'target' must be a whole number, got 'x'"),
        ("a.wav,1,0,dog,yes,1,A", "line 2: 'esc10' must be True or False, got 'yes'"),
        ("a.wav,1,0,dog", "line 2: a row must have 7 values"),
        ("a.wav,1,0,dog,True,1,A,more", "line 2: a row must have 7 values"),
        ("a.wav,1,0,dog,True,1,A\nb.wav,1,1,dog,True,2,A", "line 3: 'target' of dog must be 0 as above, got 1"),
        (
            "a.wav,1,0,dog,True,1,A\na.wav,2,0,dog,True,1,A",
            "clip ids must be unique, got 1 that occur more than once: 'a'",
        ),
        (
            "a.wav,0,0,dog,True,1,A\nb.wav,1,0,dog,True,2,A",
            "folds are numbered from 1, but these clips have a lower number: 'a'",
        ),
    ],
)
def test_wrong_lines_are_reported(make_spec, data_folder, line, message):
    with pytest.raises(BadDataset) as error:
        make_spec(line).open(data_folder)
    assert message in str(error.value)


def test_a_listing_that_is_not_text_is_refused(make_spec, data_folder, tmp_path):
    spec = make_spec()
    (tmp_path / "esc50/meta/esc50.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(BadDataset, match="is not a CSV file in UTF-8"):
        spec.open(data_folder)


def test_a_missing_folder_is_refused(data_folder, tmp_path):
    with pytest.raises(BadDataset, match=r"nowhere has no meta/esc50.csv, so it is not ESC-50"):
        Esc50(path=tmp_path / "nowhere").open(data_folder)


def test_the_path_is_not_part_of_the_fingerprint(tmp_path):
    assert DATASETS.get("esc50") is Esc50
    assert Esc50(path=tmp_path).fingerprint() == Esc50(path=tmp_path / "other").fingerprint()
    assert Esc50(path=tmp_path).asset_name == "esc50"
    assert Esc50(path=tmp_path, only_esc10=True).fingerprint() != Esc50(path=tmp_path).fingerprint()


def test_a_single_fold_is_refused(make_spec, data_folder):
    with pytest.raises(BadDataset, match=r"folds must be at least two, got only \[1\]: .*; complete the copy, or name"):
        make_spec(*LINES[:2]).folds(data_folder)
    one = LINES[1], LINES[1].replace("14,chirping_birds", "2,pig").replace("100038", "1"), LINES[3]
    with pytest.raises(BadDataset, match=r"folds must be at least two, got only \[1\]"):
        make_spec(*one, classes=["pig", "chirping_birds"]).open(data_folder)
