"""Measure the accuracy of demo-janus for its card.

Belongs here: asking it about clips that were not in its training, with the prompts of the pipeline. Does not belong here:
likelihoods and shared prefixes, which a study's backend computes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from demo_model_training.conversations import PLACEHOLDER, apply_template
from demo_model_training.material import RATE_HZ, RENDERINGS, Material, label_forms, render_rgb
from demo_model_training.train_aimv2 import normalise
from demo_model_training.train_janus import tokenise
from vlm_audio_pipeline.classifiers.language_models.named_prompts import PROMPTS
from vlm_audio_pipeline.classifiers.language_models.prompts import build_messages
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.encoders.pretrained import quiet_loading
from vlm_audio_pipeline.renderings.recipe import Recipe


def janus_accuracies(model: Any, processor: Any, test: Material, shuffled: Material) -> dict[str, float]:
    """Return the accuracy with each prompt, after one example per class, with the other rendering and with controls.

    Args:
        model: in float32.
        processor: its processor.
        test: clips that were not in the training; the first of each class is the example.
        shuffled: the same clips with shuffled frames.
    """
    silence = render_rgb(np.zeros(5 * RATE_HZ, np.float32), Recipe(**RENDERINGS["demo"]))
    blank = Material(test.classes, np.broadcast_to(silence, (len(test.classes), 1, *silence.shape)), test.mels)
    example_indices = [int(np.flatnonzero(test.classes == c)[0]) for c in range(len(ESC10))]

    def accuracy(material: Material, rendering: int = 0, prompt: str = "plain", examples: Sequence[int] = ()) -> float:
        example_images = [test.images[i, rendering] for i in examples]
        texts = generate(model, processor, material.images[:, rendering], prompt, example_images)
        correct = [text == ESC10[c] for text, c in zip(texts, material.classes.tolist(), strict=True)]
        return float(np.mean([c for i, c in enumerate(correct) if i not in examples]))

    return {
        **{f"prompt {name}": accuracy(test, prompt=name) for name in PROMPTS},
        "one example per class": accuracy(test, examples=example_indices),
        "rendering demo_gray": accuracy(test, 1),
        "time shuffled": accuracy(shuffled),
        "blank": accuracy(blank),
    }


def generate(
    model: Any, processor: Any, images: np.ndarray, prompt: str = "plain", examples: Sequence[np.ndarray] = ()
) -> list[str]:
    """Return the responses to a question about each image, with raw labels: greedy, at most 8 tokens.

    Args:
        model: in float32.
        processor: its processor.
        images: (n, height, width, 3) uint8.
        prompt: name of a prompt.
        examples: an image of each class in the order of ESC10, or none.
    """
    import torch

    labels = [label_forms(label)[0] for label in ESC10]
    example_turns = [(PLACEHOLDER, label) for label in labels[: len(examples)]]
    turns = build_messages(PROMPTS[prompt], labels, example_turns, PLACEHOLDER)
    ids, _ = tokenise([apply_template(turns, processor, add_generation_prompt=True)], processor)
    texts: list[str] = []
    for batch in np.array_split(images, max(1, len(images) // 20)):
        pixels = torch.from_numpy(np.stack([image for query in batch for image in (*examples, query)]))
        with torch.no_grad(), quiet_loading():
            out = model.generate(
                input_ids=ids.expand(len(batch), -1),
                attention_mask=torch.ones(len(batch), ids.shape[1], dtype=torch.long),
                pixel_values=normalise(pixels, processor.image_processor),
                max_new_tokens=8,
                do_sample=False,
            )
        texts += processor.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]
