"""What models really answer, and what a careful reader would make of it; written before the parser."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.parsing import parse_response
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.esc_classes import ESC10

NO, REFUSED = "unparseable", "refused"

PROMPT = (
    "Which sound does this spectrogram show? Choose one: dog, rooster, rain, sea_waves, crackling_fire, crying_baby, "
    "sneezing, clock_tick, helicopter, chainsaw. Answer with its name only."
)

# the answer, and the class it gives, or what became of it; where a reading is changed, raise the predictions' version
ANSWERS = [
    # the name alone
    ("dog", "dog"),
    ("sea_waves", "sea_waves"),
    ("Dog", "dog"),
    ("CLOCK_TICK", "clock_tick"),
    ("dog.", "dog"),
    (" rain\n", "rain"),
    ("Rain!", "rain"),
    ("sea waves", "sea_waves"),
    ("Sea-Waves", "sea_waves"),
    ("SeaWaves", "sea_waves"),
    ("seawaves", "sea_waves"),
    ("sea wave", "sea_waves"),
    ("clock ticks", "clock_tick"),
    ("dogs", "dog"),
    ("helicopters.", "helicopter"),
    ("chain saw", "chainsaw"),
    ("A dog", "dog"),
    ("the rain", "rain"),
    ("a helicopter sound", "helicopter"),
    ("dog<|im_end|>", "dog"),
    ("rooster</s>", "rooster"),
    ("dog 🐶", "dog"),
    # in quotes and brackets
    ('"dog"', "dog"),
    ("'rain'.", "rain"),
    ("“sea_waves”", "sea_waves"),
    ("`clock_tick`", "clock_tick"),
    ("['rooster']", "rooster"),
    ("(dog)", "dog"),
    ("<answer>chainsaw</answer>", "chainsaw"),
    (r"\boxed{dog}", "dog"),
    (r"$\boxed{\text{sea\_waves}}$", "sea_waves"),
    # other languages' punctuation and words
    ("dog。", "dog"),
    ("「dog」", "dog"),
    ("『rain』。", "rain"),
    ("«dog»", "dog"),
    ("„rain“", "rain"),
    ("ｄｏｇ", "dog"),
    ("【rooster】", "rooster"),
    ("答案：dog。", "dog"),
    ("答案是dog", "dog"),
    ("这是rain的声音。", "rain"),
    ("不是rain。", NO),
    ("C'est « rain ».", "rain"),
    ("La respuesta es: dog", "dog"),
    ("Das ist kein dog.", NO),
    ("¿dog?", "dog"),
    # synonyms
    ("barking dog", "dog"),
    ("dog barking", "dog"),
    ("cockerel", "rooster"),
    ("baby crying", "crying_baby"),
    ("Ocean waves", "sea_waves"),
    ("a sneeze", "sneezing"),
    ("ticking clock", "clock_tick"),
    ("fire crackling", "crackling_fire"),
    ("It's the sound of a baby crying.", "crying_baby"),
    # JSON
    ('{"excluded": "dog"}', NO),
    ('{"least_likely": "dog"}', NO),
    ('{"not_class": "dog"}', NO),
    ('{"wrong": "rain"}', NO),
    ('{"animal": "dog"}', "dog"),
    ('{"class": "dog"}', "dog"),
    ('{"answer": "Rain"}', "rain"),
    ('{ "label" : "sea_waves", "confidence": 0.92 }', "sea_waves"),
    ('{"class": "rain", "reason": "broadband noise, not the bursts of a dog"}', "rain"),
    ('```json\n{"class": "dog"}\n```', "dog"),
    ('Here is the result:\n```json\n{"prediction": "rooster"}\n```', "rooster"),
    ('{"class": ["dog"]}', "dog"),
    ('["dog"]', "dog"),
    ('["dog", "rain"]', NO),
    ('{"class": ["dog", "rain"]}', NO),
    ('{"dog": 0.7, "rain": 0.3}', NO),
    ('{"class": "dog", "answer": "rain"}', NO),
    ('{"class": "dog or rain"}', NO),
    ('{"class": null}', NO),
    ('{"class": "wind"}', NO),
    ('{"class": "none of the above, though dog comes close"}', NO),
    ("{'class': 'dog'}", "dog"),
    ('{"class": "do', NO),
    # Markdown
    ("**dog**", "dog"),
    ("**Rain**", "rain"),
    ("# dog", "dog"),
    ("- dog", "dog"),
    ("* sea_waves", "sea_waves"),
    ("1. dog", "dog"),
    ("> rain", "rain"),
    ("```\nclock_tick\n```", "clock_tick"),
    ("- dog\n- rain", NO),
    ("1. dog\n2. rain\n3. rooster", NO),
    ("The class is **crackling_fire**.", "crackling_fire"),
    ("~~dog~~ rain", "rain"),
    ("| class | score |\n|---|---|\n| dog | 0.9 |\n| rain | 0.1 |", NO),
    # reasoning, then the answer
    ("The short bursts could be a dog or a rooster. Answer: dog", "dog"),
    ("Rain would be broadband; here I see harmonics.\n\n**Answer:** rooster", "rooster"),
    ("Unlike rain, it has a pitch. Final answer: chainsaw.", "chainsaw"),
    ("Answer: dog\n\nExplanation: rain would be steadier and sea waves slower.", "dog"),
    ("<think>It might be rain. Or a dog. The bursts say dog.</think>\ndog", "dog"),
    ("<think>It might be rain. The bursts", NO),
    ("Answer: rain? Rather not. Final answer: sea_waves", "sea_waves"),
    ("Options: dog, rain. My final answer is rain.", "rain"),
    ("Let us see: rain, dog, rooster... The answer is either dog or rooster.", NO),
    ("Answer: dog\nAnswer: rain", NO),
    ("Answer: dog. Wait, actually it is rain.", NO),
    ("Answer: dog or rain", NO),
    ("The answer is rain.\n\nWait, no.", NO),
    ("My answer is dog. Actually, no.", NO),
    ("The answer is rain. No, that is wrong.", NO),
    ("The answer is rain. No, it is a dog.", NO),
    ("Answer: rain. Let me reconsider.", NO),
    ("Answer: rain. Wait", NO),
    ("Answer: rain. Wait, no. Final answer: dog", "dog"),
    ("The answer is rain. Wait, let me check. Yes, it is rain.", "rain"),
    ("Answer: rain. Actually, the spectrogram shows no harmonics.", "rain"),
    ("Answer: rain. Could it be wind? No.", "rain"),
    ("Answer: dog. No harmonics of an engine are there.", "dog"),
    ("Class: helicopter\nReason: a steady chop, unlike a chainsaw.", "helicopter"),
    (PROMPT + "\n\nASSISTANT: rooster", "rooster"),
    ("The answer is not dog. It could be rain or sea waves.", NO),
    # several, none, an echo
    ("dog or rain", NO),
    ("dog, rain", NO),
    ("dog/rain", NO),
    ("It could be rain or sea waves.", NO),
    ("Either a chainsaw or a helicopter.", NO),
    (PROMPT, NO),
    ("['dog', 'chainsaw', 'crackling_fire', 'helicopter', 'rain']", NO),
    ("Your response would be rain if you believe the spectrogram matches best with rain.", NO),
    ("For example, if you believe the spectrogram matches best with rain, your response would be rain.", NO),
    ("None of the above", NO),
    ("none", NO),
    ("wind", NO),
    ("A", NO),
    ("B)", NO),
    ("3", NO),
    ("", NO),
    ("   \n\t", NO),
    ("...", NO),
    ("spectrogram", NO),
    ("###################", NO),
    ("dogdogdogdog", NO),
    ("hotdog", NO),
    ("raindeer in a rainforest", NO),
    ("dog_rain", NO),
    # cut off
    ("The spectrogram shows a heli", NO),
    ("crackling_fir", NO),
    ("sea", NO),
    ("The most likely class is", NO),
    # refusals
    ("I'm sorry, but I can't help with that.", REFUSED),
    ("I’m sorry, I can’t assist with that request.", REFUSED),
    ("Sorry, I cannot identify sounds from images.", REFUSED),
    ("As an AI language model, I cannot listen to audio and so cannot determine the class.", REFUSED),
    ("I am unable to determine the sound from this spectrogram.", REFUSED),
    ("It is not possible to determine the sound class from this image alone.", REFUSED),
    ("I cannot determine whether this is rain or sea waves.", REFUSED),
    ("I'm sorry, I can't say whether this is a dog.", REFUSED),
    ("I don't see any spectrogram. Please provide the image.", REFUSED),
    ("No image was provided. Please upload the spectrogram.", REFUSED),
    ("I don't have the ability to process images.", REFUSED),
    ("抱歉，我无法判断这是什么声音。", REFUSED),
    ("Lo siento, no puedo ayudar con eso.", REFUSED),
    ("Es tut mir leid, aber das kann ich nicht beantworten.", REFUSED),
    ("I can't hear audio, but based on the picture my answer is: rain", "rain"),
    ("I cannot be certain, but the class is dog.", "dog"),
    ("I'm sorry, I can't tell.\n\nAnswer: rain", "rain"),
    # after a second look: what the parser was not written from
    ("Sure, the answer is:\n\n- rooster", "rooster"),
    ("**Class:** dog\n\n**Explanation:** The bursts are unlike rain.", "dog"),
    ("Final Answer: The final answer is $\\boxed{rain}$", "rain"),
    ("Final answer: dog\n\nFinal answer: rain", NO),
    ("The best match is **dog**; second best is **rain**.", NO),
    ("dog\n\nHuman: What about this one?\nAssistant: rain", "dog"),
    ("User: What is it?\nAssistant: dog\nUser: And this?\nAssistant: rain", NO),
    ("the bursts may be a dog, or rain</think>\n\nrain", "rain"),
    ('{"reasoning": "steady noise like rain or sea waves", "answer": "rain"}', "rain"),
    ('{"class": "dog"}{"class": "rain"}', NO),
    ("A: dog\nB: rain", NO),
    ("Class: dog\nReason: rain would be steadier", "dog"),
    ("The answer is (C) rain.", "rain"),
    ("The answer is C.", NO),
    ("Unable to classify", REFUSED),
    ("I cannot hear audio. However, based on the spectrogram, the class is rain.", "rain"),
    ("I'm unable to identify it with certainty, but the most likely class is rain.", "rain"),
]


def check(text: str, wanted: str) -> None:
    """Hold what a text is read as, a class or an outcome, against what it should be."""
    got = parse_response(text, ESC10)
    assert (got.label or got.outcome) == wanted, got
    assert got.outcome == ("answered" if got.label else wanted)


@pytest.mark.parametrize(("text", "wanted"), ANSWERS, ids=[repr(text)[:60] for text, _ in ANSWERS])
def test_answers(text, wanted):
    check(text, wanted)


def test_the_table_is_long_and_even():
    assert len({text for text, _ in ANSWERS}) == len(ANSWERS) >= 150
    assert {c for _, c in ANSWERS} >= {*ESC10, NO, REFUSED}


def test_why():
    how = {
        text: parse_response(text, ESC10).rule for text in ("dog", "", "dog or rain", "not dog", "is it a dog?", "wind")
    }
    assert how == {
        "dog": "whole",
        "": "empty",
        "dog or rain": "several",
        "not dog": "none",
        "is it a dog?": "open",
        "wind": "none",
    }
    assert parse_response(None, ESC10).rule == "empty"


def test_other_classes_and_a_studys_own_synonyms():
    classes = ("wheeze", "lung_crackle", "normal")
    assert parse_response("The recording has lung crackles.", classes).label == "lung_crackle"
    assert parse_response("normal", classes).label == "normal"
    assert (
        parse_response("The normal range of frequencies is covered.", classes).label is None
    )  # a word of its own, not an answer
    assert parse_response("I hear a whistle", classes).label is None
    assert parse_response("I hear a whistle", classes, {"wheeze": ["whistle", "whistling"]}).label == "wheeze"
    # a study's synonym goes before those of ESC-50: "waves" means sea_waves otherwise
    assert parse_response("waves", ("sea_waves", "rain")).label == "sea_waves"
    assert parse_response("waves", ("sea_waves", "rain"), {"rain": ["waves"]}).label == "rain"


def test_a_class_named_by_a_letter_is_not_an_article():
    assert parse_response("A", ("A", "B")).label == "A"
    assert parse_response("B.", ("A", "B")).label == "B"
    assert parse_response("A dog", ("A", "B")).label is None
    assert parse_response("Answer: a loud one", ("A", "B")).label is None


def test_what_could_mean_two_classes_means_none():
    # "barking" is a synonym of dog in ESC-50; nothing makes it mean one of these
    assert parse_response("barking", ("big_dog", "small_dog")).label is None
    assert parse_response("dogs", ("dog", "dogs")).label == "dogs"
    assert parse_response("a dog", ("dog", "dog bark")).label == "dog"
    assert parse_response("a dog bark", ("dog", "dog bark")).label == "dog bark"


@pytest.mark.parametrize(
    ("synonyms", "message"),
    [
        ({"dgo": ["bark"]}, "are given for 'dgo', which is not a class; did you mean 'dog'"),
        ({"dog": ["noise"], "rain": ["Noise"]}, "mean one class, got .*'noise': \\['dog', 'rain'\\]"),
    ],
)
def test_wrong_synonyms_are_refused(synonyms, message):
    with pytest.raises(VlmAudioError, match=message):
        parse_response("dog", ESC10, synonyms)


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
messy = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=12).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), messy))
def test_no_text_makes_it_raise(text):
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
def test_long_rubbish_is_soon_read(text):
    started = time.monotonic()
    assert parse_response(text, ESC10).label is None
    assert time.monotonic() - started < 5


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=2, max_size=4, unique=True), st.data())
def test_an_exact_label_is_always_answered(classes, data):
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
def test_case_space_and_quotes_change_nothing(label, case, joint, inner, outer, space):
    text = space + outer.format(inner.format(case(label.replace("_", joint)))) + space
    assert parse_response(text, ESC10).label == label
