import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart, Message
from vlm_audio_pipeline.classifiers.language_models.named_prompts import PROMPTS
from vlm_audio_pipeline.classifiers.language_models.prompt_choice import OwnPrompt, PromptChoice, resolve_prompt
from vlm_audio_pipeline.classifiers.language_models.prompts import build_messages
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.datasets.esc_classes import ESC10

# Figure 5 of https://arxiv.org/abs/2411.12058, typed from the paper
SYSTEM = (
    "You are a helpful assistant with expertise in recognizing patterns and identifying classes based on visual "
    "representations of audio data."
)
USER = (
    "Your task is to analyze a spectrogram, which is a visual representation of the frequency spectrum of sound over time, "
    "and determine the most likely sound class from a given list of possibilities. Analyze the spectrogram image, "
    "considering factors such as frequency patterns, intensity, and time variations. Focus solely on the patterns presented "
    "in the spectrogram. Do not let any assumptions about common sounds or environmental settings influence your decision. "
    "Here are the classes: ['dog', 'chainsaw', 'crackling_fire', 'helicopter', 'rain', 'crying_baby', 'clock_tick', "
    "'sneezing', 'rooster', 'sea_waves']. Your response must always contain the exact name of the class only. For example, "
    "if you believe the spectrogram matches best with rain, your response would be rain. Here is the spectrogram:"
)


def image(name: str) -> ImagePart:
    return ImagePart(name.encode(), "image/png", name)


def audio(name: str) -> AudioPart:
    return AudioPart(lambda rate: pytest.fail("decoded"), name, 5.0)


def test_the_zero_shot_paper_prompt_is_figure_5_word_for_word():
    prompt = PROMPTS["paper"]
    messages = build_messages(prompt, prompt.order_classes(ESC10), query=image("q"))
    assert messages == (Message("system", (SYSTEM,)), Message("user", (USER, image("q"))))


def test_the_notebook_prompt_is_that_of_can_vlms_hear_character_for_character():
    # typed from main_noteblog.ipynb; its plugin puts the image before the text
    class_names = (
        "chainsaw, clock_tick, crackling_fire, crying_baby, dog, helicopter, rain, rooster, sea_waves, sneezing"
    )
    text = (
        "This is an image of a spectrogram. Which of the following classes does this spectrogram best represent: "
        f"[{class_names}]\nYour response should be one word, the name of the class and nothing else.\n"
    )
    prompt = PROMPTS["notebook"]
    assert build_messages(prompt, prompt.order_classes(ESC10), query=image("q")) == (
        Message("user", (image("q"), text)),
    )
    assert prompt.preamble and not any(p.preamble for p in PROMPTS.values() if p.name != "notebook")


def test_with_media_first_every_turn_is_an_image_and_the_question():
    own = OwnPrompt(text="One of {classes}?", lead="Now:", list_format="brackets", media_first=True).prompt()
    question = "One of [dog, rain]? Now:"
    assert build_messages(own, ("dog", "rain"), [(image("a"), "dog"), (image("b"), "rain")], image("q")) == (
        Message("user", (image("a"), question)),
        Message("assistant", ("dog",)),
        Message("user", (image("b"), question)),
        Message("assistant", ("rain",)),
        Message("user", (image("q"), question)),
    )


def test_examples_come_between_instructions_and_query_as_turns():
    messages = build_messages(
        PROMPTS["plain"], ("dog", "rain"), [(image("a"), "dog"), (image("b"), "rain")], image("q")
    )
    instructions = "Which sound does this spectrogram show? Choose one: dog, rain. Answer with its name only."
    assert messages == (
        Message("user", (instructions, image("a"))),
        Message("assistant", ("dog",)),
        Message("user", (image("b"),)),
        Message("assistant", ("rain",)),
        Message("user", (image("q"),)),
    )


def test_the_paper_lead_precedes_every_image():
    turns = build_messages(PROMPTS["paper"], ESC10, [(image("a"), "dog"), (image("b"), "rain")], image("q"))
    assert [t.role for t in turns] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert turns[1].parts[0].endswith("each with its class. Here is the spectrogram:")
    assert turns[3].parts == ("Here is the spectrogram:", image("b"))
    assert turns[5].parts == ("Here is the spectrogram:", image("q"))


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("kind", ["image", "audio"])
@pytest.mark.parametrize("shots", [0, 2])
def test_only_the_last_turn_differs_between_queries_of_a_fold(name, kind, shots):
    make = image if kind == "image" else audio
    examples = [(make(f"e{i}{label}"), label) for i in range(shots) for label in ESC10]
    for wording in range(len(PROMPTS[name].wordings(kind))):
        a, b = (build_messages(PROMPTS[name], ESC10, examples, make(q), wording=wording, media=kind) for q in "ab")
        assert a[:-1] == b[:-1]
        texts = [[part for part in turns[-1].parts if isinstance(part, str)] for turns in (a, b)]
        assert a[-1].role == "user" and texts[0] == texts[1]
        query = 0 if PROMPTS[name].media_first else -1
        assert [t.sha256 for t in (a[-1].parts[query], b[-1].parts[query])] == ["a", "b"]
        assert len(a) == (a[0].role == "system") + 1 + 2 * len(examples)


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("examples", [[], [(image("a"), "dog")]])
def test_without_an_image_the_texts_are_the_same(name, examples):
    last = build_messages(PROMPTS[name], ESC10, examples, None)[-1]
    assert last.role == "user"
    assert all(isinstance(part, str) and part for part in last.parts)
    if not examples:
        with_image = build_messages(PROMPTS[name], ESC10, [], image("q"))[-1].parts
        assert last.parts == tuple(part for part in with_image if isinstance(part, str))


@pytest.mark.parametrize("name", PROMPTS)
def test_audio_wordings_do_not_mention_images(name):
    for w in PROMPTS[name].audio:
        text = f"{w.system} {w.instructions} {w.examples} {w.lead}".lower()
        assert not any(word in text for word in ("spectrogram", "image", "picture", "visual"))
        assert "recording" in text
    assert len(PROMPTS[name].audio) == len(PROMPTS[name].image)


def test_plain_is_short_enough_for_a_small_context():
    # English words have at most about two tokens in usual vocabularies: 30 words are at most 60 tokens
    for w in (*PROMPTS["plain"].image, *PROMPTS["plain"].audio):
        assert len(w.instructions.replace("{classes}", "").split()) <= 30
        assert w.system is None


def test_the_example_label_is_a_class_of_the_study():
    [_, user] = build_messages(PROMPTS["paper"], ("cow", "hen"), query=image("q"))
    assert "matches best with cow, your response would be cow." in user.parts[0]


def test_the_class_order_of_a_prompt_puts_unknown_classes_last():
    assert PROMPTS["paper"].order_classes(("wind", "rain", "cow", "dog")) == ("dog", "rain", "wind", "cow")
    assert PROMPTS["notebook"].order_classes(ESC10) == tuple(sorted(ESC10))
    assert PROMPTS["plain"].order_classes(ESC10) == ESC10


@given(
    st.lists(st.sampled_from(["{classes}", "{example}", "it's", 'a "b"', "x{}"]), min_size=2, max_size=5, unique=True)
)
def test_class_names_are_not_changed_in_a_prompt(names):
    [_, user] = build_messages(PROMPTS["paper"], names, query=image("q"))
    assert f"Here are the classes: {names}. Your" in user.parts[0]  # a Python list, quotes as Python writes them
    [user] = build_messages(PROMPTS["plain"], names, query=image("q"))
    assert f"Choose one: {', '.join(names)}. Answer" in user.parts[0]


@pytest.mark.parametrize(
    ("names", "wording", "query", "message"),
    [
        (("dog",), 0, image("q"), "two or more different names, got \\['dog'\\]"),
        (("dog", "dog"), 0, image("q"), "two or more different names"),
        (("dog", "rain"), 3, image("q"), "wording of prompt 'plain' must be 0 to 2, got 3"),
        (("dog", "rain"), 0, audio("q"), "about image takes ImagePart, got AudioPart"),
    ],
)
def test_a_prompt_that_lacks_required_input_is_refused(names, wording, query, message):
    with pytest.raises(VlmAudioError, match=message):
        build_messages(PROMPTS["plain"], names, query=query, wording=wording)


def test_a_study_can_define_its_own_prompt():
    choice = TypeAdapter(PromptChoice).validate_python(
        {"text": "One of {classes}?", "system": "Be brief.", "wordings": ["{classes}: which?"], "lead": "Look:"}
    )
    prompt = resolve_prompt(choice)
    assert build_messages(prompt, ("dog", "rain"), [(image("a"), "dog")], image("q"), wording=1) == (
        Message("system", ("Be brief.",)),
        Message("user", ("dog, rain: which? Look:", image("a"))),
        Message("assistant", ("dog",)),
        Message("user", ("Look:", image("q"))),
    )
    assert resolve_prompt(TypeAdapter(PromptChoice).validate_python("paper")) is PROMPTS["paper"]


def test_placeholders_are_replaced_in_every_text():
    own = OwnPrompt(
        text="One of {classes}?",
        system="You know {classes}.",
        examples="Such as {example}.",
        lead="{example}, or another of {classes}:",
    )
    assert build_messages(own.prompt(), ("{example}", "rain"), [(image("a"), "rain")], image("q")) == (
        Message("system", ("You know {example}, rain.",)),
        Message(
            "user",
            (
                "One of {example}, rain? Such as {example}. {example}, or another of {example}, rain:",
                image("a"),
            ),
        ),
        Message("assistant", ("rain",)),
        Message("user", ("{example}, or another of {example}, rain:", image("q"))),
    )


@pytest.mark.parametrize("placeholders", [{"system": "Of {classes}."}, {"lead": "Like {example}:"}])
def test_a_prompt_with_literal_placeholders_has_another_identity(placeholders):
    """The identity of prompts without placeholders does not change between versions: their four texts in lists."""
    without = OwnPrompt(text="One of {classes}?", system="Of {all}.", examples="Like {example}.", lead="{}:").prompt()
    texts = {"wordings": [["Of {all}.", "One of {classes}?", "Like {example}.", "{}:"]]}
    assert without.fingerprint_fields("image") == {**texts, "listed": "commas", "class_order": None, "example": ""}
    with_placeholders = OwnPrompt(text="One of {classes}?", **placeholders).prompt()
    assert with_placeholders.fingerprint_fields("image").keys() - without.fingerprint_fields("image").keys() == {
        "filled"
    }


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("papr", "did you mean 'paper'"),
        ({"text": "Which sound?"}, "which stands for the list of classes"),
        ({"text": "{classes}", "wordings": ["Which sound?"]}, "which stands for the list of classes"),
        ({"text": "{classes}", "sytem": "x"}, "sytem"),
    ],
)
def test_an_invalid_prompt_choice_is_refused(choice, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(PromptChoice).validate_python(choice)


def test_the_identity_of_a_prompt_depends_on_its_texts_and_not_on_its_name():
    own = OwnPrompt(text="One of {classes}?").prompt()
    assert own.fingerprint_fields("image") == own.fingerprint_fields("audio")
    plain = PROMPTS["plain"]
    assert plain.fingerprint_fields("image") != plain.fingerprint_fields("audio")
    twin = type(plain)("twin", 7, plain.image, plain.audio)
    assert twin.fingerprint_fields("image") == plain.fingerprint_fields("image")


def test_a_changed_text_needs_a_new_version():
    """Stored responses have keys of the texts, reports show name and version. Raise the version with a text, then change this.

    Each digest is the fingerprint of the prompt when its version was written, and only shows that a text changed; the tests
    above compare the texts of `paper` and `notebook` with the publications.
    """
    frozen = {
        (p.name, p.version): fingerprint([p.fingerprint_fields("image"), p.fingerprint_fields("audio")])
        for p in PROMPTS.values()
    }
    assert frozen == {
        ("notebook", 2): "77a78fa4a77813d2",
        ("one_word", 1): "c3f31d7c6d0ec8e0",
        ("paper", 1): "938807cab1e14a2b",
        ("plain", 1): "9c24db8327074cc8",
    }
