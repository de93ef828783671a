"""Parsing of any text: no exception, linear time, and an exact label is always read."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.parsing import parse_response
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline_tests.classifiers.language_models.test_parsing import NO, REFUSED

REPEATED = """
Answer: dog, ;Answer: dog. ;The class is dog, ;dog ;not dog, ;final answer: ;dog or rain or ;人dog;Is it dog? ;it is ;(although
Answer: (;too a,a ;{;[;<answer>;\\boxed{;~~;```;user: ;if dog then rain or ;<think>;because dog, ;_;';sorry, ;I'm sorry dog ;no sign of
wait, no. ;<answer>dog</answer>;\\n
"""


def _seconds(text):
    started = time.process_time()
    parse_response(text, ESC10)
    return time.process_time() - started


@pytest.mark.parametrize("unit", REPEATED.strip().replace("\n", " ;").replace("\\n", "\n").split(";"))
def test_the_time_of_a_repetitive_response_is_linear(unit):
    """Four times the text takes at most about four times as long; a quadratic parser takes sixteen times."""
    short, long = (unit * (n // len(unit)) for n in (2_500, 10_000))
    short_s = min(_seconds(short) for _ in range(3))
    assert any(_seconds(long) / short_s < 9 for _ in range(2))  # the second time only after a disturbance


@pytest.mark.parametrize("unit", ["Answer: dog, ", "Answer: dog. ", "The class is dog, "])
def test_a_model_that_repeats_its_answer_is_parsed_quickly(unit):
    started = time.process_time()
    assert parse_response(unit * (9_900 // len(unit)), ESC10).label == "dog"
    assert time.process_time() - started < 20


PIECES = [
    *ESC10,
    *(
        "Answer:",
        "final answer is",
        "the class is",
        "not",
        "isn't",
        "but",
        "rather than",
        "or",
        "{",
        "}",
        '"class":',
        "[",
        "]",
    ),
    *(
        "**",
        "```json",
        "```",
        "<think>",
        "</think>",
        "\\boxed{",
        "~~",
        "I'm sorry,",
        "I can't",
        "。",
        "「",
        "\n\n",
        ".",
        "?",
        ",",
        ":",
    ),
]
mixed_texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=12).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), mixed_texts))
def test_no_text_raises_an_exception(text):
    got = parse_response(text, ESC10)
    assert (got.label in ESC10) == (got.outcome == "answered")
    assert got.outcome in ("answered", NO, REFUSED)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 9_000,
        "{" * 9_000,
        '{"a":' * 1_900,
        "sorry " * 800,
        "<answer>" * 500,
        "not dog " * 500,
        "dog " * 10**6,
    ],
)
def test_a_long_meaningless_text_is_parsed_quickly(text):
    started = time.process_time()
    assert parse_response(text, ESC10).label is None
    assert time.process_time() - started < 5


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=2, max_size=4, unique=True), st.data())
def test_an_exact_label_always_has_the_outcome_answered(classes, data):
    label = data.draw(st.sampled_from(classes))
    assert parse_response(label, classes).label == label


AROUND = [
    "{}",
    '"{}"',
    "'{}'",
    "“{}”",
    "「{}」",
    "«{}»",
    "`{}`",
    "**{}**",
    "{}.",
    "{}。",
    "({})",
    "['{}']",
    "\n{}\n",
    "- {}",
]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(ESC10),
    st.sampled_from([str.lower, str.upper, str.title, str.swapcase]),
    st.sampled_from(["_", " ", "-", "  "]),
    st.sampled_from(AROUND),
    st.sampled_from(AROUND),
    st.text(" \n\t", max_size=3),
)
def test_case_whitespace_and_quotes_change_nothing(label, case, joint, inner, outer, space):
    text = space + outer.format(inner.format(case(label.replace("_", joint)))) + space
    assert parse_response(text, ESC10).label == label


@pytest.mark.parametrize("depth", [60, 200, 480, 900])
def test_json_that_is_nested_too_deep_names_no_class(depth):
    text = '{"a": ' * depth + '"dog"' + "}" * depth
    assert parse_response(text, ESC10).outcome == "unparseable"
