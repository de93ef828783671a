"""Classical features: what was used before learnt embeddings, and a baseline that downloads nothing.

What belongs here: statistics over time of cepstra, their slopes, zero crossings and log-mel bands. What does not: the
transforms themselves (`renderings.time_frequency`). The set is that of the ESC-50 baseline (K. J. Piczak, ESC: Dataset
for Environmental Sound Classification, ACM Multimedia 2015) with log-mel bands added.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from vlm_audio_pipeline.encoders.base import ENCODERS, EncoderSpec
from vlm_audio_pipeline.renderings.time_frequency import (
    delta,
    mel_filterbank,
    mfcc,
    power_to_db,
    stft_power,
    zero_crossing_rate,
)

if TYPE_CHECKING:
    from vlm_audio_pipeline.encoders.base import Encode

Feature = Literal["mfcc", "delta", "zero_crossing_rate", "logmel"]


@ENCODERS.register("features")
class Features(EncoderSpec):
    """Mean and deviation over time of MFCC, zero-crossing rate and log-mel bands; deviation of MFCC deltas."""

    features: Annotated[tuple[Feature, ...], Field(min_length=1)] = ("mfcc", "delta", "zero_crossing_rate", "logmel")
    """What the vector holds, in this order; each at most once."""
    rate: int = Field(22050, ge=1000)
    """Sampling rate the clips are brought to, Hz."""
    n_mfcc: int = Field(20, ge=1)
    """Cepstral coefficients."""
    n_mels: int = Field(64, ge=1)
    """Mel bands between 0 Hz and half the rate; the cepstra are made from them too."""
    n_fft: int = Field(2048, ge=16)
    """Window and transform length, samples."""
    hop_length: int = Field(512, ge=1)
    """Step between frames, samples."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        twice = sorted({f for f in self.features if self.features.count(f) > 1})
        if twice:
            raise ValueError(f"features must be named once each, got {twice} more than once; drop the repeats")
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc must be at most n_mels = {self.n_mels}, got {self.n_mfcc}; lower it")
        return self

    @property
    def rate_hz(self) -> int:
        """Sampling rate the encoder wants, Hz."""
        return self.rate

    def dimension_names(self) -> list[str]:
        """Name every dimension of the vector, in order: `mfcc_0_mean`, `logmel_63_std`, ...

        >>> Features(features=("zero_crossing_rate",)).dimension_names()
        ['zero_crossing_rate_mean', 'zero_crossing_rate_std']
        """
        rows: dict[Feature, list[str]] = {
            "mfcc": [f"mfcc_{i}" for i in range(self.n_mfcc)],
            "delta": [f"mfcc_delta_{i}" for i in range(self.n_mfcc)],
            "zero_crossing_rate": ["zero_crossing_rate"],
            "logmel": [f"logmel_{i}" for i in range(self.n_mels)],
        }
        return [f"{row}_{s}" for f in self.features for s in _statistics(f) for row in rows[f]]

    def vector(self, samples: np.ndarray) -> np.ndarray:
        """Compute the vector of one clip.

        Log-mel bands are dB re 1 with 80 dB below the loudest band kept, cepstra their orthonormal DCT-II, deltas the
        slopes of the cepstra over 9 frames (zero for clips of fewer), the zero-crossing rate a share of samples.

        Args:
            samples: (samples,) float32 mono at `rate` Hz, at least one.

        Returns:
            (dimensions,) float32, finite, in the order of `dimension_names`.
        """
        rows: dict[str, np.ndarray] = {}
        if set(self.features) - {"zero_crossing_rate"}:
            filters = mel_filterbank(self.rate, self.n_fft, self.n_mels)
            rows["logmel"] = power_to_db(filters @ stft_power(samples, self.n_fft, self.hop_length))
            rows["mfcc"] = mfcc(rows["logmel"], self.n_mfcc)
        if "delta" in self.features:
            rows["delta"] = delta(rows["mfcc"])
        if "zero_crossing_rate" in self.features:
            rows["zero_crossing_rate"] = zero_crossing_rate(samples, self.n_fft, self.hop_length)[None]
        parts = [getattr(rows[f], s)(axis=1, dtype=np.float64) for f in self.features for s in _statistics(f)]
        return np.concatenate(parts).astype(np.float32)

    def load(self) -> "Encode":
        """Give the function from clips to vectors; there is nothing to load."""

        def encode(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
            return [self.vector(samples) for samples in clips]

        return encode


def _statistics(feature: Feature) -> tuple[str, ...]:
    # the mean of a slope is the net rise over the clip divided by its length: next to nothing, so it is left out
    return ("std",) if feature == "delta" else ("mean", "std")
