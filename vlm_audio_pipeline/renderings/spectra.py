"""Samples -> the time-frequency array a recipe asks for, and from it the values that colours follow.

What belongs here: the choice of transform, its frequencies and times, amplitude scales and the limits of colours. What
does not: the transforms themselves (`time_frequency`) and pixels (`picture`).
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.renderings.axes import edges
from vlm_audio_pipeline.renderings.time_frequency import (
    hz_to_mel,
    mel_filterbank,
    mel_to_hz,
    mfcc,
    power_to_db,
    stft_power,
    window_weights,
)

if TYPE_CHECKING:
    from vlm_audio_pipeline.renderings.recipe import Recipe

FLOOR = 1e-10
"""Power below which there is silence, before `scaling: density` (librosa's amin)."""


@dataclass(frozen=True)
class Spectrum:
    """A clip in time and frequency.

    Attributes:
        cells: (rows, frames) float32, low frequencies first: power (samples at 1 = full scale), or coefficients.
        rows: (rows,) float64: frequencies, Hz, or numbers of coefficients.
        times: (frames,) float64: middles of frames, s.
        floor: power below which there is silence; None for coefficients.
        step: from frame to frame, s.
    """

    cells: np.ndarray
    rows: np.ndarray
    times: np.ndarray
    floor: float | None
    step: float

    @cached_property
    def row_edges(self) -> np.ndarray:
        """Edges of rows, (rows + 1,) float64, Hz or numbers of coefficients."""
        return edges(self.rows)

    @cached_property
    def time_edges(self) -> np.ndarray:
        """Edges of frames, (frames + 1,) float64, s."""
        return edges(self.times, self.step)


@dataclass(frozen=True)
class Colours:
    """How cells become colours.

    Attributes:
        low: value of the lowest colour: dB, 1 or a coefficient.
        high: value of the highest.
        reference: power that is 0 dB, or 1.
        silent: nothing is above the floor: all is drawn in the lowest colour.
    """

    low: float
    high: float
    reference: float = 1.0
    silent: bool = False


def prepared(samples: np.ndarray, rate_hz: int, recipe: "Recipe") -> np.ndarray:
    """Bring a clip to the recipe's length and sample format.

    Args:
        samples: (samples,) float32 mono, 1 = full scale, at least one.
        rate_hz: their rate, Hz.
        recipe: `duration`, `seconds` and `sample_format`.

    Returns:
        (samples,) float32; for `int16` whole numbers up to 32767.
    """
    if recipe.seconds is not None:
        wanted = max(1, round(recipe.seconds * rate_hz))
        samples = samples[:wanted]
        if recipe.duration == "repeat":
            samples = np.resize(samples, wanted)
        elif recipe.duration == "pad":
            samples = np.pad(samples, (0, wanted - len(samples)))
    if recipe.sample_format == "int16":
        peak = np.abs(samples).max()
        samples = np.trunc(samples * (np.float32(32767) / peak)) if peak > 1e-30 else np.zeros_like(samples)
    return samples


def spectrum(samples: np.ndarray, rate_hz: int, recipe: "Recipe") -> Spectrum:
    """Transform a clip.

    Power spectra, mel bands and cepstra equal librosa's within 1e-3 dB; `scaling: density` is
    scipy.signal.spectrogram's. The constant-Q transform is librosa's own, imported when it is first asked for: it is
    rare and slow (seconds for the first clip of a process).

    Args:
        samples: (samples,) float32 mono, as `prepared` gives them.
        rate_hz: their rate, Hz.
        recipe: the transform and its parameters.

    Raises:
        VlmAudioError: where a frequency is above half the rate, or nothing is between f_min and f_max.
    """
    top = _top(rate_hz, recipe)
    if recipe.transform == "cqt":
        return _constant_q(samples, rate_hz, recipe, top)
    if not recipe.center and len(samples) < recipe.n_fft:
        samples = np.pad(samples, (0, recipe.n_fft - len(samples)))
    power = stft_power(
        samples, recipe.n_fft, recipe.hop_length, recipe.window, center=recipe.center, detrend=recipe.detrend
    )
    floor = FLOOR
    if recipe.scaling == "density":
        weights = window_weights(recipe.window, recipe.n_fft)
        per_hz = 1 / (rate_hz * float(np.square(weights).sum()))
        power = power * _one_sided(recipe.n_fft, per_hz)[:, None]
        floor *= per_hz
    start = 0 if recipe.center else recipe.n_fft / 2
    times = (np.arange(power.shape[1]) * recipe.hop_length + start) / rate_hz
    step = recipe.hop_length / rate_hz
    if recipe.transform == "stft":
        return Spectrum(power, np.arange(len(power)) * (rate_hz / recipe.n_fft), times, floor, step)
    bands = _filters(rate_hz, recipe.n_fft, recipe.n_mels, recipe.lowest_hz, top) @ power
    if recipe.transform == "mel":
        centres = mel_to_hz(np.linspace(hz_to_mel(recipe.lowest_hz), hz_to_mel(top), recipe.n_mels))
        return Spectrum(bands, centres, times, floor, step)
    coefficients = mfcc(power_to_db(bands, amin=floor), recipe.n_mfcc)
    return Spectrum(coefficients, np.arange(recipe.n_mfcc, dtype=np.float64), times, None, step)


def colours(heard: Spectrum, recipe: "Recipe") -> Colours:
    """Find the limits of the colours for a clip.

    Decibels reach from `range_db` below the reference to it; without a range, and for coefficients, from the smallest
    value above silence to the largest, rounded outward to whole tens, so that clips share frames.
    """
    cells = heard.cells
    if heard.floor is None:
        return Colours(*_tens(float(cells.min()), float(cells.max())))
    loudest = float(cells.max())
    silent = loudest <= heard.floor
    reference = max(loudest, heard.floor) if recipe.reference == "max" else float(recipe.reference)
    if recipe.amplitude != "db":
        return Colours(0.0, 1.0, reference, silent)
    if recipe.range_db is not None:
        return Colours(-recipe.range_db, 0.0, reference, silent)
    softest = heard.floor if silent else float(cells.min(where=cells > heard.floor, initial=np.inf))
    found = 10 * np.log10(np.array([softest, max(loudest, heard.floor)]) / reference)
    return Colours(*_tens(*found.tolist()), reference, silent)


def of_the_clip(recipe: "Recipe") -> bool:
    """Say whether `colours` takes the limits from the clip, so that a colorbar has numbers of its own for each."""
    return recipe.transform == "mfcc" or (recipe.amplitude == "db" and recipe.range_db is None)


def values(cells: np.ndarray, floor: float | None, shown: Colours, amplitude: str) -> np.ndarray:
    """Turn cells into what colours follow: dB below the reference, a share of it, its square root, or as they are.

    Args:
        cells: float32 of any shape, from `Spectrum.cells`.
        floor: `Spectrum.floor`.
        shown: from `colours`.
        amplitude: "db", "linear" or "power".

    Returns:
        float32, the shape of `cells`.
    """
    if floor is None:
        return cells
    if amplitude == "db":
        return power_to_db(cells, shown.reference, floor, None)
    share = cells / np.float32(shown.reference)
    return np.sqrt(share) if amplitude == "linear" else share


def _tens(low: float, high: float) -> tuple[float, float]:
    """Round limits outward to whole tens, ten apart at least."""
    down, up = 10.0 * np.floor(low / 10), 10.0 * np.ceil(high / 10)
    return float(down), float(max(up, down + 10))


def _top(rate_hz: int, recipe: "Recipe") -> float:
    top = rate_hz / 2 if recipe.f_max is None else recipe.f_max
    if not recipe.lowest_hz < top <= rate_hz / 2:
        raise VlmAudioError(
            f"f_min and f_max must lie between 0 and half the rate, {rate_hz / 2:g} Hz, got {recipe.lowest_hz:g} and "
            f"{top:g}; correct them or give a rate"
        )
    return top


@lru_cache(maxsize=16)
def _one_sided(n_fft: int, per_hz: float) -> np.ndarray:
    """Give the factors from |X|^2 to power a Hz: bins that stand for two frequencies count twice."""
    factors = np.full(n_fft // 2 + 1, 2 * per_hz, np.float32)
    factors[0] = per_hz
    if n_fft % 2 == 0:
        factors[-1] = per_hz
    return factors


@lru_cache(maxsize=16)
def _filters(rate_hz: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Any:
    """Give the mel filters as a sparse array: faster, and one order of summation whatever the threads of BLAS."""
    from scipy.sparse import csr_array

    return csr_array(mel_filterbank(rate_hz, n_fft, n_mels, f_min, f_max))


def _constant_q(samples: np.ndarray, rate_hz: int, recipe: "Recipe", top: float) -> Spectrum:
    import warnings

    import librosa

    f_min = max(recipe.lowest_hz, 1.0)
    # the filter of the highest bin must end below half the rate
    reach = min(top, rate_hz / 2 / 2 ** (1 / recipe.bins_per_octave))
    n_bins = int(np.floor(recipe.bins_per_octave * np.log2(reach / f_min)))
    if n_bins < 2:
        raise VlmAudioError(f"f_min and f_max must be two bins apart for cqt, got {f_min:g} and {top:g} Hz; widen them")
    octaves = -(-n_bins // recipe.bins_per_octave)
    hop = max(1, recipe.hop_length >> max(0, octaves - 1)) << max(0, octaves - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a clip shorter than the longest filter: padded with zeros
        bins = librosa.cqt(
            samples, sr=rate_hz, hop_length=hop, fmin=f_min, n_bins=n_bins, bins_per_octave=recipe.bins_per_octave
        )
    power = np.square(np.abs(bins)).astype(np.float32)
    frequencies = f_min * 2.0 ** (np.arange(n_bins) / recipe.bins_per_octave)
    return Spectrum(power, frequencies, np.arange(power.shape[1]) * (hop / rate_hz), FLOOR, hop / rate_hz)
