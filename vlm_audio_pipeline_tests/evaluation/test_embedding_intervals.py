import numpy as np
import pytest
from scipy.stats import t

from vlm_audio_pipeline.evaluation.embedding_intervals import (
    HALVES,
    MAX_GROUPS,
    half_sample_interval,
    halves,
    jackknife_error,
    masks_without_groups,
    mean_interval,
    standard_error,
)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).standard_normal(30)
    without = np.array([np.delete(values, i).mean() for i in range(30)])
    assert jackknife_error(without) == pytest.approx(values.std(ddof=1) / np.sqrt(30))
    # of independent clips both variances are that of the mean, so their mean is, too
    assert standard_error(values, without, np.arange(30)) == pytest.approx(values.std(ddof=1) / np.sqrt(30))


def test_copies_of_a_clip_do_not_make_an_interval_narrower():
    values = np.random.default_rng(0).standard_normal(20)
    source = np.repeat(np.arange(20), 3)
    without = np.array([np.delete(values, i).mean() for i in range(20)])
    one, three = (
        mean_interval(v, without, s, is_share=False)
        for v, s in ((values, np.arange(20)), (np.repeat(values, 3), source))
    )
    assert (one.low, one.high) == (pytest.approx(three.low), pytest.approx(three.high))
    half_width = t.ppf(0.975, 19) * values.std(ddof=1) / np.sqrt(20)
    assert one.high - one.low == pytest.approx(
        min(1.0, values.mean() + half_width) - max(-1.0, values.mean() - half_width)
    )


def test_a_share_of_1_has_an_interval_below_1():
    interval = mean_interval(np.ones(20), np.ones(20), np.arange(20), is_share=True)
    # Wilson's interval of 20 of 20 with t instead of z ends at n / (n + t²)
    assert (interval.low, interval.high) == (pytest.approx(20 / (20 + t.ppf(0.975, 19) ** 2)), 1.0)
    assert "Wilson" in interval.method


@pytest.mark.parametrize(
    ("without", "reason"),
    [(np.ones(9), "fewer than 10 source recordings"), (np.full(12, np.nan), "the measure is undefined")],
)
def test_no_interval_has_a_reason(without, reason):
    interval = mean_interval(np.arange(12) / 12, without, np.arange(12), is_share=True)
    assert (interval.low, interval.high) == (None, None) and reason in interval.method


def test_groups_are_whole_source_recordings_that_are_left_out_once():
    source = np.repeat(np.arange(130), 2)
    left_out = np.array([~keep for keep in masks_without_groups(source)])
    assert left_out.shape == (MAX_GROUPS, 260) and (left_out.sum(axis=0) == 1).all()
    assert (left_out[:, ::2] == left_out[:, 1::2]).all()
    assert set(left_out.sum(axis=1)) == {2, 4}  # one or two source recordings of two clips


def test_halves_are_whole_source_recordings():
    source = np.repeat(np.arange(11), 2)
    masks = np.array(list(halves(source)))
    assert masks.shape == (HALVES, 22) and set(masks.sum(axis=1)) == {10}
    assert (masks[:, ::2] == masks[:, 1::2]).all() and not list(halves(np.arange(9)))


def test_the_interval_of_halves_has_their_standard_deviation():
    values = np.array([0.4, 0.6] * 15)
    interval = half_sample_interval(0.5, values)
    assert (interval.low, interval.high) == pytest.approx((0.5 - 0.1 * t.ppf(0.975, 29), 0.5 + 0.1 * t.ppf(0.975, 29)))
    assert "same in all halves" in half_sample_interval(1.0, np.ones(30)).method
    assert "too few classes" in half_sample_interval(0.5, np.full(30, np.nan)).method
    assert "fewer than 10" in half_sample_interval(0.5, np.empty(0)).method
