"""What a dataset is: a listing of clips, official folds, and a way to the samples."""

from abc import abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from vlm_audio_pipeline.contracts.errors import BadClips, BadDataset
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec, not_identity
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.storage.result_store import RowStore

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Card:
    """What is known of a dataset: shown in the UI and written into exports.

    Attributes:
        title: its full name.
        licence: of the recordings.
        url: where it comes from.
        citation: BibTeX, or empty.
        download_bytes: size of the download, 0 where nothing is downloaded.
    """

    title: str
    licence: str = ""
    url: str = ""
    citation: str = ""
    download_bytes: int = 0


@dataclass(frozen=True)
class Clip:
    """One line of a dataset's listing, before anything is decoded.

    Attributes:
        id: unique within the dataset.
        label: canonical class name.
        fold: official fold, an integer of 1 or more.
        source: id of the recording it was cut from; clips of one source share a fold.
        file: path relative to the dataset's folder, with "/" between parts.
        start_s: start of the stretch within the file, s; None: from the beginning.
        end_s: end of the stretch, s; None: to the end.
        kept: columns of the listing that the study keeps, as text.
    """

    id: str
    label: str
    fold: int
    source: str
    file: str
    start_s: float | None = None
    end_s: float | None = None
    kept: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """An opened dataset: everything is on this machine's disk.

    Attributes:
        root: folder that `Clip.file` is relative to.
        classes: every label, in the dataset's own order.
        clips: the listing, sorted by id.
        card: what is known of it.
        on_bad_clip: "stop" or "skip".
    """

    root: Path
    classes: tuple[str, ...]
    clips: tuple[Clip, ...]
    card: Card
    on_bad_clip: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        check_listing(self.clips, self.classes)

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds, ascending."""
        return tuple(sorted({c.fold for c in self.clips}))

    def load(
        self,
        file: str,
        rate_hz: int,
        start_s: float | None = None,
        end_s: float | None = None,
        sha256: str | None = None,
    ) -> "np.ndarray":
        """Read a clip's samples at a rate.

        Args:
            file: `Clip.file`.
            rate_hz: wanted sampling rate, Hz.
            start_s: start of the stretch, s.
            end_s: end of the stretch, s.
            sha256: `samples_sha256` of its row in `clips`, where what is computed will be stored under it.

        Returns:
            (samples,) float32, mono.

        Raises:
            BadClips: when the file cannot be used, or its samples are not those of `sha256` any more.
        """
        from vlm_audio_pipeline.datasets.audio import decode, resample, samples_digest

        samples, rate, _ = decode(self.root / file, start_s, end_s)
        if sha256 is not None and samples_digest(samples, rate) != sha256:
            raise BadClips(
                f"recordings must stay while a study runs, got other samples: recording {self.root / file} "
                "changed since it was looked at; run again"
            )
        return resample(samples, rate, rate_hz)

    def fold_versions(self, rows: RowStore) -> dict[int, str]:
        """Give a data version for each fold: a hash of its listing and of its files' bytes.

        Args:
            rows: remembers digests of files that were not touched since.
        """
        digests = rows.file_digests([self.root / c.file for c in self.clips])
        lines: dict[int, list[list[object]]] = {f: [] for f in self.folds}
        for c, sha in zip(self.clips, digests, strict=True):
            lines[c.fold].append([c.id, c.label, c.source, c.file, c.start_s, c.end_s, c.kept, sha])
        return {fold: fingerprint(lines[fold], list(self.classes), length=64) for fold in self.folds}


def check_listing(clips: tuple[Clip, ...], classes: tuple[str, ...]) -> None:
    """Refuse a listing that no result could be computed from; a single fold is refused where the kinds read theirs.

    Raises:
        BadDataset: for no clips, duplicate ids, labels outside the classes, folds below 1.
    """
    if not clips:
        raise BadDataset("a dataset must list at least one clip, got none; check its path")
    seen: dict[str, int] = {}
    for c in clips:
        seen[c.id] = seen.get(c.id, 0) + 1
    twice = sorted(i for i, n in seen.items() if n > 1)
    if twice:
        raise BadDataset(
            f"clip ids must be unique, got {len(twice)} that occur more than once: {_some(twice)}; rename or drop the copies"
        )
    strange = sorted({c.label for c in clips} - set(classes))
    if strange:
        raise BadDataset(
            f"labels must be among the classes {list(classes)}, got also {_some(strange)}; correct them or add them to `classes`"
        )
    below = sorted({c.id for c in clips if c.fold < 1})
    if below:
        raise BadDataset(f"folds must be whole numbers of 1 or more, got others for {_some(below)}; number them from 1")


def _some(names: list[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(n) for n in names[:most]) + more


class DatasetSpec(Spec):
    """What every dataset can be told in a study file."""

    name: str | None = not_identity(None, pattern=r"^[a-z][a-z0-9_]*$")
    """Name of the dataset's asset, `datasets/<name>`; by default made from its kind or path."""
    on_bad_clip: Literal["stop", "skip"] = "stop"
    """What to do with recordings that cannot be used: stop with a list of them, or set them aside in `rejected_clips`."""
    tuning_folds: tuple[int, ...] = not_identity(())
    """Folds that choices (prompts, renderings) were tuned on; results are also given without them."""
    classes: tuple[str, ...] | None = Field(None, min_length=2)
    """Use only these labels, in this order; by default all there are."""

    @field_validator("classes")
    @classmethod
    def _each_once(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if classes and len(set(classes)) < len(classes):
            raise ValueError(f"classes must be distinct, got {', '.join(classes)}; name each once")
        return classes

    @property
    def asset_name(self) -> str:
        """Name of the dataset's asset: its kind, and a short hash where parameters differ from their defaults."""
        identity = self.identity()
        return self.name or (self.kind if len(identity) == 1 else f"{self.kind}_{fingerprint(identity, length=8)}")

    @abstractmethod
    def folds(self, layout: Layout) -> tuple[int, ...]:
        """Give the folds, ascending, without downloading or decoding anything."""

    @abstractmethod
    def to_download(self, layout: Layout) -> int:
        """Give the bytes `open` would have to download; 0 where everything is here."""

    def is_here(self, layout: Layout) -> bool:
        """Say whether `open` would find everything without downloading or synthesising."""
        return self.to_download(layout) == 0

    @abstractmethod
    def open(self, layout: Layout, progress: Progress = silent) -> Dataset:
        """Give the listing, downloading or synthesising what is not on this machine yet.

        Raises:
            BadDataset: when there is nothing usable at the given place.
        """


DATASETS: Registry[DatasetSpec] = Registry("dataset", "vlm_audio_pipeline.datasets")
