"""Prompts and the messages that are built from them.

Messages begin with the instructions, then come the examples, and the query is last, so that the requests of a fold share the
longest prefix.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlm_audio_pipeline.classifiers.language_models.messages import (
    AudioPart,
    ImagePart,
    MediaType,
    Message,
    MessagePart,
)
from vlm_audio_pipeline.contracts.errors import VlmAudioError

_PLACEHOLDER = re.compile(r"\{(classes|example)\}")


@dataclass(frozen=True)
class Wording:
    """The texts of one prompt wording. In each, {classes} stands for the list of names and {example} for one name.

    Attributes:
        instructions: text of the task and the question.
        system: the system turn; None for no system turn (backends must not add one).
        examples: text after the instructions if there are examples.
        lead: text before every image or audio.
    """

    instructions: str
    system: str | None = None
    examples: str = ""
    lead: str = ""

    def fill(self, names: Sequence[str], list_format: str, example: str) -> "Wording":
        """Return the wording with its placeholders filled."""
        values = {"classes": _LIST_FORMATS[list_format](names), "example": example if example in names else names[0]}

        def fill(text: str) -> str:
            return _PLACEHOLDER.sub(
                lambda match: values[match[1]], text
            )  # one pass, so that names are not filled again

        system = None if self.system is None else fill(self.system)
        return Wording(fill(self.instructions), system, fill(self.examples), fill(self.lead))


_LIST_FORMATS: dict[str, Callable[[Sequence[str]], str]] = {
    "commas": ", ".join,
    "brackets": lambda names: f"[{', '.join(names)}]",
    "python": lambda names: str(list(names)),
}


@dataclass(frozen=True)
class Prompt:
    """A named prompt, with wordings for images and for audio.

    Attributes:
        name: its name in a study and in `predictions.prompt`.
        version: increased with every change of a text.
        image: wordings for images; the first is the prompt, the others are paraphrases of it.
        audio: the same for audio.
        list_format: how names are listed: "commas" (dog, rain), "brackets" ([dog, rain]) or "python" (['dog', 'rain']).
        class_order: the prompt's own order of classes; None for the order of the dataset.
        example: the class that {example} names, if it is one of the classes; else the first class.
        media_first: each image or audio is before the text of its turn, and every turn has the instructions.
        preamble: begin with the system text that the model's processor adds by default (Janus has one).
    """

    name: str
    version: int
    image: tuple[Wording, ...]
    audio: tuple[Wording, ...]
    list_format: Literal["commas", "brackets", "python"] = "commas"
    class_order: tuple[str, ...] | None = None
    example: str = ""
    media_first: bool = False
    preamble: bool = False

    def wordings(self, media: MediaType) -> tuple[Wording, ...]:
        """Return the wordings for images or for audio."""
        return self.image if media == "image" else self.audio

    def order_classes(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Return the classes in the prompt's own order; then the other classes in the order of `classes`.

        >>> Prompt("x", 1, (), (), class_order=("dog", "rain")).order_classes(["rain", "wind", "dog"])
        ('dog', 'rain', 'wind')
        """
        class_order = self.class_order or ()
        return tuple(
            sorted(classes, key=lambda name: class_order.index(name) if name in class_order else len(class_order))
        )

    def fingerprint_fields(self, media: MediaType) -> dict[str, Any]:
        """Return the values that determine the messages (texts, list format, order), without name and version."""
        wordings = self.wordings(media)
        # Old versions sent placeholders in these texts unfilled, so such a prompt needs another fingerprint.
        has_placeholder = any(_PLACEHOLDER.search(text) for w in wordings for text in (w.system or "", w.lead))
        return {
            **({"filled": ["system", "lead"]} if has_placeholder else {}),
            **({"media_first": True} if self.media_first else {}),
            **({"preamble": True} if self.preamble else {}),
            "wordings": [[w.system, w.instructions, w.examples, w.lead] for w in wordings],
            "listed": self.list_format,
            "class_order": None if self.class_order is None else list(self.class_order),
            "example": self.example,
        }


def build_messages(
    prompt: Prompt,
    names: Sequence[str],
    examples: Sequence[tuple[MessagePart, str]] = (),
    query: MessagePart | None = None,
    *,
    wording: int = 0,
    media: MediaType = "image",
) -> tuple[Message, ...]:
    """Build the turns of a question.

    Without examples: [system], user (instructions, query). With examples: [system], user (instructions, example 1),
    assistant (its label), user (example 2), assistant (its label), ..., user (query). Only the last turn differs between
    the queries of a fold. With `media_first`, every user turn is (image or audio, instructions).

    Args:
        prompt: the prompt.
        names: names of the classes, in the order in which they are listed.
        examples: images or audio with the class name in the assistant's turn.
        query: the image or audio to classify; None for the control `no_image`, which has the same texts and no image. With
            examples and an empty `lead`, the last turn then repeats the instructions.
        wording: index of the prompt's wording.
        media: whether examples and query are images or audio.

    Returns:
        The turns; the last is the user's.

    Raises:
        VlmAudioError: if there are fewer than two names, a name is repeated, the prompt does not have this wording, or a
            prompt about audio contains an image (or vice versa).
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise VlmAudioError(
            f"classes of a prompt must be two or more different names, got {list(names)}; check `classes`"
        )
    wordings = prompt.wordings(media)
    if not 0 <= wording < len(wordings):
        raise VlmAudioError(
            f"a wording of prompt '{prompt.name}' must be 0 to {len(wordings) - 1}, got {wording}; use fewer "
            "`paraphrases` or write your own `wordings`"
        )
    parts = [part for part, _ in examples] + ([] if query is None else [query])
    expected = ImagePart if media == "image" else AudioPart
    if wrong := [part for part in parts if not isinstance(part, expected)]:
        raise VlmAudioError(f"a prompt about {media} takes {expected.__name__}, got {type(wrong[0]).__name__}")
    texts = wordings[wording].fill(names, prompt.list_format, prompt.example)
    turns = [] if texts.system is None else [Message("system", (texts.system,))]
    opening = " ".join(t for t in (texts.instructions, texts.examples if examples else "", texts.lead) if t)
    before: str = opening
    for part, name in examples:
        turns.append(_user_turn(before, part, prompt.media_first))
        turns.append(Message("assistant", (name,)))
        before = " ".join(t for t in (texts.instructions, texts.lead) if t) if prompt.media_first else texts.lead
    if query is None:
        return (*turns, Message("user", (before or texts.instructions,)))
    return (*turns, _user_turn(before, query, prompt.media_first))


def _user_turn(text: str, part: MessagePart, media_first: bool) -> Message:
    """Return a turn of the user with a text, which may be empty, and an image or audio."""
    if not text:
        return Message("user", (part,))
    return Message("user", (part, text) if media_first else (text, part))
