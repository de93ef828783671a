"""Prompts: what a language model is told before it is shown a clip, and the order in which it is told.

What belongs here: wording, and turning it into messages: instructions first, then examples, then the query last, so that
requests of one fold share the longest beginning. What does not: which clips are shown (`examples`) and how answers are read
(`parsing`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from vlm_audio_pipeline.classifiers.language_models.messages import Message, Part, Picture, Sound
from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion

_PLACE = re.compile(r"\{(classes|example)\}")

PAPER = "https://arxiv.org/abs/2411.12058"
NOTEBOOK = "https://github.com/harpreetsahota204/can-vlms-hear"

Shown = Literal["picture", "sound"]
"""What the query is: a picture of a spectrogram, or the sound itself."""


@dataclass(frozen=True)
class Wording:
    """The texts of one way to ask.

    Attributes:
        instructions: the question; {classes} stands for the list of names, {example} for one of them, here and in the
            other texts.
        system: the system turn; None for none (backends must then add none of their own).
        examples: said after the instructions where examples follow.
        lead: said just before every picture or sound.
    """

    instructions: str
    system: str | None = None
    examples: str = ""
    lead: str = ""

    def filled(self, names: Sequence[str], listed: str, example: str) -> "Wording":
        """Give the wording with the places filled."""
        values = {"classes": _LISTED[listed](names), "example": example if example in names else names[0]}

        def fill(text: str) -> str:
            return _PLACE.sub(lambda place: values[place[1]], text)  # in one pass: a name is never filled in turn

        system = None if self.system is None else fill(self.system)
        return Wording(fill(self.instructions), system, fill(self.examples), fill(self.lead))


_LISTED = {"commas": ", ".join, "python": lambda names: str(list(names))}


@dataclass(frozen=True)
class Prompt:
    """A named way to ask, for pictures and for sounds.

    Attributes:
        name: what a study calls it, and what stands in `predictions.prompt`.
        version: raised with every change of a text.
        picture: wordings for pictures; the first is the prompt, the others are paraphrases of it.
        sound: the same for sounds.
        listed: how names are listed: "commas" (dog, rain) or "python" (['dog', 'rain']).
        class_order: the prompt's own order of classes; None for the dataset's.
        example: the class that {example} names, where it is among those asked about; else the first one.
        source: where the texts come from, a URL, or "this project".
        about: what it is, and what of it is not known.
    """

    name: str
    version: int
    picture: tuple[Wording, ...]
    sound: tuple[Wording, ...]
    listed: Literal["commas", "python"] = "commas"
    class_order: tuple[str, ...] | None = None
    example: str = ""
    source: str = "this project"
    about: str = ""

    def wordings(self, shown: Shown) -> tuple[Wording, ...]:
        """Give the wordings for what is shown."""
        return self.picture if shown == "picture" else self.sound

    def ordered(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Give classes in the prompt's own order; those it does not know come last, as they stood.

        >>> PROMPTS["notebook"].ordered(["rain", "wind", "dog"])
        ('dog', 'rain', 'wind')
        """
        own = self.class_order or ()
        return tuple(sorted(classes, key=lambda name: own.index(name) if name in own else len(own)))

    def identity(self, shown: Shown) -> dict[str, Any]:
        """Give what determines the messages, as plain values: the texts, and neither name nor version."""
        wordings = self.wordings(shown)
        # places in these texts were once sent as they are: such a prompt is another one since they are filled
        filled = any(_PLACE.search(text) for w in wordings for text in (w.system or "", w.lead))
        return {
            **({"filled": ["system", "lead"]} if filled else {}),
            "wordings": [[w.system, w.instructions, w.examples, w.lead] for w in wordings],
            "listed": self.listed,
            "class_order": None if self.class_order is None else list(self.class_order),
            "example": self.example,
        }


def messages(
    prompt: Prompt,
    names: Sequence[str],
    examples: Sequence[tuple[Part, str]] = (),
    query: Part | None = None,
    *,
    wording: int = 0,
    shown: Shown = "picture",
) -> tuple[Message, ...]:
    """Put a question into turns.

    Without examples: [system], user (instructions, query). With examples: [system], user (instructions, example 1),
    assistant (its label), user (example 2), assistant (its label), ..., user (query). Only the last turn differs between
    the queries of a fold.

    Args:
        prompt: the prompt.
        names: the classes as the model is to call them, in the order in which they are listed.
        examples: pictures or sounds with the names the model is to believe it answered.
        query: the picture or sound asked about; None for the control `no_image`, which says the same words and shows
            nothing. With examples and nothing to say before a picture, the instructions are said again instead.
        wording: which of the prompt's wordings.
        shown: what examples and query are.

    Returns:
        the turns; the last is the user's.

    Raises:
        VlmAudioError: for fewer than two names, a name twice, a wording the prompt does not have, and a picture where
            a sound is announced or the other way round.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise VlmAudioError(
            f"classes of a prompt must be two or more different names, got {list(names)}; check `classes`"
        )
    wordings = prompt.wordings(shown)
    if not 0 <= wording < len(wordings):
        raise VlmAudioError(
            f"a wording of prompt '{prompt.name}' must be 0 to {len(wordings) - 1}, got {wording}; ask for fewer "
            "paraphrases or write your own `wordings`"
        )
    parts = [part for part, _ in examples] + ([] if query is None else [query])
    wanted = Picture if shown == "picture" else Sound
    if strange := [part for part in parts if not isinstance(part, wanted)]:
        raise VlmAudioError(f"a prompt about a {shown} must show one, got {type(strange[0]).__name__}")
    said = wordings[wording].filled(names, prompt.listed, prompt.example)
    turns = [] if said.system is None else [Message("system", (said.system,))]
    opening = " ".join(t for t in (said.instructions, said.examples if examples else "", said.lead) if t)
    before: str = opening
    for part, name in examples:
        turns.append(Message("user", (before, part) if before else (part,)))
        turns.append(Message("assistant", (name,)))
        before = said.lead
    if query is None:
        return (*turns, Message("user", (before or said.instructions,)))
    return (*turns, Message("user", (before, query) if before else (query,)))


_ESC10_OF_THE_PAPER = (
    *("dog", "chainsaw", "crackling_fire", "helicopter", "rain"),
    *("crying_baby", "clock_tick", "sneezing", "rooster", "sea_waves"),
)

_PAPER = (
    "Your task is to analyze a spectrogram, which is a visual representation of the frequency spectrum of sound over "
    "time, and determine the most likely sound class from a given list of possibilities. Analyze the spectrogram image, "
    "considering factors such as frequency patterns, intensity, and time variations. Focus solely on the patterns "
    "presented in the spectrogram. Do not let any assumptions about common sounds or environmental settings influence "
    "your decision. Here are the classes: {classes}. Your response must always contain the exact name of the class only. "
    "For example, if you believe the spectrogram matches best with {example}, your response would be {example}."
)
_PAPER_SOUND = (
    "Your task is to analyze an audio recording and determine the most likely sound class from a given list of "
    "possibilities. Analyze the recording, considering factors such as frequency patterns, intensity, and time "
    "variations. Focus solely on the patterns presented in the recording. Do not let any assumptions about common sounds "
    "or environmental settings influence your decision. Here are the classes: {classes}. Your response must always "
    "contain the exact name of the class only. For example, if you believe the recording matches best with {example}, "
    "your response would be {example}."
)
_ASSISTANT = "You are a helpful assistant with expertise in recognizing patterns and identifying classes based on "

PROMPTS: Mapping[str, Prompt] = MappingProxyType(
    {
        prompt.name: prompt
        for prompt in (
            Prompt(
                name="paper",
                version=1,
                picture=(
                    Wording(
                        _PAPER,
                        _ASSISTANT + "visual representations of audio data.",
                        "First you are shown example spectrograms of each class, each with its class.",
                        "Here is the spectrogram:",
                    ),
                ),
                sound=(
                    Wording(
                        _PAPER_SOUND,
                        _ASSISTANT + "audio data.",
                        "First you are given example recordings of each class, each with its class.",
                        "Here is the recording:",
                    ),
                ),
                listed="python",
                class_order=_ESC10_OF_THE_PAPER,
                example="rain",
                source=PAPER,
                about="The zero-shot prompt of Dixit, Heller and Donahue (2024), Figure 5, word for word, on pictures of "
                "ESC-10. Its few-shot form (examples as earlier turns of the conversation) and its form for sounds are "
                "reconstructions: their wording was not found.",
            ),
            Prompt(
                name="notebook",
                version=1,
                picture=(
                    Wording(
                        "This is an image of a spectrogram. Which of the following classes does this spectrogram best "
                        "represent: {classes}. Your response should be one word, the name of the class and nothing else."
                    ),
                ),
                sound=(
                    Wording(
                        "This is an audio recording. Which of the following classes does this recording best represent: "
                        "{classes}. Your response should be one word, the name of the class and nothing else."
                    ),
                ),
                class_order=tuple(sorted(_ESC10_OF_THE_PAPER)),
                source=NOTEBOOK,
                about="The zero-shot prompt of the can-vlms-hear study. How it listed the classes was not found: here "
                "joined by commas, in alphabetical order, as in its drafts. It had no examples and no sounds: those "
                "forms are this project's.",
            ),
            Prompt(
                name="plain",
                version=1,
                picture=(
                    Wording(
                        "Which sound does this spectrogram show? Choose one: {classes}. Answer with its name only."
                    ),
                    Wording("Name the sound in this spectrogram. It is one of: {classes}. Give only the name."),
                    Wording("Options: {classes}. Which of them made the sound in this spectrogram? One name, no more."),
                ),
                sound=(
                    Wording("Which sound is in this recording? Choose one: {classes}. Answer with its name only."),
                    Wording("Name the sound in this recording. It is one of: {classes}. Give only the name."),
                    Wording("Options: {classes}. Which of them made the sound in this recording? One name, no more."),
                ),
                about="Short and neutral, with two paraphrases.",
            ),
        )
    }
)
"""The named prompts."""


def _asks(text: str) -> str:
    if "{classes}" not in text:
        raise ValueError(f"a prompt must say where the classes are listed, got '{text}'; write {{classes}} there")
    return text


Asking = Annotated[str, AfterValidator(_asks)]


class OwnPrompt(BaseModel):
    """A study's own prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    text: Asking
    """The instructions; {classes} stands for the names, joined by commas. It must be here and may be in the others."""
    system: str | None = Field(None, min_length=1)
    """The system turn; by default none."""
    examples: str = ""
    """Said after the instructions where examples follow."""
    lead: str = ""
    """Said just before every picture or sound."""
    wordings: tuple[Asking, ...] = ()
    """Paraphrases of `text`."""

    def prompt(self) -> Prompt:
        """Give the prompt; it says the same of pictures and of sounds."""
        wordings = tuple(Wording(text, self.system, self.examples, self.lead) for text in (self.text, *self.wordings))
        return Prompt("own", 1, wordings, wordings, about="The study's own text.")


def _known(choice: str | OwnPrompt) -> str | OwnPrompt:
    if isinstance(choice, str) and choice not in PROMPTS:
        raise ValueError(
            f"a prompt must be a known name or a text of its own, got '{choice}'; {suggestion(choice, PROMPTS)}; or "
            'write `prompt: {text: "... {classes} ..."}`'
        )
    return choice


PromptChoice = Annotated[str | OwnPrompt, AfterValidator(_known)]
"""What a study says under `prompt`: a name, or a text of its own."""


def prompt_of(choice: str | OwnPrompt) -> Prompt:
    """Give the prompt a study chose (see `PromptChoice`)."""
    return PROMPTS[choice] if isinstance(choice, str) else choice.prompt()
