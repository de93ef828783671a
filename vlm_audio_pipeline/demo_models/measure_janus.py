"""How often demo-janus names a clip rightly: what its card says.

What belongs here: asking it in its own words, on clips it never met. What does not: scores and prefixes shared between
questions, which a study's backend has.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vlm_audio_pipeline.classifiers.language_models.messages import Picture
from vlm_audio_pipeline.classifiers.language_models.prompts import PROMPTS, messages
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.demo_models.conversations import written
from vlm_audio_pipeline.demo_models.material import RATE_HZ, RENDERINGS, Material, draw, names
from vlm_audio_pipeline.demo_models.train_aimv2 import pixels
from vlm_audio_pipeline.demo_models.train_janus import encoded
from vlm_audio_pipeline.encoders.pretrained import quiet_loading
from vlm_audio_pipeline.renderings.recipe import Recipe


def janus_accuracies(model: Any, processor: Any, unseen: Material, shuffled: Material) -> dict[str, float]:
    """Measure: without examples under each prompt, after one example a class, on the other rendering, under controls.

    Args:
        model: in float32.
        processor: its processor.
        unseen: clips it was not trained on; the first of each class is the example.
        shuffled: the same clips with their columns in another order.
    """
    silence = draw(np.zeros(5 * RATE_HZ, np.float32), Recipe(**RENDERINGS["demo"]))
    blank = Material(unseen.classes, np.broadcast_to(silence, (len(unseen.classes), 1, *silence.shape)), unseen.mels)
    first = [int(np.flatnonzero(unseen.classes == at)[0]) for at in range(len(ESC10))]

    def share(of: Material, rendering: int = 0, prompt: str = "plain", examples: Sequence[int] = ()) -> float:
        shown = [unseen.pictures[i, rendering] for i in examples]
        said = answers(model, processor, of.pictures[:, rendering], prompt, shown)
        right = [text == ESC10[at] for text, at in zip(said, of.classes.tolist(), strict=True)]
        return float(np.mean([r for i, r in enumerate(right) if i not in examples]))

    return {
        **{f"prompt {name}": share(unseen, prompt=name) for name in PROMPTS},
        "one example a class": share(unseen, examples=first),
        "rendering demo_gray": share(unseen, 1),
        "time shuffled": share(shuffled),
        "blank": share(blank),
    }


def answers(
    model: Any, processor: Any, pictures: np.ndarray, prompt: str = "plain", examples: Sequence[np.ndarray] = ()
) -> list[str]:
    """Ask about pictures, by their raw labels, and give what the model says (greedily, at most 8 tokens).

    Args:
        model: in float32.
        processor: its processor.
        pictures: (n, height, width, 3) uint8.
        prompt: name of a prompt.
        examples: a picture of each class in the order of ESC10, or none.
    """
    import torch

    labels = [names(label)[0] for label in ESC10]
    any_picture = Picture(b"", "image/png", "")
    turns = messages(PROMPTS[prompt], labels, [(any_picture, label) for label in labels[: len(examples)]], any_picture)
    ids, _ = encoded([written(turns, processor, ask=True)], processor)
    said: list[str] = []
    for some in np.array_split(pictures, max(1, len(pictures) // 20)):
        shown = torch.from_numpy(np.stack([p for query in some for p in (*examples, query)]))
        with torch.no_grad(), quiet_loading():
            out = model.generate(
                input_ids=ids.expand(len(some), -1),
                attention_mask=torch.ones(len(some), ids.shape[1], dtype=torch.long),
                pixel_values=pixels(shown, processor.image_processor),
                max_new_tokens=8,
                do_sample=False,
            )
        said += processor.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in said]
