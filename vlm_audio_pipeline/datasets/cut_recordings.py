"""Cut annotated recordings into clips: read annotation files, find their recordings, and label segments.

Belongs here: what every dataset of long recordings shares. Does not belong here: the formats (`annotations/`), the rules of segments
(`segments.py`), and folds.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isfinite
from pathlib import Path, PurePosixPath

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.annotations.events import EXPORT_OFFSETS, AnnotationFormat, Annotations, Event
from vlm_audio_pipeline.datasets.audio import BadAudio, read_length
from vlm_audio_pipeline.datasets.recording_names import RecordingNames, resolve
from vlm_audio_pipeline.datasets.segments import (
    Segment,
    SegmentRule,
    keep_segments,
    label_segments,
    segment_times,
    select_labels,
)

_MAX_EXAMPLES = 5


@dataclass(frozen=True)
class CollectedEvents:
    """The events of recordings.

    Attributes:
        events: recording, relative to the dataset's folder -> its events; empty for a recording without events.
        missing: names in annotation files for which there is no recording, with the line that names them.
    """

    events: Mapping[str, Sequence[Event]]
    missing: Mapping[str, str]


def collect_events(
    files: Iterable[str], annotations: Iterable[tuple[Path, AnnotationFormat, Annotations]]
) -> CollectedEvents:
    """Assign the events of annotation files to recordings. The labels of a whole recording are events from its start to its end.

    Args:
        files: the recordings, relative to their folder.
        annotations: each annotation file with its format and its content.

    Raises:
        BadDataset: for a name that means several recordings, and for two names in a file that mean the same one.
    """
    names = RecordingNames(files)
    events: dict[str, list[Event]] = {}
    missing: dict[str, str] = {}
    for path, annotation_format, content in annotations:
        file_of_name: dict[str, str | None] = {}
        origins = {clip.recording: clip.origin for clip in content.clips[::-1]}
        origins |= {event.recording: event.origin for event in content.events[::-1]}
        first_names: dict[str, str] = {}
        for name in sorted(content.recordings):
            origin = origins.get(name, str(path))
            file_of_name[name] = file = resolve(names, name, origin, annotation_format.aliases)
            if file is None:
                missing.setdefault(name, f"{origin}; {names.suggest(name)}")
                continue
            if (first := first_names.setdefault(file, name)) != name:
                raise BadDataset(
                    f"{origin}: '{name}' and '{first}' are two names in this file, but both find {file}, which would get the events of both. If "
                    "they are two recordings, add both with names that tell them apart; otherwise write the same name"
                )
            events.setdefault(file, [])
        whole_events = (
            Event(c.recording, 0.0, float("inf"), label, origin=c.origin) for c in content.clips for label in c.labels
        )
        for event in (*content.events, *whole_events):
            if (file := file_of_name[event.recording]) is not None:
                events[file].append(replace(event, recording=file))
    return CollectedEvents(events, missing)


def rename_labels(
    recordings: Mapping[str, Sequence[Event]], rename: Mapping[str, str | None]
) -> dict[str, list[Event]]:
    """Rename the labels of events.

    Args:
        recordings: recording -> events.
        rename: label -> class, or None to leave its events out; other labels stay.
    """
    renamed: dict[str, list[Event]] = {}
    for file, events in recordings.items():
        renamed[file] = []
        for event in events:
            label = rename.get(event.label, event.label)
            if label is not None:
                renamed[file].append(replace(event, label=label))
    return renamed


def events_with_times(recordings: Mapping[str, Sequence[Event]]) -> dict[str, list[Event]]:
    """Return the events that have an end: without the labels of whole recordings, which say nothing about when a sound occurs.

    Args:
        recordings: recording -> events.
    """
    return {file: [event for event in events if isfinite(event.end_s)] for file, events in recordings.items()}


def read_lengths(root: Path, files: Iterable[str]) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Return frames and sample rate (Hz) of the recordings that can be read, and why the others cannot."""
    lengths: dict[str, tuple[int, int]] = {}
    problems: dict[str, str] = {}
    for file in files:
        try:
            lengths[file] = _cached_length(root / file, _stamp(root / file))
        except BadAudio as error:
            problems[file] = error.reason
    return lengths, problems


@lru_cache(maxsize=65_536)
def _cached_length(path: Path, _stamp: tuple[int, ...]) -> tuple[int, int]:
    return read_length(path)


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def cut_recordings(
    recordings: Mapping[str, Sequence[Event]],
    lengths: Mapping[str, tuple[int, int]],
    rule: SegmentRule,
    classes: Sequence[str] | None,
) -> dict[str, list[Segment]]:
    """Return the segments of each recording, with all segments without a label.

    Args:
        recordings: recording -> events.
        lengths: recording -> frames and sample rate, Hz.
        rule: how to cut.
        classes: labels that are used; None for all.

    Raises:
        BadDataset: for an event that begins after the end of its recording.
    """
    segments = {}
    for file, (frames, rate) in lengths.items():
        _check_events(file, recordings[file], frames / rate)
        labelled = label_segments(segment_times(frames, rate, rule), recordings[file], rule.min_overlap_s)
        segments[file] = select_labels(labelled, rule, classes)
    return segments


def leave_out_empty(
    segments: Mapping[str, Sequence[Segment]], rule: SegmentRule, content_sha256: Callable[[str], str] | None
) -> dict[str, list[Segment]]:
    """Leave out the segments without a label that the rule does not keep, and recordings that have no segment then.

    Args:
        segments: recording -> segments.
        rule: the share to keep.
        content_sha256: returns the digest of a recording's file, which decides which segments are kept; None keeps all of them, except
            if the rule keeps none.
    """
    if content_sha256 is None:
        rule = rule.model_copy(update={"keep_empty": float(rule.keep_empty > 0)})
    kept = {
        file: keep_segments(file_segments, rule, content_sha256(file) if content_sha256 else "")
        for file, file_segments in segments.items()
    }
    return {file: file_segments for file, file_segments in kept.items() if file_segments}


def _check_events(file: str, events: Iterable[Event], duration_s: float) -> None:
    late = [event for event in events if event.start_s > duration_s]
    if late:
        lines = "".join(f"\n  {e.origin}: {e.label}, {e.start_s:g} s to {e.end_s:g} s" for e in late[:_MAX_EXAMPLES])
        more = f"\n  and {len(late) - _MAX_EXAMPLES} more" if len(late) > _MAX_EXAMPLES else ""
        raise BadDataset(
            f"events must begin within their recording, but {file} has {duration_s:g} s:{lines}{more}\n"
            f"check that the file belongs to this recording. {EXPORT_OFFSETS}"
        )


def segment_id(file: str, start_s: float, end_s: float) -> str:
    """Return the id of a segment; ids of a recording are in the order of time.

    >>> segment_id("site/a.wav", 2.5, 7.5)
    'site__a@00002.500-00007.500'
    """
    name = "__".join(PurePosixPath(file).with_suffix("").parts)
    return f"{name}@{start_s:09.3f}-{end_s:09.3f}"


def labels_in_order(segments: Iterable[Sequence[Segment]]) -> tuple[str, ...]:
    """Return every label of the segments, sorted."""
    labels: set[str] = set()
    for row in segments:
        labels.update(*(segment.labels for segment in row))
    return tuple(sorted(labels))
