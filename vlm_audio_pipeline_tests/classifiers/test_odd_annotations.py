"""Annotation files as spreadsheets save them."""

import pytest

from vlm_audio_pipeline.classifiers.annotations import read_csv_annotations
from vlm_audio_pipeline.contracts.errors import BadDataset

CLIPS = [f"{label}__{label}{i}" for label in ("high", "low") for i in range(4)]
HEADER = "clip,annotator,label"


def text(header=HEADER, separator=",", more=lambda i: "", newline="\n", end=""):
    rows = [separator.join((clip, "anna", clip[: clip.index("_")])) + more(i) for i, clip in enumerate(CLIPS)]
    return newline.join([header.replace(",", separator), *rows]) + newline + end


def read(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_csv_annotations(path, path.stat().st_mtime_ns)


READ = {
    "plain": text(),
    "semicolons": text(separator=";"),
    "tabs": text(separator="\t"),
    "a line sep=;": "sep=;\r\n" + text(separator=";", newline="\r\n"),
    "a byte order mark and blank rows": "\ufeff" + text(separator=";", newline="\r\n", end=";;\r\n;;\r\n"),
    "blank rows": text(end=",,\n,,\n"),
    "spaces in the header": text("clip, annotator, label"),
    "the former name of a column": text("clip,reader,label"),
    "other columns": text(HEADER + ",note", more=lambda i: ",fine"),
    "a date without a time": text(HEADER + ",answered_at", more=lambda i: ",2024-05-01"),
}


@pytest.mark.parametrize("name", READ)
def test_annotations_that_spreadsheets_write_are_read(tmp_path, name):
    annotations = read(tmp_path, READ[name])
    assert [(a.clip, a.annotator, a.label) for a in annotations] == [(c, "anna", c[: c.index("_")]) for c in CLIPS]


REFUSED = {
    "a doubled column": (text(HEADER + ",label", more=lambda i: ",high"), r"a.csv, line 1: .* got \['label'\] twice; rename"),
    "a column in two cases": (text(HEADER + ",Label", more=lambda i: ",high"), r"line 1: column names must look different"),
    "an annotator of two columns": (
        text(HEADER + ",reader,Annotator", more=lambda i: ",b,c"),
        r"line 1: column names must look different, got 'Annotator' and 'annotator'",
    ),
    "names of columns in another case": (text("Clip,Annotator,Label"), r"must have the columns clip, annotator, label, got"),
    "a short row": (text(end="low__low0,anna\n"), r"a.csv, line 10: a row must have 3 cells as the header has, got 2"),
    "a long row": (text(end="low__low0,anna,low,x,y\n"), r"a.csv, line 10: a row must have 3 cells .*, got 5"),
    "no label": (text(end="low__low0,bob,\n"), r"a.csv, line 10 must contain clip, annotator and label, got 'low__low0', 'bob'"),
    "a NUL byte": (text(end="low__low0,an\0na,low\n"), r"a.csv, line 10: the text contains a NUL byte"),
    "Windows-1252": (text(end="low__low0,J\xf6rg,low\n").encode("cp1252"), r"a.csv is not UTF-8 text \(.* in line 10\)"),
    "UTF-16": (text(separator="\t").encode("utf-16"), r"a.csv is not UTF-8 text \(it is UTF-16\)"),
    **{
        f"seconds of {value}": (text(HEADER + ",seconds", more=lambda i, value=value: f",{value}"), r"a.csv, line 2 must contain a number")
        for value in ("-3", "1_0", "nan", "1e999", '"0,5"', "-inf")
    },
    "an annotator in two cases": (
        text(end="low__low0,Anna,low\n"),
        r"a.csv: names of annotators must look different, got 'Anna' and 'anna'; write one of them everywhere",
    ),
    "an annotator with an invisible character": (
        text(end="low__low0,an\u200bna,low\n"),
        r"names of annotators must look different, got 'anna' and 'an\\u200bna'",
    ),
    "a quotation mark that is not closed": (text(end='low__low0,bob,"low\nlow__low1,bob,low\n'), r"a.csv, line 10: a quotation mark"),
    "a German time": (
        text(HEADER + ",answered_at", ";", lambda i: f";01.05.2024 12:0{i}"),
        r"a.csv, line 2 must contain .* an ISO 8601 time in answered_at, got '', '01.05.2024 12:00'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_annotations_that_cannot_be_trusted_are_refused(tmp_path, name):
    content, message = REFUSED[name]
    with pytest.raises(BadDataset, match=message):
        read(tmp_path, content)
