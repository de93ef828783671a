"""Clips, opened datasets and dataset specs.

A spec (`DatasetSpec`) is a section of a study file; opening it gives a `Dataset`: the listing of its clips, with official
folds, and access to their samples.
"""

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from vlm_audio_pipeline.contracts.errors import BadClips, BadDataset
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec, excluded_from_fingerprint
from vlm_audio_pipeline.datasets.card import AnnotationFile, DatasetCard
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.result_store import ResultStore

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Clip:
    """A clip in a dataset's listing; nothing is decoded yet.

    Attributes:
        id: unique within the dataset.
        label: canonical class name.
        fold: official fold, an integer of 1 or more.
        source: id of the source recording; clips of one source share a fold.
        file: path relative to the dataset's folder, with "/" between parts.
        start_s: start of the segment within the file, s; None: the beginning.
        end_s: end of the segment, s; None: the end.
        extra: columns of the listing that the study keeps, as text.
    """

    id: str
    label: str
    fold: int
    source: str
    file: str
    start_s: float | None = None
    end_s: float | None = None
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ClipRow:
    """What reading and rendering a clip needs of its row in the table `clips`.

    Attributes:
        clip: id of the clip, `Clip.id`.
        file: path relative to the dataset's folder, `Clip.file`.
        start_s: start of the segment within the file, s; None: the beginning.
        end_s: end of the segment, s; None: the end.
        samples_sha256: content hash of the decoded samples, see `audio.samples_digest`.
        duration_s: length, s.
        sample_rate_hz: sample rate of the file, Hz.
    """

    clip: str
    file: str
    start_s: float | None
    end_s: float | None
    samples_sha256: str
    duration_s: float
    sample_rate_hz: int

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "ClipRow":
        """Return the typed form of a row of `clips`; further columns are ignored."""
        return cls(**{column.name: row[column.name] for column in fields(cls)})


class RecordingChanged(BadClips):
    """A recording was replaced after its clips were measured."""


@dataclass(frozen=True)
class Dataset:
    """An opened dataset: all its files are on the disk of this machine.

    Attributes:
        root: folder of the recordings; `Clip.file` is relative to it.
        classes: every label, in the dataset's own order.
        clips: the listing, sorted by id.
        card: facts about it, shown in the UI and written into exports.
        on_bad_clip: "stop" or "skip".
    """

    root: Path
    classes: tuple[str, ...]
    clips: tuple[Clip, ...]
    card: DatasetCard
    on_bad_clip: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        check_listing(self.clips, self.classes)

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds, ascending."""
        return tuple(sorted({c.fold for c in self.clips}))

    def samples(self, clip: ClipRow, sample_rate_hz: int) -> "np.ndarray":
        """Read the samples of a clip and resample them.

        Args:
            clip: its row of `clips`; the samples must still have the content hash of this row.
            sample_rate_hz: sample rate to return, Hz.

        Returns:
            (samples,) float32, mono, 1 = full scale.

        Raises:
            BadAudio: for a recording that cannot be read.
            RecordingChanged: for a recording that does not have these samples any more.
        """
        from vlm_audio_pipeline.datasets.audio import decode, resample, samples_digest

        samples, file_rate_hz, _ = decode(self.root / clip.file, clip.start_s, clip.end_s)
        if samples_digest(samples, file_rate_hz) != clip.samples_sha256:
            raise RecordingChanged(
                f"{self.root / clip.file} changed while the study was running (its content hash differs). "
                "Run the study again to use the new recording."
            )
        return resample(samples, file_rate_hz, sample_rate_hz)

    def fold_versions(self, result_store: ResultStore) -> dict[int, str]:
        """Return a data version for each fold: a hash of its listing and of the contents of its files.

        Args:
            result_store: stores digests of files, so that unchanged files are not read again.
        """
        digests = result_store.file_digests([self.root / c.file for c in self.clips])
        lines: dict[int, list[list[object]]] = {f: [] for f in self.folds}
        for c, sha in zip(self.clips, digests, strict=True):
            lines[c.fold].append([c.id, c.label, c.source, c.file, c.start_s, c.end_s, c.extra, sha])
        return {fold: fingerprint(lines[fold], list(self.classes), length=64) for fold in self.folds}


def check_listing(clips: tuple[Clip, ...], classes: tuple[str, ...]) -> None:
    """Refuse a listing that cannot be evaluated. A single fold is refused where a listing is read.

    Raises:
        BadDataset: for no clips, duplicate ids, labels outside the classes, folds below 1.
    """
    if not clips:
        raise BadDataset("a dataset must list at least one clip, got none; check its path")
    duplicates = sorted(i for i, n in Counter(c.id for c in clips).items() if n > 1)
    if duplicates:
        raise BadDataset(
            f"clip ids must be unique, got {len(duplicates)} that occur more than once: {_first_names(duplicates)}; "
            "rename or drop the copies"
        )
    unknown = sorted({c.label for c in clips} - set(classes))
    if unknown:
        raise BadDataset(
            f"labels must be among the classes {list(classes)}, got also {_first_names(unknown)}; "
            "correct them or add them to `classes`"
        )
    invalid = sorted({c.id for c in clips if c.fold < 1})
    if invalid:
        raise BadDataset(
            f"folds must be whole numbers of 1 or more, got others for {_first_names(invalid)}; number them from 1"
        )


def _first_names(names: list[str], max_names: int = 10) -> str:
    more = f" and {len(names) - max_names} more" if len(names) > max_names else ""
    return ", ".join(repr(n) for n in names[:max_names]) + more


def slug(name: str) -> str:
    """Return a name in the characters of asset names.

    >>> slug("My clips (v2)")
    'my_clips_v2'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "unnamed"


class DatasetSpec(Spec):
    """The fields that every dataset has in a study file."""

    card: ClassVar[DatasetCard] = DatasetCard("recordings of one's own")
    """Facts about the dataset. `Dataset.card` of an opened csv or folder has its own title."""

    name: str | None = excluded_from_fingerprint(None, pattern=r"^[a-z][a-z0-9_]*$")
    """Name of the dataset's asset, `datasets/<name>`; by default made from its kind or path."""
    on_bad_clip: Literal["stop", "skip"] = "stop"
    """How to handle recordings that cannot be used: stop with a list of them, or list them in `rejected_clips` and go on."""
    tuning_folds: tuple[int, ...] = excluded_from_fingerprint(())
    """Folds that prompts or renderings were chosen on; results are also computed without them."""
    classes: tuple[str, ...] | None = Field(None, min_length=2)
    """Use only these labels, in this order; by default all labels."""

    @field_validator("classes")
    @classmethod
    def _refuse_duplicates(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if classes and len(set(classes)) < len(classes):
            raise ValueError(f"classes must be distinct, got {', '.join(classes)}; name each once")
        return classes

    @property
    def base_name(self) -> str:
        """First part of the default `asset_name`."""
        return self.kind

    @property
    def asset_name(self) -> str:
        """Name of the dataset's asset: `base_name`, and a short hash if parameters differ from their defaults."""
        parameters = self.fingerprint_fields()
        suffix = "" if len(parameters) == 1 else f"_{fingerprint(parameters, length=8)}"
        return self.name or self.base_name + suffix

    @abstractmethod
    def folds(self, data_folder: DataFolder) -> tuple[int, ...]:
        """Return the folds, ascending, without downloading or decoding anything."""

    def download_size(self, data_folder: DataFolder) -> int:
        """Return the size of what `open` would download, bytes; 0 if everything is on this machine."""
        return 0

    def is_local(self, data_folder: DataFolder) -> bool:
        """Return whether `open` needs no download and no synthesis."""
        return self.download_size(data_folder) == 0

    @abstractmethod
    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """List the clips; recordings that are not on this machine are downloaded or synthesised.

        Raises:
            BadDataset: for a listing that cannot be used.
        """


DATASETS: Registry[DatasetSpec] = Registry("dataset", "vlm_audio_pipeline.datasets")


def annotation_files() -> dict[str, AnnotationFile]:
    """Return the files of annotations of all registered datasets, by their names in study files."""
    return {name: file for dataset in DATASETS.all().values() for name, file in dataset.card.annotations.items()}
