"""Which events a clip contains: overlaps, points, and events of other classes, by arithmetic on paper."""

import pytest

from vlm_audio_pipeline.datasets.annotations.events import Event
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.datasets.clip_events import list_clip_events

CLIPS = [Clip(f"r@{start}", "", 1, "r", "r.wav", start, start + 2.0, labels=()) for start in (0.0, 2.0, 4.0)]


def rows(*events, clips=CLIPS, classes=("owl", "fox")):
    listed = list_clip_events(clips, {"r.wav": events}, classes)
    return [(row["clip"], row["event"], row["label"]) for row in listed]


def test_an_event_is_in_every_clip_that_it_overlaps():
    assert rows(Event("r.wav", 1.9, 4.1, "owl")) == [("r@0.0", 1, "owl"), ("r@2.0", 1, "owl"), ("r@4.0", 1, "owl")]
    assert rows(Event("r.wav", 2.0, 4.0, "owl")) == [("r@2.0", 1, "owl")]  # it only touches the others


@pytest.mark.parametrize(("time", "clip"), [(0.0, "r@0.0"), (2.0, "r@2.0"), (6.0, "r@4.0")])
def test_a_point_is_in_one_clip(time, clip):
    assert rows(Event("r.wav", time, time, "owl")) == [(clip, 1, "owl")]


def test_events_are_numbered_by_start_also_those_of_other_classes():
    found = rows(Event("r.wav", 5, 6, "owl"), Event("r.wav", 0, 1, "fox"), Event("r.wav", 1, 2, "rain"))
    assert found == [("r@0.0", 1, "fox"), ("r@4.0", 3, "owl")]


def test_times_and_bounds_are_those_of_the_annotation():
    (row,) = list_clip_events(CLIPS[1:2], {"r.wav": [Event("r.wav", 1.0, 2.5, "owl", 500.0, None)]}, ["owl"])
    assert row == {
        "clip": "r@2.0",
        "event": 1,
        "label": "owl",
        "start_s": 1.0,
        "end_s": 2.5,
        "low_hz": 500.0,
        "high_hz": None,
    }


def test_a_clip_that_is_a_whole_recording_has_all_its_events():
    whole = Clip("r", "", 1, "r", "r.wav", labels=())
    assert rows(Event("r.wav", 0, 1, "owl"), Event("r.wav", 90, 90, "fox"), clips=[whole]) == [
        ("r", 1, "owl"),
        ("r", 2, "fox"),
    ]


def test_recordings_without_events_have_no_rows():
    assert rows() == []
    assert list(list_clip_events(CLIPS, {"other.wav": [Event("other.wav", 0, 1, "owl")]}, ["owl"])) == []
