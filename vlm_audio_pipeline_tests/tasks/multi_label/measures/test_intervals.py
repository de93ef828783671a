"""Intervals of measures of an order: coverage in simulations, and cases without an interval."""

import numpy as np
import pytest

from vlm_audio_pipeline.tasks.multi_label.measures.intervals import jackknife_interval, roc_effective_n, selections
from vlm_audio_pipeline.tasks.multi_label.measures.ranking import average_precision, roc_area


def world(random, recordings: int, segments: int, distance: float):
    """Simulate recordings of segments: the share of positives and the scores vary between recordings."""
    source = np.repeat(np.arange(recordings), segments)
    truth = random.random(len(source)) < random.beta(0.5, 4.5, recordings)[source]
    score = truth * distance + random.normal(0, 1, len(source)) + 0.5 * random.normal(0, 1, recordings)[source]
    return source.astype(str), truth, score


@pytest.mark.slow
@pytest.mark.parametrize("measure", [average_precision, roc_area])
@pytest.mark.parametrize("distance", [1, 3])
def test_the_interval_covers_the_value_of_many_recordings(measure, distance):
    random = np.random.default_rng(0)
    _, truth, score = world(random, 30_000, 10, distance)
    [true_value] = measure(truth, score, np.ones((len(truth), 1), bool))
    covered = []
    for _ in range(200):
        source, truth, score = world(random, 60, 10, distance)
        values = measure(truth, score, selections(source))
        counts = (int(truth.sum()), int((~truth).sum()))
        most = None if measure is average_precision else roc_effective_n([values[0]], [counts])
        interval = jackknife_interval(values, truth.astype(float), source, most)
        covered.append(interval.low <= true_value <= interval.high)
    assert 0.91 <= np.mean(covered) <= 0.99  # 95 %; two standard errors of 200 simulations are 3 %


def test_a_perfect_class_has_an_interval_as_wide_as_its_few_recordings():
    # 12 recordings with one positive each, perfect: Wilson's lower end at n = 12 and Student's t of 11 degrees,
    # n / (n + t^2) = 12 / (12 + 2.201^2)
    source = np.array([f"r{i}" for i in range(12) for _ in range(2)])
    truth = np.tile([True, False], 12)
    values = average_precision(truth, truth.astype(float), selections(source))
    interval = jackknife_interval(values, truth.astype(float), source)
    assert interval.high == pytest.approx(1)
    assert interval.low == pytest.approx(12 / (12 + 2.20099**2), abs=1e-4)


def test_copies_of_clips_in_their_recordings_do_not_narrow_the_interval():
    truth, score = np.tile([True, True, False], 10), np.tile([3.0, 1.0, 2.0], 10) + np.repeat(np.arange(10) % 3, 3)
    source = np.repeat([f"r{i}" for i in range(10)], 3)
    intervals = []
    for copies in (1, 3):
        t, s, r = (np.repeat(a, copies) for a in (truth, score, source))
        intervals.append(jackknife_interval(average_precision(t, s, selections(r)), t / 1.0, r, max_effective=1e9))
    assert intervals[0].low == pytest.approx(intervals[1].low)
    assert intervals[0].high == pytest.approx(intervals[1].high)


def test_the_error_of_an_area_of_independent_clips():
    # Hanley and McNeil (1982), table II: area 0.893, 51 abnormal and 58 normal images: standard error 0.032
    effective = roc_effective_n([0.893], [(51, 58)])
    assert np.sqrt(0.893 * (1 - 0.893) / effective) == pytest.approx(0.032, abs=1e-3)


def test_few_recordings_and_a_class_in_one_recording_have_no_interval():
    source = np.array([f"r{i}" for i in range(9)])
    truth = np.arange(9) < 4
    few = jackknife_interval(average_precision(truth, -np.arange(9.0), selections(source)), truth / 1.0, source)
    assert (few.low, few.high, few.method) == (None, None, "none: fewer than 10 source recordings")
    source, truth = np.array([f"r{i}" for i in range(12)]), np.arange(12) == 0
    one = jackknife_interval(average_precision(truth, -np.arange(12.0), selections(source)), truth / 1.0, source)
    assert one.low is None
    assert "without one of the source recordings" in one.method
