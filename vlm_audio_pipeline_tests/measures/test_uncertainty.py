import numpy as np
import pytest

from vlm_audio_pipeline.measures.uncertainty import (
    CLIPS,
    CLIPS_AND_DRAWS,
    MOVER,
    THESE_EXAMPLES,
    WILSON,
    WILSON_OVER_DRAWS,
    ClusteredMean,
    difference_interval,
    share_interval,
    smallest_effective_n,
    sum_by_source,
    wilson_interval,
)


def test_sums_by_source():
    sums, counts = sum_by_source(np.array([1, 0, 1, 1]), np.array(["b", "a", "b", "c"]))
    assert (sums.tolist(), counts.tolist()) == ([0, 2, 1], [1, 2, 1])


def test_smallest_effective_n_by_hand():
    assert smallest_effective_n(np.array([1.0] * 7)) == 7
    assert smallest_effective_n(np.array([4.0])) == 1
    assert smallest_effective_n(np.array([3.0, 1.0])) == 16 / 10  # 4^2 / (3^2 + 1^2)


def effective_n(*sources: list[float]) -> float:
    """Return the effective n of the values of each source."""
    names = np.repeat([str(i) for i in range(len(sources))], [len(values) for values in sources])
    return ClusteredMean.from_values(np.concatenate([np.array(values) for values in sources]), names).effective_n


def test_effective_n_by_hand():
    # mean 3/5; deviations 2 - 1.2, 0 - 0.6, 1 - 1.2; v = 3/2 (0.64 + 0.36 + 0.04) / 25 = 0.0624; n = 0.6 * 0.4 / v
    assert effective_n([1, 1], [0], [1, 0]) == pytest.approx(0.24 / 0.0624)
    # clips of their own: v = n / (n - 1) * n p (1 - p) / n^2
    assert effective_n([1], [0], [0], [1], [1]) == pytest.approx(4)


def test_effective_n_has_limits():
    assert effective_n([1, 0], [0, 1], [1, 0]) == pytest.approx(6)  # v is 0, as of independent clips at best
    # one source of 10 correct, 30 sources of one wrong clip: half of 40^2 / (10^2 + 30)
    assert effective_n([1] * 10, *[[0]] * 30) == pytest.approx(1600 / 130 / 2)
    assert effective_n([1, 0, 0, 0]) == pytest.approx(1)  # one source: copies
    assert effective_n([1, 1, 1], [1]) == effective_n([0, 0, 0], [0]) == 16 / 10
    assert effective_n([0.1, 0.1], [0.1]) == float("inf"), "an expected value has no error"


def test_effective_n_of_means_over_predictions_may_exceed_the_number_of_clips():
    # two clips with shares 0.5 -+ 0.1, of their own sources: v = 2 * 0.02 / 4 = 0.01, of independent values 0.005
    assert effective_n([0.4], [0.6]) == pytest.approx(0.25 / 0.01)


def test_the_order_of_clips_does_not_change_the_interval():
    rng = np.random.default_rng(3)
    correct, sources = rng.random(90) < 0.6, rng.integers(0, 40, 90).astype(str)
    order = rng.permutation(90)
    first, second = share_interval(correct, sources), share_interval(correct[order], sources[order])
    assert (first.low, first.high) == (pytest.approx(second.low), pytest.approx(second.high))
    assert (first.method, first.scope) == (WILSON, CLIPS)


def test_intervals_of_all_correct_all_wrong_and_no_predictions():
    sources = np.array([str(i // 2) for i in range(40)])  # 20 sources of 2: 20 effective clips
    for correct in (0, 1):
        interval = share_interval(np.full(40, correct), sources)
        assert (interval.low, interval.high) == pytest.approx(wilson_interval(correct, 20))
    assert share_interval(np.ones(40, int), sources).low == pytest.approx(20 / (20 + 1.959964**2))  # n / (n + z^2)
    by_clip = share_interval(np.array([1, 0]), np.array(["a", "a"]))
    assert (by_clip.low, by_clip.high) == pytest.approx(wilson_interval(0.5, 1))
    assert share_interval(np.zeros(0, bool), np.zeros(0, str)) is None


def test_errors_are_never_outside_the_interval():
    """Four errors in 400 clips: the bootstrap may end at 1, Wilson's interval does not."""
    correct = np.arange(400) >= 4
    assert share_interval(correct, np.arange(400).astype(str)).high < 0.9975


def few_shot(correct, selection="random", clips=40):
    """Compute the interval of draws with these numbers of correct clips; each clip has its own source."""
    rows = np.concatenate([np.arange(clips) < n for n in correct])
    sources, draws = np.tile(np.arange(clips), len(correct)), np.repeat(np.arange(len(correct)), clips)
    return share_interval(rows, sources, draws, selection)


def test_few_shot_intervals_say_what_they_cover():
    assert few_shot([20, 26, 14]).scope == CLIPS_AND_DRAWS and few_shot([20, 26, 14]).method == WILSON_OVER_DRAWS
    for interval in (few_shot([20]), few_shot([20, 26]), *(few_shot([20, 26, 14], s) for s in ("medoid", "diverse"))):
        assert (interval.scope, interval.method) == (THESE_EXAMPLES, WILSON)
    assert few_shot([20, 26, 14], None).scope == CLIPS


def test_interval_over_draws_by_hand():
    """Clips of which a draw has all or none correct: every effect is that of the draw, or of draw and clip."""
    # Draws of 40 clips with 20, 26 and 14 correct; p = 1/2. Clips 0-13 are correct 3 times, 14-19 twice, 20-25 once:
    # deviations of a clip 1.5 (14 times), 0.5 (6), -0.5 (6), -1.5 (14): sum of squares 63 + 3 = 66
    of_clips = 40 / 39 * 66 / 120**2
    # deviations of the draws 0, 6, -6 of 120; every prediction is 1/2 from the mean
    of_draws, of_both = 3 / 2 * 72 / 120**2, 120 * 0.25 / 120**2
    between = of_draws - of_both
    variance = of_clips + between
    freedom = variance**2 / (of_draws**2 / 2)
    from scipy.stats import t

    expected = wilson_interval(0.5, 0.25 / variance, t.ppf(0.975, freedom))
    interval = few_shot([20, 26, 14])
    assert (interval.low, interval.high) == pytest.approx(expected)
    narrow = few_shot([20, 26, 14], "medoid")
    assert (narrow.low, narrow.high) == pytest.approx(wilson_interval(0.5, 0.25 / of_clips))


def test_equal_draws_leave_the_interval_of_clips():
    over_draws, these = few_shot([30, 30, 30]), few_shot([30, 30, 30], "medoid")
    assert (over_draws.low, over_draws.high) == (these.low, these.high)
    assert few_shot([40, 40, 40]).low == pytest.approx(wilson_interval(1.0, 40)[0])


def test_difference_interval_by_hand():
    # 8 clips of their own sources: both correct on 3, only the first on 4, only the second on 1. Shares 7/8 and 4/8.
    first, second = np.array([1, 1, 1, 1, 1, 1, 1, 0]), np.array([1, 1, 1, 0, 0, 0, 0, 1])
    (low1, high1), (low2, high2) = wilson_interval(7 / 8, 7), wilson_interval(4 / 8, 7)
    correlation = np.corrcoef(first, second)[0, 1]  # phi of the 2 x 2 table, as in Newcombe's method 10
    a, b = 7 / 8 - low1, high2 - 4 / 8
    c, d = high1 - 7 / 8, 4 / 8 - low2
    interval = difference_interval(first, second, np.arange(8).astype(str))
    assert interval.low == pytest.approx(3 / 8 - (a**2 + b**2 - 2 * correlation * a * b) ** 0.5)
    assert interval.high == pytest.approx(3 / 8 + (c**2 + d**2 - 2 * correlation * c * d) ** 0.5)
    assert interval.method == MOVER


def test_the_interval_of_a_difference_from_chance_is_that_of_the_accuracy():
    rng = np.random.default_rng(5)
    correct, sources = (rng.random(80) < 0.2).astype(float), rng.integers(0, 61, 80).astype(str)
    alone, difference = share_interval(correct, sources), difference_interval(correct, np.full(80, 0.1), sources)
    assert (difference.low, difference.high) == pytest.approx((alone.low - 0.1, alone.high - 0.1))


def test_equal_differences_get_a_wilson_interval():
    sources = np.arange(50).astype(str)
    margin = wilson_interval(0, 50)[1]
    assert margin == pytest.approx(3.8415 / 53.8415, rel=1e-4)  # z^2 / (n + z^2)
    zero, one, alternating = np.zeros(50), np.ones(50), np.arange(50) % 2.0
    for first, second, low, high in (
        (alternating, alternating, -margin, margin),
        (one, zero, 1 - margin, 1.0),
        (zero, one, -1.0, margin - 1),
    ):
        interval = difference_interval(first, second, sources)
        assert (interval.low, interval.high, interval.method) == (pytest.approx(low), pytest.approx(high), WILSON)


def correlated(rng, sources: int, clips: int, share: float):
    """Simulate clips whose outcomes are correlated within a source: 70 % have the common outcome of their source."""
    source_of = np.concatenate([np.arange(sources), rng.integers(0, sources, clips - sources)])
    common, own = rng.random(sources) < share, rng.random(clips) < share
    return np.where(rng.random(clips) < 0.7, common[source_of], own), source_of.astype(str)
