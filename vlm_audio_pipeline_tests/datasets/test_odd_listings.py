"""Listings as spreadsheets and programs leave them."""

import unicodedata

import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.audio import BadAudio, decode
from vlm_audio_pipeline.datasets.csv_file import CsvDataset
from vlm_audio_pipeline_tests.datasets.odd_recordings import PCM, encoded, sine

ROWS = [(f"{label}{i}.wav", label, str(1 + i % 2)) for label in ("high", "low") for i in range(4)]


def text(rows=ROWS, header="path,label,fold", separator=",", end="", newline="\n"):
    lines = [header.replace(",", separator), *(separator.join(row) + end for row in rows)]
    return newline.join(lines) + newline


def relabel(change):
    """Return the rows with another label where `change(index, label)` returns one."""
    return [(path, change(i, label), fold) for i, (path, label, fold) in enumerate(ROWS)]


@pytest.fixture
def listing(tmp_path):
    """Return a function that writes a listing with its recordings and returns its spec."""
    for label, hz in (("high", 3000.0), ("low", 300.0)):
        for i in range(4):
            (tmp_path / f"{label}{i}.wav").write_bytes(encoded("WAV", "PCM_16", sine(hz=hz + i)))

    def make(content, **fields):
        (tmp_path / "clips.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        return CsvDataset(path=tmp_path / "clips.csv", **fields)

    return make


READ = {
    "plain": (text(), {}),
    "a line sep=;": ("sep=;\r\n" + text(separator=";", newline="\r\n"), {}),
    "semicolons, blank rows and a byte order mark": (
        "\ufeff" + text(separator=";", newline="\r\n") + ";;\r\n;;\r\n",
        {},
    ),
    "spaces in the header": (text(header="path , label, fold"), {}),
    "a no-break space after labels": (text(relabel(lambda i, label: label + "\xa0" * (i % 2))), {}),
    "line ends of old Macs": (text(newline="\r"), {}),
    "quoted line breaks": (
        text([(*row, '"two\r\nlines, ""q"""') for row in ROWS], "path,label,fold,note"),
        {"keep": ("note",)},
    ),
    "an index of pandas": (text([(str(i), *row) for i, row in enumerate(ROWS)], ",path,label,fold"), {}),
    "a comma at the end of each line": (text(header="path,label,fold,", end=","), {}),
    "a formula as label": (text(relabel(lambda _, label: "=1+1" if label == "low" else label)), {}),
    "HTML as label": (text(relabel(lambda _, label: "<b>low</b>&amp" if label == "low" else label)), {}),
}


@pytest.mark.parametrize("name", READ)
def test_listings_that_programs_write_are_read(listing, data_folder, name):
    content, fields = READ[name]
    dataset = listing(content, **fields).open(data_folder)
    assert [c.id for c in dataset.clips] == [path.removesuffix(".wav") for path, _, _ in ROWS]
    assert len(dataset.classes) == 2
    for clip in dataset.clips:
        decode(dataset.root / clip.file)


COMPOSED, DECOMPOSED = unicodedata.normalize("NFC", "k\xfche"), unicodedata.normalize("NFD", "k\xfche")
REFUSED = {
    "a NUL byte in a path": (text([*ROWS, ("a\0b.wav", "low", "1")]), r"clips.csv, line 10: the text contains a NUL byte"),
    "a file without a header": (
        text([*ROWS, ("x.raw", "low", "1")]),
        r"clips.csv, line 10: 'x.raw' has no header with a sample rate; convert it to WAV",
    ),
    "labels in two Unicode forms": (
        text(relabel(lambda i, label: (COMPOSED, DECOMPOSED)[i // 2 % 2] if label == "low" else label)),
        r"labels must look different, got 'ku\\u0308he' and 'k\\xfche', which differ only by case",
    ),
    "zero-width spaces in labels": (
        text(relabel(lambda i, label: label + "\u200b" * (i // 2 % 2))),
        r"labels must look different, got 'high' and 'high\\u200b'",
    ),
    "a no-break space within labels": (
        text(relabel(lambda i, label: "a" + " \xa0"[i // 2 % 2] + label)),
        r"labels must look different, got 'a high' and 'a\\xa0high'",
    ),
    "labels in two cases": (
        text(relabel(lambda i, label: label.title() if i // 2 % 2 else label)),
        r"labels must look different, got 'High' and 'high'",
    ),
    "a Cyrillic letter in labels": (
        text(relabel(lambda i, label: ("low", "l\u043ew")[i // 2 % 2] if label == "low" else label)),
        r"labels must look different, got 'low' and 'l\\u043ew'",
    ),
    "a hyphen without a break in labels": (
        text(relabel(lambda i, label: "a" + "-\u2011"[i // 2 % 2] + label)),
        r"labels must look different, got 'a-high' and 'a\\u2011high'",
    ),
    "a file twice in two writings": (text([*ROWS, ("./high0.wav", "high", "1")]), r"clip ids must be unique"),
    "a quotation mark that is not closed": (
        text([(*row, '"x' if i == 1 else "x") for i, row in enumerate(ROWS)], "path,label,fold,note"),
        r"clips.csv, line 3: a quotation mark in this row, or in one after it, is never closed",
    ),
    "a doubled column": (text([(*r, "x") for r in ROWS], "path,label,fold,label"), r"clips.csv, line 1: .*\['label'\] twice"),
    "a comment before the header": ("# exported\n" + text(), r"clips.csv, line 2: a row must have 1 cells"),
    "UTF-16": (text(separator="\t").encode("utf-16"), r"clips.csv is not UTF-8 text \(it is UTF-16\)"),
    "UTF-16 without a mark": (text().encode("utf-16-le"), r"clips.csv, line 1: .* NUL byte \(it may be UTF-16\)"),
    "Windows-1252": (text([*ROWS, ("k\xfche.wav", "low", "1")]).encode("cp1252"), r"not UTF-8 text \(.* in line 10\)"),
    "folds as floats": (text([(p, s, f + ".0") for p, s, f in ROWS]), r"line 2: fold must be a whole number .* got '1.0'"),
    "a row twice": (text([*ROWS, ROWS[0]]), r"clip ids must be unique, got 1 that occur more than once: 'high0'"),
    "other names of columns": (text(header="Path,Label,Fold"), r"`columns.path` must name a column, got 'path'; did you mean 'Path'"),
    "a label nan once": (text([*ROWS, ("low9.wav", "nan", "1")]), r"class 'nan' occurs only in"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_listings_that_cannot_be_trusted_are_refused(listing, data_folder, name):
    content, message = REFUSED[name]
    with pytest.raises(BadDataset, match=message):
        listing(content).open(data_folder)


@pytest.mark.parametrize(("label", "fold"), [("high", "1"), ("low", "1")])
def test_a_segment_of_a_recording_is_one_clip(listing, data_folder, label, fold):
    rows = [(str(i), *row) for i, row in enumerate([*ROWS, ("./high0.wav", label, fold)])]
    message = r"clips.csv, line 10: each segment of a recording must be one clip, but this segment of high0.wav is in line 2, too"
    with pytest.raises(BadDataset, match=message):
        listing(text(rows, "id,path,label,fold"), columns={"id": "id"}).open(data_folder)


def test_two_segments_of_a_recording_are_two_clips(listing, data_folder):
    rows = [(*row, *times) for row in ROWS for times in (("", "0.1"), ("0.1", "0.2"), ("0.1", ""))]
    columns = {"start": "start", "end": "end"}
    assert len(listing(text(rows, "path,label,fold,start,end"), columns=columns).open(data_folder).clips) == 24


def test_decimal_commas_are_refused_with_the_line(listing, data_folder):
    content = text([(*row, "0,1", "0,2") for row in ROWS], "path,label,fold,von,bis", ";")
    with pytest.raises(
        BadDataset, match=r"line 2: start must be a number of seconds of 0 or more, got '0,1' in column"
    ):
        listing(content, columns={"start": "von", "end": "bis"}).open(data_folder)


@pytest.mark.parametrize("path", ["https://x.org/a.wav", "C:\\data\\a.wav", "LOW0.WAV", "caf\xe9.wav"])
def test_paths_that_do_not_exist_are_missing_recordings(listing, data_folder, path):
    dataset = listing(text([*ROWS, (path, "low", "1")])).open(data_folder)
    [clip] = [c for c in dataset.clips if not (dataset.root / c.file).exists()]
    with pytest.raises(BadAudio, match="missing: the file does not exist"):
        decode(dataset.root / clip.file)


def test_long_names_are_read(listing, data_folder, tmp_path):
    name = "n" * 251 + ".wav"  # 255 bytes, the longest name of most file systems
    (tmp_path / name).write_bytes(encoded("WAV"))
    assert len(listing(text([*ROWS, (name, "low", "1")])).open(data_folder).clips) == 9


def test_a_file_without_a_header_is_set_aside_if_bad_clips_are_skipped(listing, data_folder, tmp_path):
    (tmp_path / "x.raw").write_bytes(PCM)
    dataset = listing(text([*ROWS, ("x.raw", "low", "1")]), on_bad_clip="skip").open(data_folder)
    with pytest.raises(BadAudio, match="undecodable: the file does not begin like a recording"):
        decode(dataset.root / "x.raw")
    assert len(dataset.clips) == 9
