"""Kind `folder`: any recordings, sorted into one folder a class.

What belongs here: listing such a folder. What does not: choosing and remembering the folds (`folds.py`), decoding.
"""

import os
import re
from pathlib import Path

from pydantic import Field, field_validator

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.specs import StudyPath, not_identity
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.datasets.base import DATASETS, Card, Clip, Dataset, DatasetSpec
from vlm_audio_pipeline.datasets.csv_file import AUDIO_SUFFIXES, slug
from vlm_audio_pipeline.datasets.folds import fold_memory, settled_folds
from vlm_audio_pipeline.storage.layout import Layout


@DATASETS.register("folder")
class FolderDataset(DatasetSpec):
    """Recordings (wav, flac, ogg, mp3) in one folder a class; the folders' names are the labels."""

    path: StudyPath = not_identity()
    """The folder that holds a folder for each class."""
    n_folds: int = Field(5, ge=2)
    """Number of folds. A clip keeps its fold when others are added, as long as the folder stays where it is."""
    seed: int = 0
    """Decides between equally good folds."""
    source: str | None = None
    r"""Regular expression whose first group, searched in the file name, is the recording a clip was cut from, such as
    `^(\d+)-`; clips of one recording share a fold. By default each file is a recording of its own."""

    @field_validator("source")
    @classmethod
    def _has_a_group(cls, source: str | None) -> str | None:
        try:
            groups = 1 if source is None else re.compile(source).groups
        except re.error as error:
            raise ValueError(f"source must be a regular expression, got '{source}': {error}; correct it") from error
        if groups < 1:
            raise ValueError(
                f"source must have a group, got '{source}'; put ( ) around the part that names the recording"
            )
        return source

    @property
    def asset_name(self) -> str:
        """Name of the dataset's asset: made from the folder's name, and a short hash of parameters that were set."""
        identity = self.identity()
        set_apart = "" if len(identity) == 1 else f"_{fingerprint(identity, length=8)}"
        return self.name or f"{self.kind}_{slug(self.path.name)}{set_apart}"

    def folds(self, layout: Layout) -> tuple[int, ...]:
        """Give the folds, ascending; looks at file names alone."""
        return tuple(sorted({c.fold for c in self._listing(layout, remember=False)}))

    def to_download(self, layout: Layout) -> int:
        """Give 0: nothing is downloaded."""
        return 0

    def open(self, layout: Layout, progress: Progress = silent) -> Dataset:
        """List the recordings and give each a fold.

        Raises:
            BadDataset: for no such folder, no class folders, one without recordings, a file name without a source.
        """
        clips = self._listing(layout, remember=True)
        card = Card(self.path.name, url=str(self.path))
        return Dataset(self.path, self.classes or tuple(self._class_folders()), clips, card, self.on_bad_clip)

    def _class_folders(self) -> dict[str, Path]:
        if not self.path.is_dir():
            raise BadDataset(f"{self.path} must be a folder with one folder a class, got none; check `path`")
        there = {p.name: p for p in sorted(self.path.iterdir()) if p.is_dir() and not p.name.startswith(".")}
        if not there:
            raise BadDataset(
                f"{self.path} must hold one folder a class, got no folders in it; sort the recordings into some"
            )
        for label in self.classes or ():
            if label not in there:
                raise BadDataset(
                    f"{self.path} must hold a folder for each class, got none for '{label}'; {suggestion(label, there)}"
                )
        return {label: there[label] for label in self.classes or there}

    def _listing(self, layout: Layout, *, remember: bool) -> tuple[Clip, ...]:
        found: list[tuple[str, str, str, str]] = []  # (id, label, source, file)
        for label, folder in self._class_folders().items():
            files = list(_recordings(folder))
            if not files:
                raise BadDataset(
                    f"{folder} must hold recordings ({', '.join(s[1:] for s in AUDIO_SUFFIXES)}), got none; "
                    "add some, or take the folder away"
                )
            for file in files:
                relative = file.relative_to(self.path)
                name = "__".join(relative.with_suffix("").parts)
                found.append((name, label, self._source(file, name), relative.as_posix()))
        listed = [(name, label, source) for name, label, source, _ in found]
        memory = fold_memory(
            f"{self.kind}_{slug(self.path.resolve().name)}", self.path, self.source, self.n_folds, self.seed
        )
        fold_of = settled_folds(layout, memory, listed, self.n_folds, self.seed, remember=remember)
        return tuple(Clip(name, label, fold_of[source], source, file) for name, label, source, file in sorted(found))

    def _source(self, file: Path, name: str) -> str:
        if self.source is None:
            return name
        match = re.search(self.source, file.name)
        if match is None or not match.group(1):
            raise BadDataset(
                f"{file}: source must be found in every file name, got no match of '{self.source}'; "
                "rename the file, or widen the regular expression"
            )
        return match.group(1)


def _recordings(folder: Path) -> list[Path]:
    """List recordings in a folder and the folders below it; hidden ones are passed over."""
    found = []
    for where, below, names in os.walk(folder):
        below[:] = [b for b in below if not b.startswith(".")]
        found += [Path(where, n) for n in names if n.lower().endswith(AUDIO_SUFFIXES) and not n.startswith(".")]
    return sorted(found)
