import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts import errors
from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion


def test_a_similar_option_is_suggested_and_all_options_are_listed():
    assert suggestion("zero-shot", ["probe", "zero_shot"]) == "did you mean 'zero_shot'? options: probe, zero_shot"


def test_a_very_different_word_gets_no_suggestion():
    assert suggestion("xyz", ["probe", "knn"]) == "options: knn, probe"


def test_without_options_the_text_says_none():
    assert suggestion("xyz", []) == "options: none"


def test_a_value_that_is_not_text_is_accepted():
    assert suggestion(12, ["1", "2"]).endswith("options: 1, 2")


def test_of_many_options_the_eight_most_similar_are_listed_and_the_others_counted():
    """The case of the 180 colour maps of matplotlib."""
    options = [f"map_{number:03}" for number in range(179)] + ["viridis"]
    text = suggestion("viridiss", options)
    assert text.startswith("did you mean 'viridis'? options: viridis, ") and text.endswith(", ... 172 more")
    assert text.count(", ") == 8


def test_equally_similar_options_have_a_stable_order():
    names = [f"x{letter}" for letter in "nmlkjihgfedcba"]  # each has one of two letters in common with "xz"
    assert suggestion("xz", names) == "options: xa, xb, xc, xd, xe, xf, xg, xh, ... 6 more"
    assert suggestion("xz", reversed(names)) == suggestion("xz", names)


@given(st.text(), st.sets(st.text(st.characters(codec="ascii", exclude_characters=",")), max_size=5))
def test_every_option_is_named(wrong, options):
    text = suggestion(wrong, options)
    assert all(option in text for option in options)


@pytest.mark.parametrize("name", ["BadStudy", "BadDataset", "BadClips", "BadTable", "NotAvailable", "MissingInput"])
def test_every_error_for_the_user_is_printed_without_a_traceback(name):
    assert issubclass(getattr(errors, name), VlmAudioError)
