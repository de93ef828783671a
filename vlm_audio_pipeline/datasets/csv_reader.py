"""Read CSV files as spreadsheets and other programs save them: listings of clips and annotations.

Belongs here: text, separator, header and rows. Does not belong here: the meaning of columns (`csv_columns.py`).
"""

import csv
import io
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.contracts.look_alikes import find_look_alikes, show_escaped
from vlm_audio_pipeline.contracts.regular_files import open_regular

MAX_CSV_BYTES = 500_000_000
"""Size of the largest csv, bytes; a listing of a million clips has about 100 MB."""
MAX_COLUMNS = 10_000
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_SEPARATOR_LINE = re.compile(r'[ \t]*"?sep=([^\w\s"]|\t)"?[;,\t ]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
_END = "\ue000end of the file\ue000"
"""A last row, which becomes part of another cell if a quotation mark is not closed."""
_OTHER_FILES = (
    (b"PK\3\4", "it is a spreadsheet or another archive"),
    (b"\xd0\xcf\x11\xe0", "it is a spreadsheet"),
    (b"<", "it is HTML or XML"),
    (b"{", "it is JSON"),
    (b"[", "it is JSON"),
)
"""First bytes of other files, and what they are."""
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row of a CSV: its line number (from 1) and its cells by column name, without spaces around them."""

    line: int
    cells: dict[str, str]


def read_csv(path: Path) -> tuple[list[str], list[CsvRow]]:
    """Read a CSV with the separator (comma, semicolon or tab) that splits its header into the most columns.

    A first line `sep=;`, which Excel writes and reads, names the separator.

    Args:
        path: UTF-8, with or without byte order mark. Empty rows are skipped; spaces around cells are removed.

    Returns:
        The column names and the rows.

    Raises:
        BadDataset: for a file that is missing, empty or not text, for column names that occur twice or look equal, and for
            rows with more or fewer cells than the header; with the line.
    """
    text = read_text(path)
    separator_line = _SEPARATOR_LINE.match(text)
    lines_before = 0
    if separator_line:
        delimiter, text, lines_before = separator_line[1], text[separator_line.end() :], 1
    else:
        first = next((line for line in text.splitlines() if line.strip()), "")
        delimiter = max(",;\t", key=lambda separator: len(next(csv.reader([first], delimiter=separator), [])))
    reader = csv.reader(io.StringIO(f"{text}\n{_END}", newline=""), delimiter=delimiter)
    header: list[str] = []
    rows: list[CsvRow] = []
    line = lines_before
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if _END in row[-1:] or (row and row[-1].endswith(f"\n{_END}")):
                if row != [_END]:
                    raise BadDataset(
                        f"{path}, line {line + 1}: a quotation mark in this row, or in one after it, is never closed; close it, or "
                        "remove it"
                    )
                break
            line = reader.line_num + lines_before
            if not any(cells):
                continue
            if not header:
                header = [name.strip("\ufeff").strip() for name in cells]
                _check_header(path, line, header)
            elif len(cells) != len(header):
                raise BadDataset(
                    f"{path}, line {line}: a row must have {len(header)} cells as the header has, "
                    f"got {len(cells)}; quote cells that contain '{delimiter}'"
                )
            else:
                rows.append(CsvRow(line, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        line = reader.line_num + lines_before
        raise BadDataset(f"{path}, line {line}: this is not a valid csv: {error}; save it again") from error
    if not header:
        raise BadDataset(f"{path} must begin with a line of column names, got an empty file; add them")
    return header, rows


def read_text(path: Path, *, is_json: bool = False) -> str:
    """Read a text file in UTF-8, with or without byte order mark.

    Args:
        path: the file.
        is_json: whether it may be JSON.

    Raises:
        BadDataset: for a file that is missing, too large, of another kind, or not text; with the line.
    """
    try:
        with open_regular(path, MAX_CSV_BYTES) as file:
            content = file.read(MAX_CSV_BYTES)
    except OSError as error:
        raise BadDataset(f"{path} cannot be read: {error.strerror}; check `path`") from error
    for beginning, kind in _OTHER_FILES:
        if content.lstrip().startswith(beginning) and not (is_json and beginning in (b"{", b"[")):
            raise BadDataset(f"{path} is no CSV: {kind}; save it as 'CSV UTF-8'")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = "it is UTF-16" if content.startswith(_UTF16_MARKS) else f"{error.reason} in line {line}"
        raise BadDataset(f"{path} is not UTF-8 text ({reason}); save it as 'CSV UTF-8'") from error
    position = text.find("\0")
    if position >= 0:
        reason = "it may be UTF-16" if text.count("\0") > len(text) // 4 else "the file is damaged"
        line = text.count("\n", 0, position) + 1
        raise BadDataset(f"{path}, line {line}: the text contains a NUL byte ({reason}); save it again as 'CSV UTF-8'")
    return text


def _check_header(path: Path, line: int, header: list[str]) -> None:
    if len(header) > MAX_COLUMNS:
        raise BadDataset(
            f"{path}, line {line}: a CSV must have at most {MAX_COLUMNS:,} columns, got {len(header):,}; remove columns"
        )
    duplicates = sorted(name for name, count in Counter(header).items() if count > 1)
    if duplicates:
        raise BadDataset(
            f"{path}, line {line}: column names must be unique, got {duplicates} twice; rename or remove one of the columns"
        )
    if alike := find_look_alikes(header):
        raise BadDataset(
            f"{path}, line {line}: column names must look different, got {show_escaped(alike[0])}; rename or remove one of "
            "the columns"
        )


def read_number(text: str) -> float:
    """Return the number in a cell, written with ASCII digits.

    Raises:
        ValueError: for another text, also for one that only Python reads as a number, such as `1_0`, and for infinity.
    """
    if not _NUMBER.fullmatch(text) or not math.isfinite(value := float(text)):
        raise ValueError(f"'{text}' is not a number")
    return value
