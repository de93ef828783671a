import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.comparison import Side, compared
from vlm_audio_pipeline.evaluation.uncertainty import BOOTSTRAP
from vlm_audio_pipeline_tests.evaluation.test_metrics import predictions


def side(right, clips=None, sources=None, single=True) -> Side:
    n = len(right)
    names = [f"clip {i:03}" for i in range(n)] if clips is None else clips
    sources = names if sources is None else sources
    return Side(np.array(names), np.array(sources), np.ones(n, int), np.array(right, float), single)


def test_several_predictions_of_a_clip_are_averaged_first():
    a, b = (1, "a", "a", None), (1, "a", "b", None)
    trials = [predictions([a, a, b], trial=0), predictions([a, b, b], trial=1), predictions([a], trial=2)]
    made = Side.of(pa.concat_tables(trials))
    assert made.clips.tolist() == ["clip 0", "clip 1", "clip 2"]
    assert made.right.tolist() == [1.0, 0.5, 0.0]
    assert not made.single and Side.of(trials[0]).single


def test_a_comparison_by_hand():
    # 8 clips of their own recordings: both right on 3, first alone on 4, second alone on 1
    found = compared(side([1, 1, 1, 1, 1, 1, 1, 0]), side([1, 1, 1, 0, 0, 0, 0, 1]))
    assert (found.clips, found.sources, found.accuracy, found.against_accuracy) == (8, 8, 7 / 8, 4 / 8)
    assert (found.difference, found.discordant) == (3 / 8, (4, 1))
    # of 2^5 ways to sign five clips, 5 + 1 have a sum of 3 or more, and as many of -3 or less
    assert (found.p, found.p_method) == (12 / 32, "exact")
    assert found.p_mcnemar == pytest.approx(12 / 32)
    assert found.interval.low < 3 / 8 < found.interval.high and found.interval.method == BOOTSTRAP
    # differences 1 (4 times), -1 (once), 0: variance 5 / 8 - (3 / 8)^2; (1.96 + 0.84) standard errors of 8 clips
    assert found.detectable == pytest.approx(2.8016 * ((5 / 8 - 9 / 64) / 8) ** 0.5, rel=0.03)


def test_the_other_way_round_is_the_mirror():
    rng = np.random.default_rng(1)
    sources = rng.integers(0, 40, 90).astype(str)
    a, b = (side(rng.random(90) < share, sources=sources) for share in (0.6, 0.5))
    there, back = compared(a, b), compared(b, a)
    assert there.difference == -back.difference and there.p == back.p and there.detectable is not None
    assert there.discordant == back.discordant[::-1]
    assert there.interval.low == pytest.approx(-back.interval.high, abs=0.01)


def test_only_clips_both_have():
    found = compared(side([1, 0, 1], clips=["a", "b", "c"]), side([1, 1], clips=["b", "d"]))
    assert (found.clips, found.accuracy, found.against_accuracy) == (1, 0.0, 1.0)
    assert compared(side([1], clips=["a"]), side([1], clips=["b"])) is None


def test_averages_have_no_mcnemar():
    found = compared(side([0.5, 1], single=False), side([1, 1]))
    assert (found.discordant, found.p_mcnemar) == (None, None)


def test_references():
    clips = [Clip(f"{i}", label, fold, f"s{i}", "f") for i, (label, fold) in enumerate((("b", 1), ("a", 2), ("a", 2)))]
    chance = Side.reference("chance", clips[::-1], 4)
    assert (chance.clips.tolist(), chance.right.tolist(), chance.single) == (["0", "1", "2"], [0.25] * 3, False)
    assert Side.reference("majority", clips, 4).right.tolist() == [0, 0, 0]  # a for fold 1, b for fold 2
    assert Side.reference("majority", clips[1:], 4).clips.tolist() == [], "no other folds, no majority"


def test_whoever_always_says_the_same_does_not_beat_chance():
    clips = [Clip(f"{i:03}", "abcdefghij"[i % 10], 1, f"{i}", "f") for i in range(400)]
    constant = Side.reference("chance", clips, 10)
    always = Side(constant.clips, constant.sources, constant.folds, (np.arange(400) % 10 == 0).astype(float), True)
    found = compared(always, constant)
    assert found.difference == pytest.approx(0) and found.p > 0.9
