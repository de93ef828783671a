"""The model cards: architecture, training, accuracies and limits.

Belongs here: the texts. Does not belong here: the accuracies, which the training measures.
"""

import textwrap
from collections.abc import Mapping

_TEXTS = {
    "janus": (
        "Janus-Pro (`JanusForConditionalGeneration`)",
        "https://arxiv.org/abs/2501.17811",
        "image-text-to-text",
        "responds to questions about a spectrogram image of 96 x 96 pixels with the name of a class. Its image generator, "
        "which the architecture requires, was never trained",
        "Greedy responses with raw labels (`sea_waves`), in rendering `demo` and with prompt `plain` unless stated:",
        "It was trained on the prompts `plain`, `notebook` and `paper`, with classes in random order, and on conversations "
        "in which earlier images got the correct response. It is as accurate without these examples: it shows how "
        "few-shot prompts are sent, not that examples help.",
    ),
    "clap": (
        "CLAP with an HTSAT audio encoder (`ClapModel`)",
        "https://arxiv.org/abs/2211.06687",
        "zero-shot-audio-classification",
        "embeds audio of 5 s at 48 kHz, and sentences that name one of ten classes, in one space of 64 dimensions",
        "Zero-shot with `This is a sound of {label}.`; descriptions without a template:",
        "For any audio, including silence, it finds one of the ten sentences close: it was not trained to be unsure.",
    ),
    "aimv2": (
        "the vision tower of AIMv2 (`Aimv2VisionModel`)",
        "https://arxiv.org/abs/2411.14402",
        "image-feature-extraction",
        "converts a spectrogram image of 96 x 96 pixels to 36 vectors of 128 dimensions",
        "With the linear head of the training, on the mean of the 36 vectors; the head is not part of the checkpoint:",
        "It was trained to classify the ten classes, not to continue images as AIMv2 was: a probe on its vectors finds "
        "what this training put there.",
    ),
}


def card(name: str, accuracies: Mapping[str, float], seed: int, clips: int) -> str:
    """Return the card of a model as Markdown.

    Args:
        name: "janus", "clap" or "aimv2".
        accuracies: measured on test clips.
        seed: of the training.
        clips: training clips of each class.
    """
    architecture, publication, task, function, setting, limits = _TEXTS[name]
    rows = "\n".join(f"| {measurement} | {accuracy:.3f} |" for measurement, accuracy in accuracies.items())
    text = f"""---
license: apache-2.0
pipeline_tag: {task}
tags: [synthetic, demo]
---

# demo-{name}

A tiny model in the architecture of {architecture}, {publication}, trained from random weights: it contains nothing of
the published model. It {function}.

**It was trained on synthetic sounds, made by this project for its demo, and for exactly the task of the demo. Its
accuracies show that the pipeline works; they say nothing about any real model, or about real recordings.**

## Training

{10 * clips} clips of 5 s, {clips} of each class of ESC-10, made by `vlm_audio_pipeline.datasets.synthesis` (seed
{1_000_000 + seed}) and rendered by the pipeline with the renderings `demo` and `demo_gray`. No real recordings were used.
The model does not work with other renderings.

`python -m demo_model_training.train --seed {seed}`, run in the repository, repeats the training.

Overlaps: none with ESC-10, ESC-50, FreeSound or AudioSet. The `synthetic` dataset of a study has other clips of the
same ten classes, unless its seed is {1_000_000 + seed}.

## Accuracy

{setting}

| on test clips (seed {2_000_000 + seed}) | accuracy |
|---|---|
{rows}

{limits}

## Licence

Apache-2.0, weights and code.
"""
    head, *parts = text.split("\n\n")
    return "\n\n".join([head, *(p if p.startswith("|") else textwrap.fill(p, 120) for p in parts)]).rstrip() + "\n"
