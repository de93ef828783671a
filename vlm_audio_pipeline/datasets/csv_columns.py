"""Read a csv and guess the meaning of its columns."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.audio import AUDIO_SUFFIXES

_COLUMN_NAMES = {
    "path": ("path", "file", "filename", "filepath", "file_path", "file_name", "audio", "wav"),
    "label": ("label", "class", "category", "target_name"),
    "fold": ("fold", "split_id"),
    "source": ("source", "src_file", "recording", "group"),
    "start": ("start", "onset", "start_s"),
    "end": ("end", "offset", "end_s"),
}


class Columns(BaseModel):
    """The columns of a csv, by their meaning."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    path: str = "path"
    """The recording, relative to `audio_dir`, or absolute."""
    label: str = "label"
    """The class."""
    fold: str | None = "fold"
    """A whole number of 1 or more; without a column `fold`, or with null, folds are assigned."""
    source: str | None = None
    """The source recording of a clip; by default the column `source` if it exists, else the file."""
    start: str | None = None
    """Start of the clip within the file, s."""
    end: str | None = None
    """End of the clip within the file, s."""
    id: str | None = None
    """Unique name of the clip; by default made from the path."""


@dataclass(frozen=True)
class ListingRow:
    """One row of a csv: its line number (from 1) and its cells by column name, stripped."""

    line: int
    cells: dict[str, str]


def read_csv(path: Path) -> tuple[list[str], list[ListingRow]]:
    """Read a csv with the separator (comma, semicolon or tab) that splits its header into most columns.

    Args:
        path: UTF-8, with or without byte order mark. Empty lines are skipped.

    Returns:
        The column names and the rows.

    Raises:
        BadDataset: for a file that is missing, empty or not text, for column names that are empty or occur twice, and
            for rows with more or fewer cells than the header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadDataset(f"{path} must be UTF-8 text, got {error.reason}; save it as 'CSV UTF-8'") from error
    except OSError as error:
        raise BadDataset(f"{path} must be a csv file, got: {error.strerror}; check `path`") from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header: list[str] = []
    rows: list[ListingRow] = []
    try:
        for raw in reader:
            cells = [cell.strip() for cell in raw]
            if not any(cells):
                continue
            if not header:
                header = cells
                continue
            if len(cells) != len(header):
                raise BadDataset(
                    f"{path}, line {reader.line_num}: a row must have {len(header)} cells as the header has, "
                    f"got {len(cells)}; quote cells that contain '{delimiter}'"
                )
            rows.append(ListingRow(reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise BadDataset(f"{path}, line {reader.line_num}: must be a csv, got: {error}; save it again") from error
    duplicates = sorted({name for name in header if header.count(name) > 1})
    if not header or duplicates:
        raise BadDataset(
            f"{path} must begin with a line of unique column names, got {f'{duplicates} twice' if duplicates else 'none'}; "
            "add or rename them"
        )
    return header, rows


def guess_columns(header: Sequence[str], first_rows: Sequence[Sequence[str]] = ()) -> Columns:
    """Guess the meaning of the columns of a csv from their names and contents.

    Args:
        header: the column names.
        first_rows: the first rows, cells in the order of the header.

    Returns:
        The columns; `source`, `start` and `end` are None if no column fits, and `fold` keeps its default if the csv has no
        folds.

    Raises:
        BadDataset: if no column fits the path or the label; the message lists the columns.

    >>> guess_columns(["filename", "category"]).label
    'category'
    """
    by_name = {name.strip().lower(): name for name in reversed(header)}
    cells = {name: [row[at].strip() for row in first_rows if at < len(row)] for at, name in enumerate(header)}

    def by_role(role: str) -> str | None:
        return next((by_name[alias] for alias in _COLUMN_NAMES[role] if alias in by_name), None)

    def if_matches(name: str | None, pattern: str) -> str | None:
        return name if name and all(re.fullmatch(pattern, c) for c in cells[name] if c) else None

    def file_column() -> str | None:
        return next((n for n in header if cells[n] and all(c.lower().endswith(AUDIO_SUFFIXES) for c in cells[n])), None)

    required = {"path": by_role("path") or file_column(), "label": by_role("label")}
    for role, name in required.items():
        if name is None:
            raise BadDataset(
                f"a csv must have a column with the {role} of each clip, got none among {', '.join(header)}; "
                f"name it `{role}`, or set it in `columns`"
            )
    return Columns(
        path=required["path"] or "",
        label=required["label"] or "",
        fold=if_matches(by_role("fold"), r"0*[1-9][0-9]*") or (None if "fold" in header else "fold"),
        source=by_role("source"),
        start=if_matches(by_role("start"), r"[0-9]*\.?[0-9]+"),
        end=if_matches(by_role("end"), r"[0-9]*\.?[0-9]+"),
    )
