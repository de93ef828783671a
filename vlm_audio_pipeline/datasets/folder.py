"""Dataset kind `folder`: recordings in one folder per class.

Belongs here: listing the folder. Does not belong here: assigning and storing folds (`folds.py`), decoding.
"""

import os
import re
from pathlib import Path

from pydantic import Field, field_validator

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.paths import require_text_path, show_path
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.specs import StudyPath, excluded_from_fingerprint
from vlm_audio_pipeline.datasets.audio_suffixes import decoded_suffixes
from vlm_audio_pipeline.datasets.base import DATASETS, Clip, Dataset, DatasetSpec, LeftOut, slug
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.datasets.class_folder import list_loose_recordings, list_recordings
from vlm_audio_pipeline.datasets.folds import fold_file_name, persistent_folds
from vlm_audio_pipeline.storage.data_folder import DataFolder


@DATASETS.register("folder")
class FolderDataset(DatasetSpec):
    """Recordings in one folder per class; the names of the folders are the labels.

    Recordings of formats that are not decoded are left out, counted and named.
    """

    path: StudyPath = excluded_from_fingerprint()
    """The folder with one folder per class."""
    n_folds: int = Field(5, ge=2)
    """Number of folds. A clip keeps its fold when others are added, as long as the folder is not moved."""
    seed: int = 0
    """Seed for the choice between equally good folds."""
    source: str | None = None
    r"""Regular expression that is searched in the file name of a clip; its first group is the source recording, such as
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
        return tuple(sorted({c.fold for c in self._listing(data_folder, save=False)[0]}))

    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """List the recordings and assign them folds.

        Raises:
            BadDataset: for a missing folder, a folder without class folders, an empty class folder, a folder that is two
                classes, a file name without a source, and, unless bad clips are skipped, for names that are not UTF-8 and
                files that are pipes or devices.
        """
        clips, left_out = self._listing(data_folder, save=True)
        card = DatasetCard(self.path.name, url=str(self.path))
        classes = self.classes or tuple(self._class_folders())
        return Dataset(self.path, classes, clips, card, self.on_bad_clip, left_out)

    def _class_folders(self) -> dict[str, Path]:
        require_text_path(self.path)
        if not self.path.is_dir():
            raise BadDataset(f"{self.path} is not a folder; `path` must be a folder with one folder per class")
        folders = {p.name: p for p in sorted(self.path.iterdir()) if p.is_dir() and not p.name.startswith(".")}
        if not folders:
            raise BadDataset(
                f"{self.path} contains no folders; move the recordings into one folder per class, or list them in a CSV file"
            )
        for label in self.classes or ():
            if label not in folders:
                raise BadDataset(f"{self.path} has no folder for the class '{label}'; {suggestion(label, folders)}")
        folders = {label: folders[label] for label in self.classes or folders}
        names: dict[str, str] = {}  # real path -> class
        root = Path(os.path.realpath(self.path))
        for label, folder in folders.items():
            if show_path(label) != label:
                raise BadDataset(f"the name of the folder {show_path(folder)} is not UTF-8; rename it")
            target = os.path.realpath(folder)
            if root.is_relative_to(target):
                raise BadDataset(f"{folder} links to a folder that contains the dataset; remove the link")
            if target in names:
                raise BadDataset(f"the classes '{names[target]}' and '{label}' are the same folder; remove the link")
            names[target] = label
        return folders

    def _listing(self, data_folder: DataFolder, *, save: bool) -> tuple[tuple[Clip, ...], tuple[LeftOut, ...]]:
        files: list[tuple[str, str, str, str]] = []  # (id, label, source, file)
        unusable: list[LeftOut] = []
        folders = self._class_folders()
        left_out = [self._left_out(path, "", reason) for path, reason in list_loose_recordings(self.path).items()]
        visited_folders: set[tuple[int, int]] = set()
        for label, folder in folders.items():
            content = list_recordings(folder, self.path, visited_folders)
            left_out += [self._left_out(path, label, reason) for path, reason in content.left_out.items()]
            unusable += [self._left_out(path, label, reason) for path, reason in content.unusable.items()]
            if not content.recordings and (not content.unusable or self.on_bad_clip == "skip"):
                count = f"; {len(content.left_out)} others cannot be decoded" if content.left_out else ""
                raise BadDataset(
                    f"{folder} contains no recordings ({', '.join(s[1:] for s in decoded_suffixes())}){count}; "
                    "add recordings, or remove the folder"
                )
            for file in content.recordings:
                relative = file.relative_to(self.path)
                name = "__".join(relative.with_suffix("").parts)
                files.append((name, label, self._source(file, name), relative.as_posix()))
        if unusable and self.on_bad_clip != "skip":
            lines = "".join(f"\n  {bad.file}: {bad.reason}" for bad in unusable)
            raise BadDataset(f"{len(unusable)} files in {self.path} cannot be used:{lines}")
        _refuse_equal_names(files)
        fold_inputs = [(name, label, source) for name, label, source, _ in files]
        file_name = fold_file_name(
            f"{self.kind}_{slug(self.path.resolve().name)}", self.path, self.source, self.n_folds, self.seed
        )
        fold_of_source = persistent_folds(data_folder, file_name, fold_inputs, self.n_folds, self.seed, save=save)
        clips = tuple(
            Clip(name, label, fold_of_source[source], source, file) for name, label, source, file in sorted(files)
        )
        return clips, tuple(sorted(left_out + unusable, key=lambda left: left.file))

    def _left_out(self, path: Path, label: str, reason: str) -> LeftOut:
        return LeftOut(show_path(path.relative_to(self.path).as_posix()), label, reason, not path.is_dir())

    def _source(self, file: Path, name: str) -> str:
        if self.source is None:
            return name
        match = re.search(self.source, file.name)
        if match is None or not match.group(1):
            raise BadDataset(
                f"{file}: the regular expression of `source`, '{self.source}', does not match the name of this file; rename "
                "the file, or change the expression"
            )
        return match.group(1)


def _refuse_equal_names(files: list[tuple[str, str, str, str]]) -> None:
    """Check that each recording gets its own clip id, which is its path without the suffix.

    Raises:
        BadDataset: with the files of the first ids that two recordings share.
    """
    by_id: dict[str, list[str]] = {}
    for name, _, _, file in files:
        by_id.setdefault(name, []).append(file)
    if equal := [f"{' and '.join(paths)} (clip {name})" for name, paths in by_id.items() if len(paths) > 1]:
        more = f", and {len(equal) - 5} more" if len(equal) > 5 else ""
        raise BadDataset(
            "the name of a clip is the path of its recording without the suffix, so these recordings have the same name: "
            f"{', '.join(equal[:5])}{more}. If they are copies in two formats, remove one of them; otherwise rename one"
        )
