import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts import errors
from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion


def test_suggests_what_is_close_and_lists_what_there_is():
    assert suggestion("zero-shot", ["probe", "zero_shot"]) == "did you mean 'zero_shot'? options: probe, zero_shot"


def test_suggests_nothing_far_away():
    assert suggestion("xyz", ["probe", "knn"]) == "options: knn, probe"


def test_says_that_there_is_nothing_to_choose():
    assert suggestion("xyz", []) == "options: none"


def test_what_was_given_need_not_be_text():
    assert suggestion(12, ["1", "2"]).endswith("options: 1, 2")


@given(st.text(), st.sets(st.text(st.characters(codec="ascii", exclude_characters=",")), max_size=5))
def test_every_option_is_named(wrong, options):
    said = suggestion(wrong, options)
    assert all(option in said for option in options)


@pytest.mark.parametrize("name", ["BadStudy", "BadDataset", "BadClips", "BadTable", "NotAvailable", "MissingInput"])
def test_every_error_for_a_person_is_printed_without_a_traceback(name):
    assert issubclass(getattr(errors, name), VlmAudioError)
