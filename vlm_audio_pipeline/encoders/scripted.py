"""A deterministic encoder without weights: for tests, documentation and trying a study on a bare machine.

What belongs here: arithmetic cheap enough for any test. What does not: anything a result should rest on.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from vlm_audio_pipeline.contracts.specs import not_identity
from vlm_audio_pipeline.encoders.base import ENCODERS, EncoderSpec

if TYPE_CHECKING:
    from vlm_audio_pipeline.encoders.base import Encode


@ENCODERS.register("scripted")
class Scripted(EncoderSpec):
    """Log energy in equal bands of the power spectrum, turned by a random rotation that the seed fixes."""

    dimensions: int = Field(8, ge=1, le=4096)
    """Length of the vectors, and number of bands."""
    seed: int = Field(0, ge=0)
    """Another seed gives another rotation."""
    missing: bool = not_identity(False)
    """Behave as if the weights were not on this machine: everything that needs them is "not run"."""

    @property
    def rate_hz(self) -> int:
        """Sampling rate the encoder wants, Hz."""
        return 16000

    def unavailable(self) -> str | None:
        """Say that the weights are missing, where the study asks for that."""
        return "weights of scripted missing" if self.missing else None

    def load(self) -> "Encode":
        """Make the rotation and give the function from clips to vectors."""
        normal = np.random.default_rng(self.seed).standard_normal((self.dimensions, self.dimensions))
        rotation, _ = np.linalg.qr(normal)  # orthogonal: distances between clips are those between their bands

        def encode(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
            return [(band_levels(samples, self.dimensions) @ rotation).astype(np.float32) for samples in clips]

        return encode


def band_levels(samples: np.ndarray, bands: int) -> np.ndarray:
    """Mean power in equal bands of the spectrum, as log10(power + 1e-10).

    The spectrum is the average of |rfft|^2 over stretches of 1024 samples (Bartlett, Nature 161, 1948), zeros added at
    the end to fill the last one, each bin given to the band its index falls into.

    Args:
        samples: (samples,) float, 1 = full scale.
        bands: how many; beyond 513 neighbours share bins.

    Returns:
        (bands,) float64, log10 of full-scale power; -10 for silence.
    """
    from scipy.fft import rfft

    stretches = np.pad(samples.astype(np.float64), (0, -len(samples) % 1024)).reshape(-1, 1024)
    power = np.square(np.abs(rfft(stretches, axis=1))).mean(axis=0) / 1024 if len(stretches) else np.zeros(513)
    edges = np.arange(bands + 1) * len(power) // bands
    means = [power[low : max(high, low + 1)].mean() for low, high in pairwise(edges)]
    return np.log10(np.array(means) + 1e-10)
