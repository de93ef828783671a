from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlm_audio_pipeline.datasets.annotations.events import Event
from vlm_audio_pipeline.datasets.segments import (
    Segment,
    SegmentRule,
    keep_segments,
    label_segments,
    segment_times,
    select_labels,
)


@pytest.mark.parametrize(
    ("duration_s", "rule", "expected"),
    [
        # 12 s, 5 s without overlap: 0-5, 5-10; 10-12 is in none, so a last one ends at 12: 7-12.
        (12, {}, [(0, 5), (5, 10), (7, 12)]),
        # (12 - 5) / 2.5 = 2.8: three starts, 0, 2.5 and 5; 10-12 is in none.
        (12, {"hop_s": 2.5}, [(0, 5), (2.5, 7.5), (5, 10), (7, 12)]),
        # (12.5 - 5) / 2.5 = 3 exactly: the fourth ends with the recording.
        (12.5, {"hop_s": 2.5}, [(0, 5), (2.5, 7.5), (5, 10), (7.5, 12.5)]),
        (10, {}, [(0, 5), (5, 10)]),
        (5, {}, [(0, 5)]),
        (3.25, {}, [(0, 3.25)]),
        # 5 ms in no segment are within the tolerance of 10 ms; 20 ms are not.
        (10.005, {}, [(0, 5), (5, 10)]),
        (10.02, {}, [(0, 5), (5, 10), (5.02, 10.02)]),
        # A hop above the length leaves parts out, also the end.
        (30, {"seconds": 2, "hop_s": 10}, [(0, 2), (10, 12), (20, 22)]),
        # 0.3 is no binary fraction: 0.1 * 3 = 0.30000000000000004 must not lose the last segment or its round number.
        (0.6, {"seconds": 0.3, "hop_s": 0.1, "min_overlap_s": 0.1}, [(0, 0.3), (0.1, 0.4), (0.2, 0.5), (0.3, 0.6)]),
    ],
)
def test_times(duration_s, rule, expected):
    times = segment_times(round(duration_s * 48000), 48000, SegmentRule(**rule))
    assert times == [pytest.approx(pair, abs=1e-9) for pair in expected]


def test_ten_hours_have_14399_segments():
    # (36000 - 5) / 2.5 + 1 = 14399
    assert len(segment_times(36000 * 48000, 48000, SegmentRule(hop_s=2.5))) == 14399


@given(frames=st.integers(1, 80_000), seconds=st.floats(0.5, 20), hop=st.floats(0.1, 1))
def test_every_sample_is_in_a_segment_and_every_segment_in_the_recording(frames, seconds, hop):
    rate = 8000
    times = segment_times(frames, rate, SegmentRule(seconds=seconds, hop_s=hop * seconds))
    assert times == sorted(times) and times[0][0] == 0
    assert all(0 <= start < end <= frames / rate for start, end in times)
    assert frames / rate - times[-1][1] <= 0.01
    assert all(following[0] <= end + 1e-6 for (_, end), following in pairwise(times))
    if frames / rate > seconds:
        assert all(end - start == pytest.approx(seconds, abs=1e-6) for start, end in times)


def event(start, end, label="a"):
    return Event("r", start, end, label)


TIMES = [(0.0, 5.0), (2.5, 7.5), (5.0, 10.0), (7.0, 12.0)]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (1.0, 2.0, [0]),  # 1 s in the first; the second begins after it
        (2.0, 3.0, [0, 1]),  # 1 s and 0.5 s
        (2.0, 2.9, [0]),  # the second has 0.4 s
        (4.5, 5.5, [0, 1, 2]),  # 0.5 s, 1 s, 0.5 s
        (4.9, 5.2, [1]),  # an event of 0.3 s must be contained as a whole; the first has 0.1 s, the third 0.2 s
        (0.0, 12.0, [0, 1, 2, 3]),
        (9.6, 20.0, [3]),  # the third has 0.4 s; the part after the recording does not count
        (11.8, 20.0, [3]),  # 0.2 s of it are in the recording, and contained as a whole
        (12.5, 13.0, []),  # after the end
        (5.0, 5.0, [1, 2]),  # a point belongs to the segments that begin at or before it and end after it
        (12.0, 12.0, [3]),  # a point at the end of the recording
    ],
)
def test_labels_come_from_events_that_overlap_enough(start, end, expected):
    segments = label_segments(TIMES, [event(start, end)], 0.5)
    assert [i for i, s in enumerate(segments) if s.labels] == expected
    assert [(s.start_s, s.end_s) for s in segments] == TIMES


def test_labels_are_sorted_and_occur_once():
    events = [event(0, 2, "wren"), event(1, 3, "owl"), event(3, 4, "wren")]
    assert label_segments([(0.0, 5.0)], events, 0.5) == [Segment(0, 5, ("owl", "wren"))]
    assert label_segments([(0.0, 5.0)], [], 0.5) == [Segment(0, 5, ())]


def test_without_a_minimal_overlap_touching_is_not_enough():
    assert [s.labels for s in label_segments(TIMES, [event(5.0, 6.0)], 0)] == [(), ("a",), ("a",), ()]


@given(st.lists(st.tuples(st.floats(0, 12), st.floats(0, 4)), max_size=8), st.floats(0, 2))
def test_labels_equal_a_search_through_all_pairs(pairs, min_overlap_s):
    events = [
        event(start, min(start + length, 12.0), str(i)) for i, (start, length) in enumerate(pairs) if length > 1e-3
    ]

    def has(segment, e):
        overlap = min(segment[1], e.end_s) - max(segment[0], e.start_s)
        return overlap > 1e-9 and overlap >= min(min_overlap_s, e.end_s - e.start_s) - 1e-9

    events = [e for e in events if e.end_s > e.start_s]
    expected = [tuple(sorted(e.label for e in events if has(times, e))) for times in TIMES]
    assert [s.labels for s in label_segments(TIMES, events, min_overlap_s)] == expected


EMPTY = [Segment(float(i), i + 1.0, ()) for i in range(2000)]


def test_a_share_of_the_empty_segments_is_kept():
    kept = keep_segments(EMPTY, SegmentRule(keep_empty=0.1), "ab" * 32)
    # binomial, n = 2000 and p = 0.1: 200 with a standard deviation of 13.4; 4 of them are 54
    assert 146 <= len(kept) <= 254
    assert keep_segments(EMPTY, SegmentRule(keep_empty=0), "x") == []
    assert keep_segments(EMPTY, SegmentRule(), "x") == EMPTY


def test_the_choice_depends_on_content_and_seed_and_not_on_other_segments():
    rule = SegmentRule(keep_empty=0.3)
    kept = keep_segments(EMPTY, rule, "ab" * 32)
    assert keep_segments(EMPTY[::-1], rule, "ab" * 32) == kept[::-1]
    assert keep_segments(EMPTY[:50], rule, "ab" * 32) == [s for s in kept if s.start_s < 50]
    assert keep_segments(EMPTY, rule, "cd" * 32) != kept
    assert keep_segments(EMPTY, SegmentRule(keep_empty=0.3, seed=1), "ab" * 32) != kept
    # A smaller share is a part of a larger one.
    assert set(keep_segments(EMPTY, SegmentRule(keep_empty=0.1), "ab" * 32)) < set(kept)


def test_segments_with_labels_stay_unless_they_have_several():
    segments = [Segment(0, 1, ("a",)), Segment(1, 2, ("a", "b"))]
    assert keep_segments(segments, SegmentRule(keep_empty=0), "x") == segments
    assert select_labels(segments, SegmentRule(keep_empty=0), None) == segments
    assert select_labels(segments, SegmentRule(several_labels=False), None) == segments[:1]


def test_several_labels_are_counted_before_the_classes_are_selected():
    # a dog alone, a dog in the rain, rain alone, rain and wind
    labels = [("dog",), ("dog", "rain"), ("rain",), ("rain", "wind")]
    segments = [Segment(float(i), i + 1.0, row) for i, row in enumerate(labels)]
    clean = select_labels(segments, SegmentRule(several_labels=False), ("cat", "dog"))
    assert clean == [Segment(0, 1, ("dog",)), Segment(2, 3, ())]
    every = [s.labels for s in select_labels(segments, SegmentRule(), ("cat", "dog"))]
    assert every == [("dog",), ("dog",), (), ()]


@pytest.mark.parametrize(
    "fields",
    [{"seconds": 0}, {"hop_s": 0}, {"keep_empty": 1.5}, {"min_overlap_s": -1}, {"lenght": 5}, {"seconds": 0.4}],
)
def test_impossible_rules_are_refused(fields):
    with pytest.raises(ValidationError):
        SegmentRule(**fields)


def test_a_segment_cannot_contain_more_of_an_event_than_its_length():
    with pytest.raises(
        ValidationError, match="min_overlap_s must be at most seconds, got 3 s of segments of 2 s; lower"
    ):
        SegmentRule(seconds=2, min_overlap_s=3)
    assert SegmentRule(seconds=2, min_overlap_s=2).min_overlap_s == 2
