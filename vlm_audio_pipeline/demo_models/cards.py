"""The models' cards: what they are, what they were trained on, what was measured, and what nobody may conclude.

What belongs here: the texts. What does not: the numbers, which the training measures.
"""

import textwrap
from collections.abc import Mapping

_ABOUT = {
    "janus": (
        "Janus-Pro (`JanusForConditionalGeneration`)",
        "https://arxiv.org/abs/2501.17811",
        "image-text-to-text",
        "answers questions about a spectrogram picture of 96 x 96 pixels with the name of a class. Its parts that draw "
        "pictures are there, as the architecture wants them, and were never trained",
        "Greedy answers to raw labels (`sea_waves`) in rendering `demo`, prompt `plain`, where not said otherwise:",
        "It was trained on the prompts `plain`, `notebook` and `paper`, with classes in any order, and on conversations "
        "in which earlier pictures were answered rightly. It answers as well without these examples: with it one can "
        "show how few-shot prompts are put, and not that examples help.",
    ),
    "clap": (
        "CLAP with an HTSAT for sounds (`ClapModel`)",
        "https://arxiv.org/abs/2211.06687",
        "zero-shot-audio-classification",
        "puts sounds of 5 s at 48 kHz and sentences that name one of ten classes into one space of 64 dimensions",
        "Zero-shot, `This is a sound of {label}.`, descriptions read as they are:",
        "Whatever it hears, silence included, it finds one of the ten sentences close: it never learnt to be unsure.",
    ),
    "aimv2": (
        "the vision tower of AIMv2 (`Aimv2VisionModel`)",
        "https://arxiv.org/abs/2411.14402",
        "image-feature-extraction",
        "turns a spectrogram picture of 96 x 96 pixels into 36 vectors of 128 dimensions",
        "By the linear head it was trained with, on the mean of the 36 vectors; the head is not part of the checkpoint:",
        "It learnt by naming the ten classes, not by continuing pictures as AIMv2 did: a probe on its vectors finds what "
        "was put there.",
    ),
}


def card(name: str, measured: Mapping[str, float], seed: int, clips: int) -> str:
    """Write the card of a model as Markdown.

    Args:
        name: "janus", "clap" or "aimv2".
        measured: what was measured on clips it never met.
        seed: of its training.
        clips: of each class, that it learnt from.
    """
    architecture, paper, task, does, how, beware = _ABOUT[name]
    rows = "\n".join(f"| {what} | {share:.3f} |" for what, share in measured.items())
    text = f"""---
license: apache-2.0
pipeline_tag: {task}
tags: [synthetic, demo]
---

# demo-{name}

A tiny model in the architecture of {architecture}, {paper}, with weights of its own: nothing was taken from the
published models. It {does}.

**It knows synthetic sounds, made by this project for this project's demo, and nothing else. It was trained for the very
task it is shown with. Its numbers say that the pipeline works; they say nothing about any real model, or about real
recordings.**

## Training

{10 * clips} clips of 5 s, {clips} of each class of ESC-10, made by `vlm_audio_pipeline.datasets.synthesis` (seed
{1_000_000 + seed}), drawn by the pipeline's own renderer in the renderings `demo` and `demo_gray`. No recording of
anything was used. Pictures drawn in another way are strange to it.

`python -m vlm_audio_pipeline.demo_models.train --seed {seed}` trains it again.

Overlaps: none with ESC-10, ESC-50, FreeSound or AudioSet. The `synthetic` dataset of a study holds other clips of the
same ten sounds, unless its seed is {1_000_000 + seed}.

## Measured

{how}

| on clips it never met (seed {2_000_000 + seed}) | share named rightly |
|---|---|
{rows}

{beware}

## Licence

Apache-2.0, weights and code.
"""
    head, *parts = text.split("\n\n")
    return "\n\n".join([head, *(p if p.startswith("|") else textwrap.fill(p, 120) for p in parts)]).rstrip() + "\n"
