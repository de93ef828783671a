"""Training and test material of the demo models: synthetic clips, as images and as mel spectrograms.

Belongs here: the clips, their renderings, and the names of their classes. Does not belong here: the models. The clips
differ from those of every study, unless the seed of its `synthetic` dataset is a million or more.
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
from vlm_audio_pipeline.datasets.class_names import class_name
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.encoders.base import decode_image
from vlm_audio_pipeline.encoders.clap_features import vectorise_log_mel
from vlm_audio_pipeline.engines import core_count
from vlm_audio_pipeline.renderings.image import render
from vlm_audio_pipeline.renderings.recipe import Recipe

RATE_HZ = 44100
CLAP_HZ = 48000
TRAINING_SEED, TEST_SEED = 1_000_000, 2_000_000
"""Seeds of the sounds; the seed of the training is added to them."""

_DEMO: dict[str, Any] = {"transform": "mel", "n_mels": 64, "resampling": "area", "size": 96}
RENDERINGS: dict[str, dict[str, Any]] = {
    "demo": {**_DEMO, "colormap": "magma"},
    "demo_gray": {**_DEMO, "colormap": "gray"},
}
"""The renderings that the models are trained on; the first is that of the `demo` study, and is used
for three quarters of the images."""

TEMPLATES = (
    "This is a sound of {}.",
    "This is the sound of {}.",
    "a sound of {}",
    "an audio clip of {}",
    "I can hear {}.",
    "{}",
)
"""Sentences that CLAP is trained on; the first is the default of `zero_shot`."""


@dataclass(frozen=True)
class Material:
    """Clips as inputs of the models.

    Attributes:
        classes: (clips,) int64, indices into ESC10.
        images: (clips, renderings, 96, 96, 3) uint8 RGB, one for each of `RENDERINGS`.
        mels: (clips, 1, frames, 64) float32, from CLAP's feature extractor at 48 kHz.
    """

    classes: np.ndarray
    images: np.ndarray
    mels: np.ndarray


def make_material(seed: int, clips_per_class: int, *, shuffled: bool = False) -> Material:
    """Synthesise clips, render them and extract CLAP's features, on every core.

    Args:
        seed: of the sounds.
        clips_per_class: number of clips of each class, each from its own source recording.
        shuffled: shuffle the frames of the images, as the control `time_shuffled` does.
    """
    clips = [(index, source) for source in range(clips_per_class) for index in range(len(ESC10))]
    with ProcessPoolExecutor(core_count(), get_context("spawn"), threadpool_limits, (1,)) as pool:
        inputs = list(pool.map(partial(_make_clip, seed, shuffled), clips, chunksize=10))
    return Material(
        np.array([index for index, _ in clips]),
        np.stack([images for images, _ in inputs]),
        np.stack([mel for _, mel in inputs]),
    )


def _make_clip(seed: int, shuffled: bool, clip: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    index, source = clip
    samples = synthesis.synthesise(ESC10[index], seed, source, 0, sample_rate_hz=RATE_HZ)
    images = [render_rgb(samples, recipe, source if shuffled else None) for recipe in _recipes()]
    return np.stack(images), _mel_extractor()(resample(samples, RATE_HZ, CLAP_HZ))


@cache
def _recipes() -> Sequence[Recipe]:
    return [Recipe(**values) for values in RENDERINGS.values()]


def choose_rendering(r: random.Random) -> int:
    """Choose the rendering of a training image: the first with probability 3/4."""
    return 0 if r.random() < 0.75 else r.randrange(1, len(RENDERINGS))


def render_rgb(samples: np.ndarray, recipe: Recipe, shuffle_seed: int | None = None) -> np.ndarray:
    """Render samples at `RATE_HZ` as a study does: (height, width, 3) uint8 RGB; a `shuffle_seed` shuffles the frames."""
    rate = recipe.rate or RATE_HZ
    image = render(resample(samples, RATE_HZ, rate), rate, recipe, shuffle_seed=shuffle_seed)
    return np.asarray(decode_image(image.bytes))


@cache
def _mel_extractor() -> Any:
    from demo_model_training.architectures import clap_features

    extractor = vectorise_log_mel(clap_features())
    return lambda samples: extractor(samples, sampling_rate=CLAP_HZ, return_tensors="np")["input_features"][0]


def label_forms(label: str) -> tuple[str, str, str]:
    """Return the three names that a study may use for a class: `sea_waves`, `sea waves`, and a sentence.

    >>> label_forms("rain")[:2]
    ('rain', 'rain')
    """
    name = class_name(label)
    return label, name.readable_name, name.description


def sentences() -> list[str]:
    """Return all texts that CLAP is trained on: each template with the names of each class, and the descriptions."""
    labels = [label_forms(label) for label in ESC10]
    return [t.format(name) for t in TEMPLATES for raw, readable, _ in labels for name in (raw, readable)] + [
        description for *_, description in labels
    ]
