"""A deterministic encoder without weights, for tests, documentation and a study on a machine without models."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from vlm_audio_pipeline.contracts.specs import excluded_from_fingerprint
from vlm_audio_pipeline.encoders.base import ENCODERS, EncoderSpec

if TYPE_CHECKING:
    from vlm_audio_pipeline.encoders.base import Encode


@ENCODERS.register("scripted")
class Scripted(EncoderSpec):
    """Log energy in equal bands of the power spectrum, multiplied by a random rotation that depends on the seed."""

    dimensions: int = Field(8, ge=1, le=4096)
    """Length of the vectors and number of bands."""
    seed: int = Field(0, ge=0)
    """Seed of the rotation."""
    missing: bool = excluded_from_fingerprint(False)
    """Whether to behave as if the weights were missing, so that steps which need them are not run."""

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of the clips, Hz."""
        return 16000

    def unavailable(self) -> str | None:
        """Return that the weights are missing, if `missing` is set."""
        return "weights of scripted missing" if self.missing else None

    def load(self) -> "Encode":
        """Compute the rotation and return the function from clips to vectors."""
        normal = np.random.default_rng(self.seed).standard_normal((self.dimensions, self.dimensions))
        rotation, _ = np.linalg.qr(normal)  # orthogonal, so it preserves the distances between the band levels of clips

        def encode(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
            return [(band_levels(samples, self.dimensions) @ rotation).astype(np.float32) for samples in clips]

        return encode


def band_levels(samples: np.ndarray, bands: int) -> np.ndarray:
    """Return the mean power in equal bands of the spectrum, as log10(power + 1e-10).

    The spectrum is the mean of |rfft|^2 over blocks of 1024 samples (Bartlett, Nature 161, 1948); the last block is padded
    with zeros. The bands are consecutive groups of bins, of as equal size as possible.

    Args:
        samples: (samples,) float, 1 = full scale.
        bands: number of bands; if more than 513, neighbouring bands share bins.

    Returns:
        (bands,) float64, log10 of full-scale power; -10 for silence.
    """
    from scipy.fft import rfft

    blocks = np.pad(samples.astype(np.float64), (0, -len(samples) % 1024)).reshape(-1, 1024)
    power = np.square(np.abs(rfft(blocks, axis=1))).mean(axis=0) / 1024 if len(blocks) else np.zeros(513)
    edges = np.arange(bands + 1) * len(power) // bands
    means = [power[low : max(high, low + 1)].mean() for low, high in pairwise(edges)]
    return np.log10(np.array(means) + 1e-10)
