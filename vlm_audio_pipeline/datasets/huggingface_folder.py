"""Dataset kind `huggingface_folder`: a folder of Hugging Face `datasets` on this machine, with the audio inside its files.

Belongs here: columns, classes, folds, and the recordings, which are written to the data folder once. Does not belong here: the
layouts (`huggingface_files`). The package `datasets` is not needed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.specs import StudyPath, excluded_from_fingerprint
from vlm_audio_pipeline.datasets.base import (
    DATASETS,
    Clip,
    Dataset,
    DatasetSpec,
    LeftOut,
    label_text,
    omit_single_labels,
    slug,
)
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.datasets.folds import check_folds, fold_file_name, persistent_folds
from vlm_audio_pipeline.datasets.guess import DatasetGuess
from vlm_audio_pipeline.datasets.huggingface_columns import (
    HubColumns,
    audio_column,
    class_names,
    read_labels,
    resolve_columns,
)
from vlm_audio_pipeline.datasets.huggingface_files import (
    INFO_FILE,
    DataFile,
    find_data_files,
    is_hub_folder,
    read_features,
    read_front_matter,
    read_json,
)
from vlm_audio_pipeline.datasets.huggingface_recordings import read_index, write_recordings
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.locks import file_lock


@DATASETS.register("huggingface_folder")
class HuggingFaceFolder(DatasetSpec):
    """A folder that `datasets` saved with `save_to_disk`, or a clone of a dataset repository with parquet files."""

    card = DatasetCard("a dataset of Hugging Face on this machine")

    path: StudyPath = excluded_from_fingerprint()
    """The folder."""
    config: str | None = None
    """Configuration in README.md; by default the first, or the one that is marked as default."""
    splits: tuple[str, ...] = ()
    """Use only these splits; by default all."""
    columns: HubColumns = HubColumns()
    """The columns of the dataset, by their meaning."""
    folds_from: Literal["column", "split", "assigned"] | None = None
    """column: the official folds of a column; split: each split is a fold, in their order; assigned: by this program. By default the
    column if there is one, otherwise the splits if there are several, otherwise assigned."""
    n_folds: int = Field(5, ge=2)
    """Number of folds to assign."""
    seed: int = 0
    """Seed for the choice between equally good folds."""

    @classmethod
    def recognise(cls, path: Path) -> DatasetGuess | None:
        """Recognise the folder by its files."""
        if not path.is_dir() or not is_hub_folder(path):
            return None
        files = find_data_files(path)
        if audio_column(files[0], None) is None:
            return None
        clips = ", ".join(dict.fromkeys(file.split for file in files))
        return DatasetGuess({"path": path}, {"path": f"a folder of Hugging Face datasets; splits: {clips}"})

    @property
    def base_name(self) -> str:
        """The kind and the name of the folder."""
        return f"{self.kind}_{slug(self.path.name)}"

    def folds(self, data_folder: DataFolder) -> tuple[int, ...]:
        """Return the folds, ascending; reads no audio."""
        return tuple(sorted({clip.fold for clip in self._listing(data_folder, save=False).clips}))

    def is_local(self, data_folder: DataFolder) -> bool:
        """Return whether the recordings are written to the data folder already."""
        return read_index(self._root(data_folder), self._files()) is not None

    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """Read the rows; recordings that are not in the data folder yet are written there.

        Raises:
            BadDataset: for a folder or columns that cannot be used, and for rows without audio or label, unless they are skipped.
        """
        listing = self._listing(data_folder, save=True)
        root = self._root(data_folder)
        with file_lock(data_folder.lock(f"datasets.{root.name}")):
            names = read_index(root, listing.files) or write_recordings(root, listing.files, listing.audio, progress)
        clips, left_out = [], list(listing.left_out)
        for clip, row in zip(listing.clips, listing.rows, strict=True):
            if names[row]:
                clips.append(replace(clip, file=names[row]))
            else:
                left_out.append(LeftOut(clip.id, clip.label, "has no audio in the files of the dataset"))
        if left_out and self.on_bad_clip != "skip":
            lines = "".join(f"\n  {left.file}: {left.reason}" for left in left_out[:20])
            raise BadDataset(
                f"{len(left_out)} rows of {self.path} cannot be used:{lines}\nadd what is missing, or set `on_bad_clip: skip` to go on "
                "without them"
            )
        clips.sort(key=lambda clip: clip.id)
        return Dataset(
            root, self._classes(clips, listing), tuple(clips), self._own_card(), self.on_bad_clip, tuple(left_out)
        )

    def _root(self, data_folder: DataFolder) -> Path:
        """Return the folder of the recordings."""
        key = fingerprint(str(self.path.resolve()), self.config, self.splits, self.columns.audio, length=8)
        return data_folder.datasets / f"{self.base_name}-{key}"

    def _files(self) -> list[DataFile]:
        if not self.path.is_dir():
            raise BadDataset(f"{self.path} is not a folder; `path` must be a folder of Hugging Face datasets")
        files = find_data_files(self.path, self.config)
        options = list(dict.fromkeys(file.split for file in files))
        for split in self.splits:
            if split not in options:
                raise BadDataset(f"{self.path} has no split '{split}'; {suggestion(split, options)}")
        return [file for file in files if not self.splits or file.split in self.splits]

    def _listing(self, data_folder: DataFolder, *, save: bool) -> "_Listing":
        files = self._files()
        columns = resolve_columns(self.columns, files[0], self.path)
        features = read_features(files[0])
        audio, label = str(columns.audio), str(columns.label)
        names = [name for name in (label, columns.id, columns.fold, columns.source) if name is not None]
        rows = list(_read_rows(files, [*dict.fromkeys(names), f"{audio}.path"]))
        ids = _ids(rows, columns.id, f"{audio}.path")
        listing = _Listing(files, audio, class_names(features.get(label)))
        for number, (row, clip_id) in enumerate(zip(rows, ids, strict=True)):
            labels = read_labels(
                row.values[label], listing.class_names, f"{row.file.path}, row {row.number}, column '{label}'"
            )
            if labels is None:
                listing.left_out.append(LeftOut(clip_id, "", f"has no label in column '{label}'"))
                continue
            if self.classes is not None:
                labels = tuple(name for name in labels if name in self.classes)
                if not labels and not listing.has_lists(row.values[label]):
                    continue
            labels = tuple(sorted(labels))
            source = clip_id if columns.source is None else str(row.values[columns.source])
            is_list = listing.has_lists(row.values[label])
            listing.clips.append(Clip(clip_id, label_text(labels), 0, source, "", labels=labels if is_list else None))
            listing.rows.append(number)
            listing.splits.append(row.file.split)
            listing.fold_values.append(None if columns.fold is None else row.values[columns.fold])
        if not listing.clips:
            raise BadDataset(f"{self.path} has no row with a label in column '{label}'; check `splits` and `columns`")
        listing.clips[:] = omit_single_labels(listing.clips)
        self._assign_folds(listing, columns, data_folder, save=save)
        return listing

    def _assign_folds(self, listing: "_Listing", columns: HubColumns, data_folder: DataFolder, *, save: bool) -> None:
        splits = list(dict.fromkeys(listing.splits))
        default = "column" if columns.fold else "split" if len(splits) > 1 else "assigned"
        method = self.folds_from or default
        if method == "column":
            if columns.fold is None:
                raise BadDataset(
                    f"{self.path}: `folds_from: column` needs a column of folds; name it in `columns.fold`"
                )
            folds = [_fold(value, columns.fold, self.path) for value in listing.fold_values]
        elif method == "split":
            folds = [_split_fold(split, splits) for split in listing.splits]
        else:
            inputs = [(c.id, name, c.source) for c in listing.clips for name in c.class_names or ("",)]
            file_name = fold_file_name(
                f"{self.kind}_{slug(self.path.resolve().name)}", self.path, columns.source, self.n_folds, self.seed
            )
            fold_of_source = persistent_folds(data_folder, file_name, inputs, self.n_folds, self.seed, save=save)
            folds = [fold_of_source[clip.source] for clip in listing.clips]
        listing.clips[:] = [replace(clip, fold=fold) for clip, fold in zip(listing.clips, folds, strict=True)]
        if method != "assigned":
            rows = ((c.id, name, c.source, c.fold) for c in listing.clips for name in c.class_names or ("",))
            check_folds(rows, f"{self.path}: folds from the {method}")

    def _classes(self, clips: Sequence[Clip], listing: "_Listing") -> tuple[str, ...]:
        present = {name for clip in clips for name in clip.class_names}
        for name in self.classes or ():
            if name not in present:
                raise BadDataset(
                    f"{self.path}: class '{name}' has no clips; {suggestion(name, listing.class_names or present)}"
                )
        return self.classes or tuple(name for name in listing.class_names or sorted(present) if name in present)

    def _own_card(self) -> DatasetCard:
        """Return the card with the licence, home page and citation that the folder states."""
        info_file = next(
            (f for f in (self.path / INFO_FILE, *sorted(self.path.glob(f"*/{INFO_FILE}"))) if f.is_file()), None
        )
        info = {} if info_file is None else read_json(info_file)
        front = read_front_matter(self.path)
        licence = front.get("license") or info.get("license") or ""
        return DatasetCard(
            str(front.get("pretty_name") or self.path.name),
            licence=", ".join(map(str, licence)) if isinstance(licence, list) else str(licence),
            url=str(info.get("homepage") or self.path),
            citation=str(info.get("citation") or ""),
        )


@dataclass(frozen=True)
class _Row:
    file: DataFile
    number: int
    values: Mapping[str, Any]


class _Listing:
    """The rows with a label: clips with their row number, split and value of the fold column.

    Args:
        files: the data files.
        audio: the column of the recordings.
        class_names: names of the ClassLabel; empty for labels that are texts.
    """

    def __init__(self, files: list[DataFile], audio: str, class_names: tuple[str, ...]):
        self.files, self.audio, self.class_names = files, audio, class_names
        self.clips: list[Clip] = []
        self.rows: list[int] = []
        self.splits: list[str] = []
        self.fold_values: list[Any] = []
        self.left_out: list[LeftOut] = []

    @staticmethod
    def has_lists(value: Any) -> bool:
        """Return whether a value of the label column is a list of classes."""
        return isinstance(value, list)


def _read_rows(files: Sequence[DataFile], columns: Sequence[str]) -> Iterator[_Row]:
    for file in files:
        for number, values in enumerate(file.rows(columns)):
            yield _Row(file, number, values)


def _ids(rows: Sequence[_Row], column: str | None, path_column: str) -> list[str]:
    """Return the id of each row: that of the column, the name of its recording if all differ, or split and number."""
    if column is not None:
        return [str(row.values[column]) for row in rows]
    stems = [PurePosixPath(str(row.values[path_column] or "").replace("\\", "/")).stem for row in rows]
    if all(stems) and len(set(stems)) == len(stems):
        return stems
    counts: dict[str, int] = {}
    ids = []
    for row in rows:
        counts[row.file.split] = counts.get(row.file.split, -1) + 1
        ids.append(f"{row.file.split}-{counts[row.file.split]:05d}")
    return ids


def _fold(value: Any, column: str, path: Path) -> int:
    if isinstance(value, int) and value >= 1:
        return value
    if isinstance(value, str) and re.fullmatch(r"0*[1-9][0-9]{0,8}", value):
        return int(value)
    raise BadDataset(
        f"{path}, column '{column}': a fold must be a whole number of 1 or more, got {value!r}; use `folds_from: assigned`"
    )


def _split_fold(split: str, splits: Sequence[str]) -> int:
    """Return the fold of a split: its number if all are named as in `fold_3`, otherwise its position."""
    matches = [re.fullmatch(r"fold_?([1-9][0-9]{0,8})", name) for name in splits]
    numbers = [int(match[1]) for match in matches if match]
    return numbers[splits.index(split)] if len(numbers) == len(splits) else splits.index(split) + 1
