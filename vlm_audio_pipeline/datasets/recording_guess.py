"""Guess the fields of the kind `annotated_recordings` from a folder or an annotation file, for a first study."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.datasets.annotations.events import READ_ALL
from vlm_audio_pipeline.datasets.annotations.formats import GENERAL_TABLE, recognise_format
from vlm_audio_pipeline.datasets.cut_recordings import collect_events, cut_recordings, read_lengths
from vlm_audio_pipeline.datasets.guess import DatasetGuess
from vlm_audio_pipeline.datasets.recording_listing import find_annotation_files, list_recording_files
from vlm_audio_pipeline.datasets.segments import Segment, SegmentRule

_MAX_PROBED = 200  # text files of a folder
_MIN_SOURCES = 2  # recordings that a class needs: one for training, one for testing
_MAX_FOLDS = 5
_SECONDS = (5.0, 3.0, 2.0, 1.0)
"""Lengths of segments to choose from, s: the one with most classes that have segments of their own; the longest of equal ones."""


def guess_annotated_recordings(path: Path) -> DatasetGuess | None:
    """Return fields for a folder of recordings with annotation files, or for an annotation file; None for others.

    A table of clips with start and end is left to the kind `csv`, which reads it, too.

    Raises:
        BadDataset: for annotation files that cannot be read, and for a folder without recordings.
    """
    files = find_annotation_files([path])[:_MAX_PROBED]
    formats = {file: f for file in files if (f := recognise_format(file)) is not None and f.name != GENERAL_TABLE}
    if not formats:
        return None
    folder = path if path.is_dir() else path.parent
    recordings, _ = list_recording_files(folder, skips_bad=True)
    contents = [(file, f, f.read(file, READ_ALL)) for file, f in formats.items()]
    collected = collect_events(recordings, contents).events
    labels = {event.label for events in collected.values() for event in events}
    lengths, _ = read_lengths(folder, sorted(collected))
    rules = [SegmentRule(seconds=seconds, several_labels=False, keep_empty=0) for seconds in _SECONDS]
    sources_by_rule = [_sources(cut_recordings(collected, lengths, rule, None)) for rule in rules]
    rule, sources = max(
        zip(rules, sources_by_rule, strict=True), key=lambda pair: len(_common_labels(pair[1]))
    )  # the first of equal ones
    common = _common_labels(sources)
    fields: dict[str, Any] = {"path": folder}
    if path.is_file():
        fields["annotations"] = path
    names = sorted({f.name for f in formats.values()})
    if len(names) == 1:
        fields["format"] = names[0]
    fields["segment"] = {"seconds": rule.seconds, "hop_s": rule.seconds, "min_overlap_s": rule.min_overlap_s}
    fields["segment"] |= {"several_labels": False, "keep_empty": 0}
    notes = {
        "path": "the folder of the recordings, relative to this file",
        "annotations": "by default the annotation files in this folder",
        "segment": "segments without exactly one label are left out",
        "n_folds": "assigned once, stratified by class and grouped by recording",
    }
    if 2 <= len(common) < len(labels):
        fields["classes"] = common
        notes["segment"] += "; a label that is not in `classes` counts, unless `rename` makes it null"
        rare = ", ".join(sorted(labels - set(common))[:10])
        notes["classes"] = (
            f"left out, because fewer than {_MIN_SOURCES} recordings have a segment with this label alone: {rare}"
        )
    fields["n_folds"] = max(_MIN_SOURCES, min([_MAX_FOLDS, *(len(sources[label]) for label in common)]))
    return DatasetGuess(fields, notes)


def _sources(segments: Mapping[str, Sequence[Segment]]) -> dict[str, set[str]]:
    """Return the recordings of each label."""
    sources: dict[str, set[str]] = defaultdict(set)
    for recording, recording_segments in segments.items():
        for segment in recording_segments:
            for label in segment.labels:
                sources[label].add(recording)
    return sources


def _common_labels(sources: Mapping[str, set[str]]) -> list[str]:
    """Return the labels that enough recordings have, sorted."""
    return sorted(label for label, recordings in sources.items() if len(recordings) >= _MIN_SOURCES)
