import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.comparison import Side, compare
from vlm_audio_pipeline.measures.uncertainty import BOOTSTRAP
from vlm_audio_pipeline_tests.measures.prediction_tables import predictions_table


def side(accuracy, clips=None, sources=None, single=True) -> Side:
    n = len(accuracy)
    names = [f"clip {i:03}" for i in range(n)] if clips is None else clips
    sources = names if sources is None else sources
    return Side(np.array(names), np.array(sources), np.ones(n, int), np.array(accuracy, float), single)


def test_several_predictions_of_a_clip_are_averaged_first():
    a, b = (1, "a", "a", None), (1, "a", "b", None)
    trials = [
        predictions_table([a, a, b], trial=0),
        predictions_table([a, b, b], trial=1),
        predictions_table([a], trial=2),
    ]
    averaged = Side.of(pa.concat_tables(trials))
    assert averaged.clips.tolist() == ["clip 0", "clip 1", "clip 2"]
    assert averaged.accuracy.tolist() == [1.0, 0.5, 0.0]
    assert not averaged.single and Side.of(trials[0]).single


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
    assert (comparison.p, comparison.p_method) == (12 / 32, "exact")
    assert comparison.p_mcnemar == pytest.approx(12 / 32)
    assert comparison.interval.low < 3 / 8 < comparison.interval.high and comparison.interval.method == BOOTSTRAP
    # differences 1 (4 times), -1 (once), 0: variance 5 / 8 - (3 / 8)^2; (1.96 + 0.84) standard errors of 8 clips
    assert comparison.detectable_difference == pytest.approx(2.8016 * ((5 / 8 - 9 / 64) / 8) ** 0.5, rel=0.03)


def test_swapping_the_sides_mirrors_the_result():
    rng = np.random.default_rng(1)
    sources = rng.integers(0, 40, 90).astype(str)
    a, b = (side(rng.random(90) < share, sources=sources) for share in (0.6, 0.5))
    forward, backward = compare(a, b), compare(b, a)
    assert (
        forward.difference == -backward.difference
        and forward.p == backward.p
        and forward.detectable_difference is not None
    )
    assert forward.discordant == backward.discordant[::-1]
    assert forward.interval.low == pytest.approx(-backward.interval.high, abs=0.01)


def test_only_clips_of_both_sides_are_compared():
    comparison = compare(side([1, 0, 1], clips=["a", "b", "c"]), side([1, 1], clips=["b", "d"]))
    assert (comparison.clips, comparison.accuracy, comparison.against_accuracy) == (1, 0.0, 1.0)
    assert compare(side([1], clips=["a"]), side([1], clips=["b"])) is None


def test_averages_have_no_mcnemar():
    comparison = compare(side([0.5, 1], single=False), side([1, 1]))
    assert (comparison.discordant, comparison.p_mcnemar) == (None, None)


def test_references():
    clips = [Clip(f"{i}", label, fold, f"s{i}", "f") for i, (label, fold) in enumerate((("b", 1), ("a", 2), ("a", 2)))]
    chance = Side.reference("chance", clips[::-1], 4)
    assert (chance.clips.tolist(), chance.accuracy.tolist(), chance.single) == (["0", "1", "2"], [0.25] * 3, False)
    assert Side.reference("majority", clips, 4).accuracy.tolist() == [0, 0, 0]  # a for fold 1, b for fold 2
    assert Side.reference("majority", clips[1:], 4).clips.tolist() == [], "no other folds, no majority"


def test_a_constant_prediction_does_not_beat_chance():
    clips = [Clip(f"{i:03}", "abcdefghij"[i % 10], 1, f"{i}", "f") for i in range(400)]
    constant = Side.reference("chance", clips, 10)
    always = Side(constant.clips, constant.sources, constant.folds, (np.arange(400) % 10 == 0).astype(float), True)
    comparison = compare(always, constant)
    assert comparison.difference == pytest.approx(0) and comparison.p > 0.9
