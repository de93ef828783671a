"""Events and labelled clips: what all annotation formats are converted to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadDataset

EXPORT_OFFSETS = (
    "If the times count from the start of several recordings, export them with their start within each file (in Raven: the columns "
    "`Begin File` and `File Offset (s)`)"
)
"""What to do about times that may count from the start of several recordings."""


@dataclass(frozen=True)
class Event:
    """A sound in a recording.

    Attributes:
        recording: name of the recording as the file gives it, with "/" between parts; without folder and suffix if only the name of
            the annotation file says which recording it is.
        start_s: start within the recording, s.
        end_s: end within the recording, s; equal to `start_s` for a point.
        label: class.
        low_hz: lower frequency bound, Hz; None if it is not given.
        high_hz: upper frequency bound, Hz; None if it is not given.
        origin: file and line, for messages.
    """

    recording: str
    start_s: float
    end_s: float
    label: str
    low_hz: float | None = None
    high_hz: float | None = None
    origin: str = field(default="", compare=False)


@dataclass(frozen=True)
class LabelledClip:
    """A whole recording with its labels.

    Attributes:
        recording: name of the recording, as in `Event`.
        labels: classes, sorted; empty if the file says that none occurs.
        split: name of the official split, such as "train"; "" if there is none.
        fold: official fold; None if there is none.
        source: source recording; "" if the file does not name it.
        origin: file and line, for messages.
    """

    recording: str
    labels: tuple[str, ...]
    split: str = ""
    fold: int | None = None
    source: str = ""
    origin: str = field(default="", compare=False)


@dataclass(frozen=True)
class Annotations:
    """The content of one annotation file.

    Attributes:
        events: in the order of the file.
        clips: in the order of the file.
        recordings: every recording that was annotated, also those without an event.
    """

    events: tuple[Event, ...] = ()
    clips: tuple[LabelledClip, ...] = ()
    recordings: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ReadOptions:
    """The keys of a study that change how annotation files are read.

    Attributes:
        label_column: column with the labels; None: the one that is usual for the format.
        min_confidence: leave out detections with a lower confidence; 0 keeps all.
    """

    label_column: str | None = None
    min_confidence: float = 0.0


def refuse_label_column(path: Path, options: ReadOptions) -> None:
    """Refuse `label_column` for a file without columns to choose from."""
    if options.label_column is not None:
        raise BadDataset(
            f"{path}: `label_column` cannot be used, because this format has no columns to choose from, got '{options.label_column}'; remove "
            "`label_column`, or leave this file out of `annotations`"
        )


def refuse_min_confidence(path: Path, options: ReadOptions) -> None:
    """Refuse `min_confidence` for a file without confidences, which would be used as a whole."""
    if options.min_confidence:
        raise BadDataset(
            f"{path}: `min_confidence` cannot be used, because the file has no confidences, got {options.min_confidence:g}; remove "
            "`min_confidence`, or leave this file out of `annotations`"
        )


READ_ALL = ReadOptions()
"""The usual columns, and every detection."""


@dataclass(frozen=True)
class AnnotationFormat:
    """A format of annotation files.

    Attributes:
        name: its name in study files.
        title: its name in messages and docs.
        url: where the format is described.
        recognises: returns whether a file with these first lines (at most 64 KiB, decoded) has this format.
        read: reads a file; raises BadDataset with file, line and column.
        aliases: a recording's name in the file -> further names that its file on disk may have.
    """

    name: str
    title: str
    url: str
    recognises: Callable[[str], bool]
    read: Callable[[Path, ReadOptions], Annotations]
    aliases: Callable[[str], tuple[str, ...]] = lambda name: ()
