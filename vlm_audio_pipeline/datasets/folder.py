"""Dataset kind `folder`: recordings in one folder per class.

Belongs here: listing the folder. Does not belong here: assigning and storing folds (`folds.py`), decoding.
"""

import os
import re
from pathlib import Path

from pydantic import Field, field_validator

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.specs import StudyPath, excluded_from_fingerprint
from vlm_audio_pipeline.datasets.audio import AUDIO_SUFFIXES
from vlm_audio_pipeline.datasets.base import DATASETS, Clip, Dataset, DatasetSpec, slug
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.datasets.folds import fold_file_name, persistent_folds
from vlm_audio_pipeline.storage.data_folder import DataFolder


@DATASETS.register("folder")
class FolderDataset(DatasetSpec):
    """Recordings (wav, flac, ogg, mp3) in one folder per class; the names of the folders are the labels."""

    path: StudyPath = excluded_from_fingerprint()
    """The folder with one folder per class."""
    n_folds: int = Field(5, ge=2)
    """Number of folds. A clip keeps its fold when others are added, as long as the folder is not moved."""
    seed: int = 0
    """Seed for the choice between equally good folds."""
    source: str | None = None
    r"""Regular expression for the source recording of a clip: its first group, searched in the file name, such as
    `^(\d+)-`. Clips of one source share a fold. By default each file is a source of its own."""

    @field_validator("source")
    @classmethod
    def _check_group(cls, source: str | None) -> str | None:
        try:
            groups = 1 if source is None else re.compile(source).groups
        except re.error as error:
            raise ValueError(f"source must be a regular expression, got '{source}': {error}; correct it") from error
        if groups < 1:
            raise ValueError(f"source must have a group, got '{source}'; put ( ) around the part that names the source")
        return source

    @property
    def base_name(self) -> str:
        """The kind and the name of the folder."""
        return f"{self.kind}_{slug(self.path.name)}"

    def folds(self, data_folder: DataFolder) -> tuple[int, ...]:
        """Return the folds, ascending; reads file names only."""
        return tuple(sorted({c.fold for c in self._listing(data_folder, save=False)}))

    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """List the recordings and assign them folds.

        Raises:
            BadDataset: for a missing folder, without class folders, for an empty one, and for a file name without a source.
        """
        clips = self._listing(data_folder, save=True)
        card = DatasetCard(self.path.name, url=str(self.path))
        return Dataset(self.path, self.classes or tuple(self._class_folders()), clips, card, self.on_bad_clip)

    def _class_folders(self) -> dict[str, Path]:
        if not self.path.is_dir():
            raise BadDataset(f"{self.path} must be a folder with one folder per class, got no folder; check `path`")
        folders = {p.name: p for p in sorted(self.path.iterdir()) if p.is_dir() and not p.name.startswith(".")}
        if not folders:
            raise BadDataset(
                f"{self.path} must contain one folder per class, got no folders in it; move the recordings into folders"
            )
        for label in self.classes or ():
            if label not in folders:
                raise BadDataset(
                    f"{self.path} must contain a folder for each class, got none for '{label}'; {suggestion(label, folders)}"
                )
        return {label: folders[label] for label in self.classes or folders}

    def _listing(self, data_folder: DataFolder, *, save: bool) -> tuple[Clip, ...]:
        files: list[tuple[str, str, str, str]] = []  # (id, label, source, file)
        for label, folder in self._class_folders().items():
            recordings = list(_recordings(folder))
            if not recordings:
                raise BadDataset(
                    f"{folder} must contain recordings ({', '.join(s[1:] for s in AUDIO_SUFFIXES)}), got none; "
                    "add some, or remove the folder"
                )
            for file in recordings:
                relative = file.relative_to(self.path)
                name = "__".join(relative.with_suffix("").parts)
                files.append((name, label, self._source(file, name), relative.as_posix()))
        listed = [(name, label, source) for name, label, source, _ in files]
        file_name = fold_file_name(
            f"{self.kind}_{slug(self.path.resolve().name)}", self.path, self.source, self.n_folds, self.seed
        )
        fold_of = persistent_folds(data_folder, file_name, listed, self.n_folds, self.seed, save=save)
        return tuple(Clip(name, label, fold_of[source], source, file) for name, label, source, file in sorted(files))

    def _source(self, file: Path, name: str) -> str:
        if self.source is None:
            return name
        match = re.search(self.source, file.name)
        if match is None or not match.group(1):
            raise BadDataset(
                f"{file}: source must match every file name, got no match of '{self.source}'; "
                "rename the file, or change the regular expression"
            )
        return match.group(1)


def _recordings(folder: Path) -> list[Path]:
    """List the recordings in a folder and its subfolders, without hidden ones."""
    files = []
    for where, below, names in os.walk(folder):
        below[:] = [b for b in below if not b.startswith(".")]
        files += [Path(where, n) for n in names if n.lower().endswith(AUDIO_SUFFIXES) and not n.startswith(".")]
    return sorted(files)
