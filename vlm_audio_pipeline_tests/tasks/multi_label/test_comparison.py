"""Comparisons of two multi-label classifiers: hand arithmetic, agreement with the comparison of accuracies, and simulations."""

import numpy as np
import pytest

from vlm_audio_pipeline.evaluation.comparison import Side, compare
from vlm_audio_pipeline.tasks.multi_label.comparison import (
    break_ties,
    compare_labels,
    compare_with_chance,
    recording_influences,
)
from vlm_audio_pipeline_tests.tasks.multi_label.measures.label_arrays import label_arrays


def test_influences_by_hand():
    # d is 0.5; without the recordings 0.4, 0.5, 0.9: mean 0.6, influences 0.5 + 2 * (0.2, 0.1, -0.3)
    assert recording_influences(np.array([0.5, 0.4, 0.5, 0.9])) == pytest.approx([0.9, 0.7, -0.1])
    # Of a mean over clips in recordings of equal size, they are the means of the recordings.
    means = np.array([1.0, 0.0, 0.5, 0.25])
    values = np.array([means.mean(), *(np.delete(means, i).mean() for i in range(4))])
    assert recording_influences(values) == pytest.approx(means)


def test_exact_match_of_one_class_is_compared_like_accuracy():
    # With one class, a clip is matched exactly if its decision is right: the same as accuracy on two answers.
    random = np.random.default_rng(0)
    n = 48
    truth = random.random((n, 1)) < 0.5
    source = [f"r{i // 4}" for i in range(n)]
    right = random.random((2, n, 1)) < np.array([0.9, 0.6])[:, None, None]
    sides = [label_arrays(truth, predicted=truth == right[i], source=source) for i in range(2)]
    found = compare_labels(*sides, "exact_match")
    expected = compare(
        *(
            Side(
                clips=side.clip,
                sources=side.source,
                folds=side.fold,
                accuracy=right[i, :, 0].astype(float),
                has_one_prediction_per_clip=True,
                labels=truth[:, 0].astype(int),
            )
            for i, side in enumerate(sides)
        )
    )
    assert (found.value, found.against_value) == (expected.accuracy, expected.against_accuracy)
    assert found.p == pytest.approx(expected.p, abs=1e-9)
    assert found.standard_error == pytest.approx(expected.standard_error, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((expected.interval.low, expected.interval.high), abs=1e-12)


def test_a_side_compared_with_itself_and_perfect_against_a_constant_score():
    truth = np.array([[i % 2 == 0, i % 3 == 0] for i in range(24)])
    source = [f"r{i // 2}" for i in range(24)]
    perfect = label_arrays(truth, truth.astype(float), source=source)
    same = compare_labels(perfect, perfect, "cmap", margin=0.5)
    assert (same.value, same.difference, same.p, same.standard_error) == (1, 0, 1, None)
    assert same.low < 0 < same.high
    constant = label_arrays(truth, np.full(truth.shape, 0.3), source=source)
    found = compare_labels(perfect, constant, "cmap")
    # Equal scores are in random order. The expected average precision of R positives among N clips is
    # (R - 1) / (N - 1) + (N - R) / (N (N - 1)) * (1 + 1/2 + ... + 1/N) (Bestgen 2015, equation 8).
    harmonic = sum(1 / i for i in range(1, 25))
    expected = [(r - 1) / 23 + (24 - r) / (24 * 23) * harmonic for r in (12, 8)]
    assert found.against_value == pytest.approx(np.mean(expected), abs=0.06)
    assert found.p <= 0.01 and 0 < found.low < found.difference < found.high <= 1
    assert (found.clips, found.sources, found.positives, found.classes) == (24, 12, 20, 2)
    area = compare_labels(perfect, constant, "auroc_macro")  # ties count half, in any order
    assert (area.difference, area.p) == (0.5, 2 / 2**12)


def test_equal_scores_are_put_in_an_order_and_others_keep_theirs():
    arrays = label_arrays([[1, 0], [0, 1]], [[0.5, 0.1], [0.5, 0.9]])
    orders = {tuple(break_ties(arrays, seed).score.ravel().tolist()) for seed in range(20)}
    assert orders == {(1.0, 0.0, 2.0, 3.0), (2.0, 0.0, 1.0, 3.0)}
    assert np.isnan(break_ties(label_arrays([[1]]), 0).score).all()


def test_only_common_clips_are_compared_and_reasons_are_given():
    truth = np.array([[i % 2 == 0, i % 3 == 0] for i in range(24)])
    scored = label_arrays(truth, truth.astype(float))
    part = scored.select(np.arange(24) < 12)
    assert compare_labels(scored, part, "f1_macro").clips == 12
    assert compare_labels(scored, scored.select(np.arange(24) < 0), "cmap") == "they have no clips in common"
    listed = label_arrays(truth, predicted=truth)
    assert compare_labels(scored, listed, "cmap") == (
        "cmap is undefined: a: no scores: the classifier decides without a score; b: no scores: the classifier decides without a score"
    )
    few = scored.select(np.arange(24) < 9)
    assert compare_labels(few, few, "cmap") == "cmap has no interval: fewer than 10 source recordings"


def simulate(random, recordings: int, distances, segments: int = 8):
    """Simulate two classifiers of the same recordings; recordings differ in their sounds and in both classifiers' scores."""
    source = np.repeat(np.arange(recordings), segments)
    truth = random.random((len(source), 3)) < random.beta(0.8, 3.2, (recordings, 3))[source]
    common = 0.5 * random.normal(0, 1, (recordings, 3))[source] + 0.6 * random.normal(0, 1, truth.shape)
    return [
        label_arrays(truth, truth * distance + common + random.normal(0, 0.8, truth.shape), source=source.astype(str))
        for distance in distances
    ]


@pytest.mark.slow
def test_simulated_intervals_cover_and_equal_classifiers_are_seldom_told_apart():
    random = np.random.default_rng(1)
    equal = [compare_labels(*simulate(random, 30, (1.5, 1.5)), "cmap") for _ in range(150)]
    assert np.mean([c.p < 0.05 for c in equal]) <= 0.09  # 5 %; two standard errors of 150 simulations are 3.6 %
    assert np.mean([c.low <= 0 <= c.high for c in equal]) >= 0.91
    large = compare_labels(*simulate(random, 5_000, (2.5, 1.0)), "cmap").difference
    unequal = [compare_labels(*simulate(random, 30, (2.5, 1.0)), "cmap") for _ in range(150)]
    assert np.mean([c.low <= large <= c.high for c in unequal]) >= 0.91


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["cmap", "f1_macro"])
def test_random_scores_are_seldom_better_than_chance_or_than_equal_scores(measure):
    random = np.random.default_rng(2)
    chance, blank = [], []
    for _ in range(100):
        first, _ = simulate(random, 20, (0.0, 0.0), segments=3)
        equal = label_arrays(first.truth, np.zeros(first.truth.shape), source=first.source)
        chance.append(compare_with_chance(first, measure).p < 0.05)
        blank.append(compare_labels(first, equal, "cmap").p < 0.05)
    assert np.mean(chance) <= 0.1  # 5 %; two standard errors of 100 simulations are 4.4 %
    assert np.mean(blank) <= 0.1
