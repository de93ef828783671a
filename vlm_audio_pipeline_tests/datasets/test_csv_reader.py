"""The reader of listings and annotations: separators, marks, blank rows, headers, and messages with the line."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.csv_reader import read_csv, read_number

EXPECTED = [{"path": "a.wav", "label": "dog"}, {"path": "b.wav", "label": "rain"}]


def read(tmp_path, content: bytes | str):
    path = tmp_path / "x.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    header, rows = read_csv(path)
    return header, [(row.line, row.cells) for row in rows]


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.wav,dog\nb.wav,rain\n",
        "path;label\na.wav;dog\nb.wav;rain\n",
        "path\tlabel\na.wav\tdog\nb.wav\train",
        "\ufeffpath,label\r\na.wav,dog\r\nb.wav,rain\r\n",
        "sep=;\r\npath;label\r\na.wav;dog\r\nb.wav;rain\r\n",
        '\ufeff"sep=;"\npath;label\na.wav;dog\nb.wav;rain\n',
        "SEP=|\npath|label\na.wav|dog\nb.wav|rain\n",
        "sep=\t\npath\tlabel\na.wav\tdog\nb.wav\train\n",
        "sep=,,\npath,label\na.wav,dog\nb.wav,rain\n",  # a spreadsheet fills the row
        "path , label\na.wav, dog\nb.wav ,\xa0rain\n",
        ",\n\npath,label\n,\na.wav,dog\n   \nb.wav,rain\n,\n,\n",
        "path,label\ra.wav,dog\rb.wav,rain\r",
        '"path","label"\n"a.wav","dog"\n"b.wav","rain"\n',
        "sep=;\n\ufeffpath;label\na.wav;dog\nb.wav;rain\n",
    ],
)
def test_the_same_table_is_read_in_every_dialect(tmp_path, text):
    header, rows = read(tmp_path, text)
    assert header == ["path", "label"]
    assert [cells for _, cells in rows] == EXPECTED


def test_lines_are_counted_as_editors_do(tmp_path):
    assert [line for line, _ in read(tmp_path, "sep=;\n\npath;label\n;\na.wav;dog\n")[1]] == [5]
    assert [line for line, _ in read(tmp_path, 'path,label\n"a\nb",dog\nc,dog\n')[1]] == [3, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"x.csv must begin with a line of column names, got an empty file; add them"),
        ("\n,,\n", r"x.csv must begin with a line of column names"),
        ("path,label,label\na,b,c\n", r"x.csv, line 1: column names must be unique, got \['label'\] twice; rename or"),
        ("sep=;\npath;label;label\n", r"x.csv, line 2: column names must be unique, got \['label'\] twice"),
        ("path, label,label \n", r"line 1: column names must be unique, got \['label'\] twice"),
        ("path,label,Label\n", r"line 1: column names must look different, got 'Label' and 'label'; rename"),
        ("path,label,label\u200b\n", r"line 1: column names must look different, got 'label' and 'label\\u200b'"),
        (",path,label,\n", r"line 1: column names must be unique, got \[''\] twice"),
        ('sep="\npath,label\n', r"line 2: a row must have 1 cells as the header has, got 2"),  # a quote separates nothing
        ("a," * 10_000 + "a\n", r"line 1: a CSV must have at most 10,000 columns, got 10,001; remove columns"),
        ("path,label\na,b,c\n", r"line 2: a row must have 2 cells as the header has, got 3; quote cells that contain ','"),
        ("path;label\na\n", r"line 2: a row must have 2 cells as the header has, got 1; quote cells that contain ';'"),
        ("path,label\na,b\nc\0,d\n", r"line 3: the text contains a NUL byte \(the file is damaged\); save it again"),
        ("path,label\n".encode("utf-16-le"), r"line 1: the text contains a NUL byte \(it may be UTF-16\); save it again"),
        ("path,label\n".encode("utf-16"), r"x.csv is not UTF-8 text \(it is UTF-16\); save it as 'CSV UTF-8'"),
        (b"path,label\na,b\nk\xfc,c\n", r"x.csv is not UTF-8 text \(invalid start byte in line 3\); save it as 'CSV UTF-8'"),
        ('path,label\na,dog\nb,"rain\nc,dog\n', r"x.csv, line 3: a quotation mark in this row, or in one after it, is never closed"),
        ('path,label\n"', r"x.csv, line 2: a quotation mark in this row"),
        (b"PK\3\4 and more", r"x.csv is no CSV: it is a spreadsheet or another archive; save it as 'CSV UTF-8'"),
        ('[{"path": "a.wav"}]', r"x.csv is no CSV: it is JSON"),
        ("<html><table>", r"x.csv is no CSV: it is HTML or XML"),
        (f"path,label\n{'x' * 200_000},dog\n", r"line 2: this is not a valid csv: field larger than field limit"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_file_and_line(tmp_path, content, message):
    with pytest.raises(BadDataset, match=message):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1.0), ("-0.5", -0.5), (".5", 0.5), ("2.", 2.0), ("1e3", 1000.0), ("+7E-1", 0.7)]
)
def test_numbers_are_read(text, number):
    assert read_number(text) == number


@pytest.mark.parametrize("text", ["", "1_0", "0x1", "nan", "inf", "1e999", "0,5", "1 s", "\u0663", "1:30"])
def test_other_texts_are_no_numbers(text):
    with pytest.raises(ValueError, match="is not a number"):
        read_number(text)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes(content)
    try:
        header, rows = read_csv(path)
    except BadDataset as error:
        assert re.search(r"x\.csv( |,)", str(error))
    else:
        assert header and all(list(row.cells) == header for row in rows)
