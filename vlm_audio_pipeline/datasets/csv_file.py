"""Dataset kind `csv`: recordings that are listed in a csv file, one row per clip.

Belongs here: reading and checking the listing. Does not belong here: assigning folds to a listing without folds
(`folds.py`) and checking the recordings (`inspection.py`).
"""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field, field_validator

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.paths import require_text_path
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.specs import StudyPath, excluded_from_fingerprint
from vlm_audio_pipeline.datasets.base import DATASETS, Clip, Dataset, DatasetSpec, slug
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.datasets.csv_columns import Columns
from vlm_audio_pipeline.datasets.csv_reader import CsvRow, read_csv, read_number
from vlm_audio_pipeline.datasets.folds import check_folds, fold_file_name, persistent_folds
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.schemas import TABLES

_MAX_FOLD_DIGITS = 9


@DATASETS.register("csv")
class CsvDataset(DatasetSpec):
    """Recordings listed in a csv: comma, semicolon or tab; UTF-8; one row per clip."""

    path: StudyPath = excluded_from_fingerprint()
    """The csv file."""
    columns: Columns = Columns()
    """The columns of the csv, by their meaning."""
    keep: tuple[str, ...] = ()
    """Other columns of the csv that become columns of `clips`, as text."""
    audio_dir: StudyPath | None = excluded_from_fingerprint(None)
    """Folder that relative paths start from; by default the folder of the csv."""
    n_folds: int = Field(5, ge=2)
    """Number of folds to assign, if the csv has no folds. A clip keeps its fold when others are added, as long as the csv
    is not moved."""
    seed: int = 0
    """Seed for the choice between equally good folds, if the csv has no folds."""

    @field_validator("keep")
    @classmethod
    def _refuse_table_columns(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        reserved_names = set(TABLES["clips"].arrow.names) | set(TABLES["predictions"].arrow.names)
        clashes = [name for name in keep if name.lower() in reserved_names]  # SQL ignores case
        if clashes:
            raise ValueError(
                f"keep must name columns that the project's own tables do not have, got {clashes}; "
                "rename them in the csv, or leave them out"
            )
        return keep

    @property
    def base_name(self) -> str:
        """The kind and the name of the file."""
        return f"{self.kind}_{slug(self.path.stem)}"

    def folds(self, data_folder: DataFolder) -> tuple[int, ...]:
        """Return the folds, ascending; reads the csv and no recording."""
        _, clips = self._listing(data_folder, save=False)
        return tuple(sorted({c.fold for c in clips}))

    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """Read and check the listing.

        Raises:
            BadDataset: with the file and the line, for a listing that cannot be used.
        """
        root, clips = self._listing(data_folder, save=True)
        classes = self.classes or tuple(sorted({c.label for c in clips}))
        return Dataset(root, classes, tuple(clips), DatasetCard(self.path.name, url=str(self.path)), self.on_bad_clip)

    def _listing(self, data_folder: DataFolder, *, save: bool) -> tuple[Path, list[Clip]]:
        require_text_path(self.path)
        header, rows = read_csv(self.path)
        if not rows:
            raise BadDataset(f"{self.path} has no rows below its header; write one row per clip")
        columns = self._resolve_columns(header)
        base = Path(os.path.abspath(self.audio_dir or self.path.parent))
        paths = [_normalise(base, self._text(row, columns.path, "path")) for row in rows]
        is_inside = all(p.is_relative_to(base) for p in paths)
        root = base if is_inside else Path(os.path.commonpath([base, *(p.parent for p in paths)]))
        clips = []
        for row, path in zip(rows, paths, strict=True):
            if path.suffix.lower() == ".raw" and self.on_bad_clip == "stop":
                raise self._error(row, f"'{path.name}' has no header with a sample rate; convert it to WAV")
            start, end = self._segment(row, columns)
            relative_path = Path(
                os.path.relpath(path, base)
            ).as_posix()  # relative to `base`, because `root` depends on the other rows
            name = _clip_name(base, path) + _segment_name(start, end)
            clips.append(
                Clip(
                    id=self._text(row, columns.id, "id") if columns.id else name,
                    label=self._text(row, columns.label, "label"),
                    fold=self._fold(row, columns.fold) if columns.fold else 0,
                    source=self._text(row, columns.source, "source") if columns.source else relative_path,
                    file=path.relative_to(root).as_posix(),
                    start_s=start,
                    end_s=end,
                    extra={column: row.cells[column] for column in self.keep},
                )
            )
        if columns.id:  # otherwise two clips of one stretch have one id, which is refused too
            self._refuse_equal_stretches(rows, clips)
        clips = self._select_classes(clips)
        if columns.fold:
            check_folds(((c.id, c.label, c.source, c.fold) for c in clips), str(self.path))
        else:
            fold_inputs = [(c.id, c.label, c.source) for c in clips]
            file_name = fold_file_name(
                f"{self.kind}_{slug(self.path.resolve().stem)}", self.path, columns.source, self.n_folds, self.seed
            )
            fold_of_source = persistent_folds(data_folder, file_name, fold_inputs, self.n_folds, self.seed, save=save)
            clips = [replace(c, fold=fold_of_source[c.source]) for c in clips]
        return root, sorted(clips, key=lambda c: c.id)

    def _refuse_equal_stretches(self, rows: Sequence[CsvRow], clips: Sequence[Clip]) -> None:
        lines: dict[tuple[str, float, float | None], int] = {}
        for row, clip in zip(rows, clips, strict=True):
            line = lines.setdefault((clip.file, clip.start_s or 0.0, clip.end_s), row.line)
            if line != row.line:
                raise self._error(
                    row,
                    f"each stretch of a recording must be one clip, but this stretch of {clip.file} is in line {line}, too; remove "
                    "one of the lines",
                )

    def _resolve_columns(self, header: list[str]) -> Columns:
        """Return the columns to read; an optional column that the csv does not have becomes None."""
        columns = self.columns
        if columns.fold == "fold" and "fold" not in header:
            columns = columns.model_copy(update={"fold": None})
        if columns.source is None and "source" in header:
            columns = columns.model_copy(update={"source": "source"})
        required = [(f"columns.{role}", name) for role, name in columns.model_dump().items() if name is not None]
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
        labels = {c.label for c in clips}
        for label in self.classes:
            if label not in labels:
                raise BadDataset(f"{self.path}: class '{label}' has no clips; {suggestion(label, labels)}")
        return [c for c in clips if c.label in self.classes]


def _normalise(base: Path, text: str) -> Path:
    return Path(os.path.normpath(base / text.replace("\\", "/")))


def _clip_name(base: Path, path: Path) -> str:
    """Return the name of a clip: its path relative to `base`, which does not depend on the other rows."""
    parts = Path(os.path.splitext(os.path.relpath(path, base))[0]).parts
    return "__".join(part for part in parts if part != "..")


def _segment_name(start: float | None, end: float | None) -> str:
    if start is None and end is None:
        return ""
    return f"@{start or 0:.10g}-{'end' if end is None else f'{end:.10g}'}"
