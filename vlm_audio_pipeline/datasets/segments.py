"""Segments of recordings: their times, their labels from events, and which segments without a label are kept.

Pure functions. Belongs here: the rules. Does not belong here: which file an event belongs to (`cut_recordings.py`).

Times: segments begin every `hop_s` seconds, as long as they end within the recording. If more than 10 ms of its end are then in no
segment, one more segment is added, which ends with the recording. A recording that is not longer than a segment is one segment.
Labels: a segment has the label of an event if they overlap by at least `min_overlap_s`, or by the whole event if that is shorter.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.datasets.annotations.events import Event

END_TOLERANCE_S = 0.01
"""Longest end of a recording that no segment needs to contain, s."""
_EPSILON_S = 1e-9  # rounding of sums of times


def check_min_overlap(min_overlap_s: float, name: str, seconds: float) -> None:
    """Refuse segments that no longer event can be in for long enough.

    Args:
        min_overlap_s: how much of an event a segment must contain, s.
        name: key of the length of the segments, for the message.
        seconds: the length of the segments, s.

    Raises:
        ValueError: if an event must be longer in a segment than the segment is.
    """
    if min_overlap_s > seconds:
        raise ValueError(
            f"min_overlap_s must be at most {name}, got {min_overlap_s:g} s of segments of {seconds:g} s; lower `min_overlap_s`, or raise `{name}`"
        )


class SegmentRule(BaseModel):
    """How recordings are cut into segments."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float = Field(5.0, gt=0, le=600)
    """Length of a segment, s."""
    hop_s: float | None = Field(None, gt=0)
    """From the start of a segment to the start of the next, s; null: segments follow each other without overlap. More than `seconds`
    leaves parts of the recordings out."""
    min_overlap_s: float = Field(0.5, ge=0)
    """How much of an event a segment must contain to get its label, s; a shorter event must be contained as a whole."""
    keep_empty: float = Field(1.0, ge=0, le=1)
    """Share of the segments without a label that is kept. The choice depends on the content of the recording and on `seed`."""
    several_labels: bool = True
    """Keep segments with several labels; false leaves them out, also where the labels are not all in `classes`."""
    seed: int = Field(0, ge=0)
    """Seed of the choice of segments without a label."""

    @model_validator(mode="after")
    def _check_overlap(self) -> "SegmentRule":
        check_min_overlap(self.min_overlap_s, "seconds", self.seconds)
        return self


@dataclass(frozen=True)
class Segment:
    """A part of a recording.

    Attributes:
        start_s: start, s.
        end_s: end, s.
        labels: classes of its events, sorted; empty if there is none.
    """

    start_s: float
    end_s: float
    labels: tuple[str, ...]


def segment_times(frames: int, sample_rate_hz: int, rule: SegmentRule) -> list[tuple[float, float]]:
    """Return start and end of each segment of a recording, s, ascending.

    Args:
        frames: length of the recording, samples of one channel; 1 or more.
        sample_rate_hz: its sample rate, Hz.
        rule: length and hop.
    """
    duration_s = frames / sample_rate_hz
    hop_s = rule.hop_s or rule.seconds
    if duration_s <= rule.seconds + _EPSILON_S:
        return [(0.0, duration_s)]
    count = int((duration_s - rule.seconds + _EPSILON_S) / hop_s) + 1
    starts = [round(i * hop_s, 9) for i in range(count)]
    times = [(start, min(round(start + rule.seconds, 9), duration_s)) for start in starts]
    if hop_s <= rule.seconds and duration_s - times[-1][1] > END_TOLERANCE_S:
        times.append((duration_s - rule.seconds, duration_s))
    return times


def label_segments(
    times: Sequence[tuple[float, float]], events: Sequence[Event], min_overlap_s: float
) -> list[Segment]:
    """Return the segments of a recording with the labels of its events.

    Args:
        times: start and end of each segment, ascending, s.
        events: events of this recording, in any order; what is after the last segment is ignored.
        min_overlap_s: see `SegmentRule`.
    """
    starts, ends = [start for start, _ in times], [end for _, end in times]
    labels: list[set[str]] = [set() for _ in times]
    for event in events:
        event_end = min(event.end_s, ends[-1])
        # Only these segments touch the event.
        for index in range(bisect_left(ends, event.start_s), bisect_right(starts, event_end)):
            if _is_labelled(
                starts[index], ends[index], event.start_s, event_end, min_overlap_s, is_last=ends[index] == ends[-1]
            ):
                labels[index].add(event.label)
    return [Segment(start, end, tuple(sorted(names))) for (start, end), names in zip(times, labels, strict=True)]


def _is_labelled(
    start: float, end: float, event_start: float, event_end: float, min_overlap_s: float, *, is_last: bool
) -> bool:
    if event_start == event_end:  # a point
        return start <= event_start < end or (is_last and event_start == end)
    overlap = min(end, event_end) - max(start, event_start)
    return overlap > _EPSILON_S and overlap >= min(min_overlap_s, event_end - event_start) - _EPSILON_S


def select_labels(segments: Sequence[Segment], rule: SegmentRule, classes: Sequence[str] | None) -> list[Segment]:
    """Leave out segments with several labels, if the rule does, and labels that are not used.

    Whether a segment has several labels is decided on all labels: with the classes dog and cat, a segment of a dog in the rain has no
    clean dog. A segment that has no label of `classes` is one without a label.

    Args:
        segments: segments of a recording.
        rule: whether several labels are allowed.
        classes: labels that are used; None for all.
    """
    selected = [s for s in segments if len(s.labels) <= 1 or rule.several_labels]
    if classes is None:
        return selected
    return [replace(s, labels=tuple(label for label in s.labels if label in classes)) for s in selected]


def keep_segments(segments: Sequence[Segment], rule: SegmentRule, recording_sha256: str) -> list[Segment]:
    """Leave out the segments without a label that the rule does not keep.

    Whether an empty segment is kept depends on the seed, the content of the recording and the time of the segment: neither on the name
    of the recording nor on other recordings.

    Args:
        segments: segments of a recording.
        rule: the share to keep.
        recording_sha256: SHA-256 of the file.
    """
    return [s for s in segments if s.labels or _is_empty_kept(s, rule, recording_sha256)]


def _is_empty_kept(segment: Segment, rule: SegmentRule, recording_sha256: str) -> bool:
    if rule.keep_empty in (0, 1):
        return rule.keep_empty == 1
    number = int(fingerprint("empty segment", rule.seed, recording_sha256, round(segment.start_s, 6)), 16)  # 64 bits
    return number < rule.keep_empty * 2**64
