import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.comparison import Side, compare
from vlm_audio_pipeline.measures.uncertainty import CLIPS, MOVER, THESE_EXAMPLES
from vlm_audio_pipeline_tests.measures.prediction_tables import CLASSES, predictions_table


def side(accuracy, clips=None, sources=None, has_one_prediction_per_clip=True) -> Side:
    n = len(accuracy)
    names = [f"clip {i:03}" for i in range(n)] if clips is None else clips
    sources = names if sources is None else sources
    return Side(
        np.array(names),
        np.array(sources),
        np.ones(n, int),
        np.array(accuracy, float),
        has_one_prediction_per_clip,
        labels=np.zeros(n, int),
    )


def test_several_predictions_of_a_clip_are_averaged():
    a, b = (1, "a", "a", None), (1, "a", "b", None)
    trials = [
        predictions_table([a, a, b], trial=0),
        predictions_table([a, b, b], trial=1),
        predictions_table([a], trial=2),
    ]
    averaged = Side.from_predictions(pa.concat_tables(trials), CLASSES)
    assert averaged.clips.tolist() == ["clip 0", "clip 1", "clip 2"]
    assert averaged.accuracy.tolist() == [1.0, 0.5, 0.0]
    # classes a, b, c, d; labels a, a, b; b is predicted once for the second clip, and for the third as the label
    assert averaged.labels.tolist() == [0, 0, 0]
    assert averaged.answers.tolist() == [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 1, 0, 0]]
    assert not averaged.has_one_prediction_per_clip
    assert Side.from_predictions(trials[0], CLASSES).has_one_prediction_per_clip


def test_a_comparison_by_hand():
    # 8 clips of their own recordings: both correct on 3, only the first on 4, only the second on 1
    comparison = compare(side([1, 1, 1, 1, 1, 1, 1, 0]), side([1, 1, 1, 0, 0, 0, 0, 1]))
    assert (comparison.clips, comparison.sources, comparison.accuracy, comparison.against_accuracy) == (
        8,
        8,
        7 / 8,
        4 / 8,
    )
    assert (comparison.difference, comparison.discordant) == (3 / 8, (4, 1))
    # of 2^5 ways to sign five clips, 5 + 1 have a sum of 3 or more, and as many of -3 or less
    assert (comparison.p, comparison.p_method) == (12 / 32, "sign flips by source recording, exact")
    assert comparison.p_mcnemar == pytest.approx(12 / 32)
    assert comparison.interval.low < 3 / 8 < comparison.interval.high and comparison.interval.method == MOVER
    # differences 1 (4 times), -1 (once), 0: variance 5 / 8 - (3 / 8)^2 with n - 1; (1.96 + 0.84) standard errors of 8 clips
    assert comparison.detectable_difference(1) == pytest.approx(2.8016 * ((5 / 8 - 9 / 64) / 7) ** 0.5, rel=1e-4)
    assert comparison.detectable_difference(4) == pytest.approx(3.3393 * ((5 / 8 - 9 / 64) / 7) ** 0.5, rel=1e-4)


def test_swapping_the_sides_mirrors_the_result():
    rng = np.random.default_rng(1)
    sources = rng.integers(0, 40, 90).astype(str)
    a, b = (side(rng.random(90) < share, sources=sources) for share in (0.6, 0.5))
    forward, backward = compare(a, b), compare(b, a)
    assert (
        forward.difference == -backward.difference
        and forward.p == backward.p
        and forward.standard_error == pytest.approx(backward.standard_error)
    )
    assert forward.discordant == backward.discordant[::-1]
    assert forward.interval.low == pytest.approx(-backward.interval.high)


def test_a_comparison_with_examples_holds_for_these_examples():
    few = Side.from_predictions(predictions_table([(1, "a", "a", None)] * 4, selection="random", draw=0), CLASSES)
    zero = Side.from_predictions(predictions_table([(1, "a", "b", None)] * 4), CLASSES)
    for first, second, scope in ((few, zero, THESE_EXAMPLES), (zero, few, THESE_EXAMPLES), (zero, zero, CLIPS)):
        assert compare(first, second).interval.scope == scope
    assert compare(few.select(np.array([True, False, True, False])), zero).interval.scope == THESE_EXAMPLES


def test_only_clips_of_both_sides_are_compared():
    comparison = compare(side([1, 0, 1], clips=["a", "b", "c"]), side([1, 1], clips=["b", "d"]))
    assert (comparison.clips, comparison.accuracy, comparison.against_accuracy) == (1, 0.0, 1.0)
    assert compare(side([1], clips=["a"]), side([1], clips=["b"])) is None


def test_averaged_predictions_have_no_mcnemar_test():
    comparison = compare(side([0.5, 1], has_one_prediction_per_clip=False), side([1, 1]))
    assert (comparison.discordant, comparison.p_mcnemar) == (None, None)


def test_chance_and_majority_sides():
    clips = [Clip(f"{i}", label, fold, f"s{i}", "f") for i, (label, fold) in enumerate((("b", 1), ("a", 2), ("a", 2)))]
    chance = Side.from_reference("chance", clips[::-1], tuple("abcd"))
    assert (chance.clips.tolist(), chance.accuracy.tolist(), chance.has_one_prediction_per_clip) == (
        ["0", "1", "2"],
        [0.25] * 3,
        False,
    )
    assert Side.from_reference("majority", clips, tuple("abcd")).accuracy.tolist() == [
        0,
        0,
        0,
    ]  # a for fold 1, b for fold 2
    assert Side.from_reference("majority", clips[1:], tuple("abcd")).clips.tolist() == [], "no other folds, no majority"


def test_a_constant_prediction_does_not_beat_chance():
    clips = [Clip(f"{i:03}", "abcdefghij"[i % 10], 1, f"{i}", "f") for i in range(400)]
    chance = Side.from_reference("chance", clips, "abcdefghij")
    constant_classifier = Side(
        chance.clips,
        chance.sources,
        chance.folds,
        (np.arange(400) % 10 == 0).astype(float),
        True,
        labels=np.arange(400) % 10,
        answers=np.tile(np.eye(10)[0], (400, 1)),
    )
    comparison = compare(constant_classifier, chance)
    assert comparison.difference == pytest.approx(0) and comparison.p > 0.9
    assert comparison.p_method == "exact, over the labels of sources"


def test_majority_among_equally_frequent_classes_is_chance():
    clips = [Clip(f"{i:03}", "abcd"[i % 4], 1 + i // 20, f"{i}", "f") for i in range(40)]
    assert Side.from_reference("majority", clips, tuple("abcd")).is_uniform_guess
    assert not Side.from_reference("majority", clips[:30], tuple("abcd")).is_uniform_guess


def test_equivalence_is_tested_only_with_a_margin():
    sides = side([1.0] * 200 + [0.0] * 200), side([1.0] * 198 + [0.0] * 202)
    assert compare(*sides).p_equivalence is None
    assert compare(*sides, margin=0.05).p_equivalence < 0.001
    assert compare(*sides, margin=0.01).p_equivalence > 0.05
