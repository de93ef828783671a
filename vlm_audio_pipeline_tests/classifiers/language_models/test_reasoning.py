"""Reasoning and answer are separated at the marks of every model family."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.reasoning import split_reasoning

MARKS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<think >", "</think>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<unused94>thought\n", "<unused95>"),
    ('<details type="reasoning">', "</details>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("# Thinking\n", "\n# Response\n"),
]


@pytest.mark.parametrize(("opening", "closing"), MARKS, ids=lambda mark: mark.strip())
def test_marked_reasoning_is_separated(opening, closing):
    assert split_reasoning(f"{opening}It sounds like rain.{closing}dog") == ("It sounds like rain.", "dog")
    assert split_reasoning(f"{opening}It sounds like rain.") == ("It sounds like rain.", "")


def test_a_closing_mark_without_an_opening_mark_ends_the_reasoning():
    """The chat templates of DeepSeek-R1 and Qwen3 put the opening mark into the prompt."""
    assert split_reasoning("It sounds like rain.\n</think>\n\ndog") == ("It sounds like rain.", "dog")


def test_reasoning_in_several_blocks_is_joined():
    assert split_reasoning("<think>a</think>dog<think>b") == ("ab", "dog")


@given(st.text(alphabet=st.characters(exclude_characters="<[◁#"), max_size=40))
def test_a_text_without_marks_is_unchanged(text):
    assert split_reasoning(text) == (None, text)


pieces = st.lists(st.sampled_from([mark for pair in MARKS for mark in pair] + ["dog", " ", "rain", "\n"]), max_size=8)


@given(pieces.map("".join))
def test_the_answer_is_a_part_of_the_text(text):
    reasoning, answer = split_reasoning(text)
    assert answer in text
    assert reasoning is not None or answer == text
