"""Typical responses of models with the label that a careful person would assign; written before the parser."""

import pytest

from vlm_audio_pipeline.classifiers.language_models.parsing import parse_response
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.esc_classes import ESC10

NO, REFUSED = "unparseable", "refused"

PROMPT = (
    "Which sound does this spectrogram show? Choose one: dog, rooster, rain, sea_waves, crackling_fire, crying_baby, "
    "sneezing, clock_tick, helicopter, chainsaw. Answer with its name only."
)

# (response, class or outcome); if a result changes, raise the version of the predictions
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


def check(text: str, expected: str) -> None:
    """Assert that a response is parsed to the expected class or outcome."""
    got = parse_response(text, ESC10)
    assert (got.label or got.outcome) == expected, got
    assert got.outcome == ("answered" if got.label else expected)


@pytest.mark.parametrize(("text", "expected"), ANSWERS, ids=[repr(text)[:60] for text, _ in ANSWERS])
def test_responses_are_parsed_to_labels(text, expected):
    check(text, expected)


def test_the_table_has_enough_cases_of_every_kind():
    assert len({text for text, _ in ANSWERS}) == len(ANSWERS) >= 150
    assert {c for _, c in ANSWERS} >= {*ESC10, NO, REFUSED}


def test_the_reason_of_a_parsed_label():
    rules = {
        text: parse_response(text, ESC10).rule for text in ("dog", "", "dog or rain", "not dog", "is it a dog?", "wind")
    }
    assert rules == {
        "dog": "whole",
        "": "empty",
        "dog or rain": "several",
        "not dog": "none",
        "is it a dog?": "open",
        "wind": "none",
    }
    assert parse_response(None, ESC10).rule == "empty"


def test_other_classes_and_synonyms_of_a_study():
    classes = ("wheeze", "lung_crackle", "normal")
    assert parse_response("The recording has lung crackles.", classes).label == "lung_crackle"
    assert parse_response("normal", classes).label == "normal"
    assert (
        parse_response("The normal range of frequencies is covered.", classes).label is None
    )  # "normal" is an adjective here
    assert parse_response("I hear a whistle", classes).label is None
    assert parse_response("I hear a whistle", classes, {"wheeze": ["whistle", "whistling"]}).label == "wheeze"
    # a synonym of a study has priority over those of ESC-50: "waves" means sea_waves otherwise
    assert parse_response("waves", ("sea_waves", "rain")).label == "sea_waves"
    assert parse_response("waves", ("sea_waves", "rain"), {"rain": ["waves"]}).label == "rain"


def test_a_class_with_a_one_letter_name_is_not_the_article():
    assert parse_response("A", ("A", "B")).label == "A"
    assert parse_response("B.", ("A", "B")).label == "B"
    assert parse_response("A dog", ("A", "B")).label is None
    assert parse_response("Answer: a loud one", ("A", "B")).label is None


NORMAL, LETTERS, NUMBERS = ("normal", "abnormal"), ("a", "b", "c"), ("0", "1", "2", "10")
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


@pytest.mark.parametrize(
    ("classes", "text", "expected"),
    [
        (NORMAL, "The sound is normal.", "normal"),
        (NORMAL, "The sound is abnormal.", "abnormal"),
        (NORMAL, r"\boxed{normal}", "normal"),
        (NORMAL, "**Answer:** Normal", "normal"),
        (NORMAL, "It appears normal.", "normal"),
        (NORMAL, "Is the sound normal?", None),
        (NORMAL, "I doubt that it is normal.", None),
        (NORMAL, "The normal range of this sound is wide.", None),
        (LETTERS, "Answer: b", "b"),
        (LETTERS, "The class is B.", "b"),
        (LETTERS, "a steady noise", None),
        (NUMBERS, '{"class": 2}', "2"),
        (NUMBERS, '{"class": 3}', None),
        (NUMBERS, "The class is 2.", "2"),
        (("犬", "雨"), "答え：犬", "犬"),
        (("c", "c++", "c#"), "Answer: c++", "c++"),
        (("c", "c++", "c#"), "Answer: c", "c"),
        (COMMANDS, "The word is left.", "left"),
        (COMMANDS, "Based on the spectrogram, the word is off.", "off"),
        (COMMANDS, "The answer is: up", "up"),
        (COMMANDS, 'The spoken word is "right".', "right"),
        (COMMANDS, "The word is not left.", None),
        (COMMANDS, "The energy is on the left.", None),
        (COMMANDS, "There is no way to tell.", None),
    ],
)
def test_everyday_words_letters_numbers_and_signs_name_a_class_in_an_explicit_answer(classes, text, expected):
    assert parse_response(text, classes).label == expected


def test_an_ambiguous_response_has_no_label():
    # "barking" is a synonym of dog in ESC-50, and both classes contain it
    assert parse_response("barking", ("big_dog", "small_dog")).label is None
    assert parse_response("dogs", ("dog", "dogs")).label == "dogs"
    assert parse_response("a dog", ("dog", "dog bark")).label == "dog"
    assert parse_response("a dog bark", ("dog", "dog bark")).label == "dog bark"


@pytest.mark.parametrize(
    ("synonyms", "message"),
    [
        ({"dgo": ["bark"]}, "`synonyms` contains 'dgo', which is not a class; did you mean 'dog'"),
        ({"dog": ["noise"], "rain": ["Noise"]}, "mean one class, got .*'noise': \\['dog', 'rain'\\]"),
    ],
)
def test_invalid_synonyms_are_refused(synonyms, message):
    with pytest.raises(VlmAudioError, match=message):
        parse_response("dog", ESC10, synonyms)
