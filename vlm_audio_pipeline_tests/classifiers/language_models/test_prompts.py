import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart, Message
from vlm_audio_pipeline.classifiers.language_models.named_prompts import PROMPTS
from vlm_audio_pipeline.classifiers.language_models.prompt_choice import OwnPrompt, PromptChoice, resolve_prompt
from vlm_audio_pipeline.classifiers.language_models.prompts import messages
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


def pic(name: str) -> ImagePart:
    return ImagePart(name.encode(), "image/png", name)


def audio(name: str) -> AudioPart:
    return AudioPart(lambda rate: pytest.fail("decoded"), name, 5.0)


def test_paper_zero_shot_is_figure_5_word_for_word():
    prompt = PROMPTS["paper"]
    got = messages(prompt, prompt.ordered(ESC10), query=pic("q"))
    assert got == (Message("system", (SYSTEM,)), Message("user", (USER, pic("q"))))


def test_examples_come_between_instructions_and_query_as_turns():
    got = messages(PROMPTS["plain"], ("dog", "rain"), [(pic("a"), "dog"), (pic("b"), "rain")], pic("q"))
    asked = "Which sound does this spectrogram show? Choose one: dog, rain. Answer with its name only."
    assert got == (
        Message("user", (asked, pic("a"))),
        Message("assistant", ("dog",)),
        Message("user", (pic("b"),)),
        Message("assistant", ("rain",)),
        Message("user", (pic("q"),)),
    )


def test_the_paper_lead_precedes_every_image():
    turns = messages(PROMPTS["paper"], ESC10, [(pic("a"), "dog"), (pic("b"), "rain")], pic("q"))
    assert [t.role for t in turns] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert turns[1].parts[0].endswith("each with its class. Here is the spectrogram:")
    assert turns[3].parts == ("Here is the spectrogram:", pic("b"))
    assert turns[5].parts == ("Here is the spectrogram:", pic("q"))


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("kind", ["image", "audio"])
@pytest.mark.parametrize("shots", [0, 2])
def test_only_the_last_turn_differs_between_queries_of_a_fold(name, kind, shots):
    made = pic if kind == "image" else audio
    examples = [(made(f"e{i}{label}"), label) for i in range(shots) for label in ESC10]
    for wording in range(len(PROMPTS[name].wordings(kind))):
        a, b = (messages(PROMPTS[name], ESC10, examples, made(q), wording=wording, media=kind) for q in "ab")
        assert a[:-1] == b[:-1]
        assert (a[-1].role, a[-1].parts[:-1]) == ("user", b[-1].parts[:-1])
        assert [t.sha256 for t in (a[-1].parts[-1], b[-1].parts[-1])] == ["a", "b"]
        assert len(a) == (a[0].role == "system") + 1 + 2 * len(examples)


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("examples", [[], [(pic("a"), "dog")]])
def test_without_an_image_the_texts_are_the_same(name, examples):
    last = messages(PROMPTS[name], ESC10, examples, None)[-1]
    assert last.role == "user"
    assert all(isinstance(part, str) and part for part in last.parts)
    if not examples:
        assert last.parts == messages(PROMPTS[name], ESC10, [], pic("q"))[-1].parts[:1]


@pytest.mark.parametrize("name", PROMPTS)
def test_audio_wordings_do_not_mention_images(name):
    for w in PROMPTS[name].audio:
        said = f"{w.system} {w.instructions} {w.examples} {w.lead}".lower()
        assert not any(word in said for word in ("spectrogram", "image", "picture", "visual"))
        assert "recording" in said
    assert len(PROMPTS[name].audio) == len(PROMPTS[name].image)


def test_plain_is_short_enough_for_a_small_context():
    # 4 letters or fewer make a token of most vocabularies' English words: 60 tokens are well above 30 words
    for w in (*PROMPTS["plain"].image, *PROMPTS["plain"].audio):
        assert len(w.instructions.replace("{classes}", "").split()) <= 30
        assert w.system is None


def test_the_example_is_of_the_classes_asked_about():
    [_, user] = messages(PROMPTS["paper"], ("cow", "hen"), query=pic("q"))
    assert "matches best with cow, your response would be cow." in user.parts[0]


def test_the_order_of_a_prompt_puts_strange_classes_last():
    assert PROMPTS["paper"].ordered(("wind", "rain", "cow", "dog")) == ("dog", "rain", "wind", "cow")
    assert PROMPTS["notebook"].ordered(ESC10) == tuple(sorted(ESC10))
    assert PROMPTS["plain"].ordered(ESC10) == ESC10


@given(
    st.lists(st.sampled_from(["{classes}", "{example}", "it's", 'a "b"', "x{}"]), min_size=2, max_size=5, unique=True)
)
def test_names_are_said_as_they_are(names):
    [_, user] = messages(PROMPTS["paper"], names, query=pic("q"))
    assert f"Here are the classes: {names}. Your" in user.parts[0]  # a Python list, quotes as Python writes them
    [user] = messages(PROMPTS["plain"], names, query=pic("q"))
    assert f"Choose one: {', '.join(names)}. Answer" in user.parts[0]


@pytest.mark.parametrize(
    ("names", "wording", "query", "message"),
    [
        (("dog",), 0, pic("q"), "two or more different names, got \\['dog'\\]"),
        (("dog", "dog"), 0, pic("q"), "two or more different names"),
        (("dog", "rain"), 3, pic("q"), "wording of prompt 'plain' must be 0 to 2, got 3"),
        (("dog", "rain"), 0, audio("q"), "about image takes ImagePart, got AudioPart"),
    ],
)
def test_what_cannot_be_asked_is_refused(names, wording, query, message):
    with pytest.raises(VlmAudioError, match=message):
        messages(PROMPTS["plain"], names, query=query, wording=wording)


def test_a_study_may_say_it_in_its_own_words():
    choice = TypeAdapter(PromptChoice).validate_python(
        {"text": "One of {classes}?", "system": "Be brief.", "wordings": ["{classes}: which?"], "lead": "Look:"}
    )
    prompt = resolve_prompt(choice)
    assert messages(prompt, ("dog", "rain"), [(pic("a"), "dog")], pic("q"), wording=1) == (
        Message("system", ("Be brief.",)),
        Message("user", ("dog, rain: which? Look:", pic("a"))),
        Message("assistant", ("dog",)),
        Message("user", ("Look:", pic("q"))),
    )
    assert resolve_prompt(TypeAdapter(PromptChoice).validate_python("paper")) is PROMPTS["paper"]


def test_the_places_are_filled_in_every_text():
    own = OwnPrompt(
        text="One of {classes}?",
        system="You know {classes}.",
        examples="Such as {example}.",
        lead="{example}, or another of {classes}:",
    )
    assert messages(own.prompt(), ("{example}", "rain"), [(pic("a"), "rain")], pic("q")) == (
        Message("system", ("You know {example}, rain.",)),
        Message(
            "user",
            (
                "One of {example}, rain? Such as {example}. {example}, or another of {example}, rain:",
                pic("a"),
            ),
        ),
        Message("assistant", ("rain",)),
        Message("user", ("{example}, or another of {example}, rain:", pic("q"))),
    )


@pytest.mark.parametrize("places", [{"system": "Of {classes}."}, {"lead": "Like {example}:"}])
def test_a_prompt_whose_places_were_sent_as_they_are_is_another_one(places):
    """Others say what they said, and so are known by what they were known by: their four texts in lists and no more."""
    without = OwnPrompt(text="One of {classes}?", system="Of {all}.", examples="Like {example}.", lead="{}:").prompt()
    said = {"wordings": [["Of {all}.", "One of {classes}?", "Like {example}.", "{}:"]]}
    assert without.fingerprint_fields("image") == {**said, "listed": "commas", "class_order": None, "example": ""}
    with_places = OwnPrompt(text="One of {classes}?", **places).prompt()
    assert with_places.fingerprint_fields("image").keys() - without.fingerprint_fields("image").keys() == {"filled"}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("papr", "did you mean 'paper'"),
        ({"text": "Which sound?"}, "which stands for the list of classes"),
        ({"text": "{classes}", "wordings": ["Which sound?"]}, "which stands for the list of classes"),
        ({"text": "{classes}", "sytem": "x"}, "sytem"),
    ],
)
def test_a_wrong_choice_is_refused(choice, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(PromptChoice).validate_python(choice)


def test_identity_is_of_texts_and_not_of_names():
    own = OwnPrompt(text="One of {classes}?").prompt()
    assert own.fingerprint_fields("image") == own.fingerprint_fields("audio")
    plain = PROMPTS["plain"]
    assert plain.fingerprint_fields("image") != plain.fingerprint_fields("audio")
    twin = type(plain)("twin", 7, plain.image, plain.audio, about="other")
    assert twin.fingerprint_fields("image") == plain.fingerprint_fields("image")


def test_a_changed_text_needs_a_new_version():
    """Stored answers are keyed by texts, people read names: raise the version with the text, then change this."""
    frozen = {
        (p.name, p.version): fingerprint([p.fingerprint_fields("image"), p.fingerprint_fields("audio")])
        for p in PROMPTS.values()
    }
    assert frozen == {
        ("notebook", 1): "c3f31d7c6d0ec8e0",
        ("paper", 1): "938807cab1e14a2b",
        ("plain", 1): "9c24db8327074cc8",
    }
