"""The events of each clip: which annotated events a clip contains, whole or in part.

Pure functions. Does not belong here: which events give a clip its labels (`segments.py`), and reading annotations (`annotations/`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vlm_audio_pipeline.datasets.annotations.events import Event
from vlm_audio_pipeline.datasets.base import Clip

_EPSILON_S = 1e-9  # rounding of sums of times


def list_clip_events(
    clips: Sequence[Clip], events: Mapping[str, Sequence[Event]], classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield a row of `clip_events` for each clip and event that overlap, however short the overlap is.

    A point in time belongs to the clip that begins with it, not to the one that ends with it; at the end of the last clip it belongs to that.
    A clip with a row does not always have the class of the event: the overlap may be too short for that.

    Args:
        clips: the clips, of any recordings.
        events: `Clip.file` -> events of the recording, in any order.
        classes: the classes of the study; other events get a number, but no row.
    """
    clips_of_file: dict[str, list[Clip]] = {}
    for clip in clips:
        clips_of_file.setdefault(clip.file, []).append(clip)
    names = frozenset(classes)
    for file, of_file in clips_of_file.items():
        numbered = list(enumerate(sorted(events.get(file, ()), key=_order), 1))
        numbered = [(number, event) for number, event in numbered if event.label in names]
        if not numbered:
            continue
        starts = np.array([event.start_s for _, event in numbered])
        ends = np.array([event.end_s for _, event in numbered])
        last_end = max(clip_times(clip)[1] for clip in of_file)
        for clip in of_file:
            start, end = clip_times(clip)
            is_point = (starts == ends) & (starts >= start) & ((starts < end) | ((starts == end) & (end == last_end)))
            is_long = (starts != ends) & (np.minimum(ends, end) - np.maximum(starts, start) > _EPSILON_S)
            for i in np.flatnonzero(is_point | is_long):
                number, event = numbered[i]
                yield {
                    "clip": clip.id,
                    "event": number,
                    "label": event.label,
                    "start_s": event.start_s,
                    "end_s": event.end_s,
                    "low_hz": event.low_hz,
                    "high_hz": event.high_hz,
                }


def clip_times(clip: Clip) -> tuple[float, float]:
    """Return start and end of a clip within its recording, s; infinity for a clip that ends with a recording of unknown length."""
    return clip.start_s or 0.0, float("inf") if clip.end_s is None else clip.end_s


def _order(event: Event) -> tuple[float, float, str, float, float]:
    return event.start_s, event.end_s, event.label, event.low_hz or 0.0, event.high_hz or 0.0
