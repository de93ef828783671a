"""What the demo's models learn from and are held against: synthetic clips, drawn and heard as the pipeline does it.

What belongs here: which clips, in which pictures, under which words. What does not: the models. No clip of a study is
among these, unless its `synthetic` dataset is given a seed of a million or more.
"""

import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from vlm_audio_pipeline.datasets import synthesis
from vlm_audio_pipeline.datasets.audio import resample
from vlm_audio_pipeline.datasets.esc_classes import ESC10, class_name
from vlm_audio_pipeline.encoders.base import picture
from vlm_audio_pipeline.encoders.clap_features import quickened
from vlm_audio_pipeline.engines import cores
from vlm_audio_pipeline.renderings.picture import render
from vlm_audio_pipeline.renderings.recipe import Recipe

RATE_HZ = 44100
CLAP_HZ = 48000
TRAINING, HELD_OUT = 1_000_000, 2_000_000
"""Seeds of the sounds, to which the seed of the training is added."""

_DEMO: dict[str, Any] = {"transform": "mel", "n_mels": 64, "resampling": "area", "size": 96}
RENDERINGS: dict[str, dict[str, Any]] = {
    "demo": {**_DEMO, "colormap": "magma"},
    "demo_gray": {**_DEMO, "colormap": "gray"},
}
"""The renderings that the models know, and no others; the first is that of the `demo` study, and is practised most."""

TEMPLATES = (
    "This is a sound of {}.",
    "This is the sound of {}.",
    "a sound of {}",
    "an audio clip of {}",
    "I can hear {}.",
    "{}",
)
"""Sentences that CLAP learns to read; the first is the one `zero_shot` asks by default."""


@dataclass(frozen=True)
class Material:
    """Clips as the models meet them.

    Attributes:
        classes: (clips,) int64, places in ESC10.
        pictures: (clips, renderings, 96, 96, 3) uint8 RGB, as in `RENDERINGS`.
        mels: (clips, 1, frames, 64) float32, what CLAP's feature extractor gives for the clip at 48 kHz.
    """

    classes: np.ndarray
    pictures: np.ndarray
    mels: np.ndarray


def make(seed: int, a_class: int, *, shuffled: bool = False) -> Material:
    """Synthesise clips, draw them with the pipeline's renderer and extract CLAP's features, on every core.

    Args:
        seed: of the sounds.
        a_class: clips of each class; each from a source recording of its own.
        shuffled: draw their columns in another order, as the control `time_shuffled` does.
    """
    lines = [(at, source) for source in range(a_class) for at in range(len(ESC10))]
    with ProcessPoolExecutor(cores(), get_context("spawn"), threadpool_limits, (1,)) as pool:
        made = list(pool.map(partial(_clip, seed, shuffled), lines, chunksize=10))
    return Material(
        np.array([at for at, _ in lines]),
        np.stack([pictures for pictures, _ in made]),
        np.stack([mel for _, mel in made]),
    )


def _clip(seed: int, shuffled: bool, line: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    at, source = line
    samples = synthesis.synthesise(ESC10[at], seed, source, 0, rate_hz=RATE_HZ)
    drawn = [draw(samples, recipe, source if shuffled else None) for recipe in _recipes()]
    return np.stack(drawn), _hearing()(resample(samples, RATE_HZ, CLAP_HZ))


@cache
def _recipes() -> Sequence[Recipe]:
    return [Recipe(**values) for values in RENDERINGS.values()]


def drawing(r: random.Random) -> int:
    """Choose in which rendering a picture is practised: three times of four the first."""
    return 0 if r.random() < 0.75 else r.randrange(1, len(RENDERINGS))


def draw(samples: np.ndarray, recipe: Recipe, order: int | None = None) -> np.ndarray:
    """Draw samples at `RATE_HZ` as a study does: (height, width, 3) uint8 RGB; `order` shuffles time."""
    rate = recipe.rate or RATE_HZ
    return np.asarray(picture(render(resample(samples, RATE_HZ, rate), rate, recipe, order=order).bytes))


@cache
def _hearing() -> Any:
    from vlm_audio_pipeline.demo_models.architectures import clap_features

    extractor = quickened(clap_features())
    return lambda samples: extractor(samples, sampling_rate=CLAP_HZ, return_tensors="np")["input_features"][0]


def names(label: str) -> tuple[str, str, str]:
    """Give the three ways in which a study may call a class: `sea_waves`, `sea waves`, and a sentence.

    >>> names("rain")[:2]
    ('rain', 'rain')
    """
    known = class_name(label)
    return label, known.human, known.description


def sentences() -> list[str]:
    """Give everything CLAP is asked to read: each template with the names of each class, and the descriptions alone."""
    every = [names(label) for label in ESC10]
    return [t.format(name) for t in TEMPLATES for raw, human, _ in every for name in (raw, human)] + [
        d for *_, d in every
    ]
