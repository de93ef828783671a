"""Classical audio features: a baseline without learned embeddings and without downloads.

Statistics over time of MFCC, their deltas, zero-crossing rate and log-mel bands. The set is that of the ESC-50 baseline
(K. J. Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015) with log-mel bands added. The
transforms are in `renderings.time_frequency`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from vlm_audio_pipeline.contracts.specs import check_distinct
from vlm_audio_pipeline.encoders.base import ENCODERS, AudioEncoder
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
class Features(AudioEncoder):
    """Mean and standard deviation over time of MFCC, zero-crossing rate and log-mel bands; standard deviation of deltas."""

    features: Annotated[tuple[Feature, ...], Field(min_length=1), AfterValidator(check_distinct)] = (
        "mfcc",
        "delta",
        "zero_crossing_rate",
        "logmel",
    )
    """Features of the vector, in this order; each at most once."""
    rate: int = Field(22050, ge=1000)
    """Sample rate to which clips are resampled, Hz."""
    n_mfcc: int = Field(20, ge=1)
    """Cepstral coefficients."""
    n_mels: int = Field(64, ge=1)
    """Mel bands between 0 Hz and half the sample rate; the MFCC are computed from them too."""
    n_fft: int = Field(2048, ge=16)
    """Window and transform length, samples."""
    hop_length: int = Field(512, ge=1)
    """Hop length, samples."""

    @model_validator(mode="after")
    def _check_coefficients(self) -> Self:
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc must be at most n_mels = {self.n_mels}, got {self.n_mfcc}; lower it")
        return self

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of the clips, Hz."""
        return self.rate

    def vector(self, samples: np.ndarray) -> np.ndarray:
        """Compute the vector of one clip.

        Log-mel bands are in dB re 1, clipped at 80 dB below the maximum. MFCC are their orthonormal DCT-II. Deltas are the
        slopes of the MFCC over 9 frames (zero for shorter clips). The zero-crossing rate is the share of samples at
        which the sign changes.

        Args:
            samples: (samples,) float32 mono at `rate` Hz, at least one.

        Returns:
            (dimensions,) float32, finite: for each of `features`, the means of its rows and then their standard deviations;
            for delta only the standard deviations.
        """
        series: dict[str, np.ndarray] = {}
        if set(self.features) - {"zero_crossing_rate"}:
            filters = mel_filterbank(self.rate, self.n_fft, self.n_mels)
            series["logmel"] = power_to_db(filters @ stft_power(samples, self.n_fft, self.hop_length))
            series["mfcc"] = mfcc(series["logmel"], self.n_mfcc)
        if "delta" in self.features:
            series["delta"] = delta(series["mfcc"])
        if "zero_crossing_rate" in self.features:
            series["zero_crossing_rate"] = zero_crossing_rate(samples, self.n_fft, self.hop_length)[None]
        parts = [getattr(series[f], s)(axis=1, dtype=np.float64) for f in self.features for s in _statistics(f)]
        return np.concatenate(parts).astype(np.float32)

    def load(self) -> "Encode":
        """Return the function from clips to vectors; there are no weights."""

        def encode(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
            return [self.vector(samples) for samples in clips]

        return encode


def _statistics(feature: Feature) -> tuple[str, ...]:
    # The mean of a slope is the net rise over the clip divided by its length: almost zero, so it is left out.
    return ("std",) if feature == "delta" else ("mean", "std")
