"""The annotated events on the page of a multi-label study: when they are, in which clips, and which classifiers find them.

Belongs here: the rows that the page's scripts read. Does not belong here: which events a clip contains (`datasets.clip_events`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlm_audio_pipeline.reports.page.image_axes import frequency_shares
from vlm_audio_pipeline.reports.page.label_runs import LabelRun, predicted_truths
from vlm_audio_pipeline.reports.page.media import Media, balanced_order
from vlm_audio_pipeline.reports.page.page_images import PageRecipe, find_recipe
from vlm_audio_pipeline.reports.page.report_writer import ReportWriter
from vlm_audio_pipeline.reports.page.study_results import StudyResults

FOUND, MISSED, NO_DECISION, NOT_COUNTED = "1", "0", "-", "n"
"""What a run decides about an event, in the column `status`: a letter for each run."""


@dataclass(frozen=True)
class PageEvent:
    """An event of a recording.

    Attributes:
        file: the recording, `clips.file`.
        number: its number in the recording.
        label: its class.
        start_s: start within the recording, s.
        end_s: end within the recording, s.
        low_hz: lower frequency bound, Hz; None if it is not annotated.
        high_hz: upper frequency bound, Hz; None if it is not annotated.
        clips: numbers of the clips that contain a part of it, ascending.
    """

    file: str
    number: int
    label: str
    start_s: float
    end_s: float
    low_hz: float | None
    high_hz: float | None
    clips: tuple[int, ...]


def read_events(results: StudyResults) -> list[PageEvent]:
    """Return the events of all recordings, by recording and start."""
    clips: dict[tuple[str, int], list[int]] = {}
    event_rows: dict[tuple[str, int], dict[str, Any]] = {}
    for row in results.query("SELECT * FROM clip_events WHERE study = $1 ORDER BY clip, event"):
        number = results.clip_number.get(row["clip"])
        if number is not None:
            key = (results.clips[number]["file"], row["event"])
            clips.setdefault(key, []).append(number)
            event_rows[key] = row  # in each clip the same event
    return [
        PageEvent(
            file=file,
            number=number,
            **{name: row[name] for name in ("label", "start_s", "end_s", "low_hz", "high_hz")},
            clips=tuple(clips[file, number]),
        )
        for (file, number), row in sorted(event_rows.items(), key=lambda item: item[0])
    ]


def order_clips(results: StudyResults, events: Sequence[PageEvent], first: Sequence[int]) -> list[int]:
    """Return all clips in the order in which they get images and audio: `first`, then those with an event, then the others; balanced over classes."""
    with_event = {clip for event in events for clip in event.clips}
    balanced = balanced_order(results)
    return list(dict.fromkeys([*first, *(clip for clip in balanced if clip in with_event), *balanced]))


def write_events(
    results: StudyResults,
    runs: Sequence[LabelRun],
    classes: Sequence[str],
    events: Sequence[PageEvent],
    media: Media,
    page_recipe: PageRecipe | None,
    writer: ReportWriter,
) -> None:
    """Write the clips and the events for the page's scripts: `clips` and `events`.

    A row of `clips` is [id, recording, start in s, end in s, fold, classes]. A row of `events` is [recording, class, start in s, end in s, clips, status,
    low in Hz, high in Hz, places]; the status is a text with a letter for each run (`FOUND`, ...), and the places are [bottom, top] for each image set: shares of
    the height of its data. Events without frequency bounds end with the status.

    Args:
        results: the study.
        runs: the runs.
        classes: the classes; the page refers to them by their number here.
        events: the events.
        media: images and audio, whose image sets the places are for.
        page_recipe: see `find_recipe`.
        writer: the writer of the report.
    """
    numbers = {name: i for i, name in enumerate(classes)}
    labels: dict[str, list[int]] = {}
    for row in results.query("SELECT clip, label FROM clip_labels WHERE study = $1 ORDER BY clip, label"):
        labels.setdefault(row["clip"], []).append(numbers[row["label"]])
    recordings = {file: i for i, file in enumerate(recording_names(results))}
    writer.write_data(
        "clips",
        (
            [
                clip["clip"],
                recordings[clip["file"]],
                round(start, 6),
                round(start + clip["duration_s"], 6),
                clip["fold"],
                labels.get(clip["clip"], []),
            ]
            for clip in results.clips
            for start in [clip["start_s"] or 0.0]
        ),
    )
    decisions = predicted_truths(results, runs)
    places = _places(results, events, media, page_recipe)
    rows = []
    for i, event in enumerate(events):
        values: list[Any] = [
            recordings[event.file],
            numbers[event.label],
            event.start_s,
            event.end_s,
            list(event.clips),
            _status(results, event, decisions, len(runs)),
        ]
        if event.low_hz is not None or event.high_hz is not None:
            values += [event.low_hz, event.high_hz, [None if p is None else p[i] for p in places]]
        rows.append(values)
    writer.write_data("events", rows)


def min_overlap(results: StudyResults) -> float | None:
    """Return how long an event must last in a segment to give it its class, s; None if the dataset has no such rule."""
    dataset = results.spec.get("dataset", {})
    rule = dataset if "min_overlap_s" in dataset else dataset.get("segment") or {}
    value: float | None = rule.get("min_overlap_s")
    return value


def overlap_rule(min_overlap_s: float | None) -> str:
    """Return in words which segments have the class of an event; empty without a rule."""
    if min_overlap_s is None:
        return ""
    if min_overlap_s == 0:
        return "A segment has a class if a part of an event of this class is in it, however short (min_overlap_s: 0)."
    return (
        f"A segment has a class if an event of this class lasts at least {min_overlap_s:g} s in the segment (min_overlap_s), or is in it as a whole. "
        "A shorter part of an event has a dotted frame in the spectrogram and gives the segment no class: if no other event gives it the class, "
        "predicting it counts as a false alarm."
    )


def recording_names(results: StudyResults) -> list[str]:
    """Return the files of the clips, sorted; the page refers to recordings by their number here."""
    return sorted({clip["file"] for clip in results.clips})


def recording_ends(results: StudyResults) -> list[float]:
    """Return the end of the last clip of each recording, s, in the order of `recording_names`."""
    ends: dict[str, float] = {}
    for clip in results.clips:
        end = (clip["start_s"] or 0.0) + clip["duration_s"]
        ends[clip["file"]] = max(ends.get(clip["file"], 0.0), round(end, 6))
    return [ends[file] for file in sorted(ends)]


def _status(
    results: StudyResults, event: PageEvent, decisions: Mapping[tuple[str, str], list[bool | None]], runs: int
) -> str:
    """Return what each run decides about an event, from its decisions about the clips that contain the event and have its class."""
    keys = [(results.clips[clip]["clip"], event.label) for clip in event.clips]
    event_decisions = [decisions[key] for key in keys if key in decisions]
    if not event_decisions:
        return NOT_COUNTED * runs
    status = ""
    for values in zip(*event_decisions, strict=True):
        status += FOUND if True in values else MISSED if False in values else NO_DECISION
    return status


def _places(
    results: StudyResults, events: Sequence[PageEvent], media: Media, page_recipe: PageRecipe | None
) -> list[list[list[float]] | None]:
    """Return for each image set the vertical place of each event, [bottom, top]; None if the set has no axis of frequencies."""
    lows = np.array([event.low_hz or 0.0 for event in events])
    highs = np.array([np.inf if event.high_hz is None else event.high_hz for event in events])
    places: list[list[list[float]] | None] = []
    for name in media.images:
        recipe = find_recipe(results, name, page_recipe)
        shares = frequency_shares(recipe, results.clips, np.concatenate([lows, highs]))
        places.append(None if shares is None else np.round(shares.reshape(2, -1).T, 4).tolist())
    return places
