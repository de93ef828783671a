"""Classes that a response mentions: affirmed, negated, doubted, described in general, or with another meaning."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.parsing import parse_response
from vlm_audio_pipeline.classifiers.language_models.vocabulary import words
from vlm_audio_pipeline.datasets.esc_classes import ESC10, esc50_classes
from vlm_audio_pipeline_tests.classifiers.language_models.test_parsing import check

NO = "unparseable"

# the answer, and the class it gives, or what became of it
ANSWERS = [
    # one of two that are no classes both, and what is named to be left out
    ("cat or dog", NO),
    ("either wind or rain", NO),
    ("A dog or a wolf.", NO),
    ("rain or rainfall", "rain"),
    ("The least likely class is rain.", NO),
    ("Least likely: rain", NO),
    ("I doubt it is rain.", NO),
    ("I eliminated dog.", NO),
    ("Runner-up: rain", NO),
    # a sentence
    ("The spectrogram shows a dog.", "dog"),
    ("It sounds like rain.", "rain"),
    ("This is most likely a helicopter, given the steady low rhythm.", "helicopter"),
    ("Based on the frequency patterns, the most likely sound class is sea_waves.", "sea_waves"),
    ("The spectrogram best represents the class 'chainsaw' because of its harmonics.", "chainsaw"),
    ("I believe this is rain. Rain has a broadband, steady texture.", "rain"),
    ("Class 3: rain", "rain"),
    ("dog (confidence: 85%)", "dog"),
    ("dog dog dog dog", "dog"),
    ("dog\ndog\ndog", "dog"),
    ("There is no doubt that this is a chainsaw.", "chainsaw"),
    ("The pattern is not harmonic, so it is rain.", "rain"),
    ("I can't help but think of rain.", "rain"),
    ("The sound waves show energy at low frequencies.", NO),
    ("A fire alarm", NO),
    ("The image contains vertical stripes of energy.", NO),
    # negations
    ("not rain", NO),
    ("not rain but wind", NO),
    ("It is not a dog.", NO),
    ("It isn't a dog.", NO),
    ("This doesn’t look like rain.", NO),
    ("I don't think this is a helicopter", NO),
    ("Neither rain nor sea waves.", NO),
    ("no dog", NO),
    ("Rain is unlikely.", NO),
    ("Rain can be ruled out.", NO),
    ("Rain? No.", NO),
    ("It does not, in my view, sound like rain.", NO),
    ("It is anything but rain.", NO),
    ("I cannot say it is not a dog", NO),
    ("It is not clear whether this is a dog.", NO),
    ("Without rain it would look like this.", NO),
    ("It's not just rain but also a dog.", NO),
    ("Is this a dog?", NO),
    ("not rain but a dog", "dog"),
    ("It sounds like rain, not sea waves.", "rain"),
    ("It is a chainsaw rather than a helicopter.", "chainsaw"),
    ("I don't think this is rain, it's a dog.", "dog"),
    ("不是rain，而是dog。", "dog"),
    # after a second look: what the parser was not written from
    ("The sound is a dog's bark.", "dog"),
    ("rain is the most likely class, since dog barks would show bursts", NO),
    ("The spectrogram does not match rain, dog, or sea_waves; it matches chainsaw.", "chainsaw"),
    ("The harmonic structure is inconsistent with rain.", NO),
    ("It is false that this is rain", NO),
    ("Rain is not a good match.", NO),
    ("more dog than rain", NO),
    ("The label is 'rain' and not 'dog'.", "rain"),
    ("fire crackling in the rain", NO),
    ("Rain falls in a steady, broadband hiss without pitch.", "rain"),
    ("This is rain because there are no harmonics.", "rain"),
    ("There are no clear harmonics, suggesting rain.", "rain"),
    ("rain with no other sound", "rain"),
    ("rain rather than wind", "rain"),
    ("wind rather than rain", NO),
    ("It is not a dog because rain is broadband.", NO),
    ("The absence of rain, I think.", NO),
    ("It lacks the pattern of rain.", NO),
    ("This is not like rain", NO),
    ("I see no bursts of a dog", NO),
    # ways of saying no
    ("The bursts are too periodic for rain.", NO),
    ("The pattern is too regular to be rain.", NO),
    ("The bursts are too sharp and regular to have come from rain.", NO),
    ("Rain is too steady for this recording.", NO),
    ("In contrast to rain, the energy here is periodic.", NO),
    ("Rain is out of the question.", NO),
    ("Rain is out of place here.", NO),
    ("Rain can be dismissed.", NO),
    ("Rain can be discarded.", NO),
    ("Rain can be ruled right out.", NO),
    ("It is rain, too regular for a dog.", "rain"),
    ("It is too noisy to be a dog, so it is rain.", "rain"),
    ("The energy is too evenly spread, suggesting rain.", "rain"),
    ("It is a chainsaw, in contrast to rain.", "chainsaw"),
    ("There is no question, this is rain.", "rain"),
    ("We can dismiss rain, so it is a dog.", "dog"),
    # taken for another
    ("This could be mistaken for rain.", NO),
    ("This sound could be confused with rain.", NO),
    ("Rain could be mistaken for this.", NO),
    ("Unmistakably rain.", "rain"),
    ("If I'm not mistaken, this is rain.", "rain"),
    # what a class is like in general is no answer, nor does it speak against one
    ("Rain typically shows broadband noise.", NO),
    ("Typically, rain shows broadband noise.", NO),
    ("The sound of rain is usually broadband.", NO),
    ("A dog bark typically appears as short bursts. This is rain.", NO),
    ("A dog bark typically appears as short bursts. These are short, so it is a dog bark.", "dog"),
    ("This is typically a dog barking.", "dog"),
    ("It is a dog barking, which typically shows short bursts.", "dog"),
    ("Usually it is rain.", "rain"),
    # cut off where something else may follow
    ("Rain typically shows broadband noise, while", NO),
    ("A dog bark typically appears as short vertical bursts of energy, whereas", NO),
    ("Rain is broadband, whereas the", NO),
    ("It is rain, but", NO),
    ("It looks like rain because", NO),
    ("rain and a", NO),
    ("rain or", NO),
    ("It is a dog. The bursts are short and", "dog"),
    ("It is a dog because:\n- the bursts are short", "dog"),
    ("Answer: dog\nReason: the bursts are short and", "dog"),
    # taken back
    ("It is rain. Wait, no.", NO),
    ("It is rain. No.", NO),
    ("It is rain. Wait", NO),
    ("It is rain. Hmm, I'm not sure.", NO),
    ("Wait, no. It is rain.", "rain"),
    ("It is rain. Could it be wind? No.", "rain"),
    ("It is rain. No harmonics are there.", "rain"),
    ("It is rain. Wait, let me check. Yes, it is rain.", "rain"),
]

# of all fifty classes, whose synonyms are words of those who describe a spectrogram
DESCRIPTIVE_WORDS = [
    ("The spectrogram shows a train of short broadband pulses.", NO),
    ("It shows a regular pulse train with harmonics.", NO),
    ("It is a train passing.", "train"),
    ("The energy is spread evenly over the time-frequency plane.", NO),
    ("It is a plane.", "airplane"),
    ("The tick marks on the axis go up to 8 kHz.", NO),
    ("The ticks on the axis go up to 8 kHz.", NO),
    ("The tick of a clock.", "clock_tick"),
    ("Energy rises in steps from 1 to 4 kHz.", NO),
    ("I hear steps on gravel.", "footsteps"),
    ("Let us go step by step. It is rain.", "rain"),
    ("The spectrogram shows a crackle of broadband noise at", NO),
    ("The crackle of a fire.", "crackling_fire"),
    ("I hear a crackle.", "crackling_fire"),
    ("The energy lies in the lowest bands of the Bark scale.", NO),
    ("The bark of a dog.", "dog"),
]


@pytest.mark.parametrize(("text", "expected"), ANSWERS, ids=[repr(text)[:60] for text, _ in ANSWERS])
def test_classes_mentioned_in_responses(text, expected):
    check(text, expected)


@pytest.mark.parametrize(("text", "expected"), DESCRIPTIVE_WORDS, ids=[text for text, _ in DESCRIPTIVE_WORDS])
def test_words_that_describe_a_spectrogram_name_no_class(text, expected):
    got = parse_response(text, [c.name for c in esc50_classes()])
    assert (got.label or got.outcome) == expected, got


def test_no_response_occurs_twice_in_the_table():
    assert len({text for text, _ in ANSWERS}) == len(ANSWERS) >= 100


NEUTRAL = st.lists(
    st.sampled_from(
        words("the spectrogram shows bursts of a low steady and or with also like this sound is seen here it")
    ),
    max_size=5,
).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(st.permutations(ESC10), NEUTRAL, NEUTRAL, NEUTRAL, st.sampled_from([" ", ", ", ". ", "; ", "\n", " / ", "\n\n"]))
def test_two_classes_without_a_final_answer_are_never_answered(order, a, b, c, joint):
    text = f"{a} {order[0]}{joint}{b} {order[1]} {c}"
    assert parse_response(text, ESC10).outcome == "unparseable"
    assert parse_response(f"{text}.\n\nFinal answer: {order[1]}", ESC10).label == order[1]


BEFORE = [
    *(
        "not",
        "no",
        "never",
        "isn't",
        "is not the sound of",
        "cannot be",
        "hardly",
        "neither",
        "unlike",
        "rather than",
        "without",
        "in contrast to",
    ),
    *(
        "instead of",
        "doesn't sound like",
        "I don't think it's",
        "unlikely to be",
        "no sign of",
        "the absence of",
        "rules out",
    ),
    *("we can exclude", "far from", "anything but", "nothing like", "fails to show", "definitely not", "not really"),
    *("too regular for", "too steady to be", "we dismissed", "could be mistaken for", "easily confused with"),
]
AFTER = [
    *(
        "is unlikely",
        "can be ruled out",
        "is not present",
        "is absent",
        "isn't right",
        "is not the answer",
        "does not fit",
    ),
    *("? No", "is wrong", "would look different", "seems improbable"),
    *(
        "is out of the question",
        "can be dismissed",
        "can be discarded",
        "could be mistaken for this",
        "is it? Wait, no",
    ),
]
INSERTED = st.lists(
    st.sampled_from(
        ["the", "a", "low", "in my view,", "however,", ", it seems,", "I think", "here", "probably", "energy", "with"]
    ),
    max_size=4,
).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(ESC10), st.sampled_from(BEFORE), st.sampled_from(AFTER), INSERTED, INSERTED, INSERTED)
def test_a_negated_class_is_never_the_label(label, before, after, a, b, c):
    assert parse_response(f"{a} {before} {b} {label} {c}", ESC10).label is None
    assert parse_response(f"{a} {label} {after} {b}", ESC10).label is None
