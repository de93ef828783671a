"""The transforms: from the samples of a clip to a time-frequency array.

Belongs here: the fields of a recipe that determine the array, and the table of transforms, each with its axes. Does not
belong here: the arithmetic (`time_frequency`), colours (`colors`) and pixels (`image`).

A new transform is one function and one entry of `TRANSFORMS`; a parameter of its own is a field of
`SpectrumParameters`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.specs import Spec
from vlm_audio_pipeline.datasets.audio import peak_normalise
from vlm_audio_pipeline.renderings.spectrum import Spectrum
from vlm_audio_pipeline.renderings.time_frequency import (
    hz_to_mel,
    mel_filterbank,
    mel_to_hz,
    mfcc,
    pcen,
    power_to_db,
    stft_power,
    window_weights,
)
from vlm_audio_pipeline.renderings.waveform import envelope, fill_waveform

FLOOR = 1e-10
"""Power that counts as silence, before `scaling: density` (librosa's amin)."""
_INTEGER_SCALE = 2.0**31
"""Full scale of the samples for PCEN, whose published parameters are for 32-bit integers."""
_WAVEFORM_ROWS = 255

_COMMON_WINDOWS = frozenset(["hann", "hamming", "blackman", "boxcar", "tukey:0.25"])


class SpectrumParameters(Spec):
    """The fields of a recipe that determine the time-frequency array."""

    rate: int | None = Field(22050, ge=100)
    """Sample rate that the clip is resampled to (soxr, HQ), Hz; null: the file's own."""
    sample_format: Literal["float", "int16"] = "float"
    """float: as decoded, 1 = full scale; int16: scaled to a peak of 32767 and truncated, as by programs that first write a 16-bit WAV file."""
    duration: Literal["native", "pad", "crop", "repeat"] = "native"
    """native: unchanged; crop: cut to `seconds`; pad, repeat: exactly `seconds` long, filled up with silence or with the clip itself."""
    seconds: float | None = Field(None, gt=0, le=3600)
    """Target length, s; required for every duration except native."""
    transform: str = Field("stft", json_schema_extra=lambda schema: schema.update(enum=list(TRANSFORMS)))
    """stft: power spectrum of the short-time Fourier transform; mel: mel bands; pcen: mel bands with per-channel energy normalisation, each relative to its own recent level; cqt: constant-Q transform (librosa's; slow); waveform: the range of the samples in each step of hop_length, relative to the clip's peak; mfcc: mel-frequency cepstral coefficients; scipy_spectrogram: `scipy.signal.spectrogram` itself, with its rounding."""
    n_fft: int = Field(2048, ge=16, le=65536)
    """Window and transform length, samples."""
    hop_length: int = Field(512, ge=1)
    """Step between frames, samples."""
    window: str = "hann"
    """Any window of scipy.signal.get_window; one with a parameter is written as `tukey:0.25`."""
    center: bool = True
    """Pad both ends with n_fft / 2 zeros, so that a frame is centred on its time, as librosa does; false: only whole windows, as scipy does."""
    detrend: bool = False
    """Subtract its mean from each frame, as scipy.signal.spectrogram does."""
    scaling: Literal["power", "density"] = "power"
    """power: |X|^2 (librosa), for scipy_spectrogram its `spectrum`; density: power per Hz, one-sided (scipy)."""
    n_mels: int = Field(128, ge=2, le=1024)
    """Number of mel bands, for mel, pcen and mfcc."""
    n_mfcc: int = Field(20, ge=2)
    """Number of cepstral coefficients, at most n_mels."""
    bins_per_octave: int = Field(12, ge=1, le=96)
    """Bins per octave, for cqt."""
    pcen_gain: float = Field(0.98, ge=0, le=1)
    """How much of the recent level of each band is removed, for pcen; 1: all."""
    pcen_bias: float = Field(2.0, gt=0)
    """Bias of the compression, for pcen; higher: weak sounds are weaker."""
    pcen_power: float = Field(0.5, gt=0, le=1)
    """Exponent of the compression, for pcen."""
    pcen_time_s: float = Field(0.4, gt=0, le=60)
    """Time constant of the recent level, s, for pcen; shorter: only faster changes remain."""
    frequency: Literal["linear", "log", "mel"] | None = None
    """Frequency axis, scaled as by `librosa.display.specshow`: linear; log: logarithmic above 65.4 Hz; mel: logarithmic above 1 kHz. Default: linear for stft, mel for mel, log for cqt."""
    f_min: float | None = Field(None, ge=0)
    """Lowest frequency, Hz. Default: 0; for cqt 32.7 Hz (C1)."""
    f_max: float | None = Field(None, gt=0)
    """Highest frequency, Hz. Default: half the sample rate."""

    @field_validator("transform")
    @classmethod
    def _check_transform(cls, name: str) -> str:
        if name not in TRANSFORMS:
            raise ValueError(f"unknown transform '{name}'; {suggestion(name, TRANSFORMS)}")
        return name

    @field_validator("window")
    @classmethod
    def _check_window(cls, name: str) -> str:
        if name not in _COMMON_WINDOWS:  # the common ones need no import of scipy
            try:
                window_weights(name, 16)
            except VlmAudioError as error:
                raise ValueError(str(error)) from None
        return name

    @model_validator(mode="after")
    def _check_spectrum(self) -> Self:
        axes = TRANSFORMS[self.transform].axes
        if self.frequency not in axes:
            raise ValueError(
                f"frequency must be one of {list(axes)} for transform {self.transform}, got '{self.frequency}'; "
                "remove it to use the default"
            )
        if (self.duration == "native") != (self.seconds is None):
            raise ValueError(
                "seconds is required for duration pad, crop and repeat, and only for them, got duration "
                f"'{self.duration}' and seconds {self.seconds}; correct one of them"
            )
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc must be at most n_mels = {self.n_mels}, got {self.n_mfcc}; lower it")
        top = self.f_max if self.f_max is not None else self.rate / 2 if self.rate else float("inf")
        if self.rate and top > self.rate / 2:
            raise ValueError(f"f_max must be at most half the sample rate, {self.rate / 2:g} Hz, got {top:g}; lower it")
        if self.lowest_hz >= top:
            raise ValueError(f"f_min must be below f_max = {top:g} Hz, got {self.lowest_hz:g}; correct them")
        return self

    @property
    def lowest_hz(self) -> float:
        """Lowest frequency, Hz."""
        return TRANSFORMS[self.transform].f_min_hz if self.f_min is None else self.f_min

    def highest_hz(self, sample_rate_hz: int) -> float:
        """Return the highest frequency, Hz.

        Raises:
            VlmAudioError: if no frequency lies between the lowest and the highest frequency at this sample rate.
        """
        top = sample_rate_hz / 2 if self.f_max is None else self.f_max
        if not self.lowest_hz < top <= sample_rate_hz / 2:
            raise VlmAudioError(
                f"f_min and f_max must lie between 0 and half the sample rate, {sample_rate_hz / 2:g} Hz, got "
                f"{self.lowest_hz:g} and {top:g}; correct them or set a rate"
            )
        return top


@dataclass(frozen=True)
class Transform:
    """An entry of `TRANSFORMS`.

    Attributes:
        compute: (samples, sample rate in Hz, parameters) -> `Spectrum`; samples are (samples,) float32 mono.
        axes: scales that the row axis can have; the first is the default.
        label: name of the row axis.
        unit: unit of the row axis; "" without a unit.
        f_min_hz: lowest frequency if the recipe sets no `f_min`, Hz.
        is_power: the cells are power, so a recipe's amplitude scale applies; False: they are drawn as they are.
        has_numbered_rows: the rows are whole numbers (of coefficients).
        limits: values of the lowest and the highest colour; None: those of the recipe or the clip.
        octaves_only: the log axis is logarithmic from its lower end, as for librosa's `y_axis="cqt_hz"`.
    """

    compute: Callable[[np.ndarray, int, SpectrumParameters], Spectrum]
    axes: tuple[str, ...]
    label: str = "Frequency"
    unit: str = "Hz"
    f_min_hz: float = 0.0
    is_power: bool = True
    octaves_only: bool = False
    has_numbered_rows: bool = False
    limits: tuple[float, float] | None = None

    def axis_label(self, frequency_unit: str = "Hz") -> str:
        """Return the label of the row axis, with its unit; a frequency in Hz or kHz."""
        unit = frequency_unit if self.unit == "Hz" else self.unit
        return f"{self.label} ({unit})" if unit else self.label


def prepare_samples(samples: np.ndarray, sample_rate_hz: int, parameters: SpectrumParameters) -> np.ndarray:
    """Bring a clip to the length and the sample format of a recipe.

    Args:
        samples: (samples,) float32 mono, 1 = full scale, at least one.
        sample_rate_hz: sample rate, Hz.
        parameters: `duration`, `seconds` and `sample_format`.

    Returns:
        (samples,) float32; whole numbers up to 32767 for `int16`.
    """
    if parameters.seconds is not None:
        length = max(1, round(parameters.seconds * sample_rate_hz))
        samples = samples[:length]
        if parameters.duration == "repeat":
            samples = np.resize(samples, length)
        elif parameters.duration == "pad":
            samples = np.pad(samples, (0, length - len(samples)))
    if parameters.sample_format == "int16":
        samples = peak_normalise(samples).astype(np.float32)
    return samples


def compute_spectrum(samples: np.ndarray, sample_rate_hz: int, parameters: SpectrumParameters) -> Spectrum:
    """Transform a clip.

    Args:
        samples: (samples,) float32 mono, from `prepare_samples`.
        sample_rate_hz: sample rate, Hz.
        parameters: the transform and its parameters.

    Raises:
        VlmAudioError: if a frequency is above half the sample rate, or f_min is not below f_max.
    """
    return TRANSFORMS[parameters.transform].compute(samples, sample_rate_hz, parameters)


def _stft(samples: np.ndarray, sample_rate_hz: int, parameters: SpectrumParameters) -> Spectrum:
    """Compute |X|^2, or with `scaling: density` the spectral density of scipy.signal.spectrogram."""
    parameters.highest_hz(sample_rate_hz)
    n_fft, hop = parameters.n_fft, parameters.hop_length
    if not parameters.center and len(samples) < n_fft:
        samples = np.pad(samples, (0, n_fft - len(samples)))
    power = stft_power(samples, n_fft, hop, parameters.window, center=parameters.center, detrend=parameters.detrend)
    floor = FLOOR
    if parameters.scaling == "density":
        per_hz = 1 / (sample_rate_hz * float(np.square(window_weights(parameters.window, n_fft)).sum()))
        power = power * _density_factors(n_fft, per_hz)[:, None]
        floor *= per_hz
    first_center = 0 if parameters.center else n_fft / 2
    times = (np.arange(power.shape[1]) * hop + first_center) / sample_rate_hz
    frequencies = np.arange(len(power)) * (sample_rate_hz / n_fft)
    limits = (parameters.f_min, parameters.f_max)  # the axis ends here; the bins reach from 0 to half the sample rate
    return Spectrum(power, frequencies, times, hop / sample_rate_hz, floor, limits)


def _scipy_spectrogram(samples: np.ndarray, sample_rate_hz: int, parameters: SpectrumParameters) -> Spectrum:
    """Call scipy.signal.spectrogram, on 16-bit integers for `sample_format: int16`.

    Its window and result have single precision, so the smallest values, which set automatic limits of colours, depend on
    its rounding. No power above 0 counts as silence.
    https://docs.scipy.org/doc/scipy/reference/generated/scipy.signal.spectrogram.html
    """
    from scipy.signal import spectrogram

    parameters.highest_hz(sample_rate_hz)
    n_fft, hop = parameters.n_fft, parameters.hop_length
    window = window_weights(parameters.window, n_fft)
    padding = n_fft // 2 if parameters.center else 0
    samples = np.pad(samples, (padding, padding + max(0, n_fft - len(samples) - 2 * padding)))
    frequencies, times, density = spectrogram(
        samples.astype(np.int16) if parameters.sample_format == "int16" else samples,
        fs=sample_rate_hz,
        window=window,
        noverlap=n_fft - hop,
        detrend="constant" if parameters.detrend else False,
        scaling="density" if parameters.scaling == "density" else "spectrum",
    )
    limits = (parameters.f_min, parameters.f_max)
    smallest = float(np.finfo(np.float32).smallest_subnormal)
    return Spectrum(density, frequencies, times - padding / sample_rate_hz, hop / sample_rate_hz, smallest, limits)


def _mel(samples: np.ndarray, sample_rate_hz: int, parameters: SpectrumParameters) -> Spectrum:
    """Compute the power in mel bands, as librosa.feature.melspectrogram does."""
    low, high = parameters.lowest_hz, parameters.highest_hz(sample_rate_hz)
    stft = _stft(samples, sample_rate_hz, parameters)
    bands = _mel_filters(sample_rate_hz, parameters.n_fft, parameters.n_mels, low, high) @ stft.cells
    centers = mel_to_hz(np.linspace(hz_to_mel(low), hz_to_mel(high), parameters.n_mels))
    return Spectrum(bands, centers, stft.column_centers_s, stft.hop_s, stft.floor)


def _pcen(samples: np.ndarray, sample_rate_hz: int, parameters: SpectrumParameters) -> Spectrum:
    """Compute the magnitudes in mel bands with per-channel energy normalisation, of samples on the scale of 32-bit integers."""
    low, high = parameters.lowest_hz, parameters.highest_hz(sample_rate_hz)
    stft = _stft(samples, sample_rate_hz, parameters)
    filters = _mel_filters(sample_rate_hz, parameters.n_fft, parameters.n_mels, low, high)
    bands = pcen(
        (filters @ np.sqrt(stft.cells)) * np.float32(_INTEGER_SCALE),
        1 / stft.hop_s,
        gain=parameters.pcen_gain,
        bias=parameters.pcen_bias,
        power=parameters.pcen_power,
        time_constant_s=parameters.pcen_time_s,
    )
    centers = mel_to_hz(np.linspace(hz_to_mel(low), hz_to_mel(high), parameters.n_mels))
    return Spectrum(bands, centers, stft.column_centers_s, stft.hop_s, None)


def _waveform(samples: np.ndarray, sample_rate_hz: int, parameters: SpectrumParameters) -> Spectrum:
    """Return 1 between the smallest and the largest sample of each step, 0 elsewhere; rows are amplitudes relative to the peak."""
    hop = parameters.hop_length
    edges = np.arange(0, len(samples) + hop, hop)
    cells = fill_waveform(envelope(samples, edges), np.arange(len(edges)), len(edges) - 1, _WAVEFORM_ROWS)
    times = (edges[:-1] + hop / 2) / sample_rate_hz
    rows = np.linspace(-1, 1, _WAVEFORM_ROWS)
    return Spectrum(cells[::-1].astype(np.float32), rows, times, hop / sample_rate_hz, None, (-1.0, 1.0))


def _mfcc(samples: np.ndarray, sample_rate_hz: int, parameters: SpectrumParameters) -> Spectrum:
    """Compute cepstral coefficients of the mel bands in decibels, as librosa.feature.mfcc does."""
    mel = _mel(samples, sample_rate_hz, parameters)
    coefficients = mfcc(power_to_db(mel.cells, amin=mel.floor or FLOOR), parameters.n_mfcc)
    return Spectrum(coefficients, np.arange(parameters.n_mfcc, dtype=np.float64), mel.column_centers_s, mel.hop_s, None)


def _cqt(samples: np.ndarray, sample_rate_hz: int, parameters: SpectrumParameters) -> Spectrum:
    """Compute librosa's constant-Q transform; its first call in a process takes seconds, for imports."""
    import warnings

    from vlm_audio_pipeline.renderings.librosa_import import import_librosa

    librosa = import_librosa()
    top = parameters.highest_hz(sample_rate_hz)
    per_octave, f_min = parameters.bins_per_octave, max(parameters.lowest_hz, 1.0)
    # The filter of the highest bin must end below half the sample rate.
    highest = min(top, sample_rate_hz / 2 / 2 ** (1 / per_octave))
    n_bins = int(np.floor(per_octave * np.log2(highest / f_min)))
    if n_bins < 2:
        raise VlmAudioError(f"f_min and f_max must be two bins apart for cqt, got {f_min:g} and {top:g} Hz; widen them")
    halvings = max(0, -(-n_bins // per_octave) - 1)
    hop = max(1, parameters.hop_length >> halvings) << halvings  # librosa halves the hop once per octave
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a clip shorter than the longest filter is padded with zeros
        bins = librosa.cqt(
            samples, sr=sample_rate_hz, hop_length=hop, fmin=f_min, n_bins=n_bins, bins_per_octave=per_octave
        )
    power = np.square(np.abs(bins)).astype(np.float32)
    frequencies = f_min * 2.0 ** (np.arange(n_bins) / per_octave)
    hop_s = hop / sample_rate_hz
    return Spectrum(power, frequencies, np.arange(power.shape[1]) * hop_s, hop_s, FLOOR)


@lru_cache(maxsize=16)
def _density_factors(n_fft: int, per_hz: float) -> np.ndarray:
    """Return the factors from |X|^2 to power per Hz: bins that stand for two frequencies count twice."""
    factors = np.full(n_fft // 2 + 1, 2 * per_hz, np.float32)
    factors[0] = per_hz
    if n_fft % 2 == 0:
        factors[-1] = per_hz
    return factors


@lru_cache(maxsize=16)
def _mel_filters(sample_rate_hz: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Any:
    """Return the mel filters as a sparse array: fast, and summed in the same order for any number of BLAS threads."""
    from scipy.sparse import csr_array

    return csr_array(mel_filterbank(sample_rate_hz, n_fft, n_mels, f_min, f_max))


TRANSFORMS: dict[str, Transform] = {
    "stft": Transform(_stft, axes=("linear", "log", "mel")),
    "scipy_spectrogram": Transform(_scipy_spectrogram, axes=("linear", "log", "mel")),
    "mel": Transform(_mel, axes=("mel", "linear", "log")),
    "cqt": Transform(_cqt, axes=("log", "linear"), f_min_hz=32.70319566257483, octaves_only=True),
    "pcen": Transform(_pcen, axes=("mel", "linear", "log"), is_power=False),
    "mfcc": Transform(_mfcc, axes=("linear",), label="Coefficient", unit="", is_power=False, has_numbered_rows=True),
    "waveform": Transform(
        _waveform, axes=("linear",), label="Amplitude / peak", unit="", is_power=False, limits=(0.0, 1.0)
    ),
}
"""Every transform, by its name in a recipe."""
