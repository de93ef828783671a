"""Kind `csv`: any recordings, listed in a file with one row a clip.

What belongs here: reading and checking such a listing. What does not: choosing folds where it has none (`folds.py`),
and whether the recordings themselves can be used, which only decoding shows.
"""

import csv
import io
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.specs import StudyPath, not_identity
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.datasets.base import DATASETS, Card, Clip, Dataset, DatasetSpec
from vlm_audio_pipeline.datasets.folds import check_folds, fold_memory, settled_folds
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.storage.schemas import TABLES

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
_KNOWN_AS = {
    "path": ("path", "file", "filename", "filepath", "file_path", "file_name", "audio", "wav"),
    "label": ("label", "class", "category", "target_name"),
    "fold": ("fold", "split_id"),
    "source": ("source", "src_file", "recording", "group"),
    "start": ("start", "onset", "start_s"),
    "end": ("end", "offset", "end_s"),
}


class Columns(BaseModel):
    """Which column of a csv holds what."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    path: str = "path"
    """The recording, relative to `audio_dir`, or absolute."""
    label: str = "label"
    """The class."""
    fold: str | None = "fold"
    """A whole number of 1 or more; where there is no column `fold`, or with null, folds are chosen."""
    source: str | None = None
    """The recording a clip was cut from; by default the column `source` if there is one, else the file."""
    start: str | None = None
    """Start of the clip within the file, s."""
    end: str | None = None
    """End of the clip within the file, s."""
    id: str | None = None
    """Unique name of the clip; by default made from the path."""


@dataclass(frozen=True)
class Row:
    """One row of a csv: its line number (from 1) and its cells by column name, stripped."""

    line: int
    cells: dict[str, str]


def slug(name: str) -> str:
    """Make a name that may stand in an asset's name.

    >>> slug("My clips (v2)")
    'my_clips_v2'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "unnamed"


@DATASETS.register("csv")
class CsvDataset(DatasetSpec):
    """Recordings listed in a csv: comma, semicolon or tab; UTF-8; one row a clip."""

    path: StudyPath = not_identity()
    """The csv file."""
    columns: Columns = Columns()
    """Which column holds what."""
    keep: tuple[str, ...] = ()
    """Further columns to keep, as text, in the table of clips."""
    audio_dir: StudyPath | None = not_identity(None)
    """Folder that relative paths start from; by default the folder of the csv."""
    n_folds: int = Field(5, ge=2)
    """Number of folds, where the csv has none. A clip keeps its fold when others are added, as long as the csv stays
    where it is."""
    seed: int = 0
    """Decides between equally good folds, where the csv has none."""

    @field_validator("keep")
    @classmethod
    def _new_names(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        taken = set(TABLES["clips"].arrow.names) | set(TABLES["predictions"].arrow.names)
        clashes = [name for name in keep if name.lower() in taken]  # SQL ignores case
        if clashes:
            raise ValueError(
                f"keep must name columns that the project's own tables do not have, got {clashes}; "
                "rename them in the csv, or leave them out"
            )
        return keep

    @property
    def asset_name(self) -> str:
        """Name of the dataset's asset: made from the file's name, and a short hash of parameters that were set."""
        identity = self.identity()
        set_apart = "" if len(identity) == 1 else f"_{fingerprint(identity, length=8)}"
        return self.name or f"{self.kind}_{slug(self.path.stem)}{set_apart}"

    def folds(self, layout: Layout) -> tuple[int, ...]:
        """Give the folds, ascending; reads the csv and no recording."""
        _, clips = self._listing(layout, remember=False)
        return tuple(sorted({c.fold for c in clips}))

    def to_download(self, layout: Layout) -> int:
        """Give 0: nothing is downloaded."""
        return 0

    def open(self, layout: Layout, progress: Progress = silent) -> Dataset:
        """Read and check the listing.

        Raises:
            BadDataset: naming the file and, where there is one, the line.
        """
        root, clips = self._listing(layout, remember=True)
        classes = self.classes or tuple(sorted({c.label for c in clips}))
        return Dataset(root, classes, tuple(clips), Card(self.path.name, url=str(self.path)), self.on_bad_clip)

    def _listing(self, layout: Layout, *, remember: bool) -> tuple[Path, list[Clip]]:
        header, rows = read_csv(self.path)
        if not rows:
            raise BadDataset(f"{self.path} must have at least one row below its header, got none; list a clip a row")
        columns = self._found(header)
        base = Path(os.path.abspath(self.audio_dir or self.path.parent))
        paths = [_normal(base, self._text(row, columns.path, "path")) for row in rows]
        inside = all(p.is_relative_to(base) for p in paths)
        root = base if inside else Path(os.path.commonpath([base, *(p.parent for p in paths)]))
        clips = []
        for row, path in zip(rows, paths, strict=True):
            start, end = self._stretch(row, columns)
            seen_from_base = Path(os.path.relpath(path, base)).as_posix()  # the same wherever other rows lie
            name = _clip_name(base, path) + _stretch_name(start, end)
            clips.append(
                Clip(
                    id=self._text(row, columns.id, "id") if columns.id else name,
                    label=self._text(row, columns.label, "label"),
                    fold=self._fold(row, columns.fold) if columns.fold else 0,
                    source=self._text(row, columns.source, "source") if columns.source else seen_from_base,
                    file=path.relative_to(root).as_posix(),
                    start_s=start,
                    end_s=end,
                    kept={column: row.cells[column] for column in self.keep},
                )
            )
        clips = self._of_classes(clips)
        if columns.fold:
            check_folds(((c.id, c.label, c.source, c.fold) for c in clips), str(self.path))
        else:
            listed = [(c.id, c.label, c.source) for c in clips]
            memory = fold_memory(
                f"{self.kind}_{slug(self.path.resolve().stem)}", self.path, columns.source, self.n_folds, self.seed
            )
            fold_of = settled_folds(layout, memory, listed, self.n_folds, self.seed, remember=remember)
            clips = [replace(c, fold=fold_of[c.source]) for c in clips]
        return root, sorted(clips, key=lambda c: c.id)

    def _found(self, header: list[str]) -> Columns:
        """Settle which columns are read: those that may be absent become None."""
        columns = self.columns
        if columns.fold == "fold" and "fold" not in header:
            columns = columns.model_copy(update={"fold": None})
        if columns.source is None and "source" in header:
            columns = columns.model_copy(update={"source": "source"})
        wanted = [(f"columns.{role}", name) for role, name in columns.model_dump().items() if name is not None]
        for role, name in wanted + [("keep", name) for name in self.keep]:
            if name not in header:
                raise BadDataset(f"{self.path}: `{role}` must name a column, got '{name}'; {suggestion(name, header)}")
        return columns

    def _wrong(self, row: Row, what: str) -> BadDataset:
        return BadDataset(f"{self.path}, line {row.line}: {what}")

    def _text(self, row: Row, column: str, role: str) -> str:
        if not row.cells[column]:
            raise self._wrong(row, f"{role} must not be empty; fill in column '{column}'")
        return row.cells[column]

    def _fold(self, row: Row, column: str) -> int:
        text = row.cells[column]
        if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
            raise self._wrong(
                row, f"fold must be a whole number of 1 or more, got '{text}' in column '{column}'; number folds from 1"
            )
        return int(text)

    def _stretch(self, row: Row, columns: Columns) -> tuple[float | None, float | None]:
        start, end = self._seconds(row, columns.start, "start"), self._seconds(row, columns.end, "end")
        if end is not None and (start or 0.0) >= end:
            raise self._wrong(
                row, f"start must lie before end, got {start or 0:g} s and {end:g} s; correct one of them"
            )
        return start, end

    def _seconds(self, row: Row, column: str | None, role: str) -> float | None:
        text = row.cells[column] if column else ""
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0:
            raise self._wrong(
                row,
                f"{role} must be a number of seconds of 0 or more, got '{text}' in column '{column}'; write e.g. 1.5",
            )
        return value

    def _of_classes(self, clips: list[Clip]) -> list[Clip]:
        if self.classes is None:
            return clips
        there = {c.label for c in clips}
        for label in self.classes:
            if label not in there:
                raise BadDataset(
                    f"{self.path}: every class must have clips, got none of '{label}'; {suggestion(label, there)}"
                )
        return [c for c in clips if c.label in self.classes]


def read_csv(path: Path) -> tuple[list[str], list[Row]]:
    """Read a csv separated by comma, semicolon or tab, whichever gives its header the most columns.

    Args:
        path: UTF-8, with or without byte order mark. Empty lines are passed over.

    Returns:
        The column names and the rows.

    Raises:
        BadDataset: for a file that is absent or is no text, an empty one, column names that are empty or occur twice,
            and rows with more or fewer cells than the header.
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
    rows: list[Row] = []
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
            rows.append(Row(reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise BadDataset(f"{path}, line {reader.line_num}: must be a csv, got: {error}; save it anew") from error
    twice = sorted({name for name in header if header.count(name) > 1})
    if not header or twice:
        raise BadDataset(
            f"{path} must begin with a line of distinct column names, got {f'{twice} twice' if twice else 'none'}; "
            "add or rename them"
        )
    return header, rows


def guess_columns(header: Sequence[str], first_rows: Sequence[Sequence[str]] = ()) -> Columns:
    """Guess from names and contents which column of a csv holds what.

    Args:
        header: the column names.
        first_rows: some rows, cells in the order of the header.

    Returns:
        A mapping to offer; `source` and the stretch are None where nothing looks like them, and `fold` keeps its default
        where the csv has no folds.

    Raises:
        BadDataset: when no column looks like the path or the label; lists those there are.

    >>> guess_columns(["filename", "category"]).label
    'category'
    """
    by_name = {name.strip().lower(): name for name in reversed(header)}
    cells = {name: [row[at].strip() for row in first_rows if at < len(row)] for at, name in enumerate(header)}

    def named(role: str) -> str | None:
        return next((by_name[alias] for alias in _KNOWN_AS[role] if alias in by_name), None)

    def numbers(name: str | None, pattern: str) -> str | None:
        return name if name and all(re.fullmatch(pattern, c) for c in cells[name] if c) else None

    def of_files() -> str | None:
        return next((n for n in header if cells[n] and all(c.lower().endswith(AUDIO_SUFFIXES) for c in cells[n])), None)

    found = {"path": named("path") or of_files(), "label": named("label")}
    for role, name in found.items():
        if name is None:
            raise BadDataset(
                f"a csv must have a column with the {role} of each clip, got none among {', '.join(header)}; "
                f"name it `{role}`, or say which it is under `columns`"
            )
    return Columns(
        path=found["path"] or "",
        label=found["label"] or "",
        fold=numbers(named("fold"), r"0*[1-9][0-9]*") or (None if "fold" in header else "fold"),
        source=named("source"),
        start=numbers(named("start"), r"[0-9]*\.?[0-9]+"),
        end=numbers(named("end"), r"[0-9]*\.?[0-9]+"),
    )


def _normal(base: Path, written: str) -> Path:
    return Path(os.path.normpath(base / written.replace("\\", "/")))


def _clip_name(base: Path, path: Path) -> str:
    """Name a clip by its path below `base`, or by the way to it from there, so that other rows do not matter."""
    parts = Path(os.path.splitext(os.path.relpath(path, base))[0]).parts
    return "__".join(part for part in parts if part != "..")


def _stretch_name(start: float | None, end: float | None) -> str:
    if start is None and end is None:
        return ""
    return f"@{start or 0:.10g}-{'end' if end is None else f'{end:.10g}'}"
