from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.csv_file import Columns, CsvDataset, guess_columns, read_csv
from vlm_audio_pipeline.storage.layout import Layout

GOOD = "path,label,fold\na.wav,dog,1\nb.wav,dog,2\nc.wav,rain,1\nd.wav,rain,2\n"


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "data")


@pytest.fixture
def spec(tmp_path):
    """Write a csv and give the spec that reads it."""

    def make(text, **parameters):
        path = tmp_path / "clips.csv"
        path.write_text(text, encoding="utf-8")
        return CsvDataset(path=path, **parameters)

    return make


def test_a_listing(spec, layout, tmp_path):
    dataset = spec(GOOD).open(layout)
    assert dataset.root == tmp_path
    assert dataset.classes == ("dog", "rain")
    assert [(c.id, c.label, c.fold, c.source, c.file) for c in dataset.clips] == [
        ("a", "dog", 1, "a.wav", "a.wav"),
        ("b", "dog", 2, "b.wav", "b.wav"),
        ("c", "rain", 1, "c.wav", "c.wav"),
        ("d", "rain", 2, "d.wav", "d.wav"),
    ]
    assert spec(GOOD).folds(layout) == (1, 2)
    assert spec(GOOD).to_download(layout) == 0


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_spreadsheets_write(spec, layout, mark, bom, newline):
    text = bom + GOOD.replace(",", mark).replace("\n", newline) + newline + mark * 2 + newline
    assert [c.label for c in spec(text).open(layout).clips] == ["dog", "dog", "rain", "rain"]


def test_stretches_sources_ids_and_kept_columns(spec, layout):
    text = (
        "file,what,split,group,on,off,place\n"
        "day/one.wav,dog,3,s1,0,2.5,garden\n"
        'day/one.wav,dog,3,s1,2.5,,"here, there"\n'
        "day/two.flac,dog,12,s2,,,\n"
    )
    columns = {"path": "file", "label": "what", "fold": "split", "source": "group", "start": "on", "end": "off"}
    clips = spec(text, columns=columns, keep=["place"]).open(layout).clips
    assert [(c.id, c.source, c.fold, c.start_s, c.end_s, c.kept) for c in clips] == [
        ("day__one@0-2.5", "s1", 3, 0.0, 2.5, {"place": "garden"}),
        ("day__one@2.5-end", "s1", 3, 2.5, None, {"place": "here, there"}),
        ("day__two", "s2", 12, None, None, {"place": ""}),
    ]


def test_paths_outside_the_folder_move_the_root_and_leave_other_ids_alone(spec, layout, tmp_path):
    (tmp_path / "sub").mkdir()
    inside, outside = tmp_path / "sub" / "a.wav", tmp_path / "far" / "b.wav"
    text = f"path,label,fold\n{inside},dog,1\n../x/c.wav,dog,1\n{outside},dog,2\nd\\e.wav,dog,2\n"
    dataset = spec(text, audio_dir=tmp_path / "sub").open(layout)
    assert dataset.root == tmp_path
    assert {c.id: c.file for c in dataset.clips} == {
        "a": "sub/a.wav",
        "x__c": "x/c.wav",
        "far__b": "far/b.wav",
        "d__e": "sub/d/e.wav",
    }


def test_folds_are_chosen_where_there_are_none_and_last(spec, layout):
    rows = [f"{label}{i}.wav,{label},{label}{i // 2}" for label in ("dog", "rain") for i in range(12)]
    without = spec("\n".join(["path,label,source", *rows]), n_folds=3)
    assert without.folds(layout) == (1, 2, 3)
    before = {c.id: c.fold for c in without.open(layout).clips}
    # 12 clips a class, 2 a source, over 3 folds: 4 of each class in each fold
    assert sorted(before.values()) == [1] * 8 + [2] * 8 + [3] * 8
    more = spec("\n".join(["path,label,source", "new.wav,dog,new", *rows]), n_folds=3)
    after = {c.id: c.fold for c in more.open(layout).clips}
    assert {k: v for k, v in after.items() if k in before} == before


def test_a_recording_elsewhere_moves_no_other(spec, layout):
    rows = [f"{'day/' * (i % 2)}{i}.wav,{'dog' if i < 15 else 'rain'}" for i in range(30)]
    before = {c.id: (c.source, c.fold) for c in spec("\n".join(["path,label", *rows])).open(layout).clips}
    assert before["day__1"][0] == "day/1.wav"
    more = spec("\n".join(["path,label", "../other/b.wav,dog", *rows])).open(layout)
    after = {c.id: (c.source, c.fold) for c in more.clips}
    assert after.pop("other__b")[0] == "../other/b.wav"
    assert after == before


def test_folds_are_remembered_by_place_and_rule_not_by_what_else_is_told(spec, layout, tmp_path):
    rows = [f"{label}{i}.wav,{label},{label}{i // 2},x" for label in ("dog", "rain") for i in range(12)]
    text = "\n".join(["path,label,source,place", *rows])
    before = {c.id: c.fold for c in spec(text, n_folds=3).open(layout).clips}
    more = text + "\nnew.wav,dog,new,x"
    for told in (
        {"keep": ["place"]},
        {"on_bad_clip": "skip"},
        {"columns": {"source": "source"}},
        {"classes": ["rain", "dog"]},
        {},
    ):
        after = {c.id: c.fold for c in spec(more, n_folds=3, **told).open(layout).clips}
        assert {k: v for k, v in after.items() if k in before} == before
    memories = layout.datasets / "folds"
    assert len(list(memories.iterdir())) == 1

    there = tmp_path / "there" / "clips.csv"
    there.parent.mkdir()
    there.write_text(text.replace("dog0.wav,dog,dog0", "dog0.wav,dog,dog1"))
    alone = CsvDataset(path=there, n_folds=3).open(Layout(tmp_path / "fresh")).clips
    assert CsvDataset(path=there, n_folds=3).open(layout).clips == alone
    assert len(list(memories.iterdir())) == 2


def test_only_the_rows_of_the_classes_are_used_in_their_order(spec, layout):
    # frog has one fold alone and an id that another row has: neither matters where it is not used
    dataset = spec(GOOD + "a.wav,frog,1\n", classes=["rain", "dog"]).open(layout)
    assert dataset.classes == ("rain", "dog")
    assert [(c.id, c.label) for c in dataset.clips] == [("a", "dog"), ("b", "dog"), ("c", "rain"), ("d", "rain")]
    made = spec(
        "path,label\n" + "".join(f"{c}{i}.wav,{c}\n" for c in "xyz" for i in range(4)), classes=["x", "z"], n_folds=2
    )
    assert made.folds(layout) == (1, 2)
    assert {c.label for c in made.open(layout).clips} == {"x", "z"}


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=8), min_size=2, max_size=2))
def test_quoted_cells_come_back_as_written(tmp_path_factory, cells):
    import csv

    path = tmp_path_factory.mktemp("csv") / "x.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["path", "label"], ["x", *cells[:1]], ["y", *cells[1:]]])
    assert [row.cells["label"] for row in read_csv(path)[1]] == [c.strip() for c in cells]


@pytest.mark.parametrize(
    ("text", "parameters", "message"),
    [
        ("", {}, r"clips.csv must begin with a line of distinct column names, got none; add or rename them"),
        ("path,label,path\n", {}, r"clips.csv must begin .*, got \['path'\] twice"),
        ("path,label\n", {}, r"clips.csv must have at least one row below its header, got none; list a clip a row"),
        (GOOD.replace("label", "lable"), {}, r"`columns.label` must name a column, got 'label'; did you mean 'lable'\?"),
        (GOOD, {"columns": {"path": "file"}}, r"`columns.path` must name a column, got 'file'; options: fold, label, path"),
        (GOOD, {"columns": {"fold": "split"}}, r"`columns.fold` must name a column, got 'split'"),
        (GOOD, {"keep": ["where"]}, r"`keep` must name a column, got 'where'; options: fold, label, path"),
        (GOOD.replace("dog,2", ",2"), {}, r"clips.csv, line 3: label must not be empty; fill in column 'label'"),
        (GOOD.replace("b.wav", ""), {}, r"clips.csv, line 3: path must not be empty"),
        (GOOD.replace("rain,1", "rain,1.5"), {}, r"clips.csv, line 4: fold must be a whole number of 1 or more, got '1.5'"),
        (GOOD.replace("rain,1", "rain,0"), {}, r"line 4: fold must be a whole number of 1 or more, got '0' in column 'fold'"),
        (GOOD.replace("rain,1", "rain"), {}, r"clips.csv, line 4: a row must have 3 cells as the header has, got 2; quote"),
        (GOOD.replace("rain,1", "rain,1,x"), {}, r"clips.csv, line 4: a row must have 3 cells .*, got 4; quote .* ','"),
        (GOOD.replace(",2\n", ",1\n"), {}, r"clips.csv: folds must be at least two, got only \[1\]"),
        (GOOD.replace("rain,1", "rain,2"), {}, r"clips.csv: class 'rain' must occur in at least two folds, got it in fold 2"),
        (GOOD.replace("b.wav", "a.wav"), {}, r"clips.csv: the clips of one source must share a fold, got source 'a.wav'"),
        (GOOD.replace("b.wav", "a.flac"), {}, r"clip ids must be unique, got 1 that occur more than once: 'a'"),
        (GOOD, {"classes": ["dog", "rain", "cat"]}, r"clips.csv: every class must have clips, got none of 'cat'; options"),
    ],
)  # fmt: skip
def test_bad_listings(spec, layout, text, parameters, message):
    with pytest.raises(BadDataset, match=message):
        spec(text, **parameters).open(layout)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("x", "2", r"clips.csv, line 2: start must be a number of seconds of 0 or more, got 'x' in column 's'"),
        ("-1", "2", r"line 2: start must be a number of seconds of 0 or more, got '-1'"),
        ("0", "inf", r"line 2: end must be a number of seconds of 0 or more, got 'inf' in column 'e'"),
        ("2", "2", r"line 2: start must lie before end, got 2 s and 2 s; correct one of them"),
        ("", "0", r"line 2: start must lie before end, got 0 s and 0 s"),
    ],
)
def test_bad_stretches(spec, layout, start, end, message):
    text = f"path,label,fold,s,e\na.wav,dog,1,{start},{end}\n"
    with pytest.raises(BadDataset, match=message):
        spec(text, columns={"start": "s", "end": "e"}).open(layout)


def test_files_that_are_no_csv(tmp_path, layout):
    with pytest.raises(
        BadDataset, match=r"absent.csv must be a csv file, got: No such file or directory; check `path`"
    ):
        CsvDataset(path=tmp_path / "absent.csv").open(layout)
    (tmp_path / "latin.csv").write_bytes("path,label\nä.wav,dog\n".encode("latin-1"))
    with pytest.raises(BadDataset, match=r"latin.csv must be UTF-8 text, got .*; save it as 'CSV UTF-8'"):
        CsvDataset(path=tmp_path / "latin.csv").open(layout)
    (tmp_path / "long.csv").write_text(f"path,label\n{'x' * 200_000},dog\n")
    with pytest.raises(BadDataset, match=r"long.csv, line \d: must be a csv, got: field larger than field limit"):
        CsvDataset(path=tmp_path / "long.csv").open(layout)


@pytest.mark.parametrize("name", ["fold", "start_s", "outcome"])
def test_kept_columns_may_not_shadow_our_own(name):
    with pytest.raises(ValidationError, match=rf"keep must name columns that .* do not have, got \['{name}'\]; rename"):
        CsvDataset(path=Path("x.csv"), keep=["place", name])


def test_names_tell_files_and_parameters_apart_but_not_places():
    here, there = CsvDataset(path=Path("/a/My clips.csv")), CsvDataset(path=Path("/b/My clips.csv"), columns=Columns())
    assert here.asset_name == there.asset_name == "csv_my_clips"
    other = CsvDataset(path=Path("/a/My clips.csv"), n_folds=4)
    assert other.asset_name.startswith("csv_my_clips_")
    assert CsvDataset(path=Path("/a/x.csv"), name="mine").asset_name == "mine"


@pytest.mark.parametrize(
    ("header", "rows", "expected"),
    [
        (["path", "label"], [], Columns()),
        (
            ["filename", "fold", "target", "category", "esc10", "src_file", "take"],  # ESC-50's own
            [["1-1-A-0.wav", "1", "0", "dog", "True", "1", "A"]],
            Columns(path="filename", label="category", source="src_file"),
        ),
        (
            ["Recording", "Class", "Onset", "Offset", "thing"],
            [["r1", "dog", "0.5", "2", "x.WAV"], ["r2", "cat", "", "1", "y.flac"]],
            Columns(path="thing", label="Class", source="Recording", start="Onset", end="Offset"),
        ),
        # a split by name is no fold, and clock times are no seconds
        (
            ["file", "label", "fold", "start"],
            [["a.wav", "dog", "train", "0:01"]],
            Columns(path="file", fold=None),
        ),
    ],
)
def test_columns_are_guessed(header, rows, expected):
    assert guess_columns(header, rows) == expected


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            ["a", "label"],
            r"a csv must have a column with the path of each clip, got none among a, label; name it `path`",
        ),
        (
            ["file", "b"],
            r"a csv must have a column with the label of each clip, got none among file, b; name it `label`",
        ),
    ],
)
def test_columns_that_cannot_be_guessed(header, message):
    with pytest.raises(BadDataset, match=message):
        guess_columns(header, [["x", "y"]])
