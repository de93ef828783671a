import pytest

from vlm_audio_pipeline.measures.icbhi_score import icbhi_score

N, C, W, B = "normal_breathing", "crackle", "wheeze", "crackle_and_wheeze"


def test_the_score_is_the_mean_of_sensitivity_and_specificity():
    # Normal: 3 of 4 right, specificity 0.75. Others: 2 of 5 right (a wheeze for a crackle is wrong), sensitivity 0.4.
    labels = [N, N, N, N, C, C, W, B, B]
    answers = [N, N, N, C, C, W, W, N, C]
    assert icbhi_score(labels, answers) == (pytest.approx((0.4 + 0.75) / 2), 0.4, 0.75, None)


def test_a_constant_answer_has_half_a_point():
    # sensitivity 0, specificity 1
    assert icbhi_score([N, C, W], [N, N, N]).score == 0.5


def test_no_answer_is_wrong():
    assert icbhi_score([N, C], ["", ""]).score == 0


def test_without_normal_or_other_cycles_the_score_is_undefined():
    assert icbhi_score([N, N], [N, C]) == (None, None, 0.5, "every cycle is of the class normal_breathing")
    assert icbhi_score([C], [C]) == (None, 1, None, "no cycle of the class normal_breathing")
    assert icbhi_score([], []) == (None, None, None, "no cycles")
    with pytest.raises(ValueError, match="shorter"):
        icbhi_score([N, C], [N])
