import numpy as np
import pytest

from vlm_audio_pipeline.measures.uncertainty import (
    BOOTSTRAP,
    WILSON,
    by_source,
    detectable_difference,
    difference_interval,
    effective_n,
    resampled_means,
    share_interval,
    wilson,
)


def test_sums_by_source():
    sums, counts = by_source(np.array([1, 0, 1, 1]), np.array(["b", "a", "b", "c"]))
    assert (sums.tolist(), counts.tolist()) == ([0, 2, 1], [1, 2, 1])


def test_effective_n_by_hand():
    assert effective_n(np.array([1.0] * 7)) == 7
    assert effective_n(np.array([4.0])) == 1
    assert effective_n(np.array([3.0, 1.0])) == 16 / 10  # 4^2 / (3^2 + 1^2)


def bootstrap_one_by_one(sums, counts, resamples, seed):
    """The textbook bootstrap: choose sources one by one."""
    indices = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)))
    return sums[indices].sum(axis=1) / counts[indices].sum(axis=1)


def test_drawing_equal_sources_together_equals_the_plain_bootstrap():
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 4, 60).astype(float)
    sums = np.floor(rng.random(60) * (counts + 1))
    multinomial, one_by_one = resampled_means(sums, counts, 20_000), bootstrap_one_by_one(sums, counts, 20_000, 2)
    points = np.linspace(0.01, 0.99, 9)
    assert np.quantile(multinomial, points) == pytest.approx(np.quantile(one_by_one, points), abs=0.006)
    assert multinomial.std() == pytest.approx(one_by_one.std(), rel=0.03)


def test_draws_in_blocks_are_complete():
    sums = np.arange(1000.0)  # all different, so that 10,000 draws come in 5 blocks
    means = resampled_means(sums, np.full(1000, 1000.0))
    assert means.shape == (10_000,)
    # mean of 0..999 over 1000 is 0.4995; its standard error sqrt(1/12) / sqrt(1000) = 0.00913
    assert (means.mean(), means.std()) == (pytest.approx(0.4995, abs=4e-4), pytest.approx(0.00913, rel=0.03))


def test_the_same_clips_in_another_order_have_the_same_interval():
    rng = np.random.default_rng(3)
    correct, sources = rng.random(90) < 0.6, rng.integers(0, 40, 90).astype(str)
    order = rng.permutation(90)
    first = share_interval(correct, sources)
    assert first == share_interval(correct[order], sources[order]) and first.method == BOOTSTRAP


def test_wilson_replaces_a_bootstrap_without_variation():
    sources = np.array([str(i // 2) for i in range(40)])  # 20 sources of 2: 20 effective clips
    for correct in (0, 1):
        interval = share_interval(np.full(40, correct), sources)
        assert (interval.low, interval.high) == pytest.approx(wilson(correct, 20))
        assert interval.method == WILSON
    by_clip = share_interval(np.array([1, 0]), np.array(["a", "a"]))
    assert (by_clip.low, by_clip.high) == pytest.approx(wilson(0.5, 1))
    assert share_interval(np.zeros(0, bool), np.zeros(0, str)) is None


def test_differences_that_never_vary():
    sources = np.arange(50).astype(str)
    margin = wilson(0, 50)[1]
    assert margin == pytest.approx(3.8415 / 53.8415, rel=1e-4)  # z^2 / (n + z^2)
    for value, low, high in ((0.0, -margin, margin), (1.0, 1 - margin, 1.0), (-1.0, -1.0, margin - 1)):
        interval = difference_interval(np.full(50, value), sources)
        assert (interval.low, interval.high, interval.method) == (pytest.approx(low), pytest.approx(high), WILSON)
        assert detectable_difference(np.full(50, value), sources) is None


def test_detectable_difference():
    # differences +1, 0, -1 of 400 clips of their own, a fifth of them not 0: standard error sqrt(0.2 / 400) = 0.02236
    differences = np.concatenate([np.full(40, 1.0), np.full(40, -1.0), np.zeros(320)])
    interval = detectable_difference(differences, np.arange(400).astype(str))
    assert interval == pytest.approx((1.95996 + 0.84162) * (0.2 / 400) ** 0.5, rel=0.03)


def correlated(rng, sources: int, clips: int, share: float):
    """Clips of sources of which the first has many; half of the clips have the outcome of their source."""
    of = np.concatenate([np.arange(sources), rng.integers(0, sources, clips - sources)])
    common, own = rng.random(sources) < share, rng.random(clips) < share
    return np.where(rng.random(clips) < 0.7, common[of], own), of.astype(str)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.85])
def test_nominal_95_covers_93_to_97(share):
    rng, repetitions = np.random.default_rng(11), 700
    coverage = by_clip = 0
    for _ in range(repetitions):
        correct, sources = correlated(rng, 150, 400, share)  # 2.7 clips a source
        low, high = np.quantile(resampled_means(*by_source(correct, sources), 1000), [0.025, 0.975])
        coverage += low <= share <= high
        # taking clips for independent
        low, high = wilson(correct.mean(), len(correct))
        by_clip += low <= share <= high
    print(f"coverage {coverage / repetitions:.3f} by source, {by_clip / repetitions:.3f} by clip")  # noqa: T201
    assert 0.93 <= coverage / repetitions <= 0.97
    assert by_clip / repetitions < 0.93, "clustering makes a difference here"
