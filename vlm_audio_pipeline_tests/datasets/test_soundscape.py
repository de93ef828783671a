"""Synthetic soundscapes: known events, overlaps, silence, and labels of segments."""

import csv
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.soundscape import EVENTS, SoundscapeDataset
from vlm_audio_pipeline.datasets.soundscape_synthesis import CLASSES, RATE_HZ, synthesise_recording

SMALL = {"recordings": 12, "duration_s": 15, "events_per_minute": 24, "n_folds": 3}


def test_an_hour_has_twelve_classes_overlaps_and_silence():
    spec = SoundscapeDataset()
    events = [spec.events(i) for i in range(spec.recordings)]
    assert spec.recordings * spec.duration_s == 3600
    counts = Counter(e.label for of_recording in events for e in of_recording)
    assert set(counts) == set(CLASSES) and len(CLASSES) == 12
    assert min(counts.values()) >= 0.9 * max(counts.values())
    assert any(a.end_s > b.start_s for row in events for a, b in pairwise(row))
    assert all(e.start_s >= 12 for e in events[4])  # the first fifth of a minute
    clips = [c for i in range(spec.recordings) for c in spec._segments(i, CLASSES)]
    assert len(clips) == 720
    assert sum(not c.labels for c in clips) > 20
    assert sum(len(c.labels) > 1 for c in clips) > 100


def test_labels_of_a_segment_are_the_events_that_last_long_enough_in_it():
    spec = SoundscapeDataset()

    def has(clip, event):
        overlap_s = min(clip.end_s, event.end_s) - max(clip.start_s, event.start_s)
        return overlap_s >= min(0.5, event.end_s - event.start_s)

    clips = [(clip, spec.events(i)) for i in range(spec.recordings) for clip in spec._segments(i, CLASSES)]
    assert all(set(clip.labels) == {e.label for e in events if has(clip, e)} for clip, events in clips)
    # some sounds end or begin in a segment without being long enough in it
    assert any(
        e.start_s < clip.end_s and clip.start_s < e.end_s and not has(clip, e) for clip, row in clips for e in row
    )


def test_a_rest_is_in_one_more_segment():
    clips = SoundscapeDataset(duration_s=12)._segments(0, CLASSES)
    # 12 s: 0-5, 5-10, and 7-12, as for annotated recordings
    assert [(c.id, c.start_s, c.end_s) for c in clips] == [
        ("soundscape-0000@0000.00", 0, 5),
        ("soundscape-0000@0005.00", 5, 10),
        ("soundscape-0000@0007.00", 7, 12),
    ]


def test_recordings_and_events_are_written_once_and_are_the_same_for_a_seed(data_folder):
    spec = SoundscapeDataset(**SMALL)
    dataset = spec.open(data_folder)
    assert len(dataset.clips) == 12 * 3
    assert {c.source for c in dataset.clips} == {c.file[len("audio/") : -len(".wav")] for c in dataset.clips}
    with (dataset.root / EVENTS).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 * 6
    samples, rate = soundfile.read(dataset.root / "audio/soundscape-0003.wav")
    assert (len(samples), rate) == (15 * RATE_HZ, RATE_HZ)
    assert samples == pytest.approx(synthesise_recording(0, 3, 15, 24), abs=1 / 32768)
    assert 0 < np.abs(samples).max() <= 0.951
    stamps = {p: p.stat().st_mtime_ns for p in dataset.root.rglob("*.wav")}
    again = SoundscapeDataset(**SMALL, segment_s=3).open(data_folder)  # other segments of the same recordings
    assert again.root == dataset.root and stamps == {p: p.stat().st_mtime_ns for p in dataset.root.rglob("*.wav")}
    assert len(again.clips) == 12 * 5
    assert not np.array_equal(synthesise_recording(1, 3, 15, 24), synthesise_recording(0, 3, 15, 24))


def test_a_sound_is_louder_than_the_silence_around_it():
    spec = SoundscapeDataset(recordings=5, duration_s=30, events_per_minute=2)
    samples = synthesise_recording(0, 4, 30, 2)
    [event] = spec.events(4)
    inside = samples[round(event.start_s * RATE_HZ) : round(event.end_s * RATE_HZ)]
    outside = np.concatenate([samples[: round(event.start_s * RATE_HZ)], samples[round(event.end_s * RATE_HZ) :]])
    assert inside.std() > 3 * outside.std()


def test_a_study_can_use_some_classes(data_folder):
    spec = SoundscapeDataset(**SMALL, classes=("siren", "dog"))
    dataset = spec.open(data_folder)
    assert dataset.classes == ("siren", "dog")
    assert {name for c in dataset.clips for name in c.labels} == {"siren", "dog"}
    assert len(dataset.clips) == 36
    with pytest.raises(BadDataset, match="classes must be among those that can be synthesised, got 'cat'"):
        SoundscapeDataset(**SMALL, classes=("siren", "cat")).open(data_folder)


def test_segments_in_which_no_class_can_be_are_refused(data_folder):
    with pytest.raises(ValidationError, match="min_overlap_s must be at most segment_s, got 3 s of segments of 2 s"):
        SoundscapeDataset(segment_s=2, min_overlap_s=3)
    spec = SoundscapeDataset(recordings=4, duration_s=5, events_per_minute=1, n_folds=2, classes=("dog", "siren"))
    with pytest.raises(BadDataset, match="no segment of the 4 recordings has one of the classes"):
        spec.open(data_folder)
