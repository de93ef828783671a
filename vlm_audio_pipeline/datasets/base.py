"""Clips, opened datasets and dataset specs.

A spec (`DatasetSpec`) is a section of a study file; opening it returns a `Dataset`: the listing of its clips, with official
folds, and access to their samples.
"""

import os
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from vlm_audio_pipeline.contracts.errors import BadClips, BadDataset
from vlm_audio_pipeline.contracts.file_copies import readable_path
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.look_alikes import find_look_alikes, show_escaped
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec, check_distinct, excluded_from_fingerprint
from vlm_audio_pipeline.datasets.annotations.events import Event
from vlm_audio_pipeline.datasets.card import AnnotationFile, DatasetCard
from vlm_audio_pipeline.datasets.guess import DatasetGuess
from vlm_audio_pipeline.datasets.perturbation import Perturbation
from vlm_audio_pipeline.measures.predictions import OUTCOMES
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.result_store import ResultStore

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip in a dataset's listing; nothing is decoded yet.

    Attributes:
        id: unique within the dataset.
        label: canonical class name.
        fold: fold of the dataset, official or assigned, an integer of 1 or more.
        source: id of the source recording; clips of one source share a fold.
        file: path relative to the dataset's folder, with "/" between parts.
        start_s: start of the segment within the file, s; None: the beginning.
        end_s: end of the segment, s; None: the end.
        extra: columns of the listing that the study keeps, as text.
        labels: the classes of a clip of a dataset with any number of them, sorted; then `label` is their `label_text`. None: the
            dataset has exactly one class for each clip.
    """

    id: str
    label: str
    fold: int
    source: str
    file: str
    start_s: float | None = None
    end_s: float | None = None
    extra: dict[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the clip: exactly one, or those of `labels`."""
        return (self.label,) if self.labels is None else self.labels


def label_text(labels: Sequence[str]) -> str:
    """Show the labels of a clip in one text; empty without labels.

    >>> label_text(("dog", "rain"))
    'dog; rain'
    """
    return "; ".join(labels)


def omit_single_labels(clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips with `labels` None if every clip has exactly one label; otherwise as they are."""
    if all(clip.labels is None or len(clip.labels) == 1 for clip in clips):
        return [replace(clip, labels=None) for clip in clips]
    return list(clips)


@dataclass(frozen=True)
class ClipRow:
    """The columns of the table `clips` that are needed to read and render a clip.

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
        """Return the typed form of a row of `clips`; other columns are ignored."""
        return cls(**{column.name: row[column.name] for column in fields(cls)})


_OUTCOME_COLUMNS = {f"({name})" for name in (*OUTCOMES, "no majority")}


@dataclass(frozen=True)
class LeftOut:
    """A recording, or a linked folder, in a dataset's folder that the listing does not contain.

    Attributes:
        file: path relative to the dataset's folder; bytes that are not UTF-8 are escaped.
        label: the class; empty if the recording is in no folder of a class.
        reason: why it is left out, and what to do.
        is_recording: false for a linked folder, whose recordings are not counted.
    """

    file: str
    label: str
    reason: str
    is_recording: bool = True


class RecordingChanged(BadClips):
    """A recording was replaced after its clips were measured."""


@dataclass(frozen=True)
class Recordings:
    """The recordings of a dataset on the disk of the machine where they are read.

    Attributes:
        root: folder of the recordings.
        perturbation: change of the samples of every clip; None: as recorded.
    """

    root: Path
    perturbation: Perturbation | None = None

    def path(self, clip: ClipRow) -> Path:
        """Return the file of a clip."""
        return self.root / clip.file

    def files(self, clip: ClipRow) -> tuple[Path, ...]:
        """Return the files that `samples` reads: that of the clip, and that of the noise if there is one."""
        noise = None if self.perturbation is None else self.perturbation.noise
        return (self.path(clip),) if noise is None else (self.path(clip), noise)

    def content_sha256(self, clip: ClipRow) -> str:
        """Return the content hash of a clip's samples, changed by the perturbation."""
        sha256 = clip.samples_sha256
        return sha256 if self.perturbation is None else self.perturbation.content_sha256(sha256)

    def samples(self, clip: ClipRow, sample_rate_hz: int, *, normalises_peak: bool = False) -> "np.ndarray":
        """Read the samples of a clip and resample them; see `Dataset.samples`."""
        from vlm_audio_pipeline.datasets.audio import decode, peak_normalise, resample, samples_digest

        samples, file_rate_hz, _ = decode(readable_path(self.path(clip)), clip.start_s, clip.end_s)
        if samples_digest(samples, file_rate_hz) != clip.samples_sha256:
            raise RecordingChanged(
                f"{self.path(clip)} changed while the study was running (its content hash differs). "
                "Run the study again to use the new recording."
            )
        if self.perturbation is not None:
            samples = self.perturbation.apply(samples, file_rate_hz, clip.samples_sha256)
        if normalises_peak:
            samples = (peak_normalise(samples) / 32768).astype("float32")  # as a reader of 16-bit files scales them
        return resample(samples, file_rate_hz, sample_rate_hz)


@dataclass(frozen=True)
class Dataset:
    """An opened dataset: all its files are on the disk of this machine.

    Attributes:
        root: folder of the recordings; `Clip.file` is relative to it.
        classes: every label, in the dataset's own order.
        clips: the listing, sorted by id.
        card: facts about it, shown in the UI and written into exports.
        on_bad_clip: "stop" or "skip".
        left_out: recordings in its folder that are not listed; `rejected_clips` names them.
        perturbation: change of the samples that `samples` returns; None: as recorded.
        events: `Clip.file` -> the annotated events of this recording with their times; empty for a dataset whose labels have no times.
    """

    root: Path
    classes: tuple[str, ...]
    clips: tuple[Clip, ...]
    card: DatasetCard
    on_bad_clip: Literal["stop", "skip"] = "stop"
    left_out: tuple[LeftOut, ...] = ()
    perturbation: Perturbation | None = None
    events: Mapping[str, Sequence[Event]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_listing(self.clips, self.classes)

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds, ascending."""
        return tuple(sorted({c.fold for c in self.clips}))

    @property
    def files(self) -> list[str]:
        """The path of the recording of each clip, as text: it is many times faster than a `Path` for each clip."""
        root = str(self.root)
        return [os.path.join(root, c.file) for c in self.clips]

    def describe_left_out(self, max_count: int = 10) -> str | None:
        """Return a sentence that counts and names what is left out; None if nothing is."""
        if not self.left_out:
            return None
        count = len(self.left_out)
        lines = "".join(f"\n  {left.file}: {left.reason}" for left in self.left_out[:max_count])
        more = f"\n  and {count - max_count} more: see the table rejected_clips" if count > max_count else ""
        subject = "file or folder" if count == 1 else "files or folders"
        return f"{count} {subject} in {self.root} {'are' if count > 1 else 'is'} left out:{lines}{more}"

    @property
    def recordings(self) -> Recordings:
        """Access to the samples without the listing, for works that are sent to other processes."""
        return Recordings(self.root, self.perturbation)

    def perturb(self, perturbation: Perturbation) -> "Dataset":
        """Return the same dataset with changed samples; the rows of `clips` stay those of the recordings."""
        return replace(self, perturbation=perturbation)

    def samples(self, clip: ClipRow, sample_rate_hz: int, *, normalises_peak: bool = False) -> "np.ndarray":
        """Read the samples of a clip and resample them.

        Args:
            clip: its row of `clips`; the samples must still have the content hash of this row.
            sample_rate_hz: sample rate to return, Hz.
            normalises_peak: scale the clip to a peak of full scale and cut it to 16 bits, at its own sample rate.

        Returns:
            (samples,) float32, mono, 1 = full scale.

        Raises:
            BadAudio: for a recording that cannot be read.
            RecordingChanged: for a recording that no longer has these samples.
        """
        return self.recordings.samples(clip, sample_rate_hz, normalises_peak=normalises_peak)

    def fold_versions(self, result_store: ResultStore) -> dict[int, str]:
        """Return a data version for each fold: a hash of its listing, of its events, and of the contents of its files.

        Args:
            result_store: stores digests of files, so that unchanged files are not read again.
        """
        digests = result_store.file_digests(self.files)
        lines: dict[int, list[list[object]]] = {f: [] for f in self.folds}
        for c, sha in zip(self.clips, digests, strict=True):
            labels = [] if c.labels is None else [c.labels]  # as text, labels with "; " in them would be ambiguous
            lines[c.fold].append([c.id, c.label, c.source, c.file, c.start_s, c.end_s, c.extra, sha, *labels])
        fold_of_file = {c.file: c.fold for c in self.clips}
        for file, events in sorted(self.events.items()):
            if events and file in fold_of_file:
                rows = [[e.label, e.start_s, e.end_s, e.low_hz, e.high_hz] for e in events]
                lines[fold_of_file[file]].append([file, rows])
        if self.left_out:  # `rejected_clips` of the first fold names them
            lines[self.folds[0]].append([[left.file, left.label, left.reason] for left in self.left_out])
        return {fold: fingerprint(lines[fold], list(self.classes), length=64) for fold in self.folds}


def check_listing(clips: tuple[Clip, ...], classes: tuple[str, ...]) -> None:
    """Refuse a listing that cannot be evaluated. A listing with only one fold is refused earlier, by `folds.check_folds`.

    Raises:
        BadDataset: for no clips, duplicate ids, no labels, labels outside the classes, labels that look equal, folds below 1.
    """
    if not clips:
        raise BadDataset("the dataset lists no clips; check its path")
    duplicates = sorted(i for i, n in Counter(c.id for c in clips).items() if n > 1)
    if duplicates:
        raise BadDataset(
            f"clip ids must be unique, got {len(duplicates)} that occur more than once: {_first_names(duplicates)}; "
            "rename or remove the copies"
        )
    labels = {name for c in clips for name in c.class_names}
    if not labels:
        raise BadDataset("no clip of the dataset has a label, so there are no classes to predict; check its labels")
    unknown = sorted(labels - set(classes))
    if unknown:
        raise BadDataset(
            f"labels must be among the classes {list(classes)}, got {_first_names(unknown)}; "
            "correct them or add them to `classes`"
        )
    if alike := find_look_alikes({*classes, *labels}):
        raise BadDataset(
            f"labels must look different, got {show_escaped(alike[0])}, which differ only by case, spaces, invisible "
            "characters, Unicode form or letters of the same shape; write one of them everywhere"
        )
    if outcomes := sorted(_OUTCOME_COLUMNS & set(classes)):
        raise BadDataset(
            f"a class must not have the name of an outcome, got {_first_names(outcomes)}: tables and charts show responses "
            "without a class under these names; rename the class, for example without the brackets"
        )
    invalid = sorted({c.id for c in clips if c.fold < 1})
    if invalid:
        raise BadDataset(
            f"folds are numbered from 1, but these clips have a lower number: {_first_names(invalid)}; correct them"
        )


def _first_names(names: list[str], max_names: int = 10) -> str:
    suffix = f" and {len(names) - max_names} more" if len(names) > max_names else ""
    return ", ".join(repr(n) for n in names[:max_names]) + suffix


def slug(name: str) -> str:
    """Convert a name to the characters that asset names may have.

    >>> slug("My clips (v2)")
    'my_clips_v2'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "unnamed"


class DatasetSpec(Spec):
    """The fields that every dataset has in a study file."""

    card: ClassVar[DatasetCard] = DatasetCard("your own recordings")
    """Facts about the dataset. `Dataset.card` of an opened CSV or folder has its own title."""

    name: str | None = excluded_from_fingerprint(None, pattern=r"^[a-z][a-z0-9_]*$")
    """Name of the dataset's asset, `datasets/<name>`; by default derived from its kind or path."""
    on_bad_clip: Literal["stop", "skip"] = "stop"
    """How to handle recordings that cannot be used: stop with a list of them, or list them in `rejected_clips` and go on."""
    tuning_folds: tuple[int, ...] = excluded_from_fingerprint(())
    """Folds that prompts or renderings were chosen on; results are also computed without them."""
    classes: Annotated[tuple[str, ...], AfterValidator(check_distinct)] | None = Field(None, min_length=2)
    """Use only these labels, in this order; by default all labels."""

    is_general: ClassVar[bool] = False
    """Whether many different folders fit; a kind that knows a folder is asked first."""

    @classmethod
    def recognise(cls, path: Path) -> DatasetGuess | None:  # noqa: ARG003
        """Return the fields of a study file for a folder or file that looks like this dataset; None if it does not."""
        return None

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
