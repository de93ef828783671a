import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.measures.pooling import pool_segments

SCORES = np.array([[0.25, 0.5], [0.75, np.nan], [0.5, 0.5], [np.nan, np.nan]])
RECORDINGS = ["b", "b", "a", "c"]


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        # a has one segment; b: max(0.25, 0.75), and 0.5 without the missing score; c has no scores
        ("max", [[0.5, 0.5], [0.75, 0.5], [np.nan, np.nan]]),
        ("mean", [[0.5, 0.5], [0.5, 0.5], [np.nan, np.nan]]),
    ],
)
def test_scores_are_pooled_over_the_segments_of_a_recording(pooling, expected):
    names, pooled = pool_segments(SCORES, RECORDINGS, pooling)
    assert names == ["a", "b", "c"]
    np.testing.assert_array_equal(pooled, expected)


def test_a_recording_has_a_class_if_any_segment_has_it():
    decisions = np.array([[True, False], [False, False], [False, True]])
    names, pooled = pool_segments(decisions, ["x", "x", "y"], "any")
    assert names == ["x", "y"]
    np.testing.assert_array_equal(pooled, [[1, 0], [0, 1]])


def test_scores_are_no_decisions():
    with pytest.raises(ValueError, match="pooling 'any' needs decisions"):
        pool_segments(SCORES, RECORDINGS, "any")
    with pytest.raises(ValueError, match=r"for 2 segments, got \(4, 2\)"):
        pool_segments(SCORES, ["a", "b"], "max")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), min_size=1, max_size=20))
def test_the_order_of_segments_does_not_matter_and_the_mean_is_at_most_the_maximum(rows):
    values, names = np.array([[value] for _, value in rows]), [name for name, _ in rows]
    order = np.argsort([value for _, value in rows])
    highest, mean = pool_segments(values, names, "max"), pool_segments(values, names, "mean")
    assert highest[0] == sorted(set(names))
    np.testing.assert_array_equal(highest[1], pool_segments(values[order], [names[i] for i in order], "max")[1])
    assert (mean[1] <= highest[1] + 1e-12).all()
    assert [v[0] for v in highest[1]] == [max(value for n, value in rows if n == name) for name in highest[0]]
