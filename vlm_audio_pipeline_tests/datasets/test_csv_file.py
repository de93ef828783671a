from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets import csv_file
from vlm_audio_pipeline.datasets.csv_columns import Columns
from vlm_audio_pipeline.datasets.csv_file import CsvDataset
from vlm_audio_pipeline.datasets.csv_reader import read_csv
from vlm_audio_pipeline.storage.data_folder import DataFolder

GOOD = "path,label,fold\na.wav,dog,1\nb.wav,dog,2\nc.wav,rain,1\nd.wav,rain,2\n"


@pytest.fixture
def data_folder(tmp_path):
    return DataFolder(tmp_path / "data")


@pytest.fixture
def spec(tmp_path):
    """Return a function that writes a CSV file and returns the spec that reads it."""

    def make(text, **parameters):
        path = tmp_path / "clips.csv"
        path.write_text(text, encoding="utf-8")
        return CsvDataset(path=path, **parameters)

    return make


def test_clips_are_listed_from_a_csv_file(spec, data_folder, tmp_path):
    dataset = spec(GOOD).open(data_folder)
    assert dataset.root == tmp_path
    assert dataset.classes == ("dog", "rain")
    assert [(c.id, c.label, c.fold, c.source, c.file) for c in dataset.clips] == [
        ("a", "dog", 1, "a.wav", "a.wav"),
        ("b", "dog", 2, "b.wav", "b.wav"),
        ("c", "rain", 1, "c.wav", "c.wav"),
        ("d", "rain", 2, "d.wav", "d.wav"),
    ]
    assert spec(GOOD).folds(data_folder) == (1, 2)
    assert spec(GOOD).download_size(data_folder) == 0


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_dialects_of_spreadsheets_are_read(spec, data_folder, separator, bom, newline):
    text = bom + GOOD.replace(",", separator).replace("\n", newline) + newline + separator * 2 + newline
    assert [c.label for c in spec(text).open(data_folder).clips] == ["dog", "dog", "rain", "rain"]


def test_segments_sources_ids_and_extra_columns_are_read(spec, data_folder):
    text = (
        "file,what,split,group,on,off,place\n"
        "day/one.wav,dog,3,s1,0,2.5,garden\n"
        'day/one.wav,dog,3,s1,2.5,,"here, elsewhere"\n'
        "day/two.flac,dog,12,s2,,,\n"
    )
    columns = {"path": "file", "label": "what", "fold": "split", "source": "group", "start": "on", "end": "off"}
    clips = spec(text, columns=columns, keep=["place"]).open(data_folder).clips
    assert [(c.id, c.source, c.fold, c.start_s, c.end_s, c.extra) for c in clips] == [
        ("day__one@0-2.5", "s1", 3, 0.0, 2.5, {"place": "garden"}),
        ("day__one@2.5-end", "s1", 3, 2.5, None, {"place": "here, elsewhere"}),
        ("day__two", "s2", 12, None, None, {"place": ""}),
    ]


def test_paths_outside_the_folder_change_the_root_but_not_the_other_ids(spec, data_folder, tmp_path):
    (tmp_path / "sub").mkdir()
    inside, outside = tmp_path / "sub" / "a.wav", tmp_path / "far" / "b.wav"
    text = f"path,label,fold\n{inside},dog,1\n../x/c.wav,dog,1\n{outside},dog,2\nd\\e.wav,dog,2\n"
    dataset = spec(text, audio_dir=tmp_path / "sub").open(data_folder)
    assert dataset.root == tmp_path
    assert {c.id: c.file for c in dataset.clips} == {
        "a": "sub/a.wav",
        "x__c": "x/c.wav",
        "far__b": "far/b.wav",
        "d__e": "sub/d/e.wav",
    }


def test_folds_are_assigned_if_the_csv_has_none_and_do_not_change(spec, data_folder):
    rows = [f"{label}{i}.wav,{label},{label}{i // 2}" for label in ("dog", "rain") for i in range(12)]
    without = spec("\n".join(["path,label,source", *rows]), n_folds=3)
    assert without.folds(data_folder) == (1, 2, 3)
    before = {c.id: c.fold for c in without.open(data_folder).clips}
    # 12 clips a class, 2 a source, over 3 folds: 4 of each class in each fold
    assert sorted(before.values()) == [1] * 8 + [2] * 8 + [3] * 8
    more = spec("\n".join(["path,label,source", "new.wav,dog,new", *rows]), n_folds=3)
    after = {c.id: c.fold for c in more.open(data_folder).clips}
    assert {k: v for k, v in after.items() if k in before} == before


def test_a_recording_in_another_folder_does_not_change_other_folds(spec, data_folder):
    rows = [f"{'day/' * (i % 2)}{i}.wav,{'dog' if i < 15 else 'rain'}" for i in range(30)]
    before = {c.id: (c.source, c.fold) for c in spec("\n".join(["path,label", *rows])).open(data_folder).clips}
    assert before["day__1"][0] == "day/1.wav"
    more = spec("\n".join(["path,label", "../other/b.wav,dog", *rows])).open(data_folder)
    after = {c.id: (c.source, c.fold) for c in more.clips}
    assert after.pop("other__b")[0] == "../other/b.wav"
    assert after == before


def test_stored_folds_depend_on_path_and_rule_and_not_on_other_fields(spec, data_folder, tmp_path):
    rows = [f"{label}{i}.wav,{label},{label}{i // 2},x" for label in ("dog", "rain") for i in range(12)]
    text = "\n".join(["path,label,source,place", *rows])
    before = {c.id: c.fold for c in spec(text, n_folds=3).open(data_folder).clips}
    more = text + "\nnew.wav,dog,new,x"
    for fields in (
        {"keep": ["place"]},
        {"on_bad_clip": "skip"},
        {"columns": {"source": "source"}},
        {"classes": ["rain", "dog"]},
        {},
    ):
        after = {c.id: c.fold for c in spec(more, n_folds=3, **fields).open(data_folder).clips}
        assert {k: v for k, v in after.items() if k in before} == before
    fold_folder = data_folder.datasets / "folds"
    assert len(list(fold_folder.iterdir())) == 1

    elsewhere = tmp_path / "elsewhere" / "clips.csv"
    elsewhere.parent.mkdir()
    elsewhere.write_text(text.replace("dog0.wav,dog,dog0", "dog0.wav,dog,dog1"))
    alone = CsvDataset(path=elsewhere, n_folds=3).open(DataFolder(tmp_path / "fresh")).clips
    assert CsvDataset(path=elsewhere, n_folds=3).open(data_folder).clips == alone
    assert len(list(fold_folder.iterdir())) == 2


def test_the_classes_of_the_study_are_used_in_their_order(spec, data_folder):
    # frog has only one fold and a duplicate id; both are allowed because the class is not used
    dataset = spec(GOOD + "a.wav,frog,1\n", classes=["rain", "dog"]).open(data_folder)
    assert dataset.classes == ("rain", "dog")
    assert [(c.id, c.label) for c in dataset.clips] == [("a", "dog"), ("b", "dog"), ("c", "rain"), ("d", "rain")]
    selected = spec(
        "path,label\n" + "".join(f"{c}{i}.wav,{c}\n" for c in "xyz" for i in range(4)), classes=["x", "z"], n_folds=2
    )
    assert selected.folds(data_folder) == (1, 2)
    assert {c.label for c in selected.open(data_folder).clips} == {"x", "z"}


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=8), min_size=2, max_size=2))
def test_quoted_cells_are_read_back_unchanged(tmp_path_factory, cells):
    import csv

    path = tmp_path_factory.mktemp("csv") / "x.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["path", "label"], ["x", *cells[:1]], ["y", *cells[1:]]])
    assert [row.cells["label"] for row in read_csv(path)[1]] == [c.strip() for c in cells]


@pytest.mark.parametrize(
    ("text", "parameters", "message"),
    [
        ("", {}, r"clips.csv must begin with a line of column names, got an empty file; add them"),
        ("path,label,path\n", {}, r"clips.csv, line 1: column names must be unique, got \['path'\] twice; rename or remove"),
        ("path,label\n", {}, r"clips.csv has no rows below its header; write one row per clip"),
        (GOOD.replace("label", "lable"), {}, r"`columns.label` must name a column, got 'label'; did you mean 'lable'\?"),
        (GOOD, {"columns": {"path": "file"}}, r"`columns.path` must name a column, got 'file'; options: fold, label, path"),
        (GOOD, {"columns": {"fold": "split"}}, r"`columns.fold` must name a column, got 'split'"),
        (GOOD, {"keep": ["where"]}, r"`keep` must name a column, got 'where'; options: fold, label, path"),
        (GOOD.replace("dog,2", ",2"), {}, r"clips.csv, line 3: label must not be empty; fill in column 'label'"),
        (GOOD.replace("b.wav", ""), {}, r"clips.csv, line 3: path must not be empty"),
        (GOOD.replace("rain,1", "rain,1.5"), {}, r"clips.csv, line 4: fold must be a whole number of 1 or more, got '1.5'"),
        (GOOD.replace("rain,1", "rain,0"), {}, r"line 4: fold must be a whole number of 1 or more, got '0' in column 'fold'"),
        (GOOD.replace("rain,1", f"rain,{2**63}"), {}, r"line 4: fold must have at most 9 digits, got '9223372036854775808\.\.\.'"),
        (GOOD.replace("rain,1", "rain"), {}, r"clips.csv, line 4: a row must have 3 cells as the header has, got 2; quote"),
        (GOOD.replace("rain,1", "rain,1,x"), {}, r"clips.csv, line 4: a row must have 3 cells .*, got 4; quote .* ','"),
        (GOOD.replace(",2\n", ",1\n"), {}, r"clips.csv: folds must be at least two, got only \[1\]"),
        (GOOD.replace("rain,1", "rain,2"), {}, r"clips.csv: class 'rain' occurs only in fold 2"),
        (GOOD.replace("b.wav", "a.wav"), {}, r"clips.csv: the clips of one source must share a fold, got source 'a.wav'"),
        (GOOD.replace("b.wav", "a.flac"), {}, r"clip ids must be unique, got 1 that occur more than once: 'a'"),
        (GOOD, {"classes": ["dog", "rain", "cat"]}, r"clips.csv: class 'cat' has no clips; options"),
    ],
)  # fmt: skip
def test_wrong_csv_files_are_refused(spec, data_folder, text, parameters, message):
    with pytest.raises(BadDataset, match=message):
        spec(text, **parameters).open(data_folder)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("x", "2", r"clips.csv, line 2: start must be a number of seconds of 0 or more, got 'x' in column 's'"),
        ("-1", "2", r"line 2: start must be a number of seconds of 0 or more, got '-1'"),
        ("0", "inf", r"line 2: end must be a number of seconds of 0 or more, got 'inf' in column 'e'"),
        ("2", "2", r"line 2: start must be before end, got 2 s and 2 s; correct one of them"),
        ("", "0", r"line 2: start must be before end, got 0 s and 0 s"),
    ],
)
def test_wrong_segments_are_refused(spec, data_folder, start, end, message):
    text = f"path,label,fold,s,e\na.wav,dog,1,{start},{end}\n"
    with pytest.raises(BadDataset, match=message):
        spec(text, columns={"start": "s", "end": "e"}).open(data_folder)


def test_files_that_are_not_csv_are_refused(tmp_path, data_folder):
    with pytest.raises(BadDataset, match=r"missing.csv cannot be read: No such file or directory; check `path`"):
        CsvDataset(path=tmp_path / "missing.csv").open(data_folder)
    (tmp_path / "latin.csv").write_bytes("path,label\nä.wav,dog\n".encode("latin-1"))
    with pytest.raises(BadDataset, match=r"latin.csv is not UTF-8 text \(.*\); save it as 'CSV UTF-8'"):
        CsvDataset(path=tmp_path / "latin.csv").open(data_folder)
    (tmp_path / "long.csv").write_text(f"path,label\n{'x' * 200_000},dog\n")
    with pytest.raises(BadDataset, match=r"long.csv, line \d: this is not a valid csv: field larger than field limit"):
        CsvDataset(path=tmp_path / "long.csv").open(data_folder)


@pytest.mark.parametrize("name", ["fold", "start_s", "outcome"])
def test_extra_columns_must_not_have_names_of_table_columns(name):
    with pytest.raises(ValidationError, match=rf"keep must name columns that .* do not have, got \['{name}'\]; rename"):
        CsvDataset(path=Path("x.csv"), keep=["place", name])


def test_asset_names_depend_on_file_names_and_parameters_but_not_on_folders():
    here, elsewhere = (
        CsvDataset(path=Path("/a/My clips.csv")),
        CsvDataset(path=Path("/b/My clips.csv"), columns=Columns()),
    )
    assert here.asset_name == elsewhere.asset_name == "csv_my_clips"
    other = CsvDataset(path=Path("/a/My clips.csv"), n_folds=4)
    assert other.asset_name.startswith("csv_my_clips_")
    assert CsvDataset(path=Path("/a/x.csv"), name="mine").asset_name == "mine"


def test_the_folds_and_the_clips_of_a_study_come_from_one_reading_of_the_csv(spec, data_folder, tmp_path, monkeypatch):
    readings = []
    monkeypatch.setattr(csv_file, "read_csv", lambda path: readings.append(path) or read_csv(path))
    monkeypatch.setattr(csv_file, "_MIN_AGE_NS", 0)
    listed = spec(GOOD)
    assert listed.folds(data_folder) == (1, 2)
    clips = listed.open(data_folder).clips
    assert len(readings) == 1
    assert listed.open(data_folder).clips == clips  # opened again: the file is read again
    assert len(readings) == 2


@pytest.mark.parametrize("min_age_ns", [0, 10**12])
def test_a_csv_that_changes_after_its_folds_were_read_is_read_again(spec, data_folder, monkeypatch, min_age_ns):
    monkeypatch.setattr(csv_file, "_MIN_AGE_NS", min_age_ns)
    listed = spec(GOOD)
    listed.folds(data_folder)
    spec(GOOD + "e.wav,rain,2\n")
    assert len(listed.open(data_folder).clips) == 5


def test_a_study_with_other_columns_does_not_get_the_listing_of_another_one(spec, data_folder, monkeypatch):
    monkeypatch.setattr(csv_file, "_MIN_AGE_NS", 0)
    text = "path,label,fold,other\n" + "".join(
        f"{name}.wav,{label},{fold},{other}\n" for name, label, fold, other in ("aw11", "bx21", "cx12", "dw22")
    )
    first, second = spec(text), spec(text, columns=Columns(fold="other"))
    first.folds(data_folder)
    assert [c.fold for c in second.open(data_folder).clips] == [1, 1, 2, 2]
