import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from vlm_audio_pipeline.evaluation.uncertainty import (
    BOOTSTRAP,
    WILSON,
    by_source,
    detectable,
    difference_interval,
    effective_n,
    resampled_means,
    share_interval,
    wilson,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_that_of_statsmodels(pair):
    right, n = pair
    assert wilson(right / n, n) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)


def test_sums_by_source():
    sums, counts = by_source(np.array([1, 0, 1, 1]), np.array(["b", "a", "b", "c"]))
    assert (sums.tolist(), counts.tolist()) == ([0, 2, 1], [1, 2, 1])


def test_effective_n_by_hand():
    assert effective_n(np.array([1.0] * 7)) == 7
    assert effective_n(np.array([4.0])) == 1
    assert effective_n(np.array([3.0, 1.0])) == 16 / 10  # 4^2 / (3^2 + 1^2)


def drawn_plainly(sums, counts, resamples, seed):
    """The textbook bootstrap: choose sources one by one."""
    chosen = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)))
    return sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)


def test_drawing_equal_sources_together_is_the_same_bootstrap():
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 4, 60).astype(float)
    sums = np.floor(rng.random(60) * (counts + 1))
    ours, plain = resampled_means(sums, counts, 20_000), drawn_plainly(sums, counts, 20_000, 2)
    points = np.linspace(0.01, 0.99, 9)
    assert np.quantile(ours, points) == pytest.approx(np.quantile(plain, points), abs=0.006)
    assert ours.std() == pytest.approx(plain.std(), rel=0.03)


def test_in_blocks_there_are_as_many_draws():
    sums = np.arange(1000.0)  # all different, so that 10,000 draws come in 5 blocks
    means = resampled_means(sums, np.full(1000, 1000.0))
    assert means.shape == (10_000,)
    # mean of 0..999 over 1000 is 0.4995; its standard error sqrt(1/12) / sqrt(1000) = 0.00913
    assert (means.mean(), means.std()) == (pytest.approx(0.4995, abs=4e-4), pytest.approx(0.00913, rel=0.03))


def test_the_same_clips_in_another_order_have_the_same_interval():
    rng = np.random.default_rng(3)
    right, sources = rng.random(90) < 0.6, rng.integers(0, 40, 90).astype(str)
    order = rng.permutation(90)
    first = share_interval(right, sources)
    assert first == share_interval(right[order], sources[order]) and first.method == BOOTSTRAP


def test_where_the_bootstrap_collapses_wilson_stands_in():
    sources = np.array([str(i // 2) for i in range(40)])  # 20 sources of 2: 20 effective clips
    for right in (0, 1):
        found = share_interval(np.full(40, right), sources)
        assert (found.low, found.high) == pytest.approx(proportion_confint(20 * right, 20, method="wilson"))
        assert found.method == WILSON
    alone = share_interval(np.array([1, 0]), np.array(["a", "a"]))
    assert (alone.low, alone.high) == pytest.approx(proportion_confint(0.5, 1, method="wilson"))
    assert share_interval(np.zeros(0, bool), np.zeros(0, str)) is None


def test_differences_that_never_vary():
    sources = np.arange(50).astype(str)
    unseen = proportion_confint(0, 50, method="wilson")[1]
    assert unseen == pytest.approx(3.8415 / 53.8415, rel=1e-4)  # z^2 / (n + z^2)
    for value, low, high in ((0.0, -unseen, unseen), (1.0, 1 - unseen, 1.0), (-1.0, -1.0, unseen - 1)):
        found = difference_interval(np.full(50, value), sources)
        assert (found.low, found.high, found.method) == (pytest.approx(low), pytest.approx(high), WILSON)
        assert detectable(np.full(50, value), sources) is None


def test_what_so_many_clips_could_show():
    # differences +1, 0, -1 of 400 clips of their own, a fifth of them not 0: standard error sqrt(0.2 / 400) = 0.02236
    differences = np.concatenate([np.full(40, 1.0), np.full(40, -1.0), np.zeros(320)])
    found = detectable(differences, np.arange(400).astype(str))
    assert found == pytest.approx((1.95996 + 0.84162) * (0.2 / 400) ** 0.5, rel=0.03)


def correlated(rng, sources: int, clips: int, share: float):
    """Clips of sources of which the first has many; half of the clips have the outcome of their source."""
    of = np.concatenate([np.arange(sources), rng.integers(0, sources, clips - sources)])
    common, own = rng.random(sources) < share, rng.random(clips) < share
    return np.where(rng.random(clips) < 0.7, common[of], own), of.astype(str)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.85])
def test_nominal_95_covers_93_to_97(share):
    rng, worlds = np.random.default_rng(11), 700
    covered = alone = 0
    for _ in range(worlds):
        right, sources = correlated(rng, 150, 400, share)  # 2.7 clips a source
        low, high = np.quantile(resampled_means(*by_source(right, sources), 1000), [0.025, 0.975])
        covered += low <= share <= high
        # taking clips for independent
        low, high = wilson(right.mean(), len(right))
        alone += low <= share <= high
    print(f"coverage {covered / worlds:.3f} by source, {alone / worlds:.3f} by clip")  # noqa: T201
    assert 0.93 <= covered / worlds <= 0.97
    assert alone / worlds < 0.93, "clustering makes a difference here"
