"""Conversations about pictures, in the words of the pipeline's own prompts and with its layout of examples.

What belongs here: choosing a prompt, names, their order, examples and a query, and writing it all with a chat template.
What does not: the wording (`classifiers.language_models.prompts`), and which clips are shown.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.messages import Message, Picture
from vlm_audio_pipeline.classifiers.language_models.prompts import PROMPTS, messages
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.demo_models.material import names

SHARES = {"plain": 6, "notebook": 2, "paper": 2}
"""How often each prompt is practised; `plain` is what the `demo` study asks."""

_ANY = Picture(b"", "image/png", "")


def practised(r: random.Random) -> str:
    """Choose a prompt."""
    return r.choices(list(SHARES), list(SHARES.values()))[0]


def conversation(r: random.Random, processor: Any, prompt: str, examples: int) -> tuple[str, list[int]]:
    """Make up a conversation that a study could have, with the right answer to its last question.

    Names are `sea_waves` or `sea waves`, listed in any order. Half of the time examples come evenly from the classes, as
    a study chooses them, else by chance, so that what was shown before tells nothing about the query.

    Args:
        r: decides.
        processor: gives the chat template.
        prompt: name of a prompt.
        examples: how many come first.

    Returns:
        the text, with one place for every picture; and the class of each picture, as places in ESC10.
    """
    shown = r.choices(range(len(ESC10)), k=examples)
    if r.random() < 0.5:
        shown = [at % len(ESC10) for at in range(examples)]
        r.shuffle(shown)
    query = r.randrange(len(ESC10))
    form = r.randrange(2)
    called = [names(label)[form] for label in ESC10]
    turns = _question(r, prompt, called, [(_ANY, called[at]) for at in shown])
    return written([*turns, Message("assistant", (called[query],))], processor), [*shown, query]


def _question(
    r: random.Random, name: str, called: Sequence[str], examples: Sequence[tuple[Picture, str]]
) -> tuple[Message, ...]:
    prompt = PROMPTS[name]
    listed = list(called)
    r.shuffle(listed)
    return messages(prompt, listed, examples, _ANY, wording=r.randrange(len(prompt.picture)))


def written(turns: Iterable[Message], processor: Any, *, ask: bool = False) -> str:
    """Write turns with a chat template.

    Args:
        turns: messages.
        processor: gives the template, and the end of an answer.
        ask: leave the last word to the model; else the text ends with the end of the assistant's turn.
    """
    content = [
        {
            "role": turn.role,
            "content": [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in turn.parts],
        }
        for turn in turns
    ]
    text = processor.apply_chat_template(content, add_generation_prompt=ask, tokenize=False)
    return text if ask else text + processor.tokenizer.eos_token


def corpus(seed: int) -> Iterator[str]:
    """Give what a tokenizer should write shortly: every prompt with its classes, and every answer."""
    r = random.Random(seed)
    for at in range(300):
        called = [names(label)[at % 2] for label in ESC10]
        for turn in _question(r, practised(r), called, [(_ANY, called[at % len(called)])]):
            yield from (part for part in turn.parts if isinstance(part, str))
        yield from (f" {name}" for name in called)
