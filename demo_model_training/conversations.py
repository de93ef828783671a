"""Conversations about images, with the pipeline's own prompts and its layout of examples.

Belongs here: choosing a prompt, names, their order, examples and a query, and applying the chat template. Does not
belong here: the wording (`classifiers.language_models.prompts`), and the clips.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from demo_model_training.material import label_forms
from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart, Message
from vlm_audio_pipeline.classifiers.language_models.named_prompts import PROMPTS
from vlm_audio_pipeline.classifiers.language_models.prompts import build_messages
from vlm_audio_pipeline.datasets.esc_classes import ESC10

WEIGHTS = {"plain": 6, "one_word": 2, "paper": 2}
"""Relative frequency of each prompt in the training; the `demo` study uses `plain`."""

PLACEHOLDER = ImagePart(b"", "image/png", "")


def choose_prompt(r: random.Random) -> str:
    """Choose a prompt."""
    return r.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]


def make_conversation(r: random.Random, processor: Any, prompt: str, n_examples: int) -> tuple[str, list[int]]:
    """Make a conversation that a study could contain, with the correct response to its last question.

    Names are `sea_waves` or `sea waves`, listed in random order. In half of the conversations the examples are balanced over the
    classes, as a study selects them, in the others random, so that the examples carry no information about the query.

    Args:
        r: random generator.
        processor: has the chat template.
        prompt: name of a prompt.
        n_examples: number of examples.

    Returns:
        The text, with one placeholder for each image; and the class of each image, as indices into ESC10.
    """
    examples = r.choices(range(len(ESC10)), k=n_examples)
    if r.random() < 0.5:
        examples = [i % len(ESC10) for i in range(n_examples)]
        r.shuffle(examples)
    query = r.randrange(len(ESC10))
    form = r.randrange(2)
    class_names = [label_forms(label)[form] for label in ESC10]
    turns = _question(r, prompt, class_names, [(PLACEHOLDER, class_names[i]) for i in examples])
    return apply_template([*turns, Message("assistant", (class_names[query],))], processor), [*examples, query]


def _question(
    r: random.Random, prompt_name: str, class_names: Sequence[str], examples: Sequence[tuple[ImagePart, str]]
) -> tuple[Message, ...]:
    prompt = PROMPTS[prompt_name]
    shuffled = list(class_names)
    r.shuffle(shuffled)
    return build_messages(prompt, shuffled, examples, PLACEHOLDER, wording=r.randrange(len(prompt.image)))


def apply_template(turns: Iterable[Message], processor: Any, *, add_generation_prompt: bool = False) -> str:
    """Convert turns to text with a chat template.

    Args:
        turns: messages.
        processor: has the template and the end token.
        add_generation_prompt: end with the start of the assistant's turn; otherwise with the end token of its response.
    """
    content = [
        {
            "role": turn.role,
            "content": [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in turn.parts],
        }
        for turn in turns
    ]
    text: str = processor.apply_chat_template(content, add_generation_prompt=add_generation_prompt, tokenize=False)
    return text if add_generation_prompt else text + processor.tokenizer.eos_token


def tokenizer_corpus(seed: int) -> Iterator[str]:
    """Yield the texts that the tokenizer is fitted to: prompts with their classes, and the responses."""
    r = random.Random(seed)
    for i in range(300):
        class_names = [label_forms(label)[i % 2] for label in ESC10]
        for turn in _question(r, choose_prompt(r), class_names, [(PLACEHOLDER, class_names[i % len(class_names)])]):
            yield from (part for part in turn.parts if isinstance(part, str))
        yield from (f" {name}" for name in class_names)
