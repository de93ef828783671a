"""Dataset kind `csv`: recordings that are listed in a CSV file, one row per clip.

Belongs here: reading and checking the listing. Does not belong here: assigning folds to a listing without folds
(`folds.py`) and checking the recordings (`inspection.py`).
"""

import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field, field_validator

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.paths import require_text_path
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.regular_files import file_stamp
from vlm_audio_pipeline.contracts.specs import StudyPath, excluded_from_fingerprint
from vlm_audio_pipeline.datasets.base import DATASETS, Clip, Dataset, DatasetSpec, label_text, slug
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.datasets.csv_columns import Columns
from vlm_audio_pipeline.datasets.csv_reader import CsvRow, read_csv, read_number
from vlm_audio_pipeline.datasets.folds import check_folds, fold_file_name, persistent_folds
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.schemas import TABLES

_MAX_FOLD_DIGITS = 9
_MIN_AGE_NS = 100_000_000  # longer than a clock tick of common file systems (1 to 10 ms)


@DATASETS.register("csv")
class CsvDataset(DatasetSpec):
    """Recordings listed in a CSV: comma, semicolon or tab; UTF-8; one row per clip."""

    path: StudyPath = excluded_from_fingerprint()
    """The CSV file."""
    columns: Columns = Columns()
    """The columns of the CSV, by their meaning."""
    label_separator: str = Field(";", min_length=1)
    """Text between the classes in the column `labels`; spaces around a class are removed."""
    keep: tuple[str, ...] = ()
    """Other columns of the CSV that become columns of `clips`, as text."""
    audio_dir: StudyPath | None = excluded_from_fingerprint(None)
    """Folder that relative paths start from; by default the folder of the csv."""
    n_folds: int = Field(5, ge=2)
    """Number of folds to assign, if the CSV has no folds. A clip keeps its fold when others are added, as long as the CSV
    is not moved."""
    seed: int = 0
    """Seed for the choice between equally good folds, if the CSV has no folds."""

    @field_validator("keep")
    @classmethod
    def _refuse_table_columns(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        reserved_names = set(TABLES["clips"].arrow.names) | set(TABLES["predictions"].arrow.names)
        clashes = [name for name in keep if name.lower() in reserved_names]  # SQL ignores case
        if clashes:
            raise ValueError(
                f"keep must name columns that the project's own tables do not have, got {clashes}; "
                "rename them in the CSV, or leave them out"
            )
        return keep

    @property
    def base_name(self) -> str:
        """The kind and the name of the file."""
        return f"{self.kind}_{slug(self.path.stem)}"

    def folds(self, data_folder: DataFolder) -> tuple[int, ...]:
        """Return the folds, ascending; reads the CSV and no recording."""
        listing = self._read_listing()
        _LISTINGS.keep(self, listing)
        return tuple(sorted({c.fold for c in self._assign_folds(listing, data_folder, save=False)}))

    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """Read and check the listing.

        Raises:
            BadDataset: with the file and the line, for a listing that cannot be used.
        """
        listing = _LISTINGS.take(self) or self._read_listing()
        clips = tuple(sorted(self._assign_folds(listing, data_folder, save=True), key=lambda c: c.id))
        classes = self.classes or tuple(sorted({name for c in clips for name in c.class_names}))
        return Dataset(listing.root, classes, clips, DatasetCard(self.path.name, url=str(self.path)), self.on_bad_clip)

    def _assign_folds(self, listing: "_Listing", data_folder: DataFolder, *, save: bool) -> list[Clip]:
        """Return the clips with their folds: those of the CSV, or assigned ones."""
        clips, columns = listing.clips, listing.columns
        if columns.fold:
            return clips
        fold_inputs = [values for c in clips for values in _fold_inputs(c)]
        file_name = fold_file_name(
            f"{self.kind}_{slug(self.path.resolve().stem)}", self.path, columns.source, self.n_folds, self.seed
        )
        fold_of_source = persistent_folds(data_folder, file_name, fold_inputs, self.n_folds, self.seed, save=save)
        return [replace(c, fold=fold_of_source[c.source]) for c in clips]

    def _read_listing(self) -> "_Listing":
        require_text_path(self.path)
        status = os.stat(self.path) if self.path.exists() else None
        header, rows = read_csv(self.path)
        if not rows:
            raise BadDataset(f"{self.path} has no rows below its header; write one row per clip")
        columns = self._resolve_columns(header)
        base = os.path.abspath(self.audio_dir or self.path.parent)
        paths = [_normalise(base, self._text(row, columns.path, "path")) for row in rows]
        root = base
        if not all(_is_inside(path, base) for path in paths):
            root = os.path.commonpath([base, *{os.path.dirname(path) for path in paths}])
        clips = []
        for row, path in zip(rows, paths, strict=True):
            if path[-4:].lower() == ".raw" and Path(path).suffix and self.on_bad_clip == "stop":
                raise self._error(
                    row, f"'{os.path.basename(path)}' has no header with a sample rate; convert it to WAV"
                )
            start, end = self._segment(row, columns)
            labels = self._labels(row, columns.labels) if columns.labels else None
            label = self._text(row, columns.label, "label") if labels is None else label_text(labels)
            relative_path = _relative_path(path, base)  # relative to `base`, because `root` depends on the other rows
            clips.append(
                Clip(
                    id=self._text(row, columns.id, "id")
                    if columns.id
                    else _clip_name(relative_path) + _segment_name(start, end),
                    label=sys.intern(label),
                    labels=labels,
                    fold=self._fold(row, columns.fold) if columns.fold else 0,
                    source=self._text(row, columns.source, "source") if columns.source else relative_path,
                    file=_relative_path(path, root),
                    start_s=start,
                    end_s=end,
                    extra={column: row.cells[column] for column in self.keep},
                )
            )
        if columns.id:  # otherwise two clips of one segment have one id, which is refused too
            self._refuse_equal_segments(rows, clips)
        clips = self._select_classes(clips)
        if columns.fold:
            check_folds(((*values, c.fold) for c in clips for values in _fold_inputs(c)), str(self.path))
        return _Listing(Path(root), columns, clips, None if status is None else file_stamp(status))

    def _refuse_equal_segments(self, rows: Sequence[CsvRow], clips: Sequence[Clip]) -> None:
        lines: dict[tuple[str, float, float | None], int] = {}
        for row, clip in zip(rows, clips, strict=True):
            line = lines.setdefault((clip.file, clip.start_s or 0.0, clip.end_s), row.line)
            if line != row.line:
                raise self._error(
                    row,
                    f"each segment of a recording must be one clip, but this segment of {clip.file} is in line {line}, too; remove "
                    "one of the lines",
                )

    def _resolve_columns(self, header: list[str]) -> Columns:
        """Return the columns to read; an optional column that the CSV does not have becomes None."""
        columns = self.columns
        if columns.fold == "fold" and "fold" not in header:
            columns = columns.model_copy(update={"fold": None})
        if columns.source is None and "source" in header:
            columns = columns.model_copy(update={"source": "source"})
        roles = columns.model_dump(exclude={"label"} if columns.labels else set())
        required = [(f"columns.{role}", name) for role, name in roles.items() if name is not None]
        for role, name in required + [("keep", name) for name in self.keep]:
            if name not in header:
                raise BadDataset(f"{self.path}: `{role}` must name a column, got '{name}'; {suggestion(name, header)}")
        return columns

    def _error(self, row: CsvRow, message: str) -> BadDataset:
        return BadDataset(f"{self.path}, line {row.line}: {message}")

    def _text(self, row: CsvRow, column: str, role: str) -> str:
        if not row.cells[column]:
            raise self._error(row, f"{role} must not be empty; fill in column '{column}'")
        return row.cells[column]

    def _labels(self, row: CsvRow, column: str) -> tuple[str, ...]:
        """Return the classes in a cell, sorted; an empty cell is a clip without classes."""
        names = [sys.intern(name.strip()) for name in row.cells[column].split(self.label_separator)]
        if not any(names):
            return ()
        if not all(names) or len(set(names)) < len(names):
            raise self._error(
                row,
                f"labels must be different classes with '{self.label_separator}' between them, got '{row.cells[column]}' in column "
                f"'{column}'; remove empty and repeated classes",
            )
        return tuple(sorted(names))

    def _fold(self, row: CsvRow, column: str) -> int:
        text = row.cells[column]
        if not re.fullmatch(r"0*[1-9][0-9]*", text):
            raise self._error(
                row, f"fold must be a whole number of 1 or more, got '{text}' in column '{column}'; number folds from 1"
            )
        if len(text.lstrip("0")) > _MAX_FOLD_DIGITS:
            raise self._error(
                row,
                f"fold must have at most {_MAX_FOLD_DIGITS} digits, got '{text[:20]}...' in column '{column}'; number folds from 1",
            )
        return int(text)

    def _segment(self, row: CsvRow, columns: Columns) -> tuple[float | None, float | None]:
        start, end = self._seconds(row, columns.start, "start"), self._seconds(row, columns.end, "end")
        if end is not None and (start or 0.0) >= end:
            raise self._error(row, f"start must be before end, got {start or 0:g} s and {end:g} s; correct one of them")
        return start, end

    def _seconds(self, row: CsvRow, column: str | None, role: str) -> float | None:
        text = row.cells[column] if column else ""
        if not text:
            return None
        try:
            value = read_number(text)
        except ValueError:
            value = -1.0
        if value < 0:
            raise self._error(
                row,
                f"{role} must be a number of seconds of 0 or more, got '{text}' in column '{column}'; write e.g. 1.5",
            )
        return value

    def _select_classes(self, clips: list[Clip]) -> list[Clip]:
        if self.classes is None:
            return clips
        labels = {name for c in clips for name in c.class_names}
        for label in self.classes:
            if label not in labels:
                raise BadDataset(f"{self.path}: class '{label}' has no clips; {suggestion(label, labels)}")
        return [selected for c in clips if (selected := _select_labels(c, self.classes)) is not None]


@dataclass(frozen=True)
class _Listing:
    """The content of a CSV.

    Attributes:
        root: folder that contains all recordings.
        columns: the columns that were read.
        clips: in the order of the rows; the fold is 0 if the CSV has no folds.
        stamp: see `file_stamp`, from before the CSV was read.
    """

    root: Path
    columns: Columns
    clips: list[Clip]
    stamp: str | None


class _Listings:
    """The last listing that was read for its folds, so that opening the dataset right after that does not read the CSV again."""

    def __init__(self) -> None:
        self._kept: list[tuple[CsvDataset, _Listing]] = []

    def keep(self, spec: CsvDataset, listing: _Listing) -> None:
        """Keep a listing, and forget the one before."""
        self._kept[:] = [(spec, listing)]

    def take(self, spec: CsvDataset) -> _Listing | None:
        """Return the kept listing once; None if there is none, or if the CSV has changed or is so new that a change could be missed."""
        try:
            kept_spec, listing = self._kept.pop()
            status = os.stat(spec.path)
        except (IndexError, OSError):
            return None
        is_old = time.time_ns() - status.st_ctime_ns > _MIN_AGE_NS
        return listing if is_old and kept_spec == spec and listing.stamp == file_stamp(status) else None


_LISTINGS = _Listings()


def _fold_inputs(clip: Clip) -> list[tuple[str, str, str]]:
    """Return the values that the fold of a clip depends on: once for each of its classes, and once without classes."""
    return [(clip.id, name, clip.source) for name in clip.class_names or ("",)]


def _select_labels(clip: Clip, classes: Sequence[str]) -> Clip | None:
    """Return a clip with its classes among these; None for a clip with exactly one class that is not among them."""
    if clip.labels is None:
        return clip if clip.label in classes else None
    labels = tuple(name for name in clip.labels if name in classes)
    return replace(clip, labels=labels, label=label_text(labels))


def _normalise(base: str, text: str) -> str:
    return os.path.normpath(os.path.join(base, text.replace("\\", "/")))


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _relative_path(path: str, folder: str) -> str:
    """Return a normalised path relative to a normalised folder, with "/" between parts; many times faster than `os.path.relpath`."""
    if _is_inside(path, folder):
        return path[len(folder.rstrip("/")) + 1 :] or "."
    return Path(os.path.relpath(path, folder)).as_posix()


def _clip_name(relative_path: str) -> str:
    """Return the name of a clip: its path relative to the folder of the CSV, which does not depend on the other rows."""
    return "__".join(part for part in os.path.splitext(relative_path)[0].split("/") if part not in ("", ".", ".."))


def _segment_name(start: float | None, end: float | None) -> str:
    if start is None and end is None:
        return ""
    return f"@{start or 0:.10g}-{'end' if end is None else f'{end:.10g}'}"
