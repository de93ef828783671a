"""Compute time-frequency arrays of a waveform in numpy and scipy, equal to librosa's within 1e-3 dB.

Belongs here: short-time spectra, mel bands, decibels, cepstra, deltas and zero crossings of one clip, each from its
published definition. Does not belong here: colours and pixels, and the vectors that encoders compute from these arrays.

librosa is the reference in the tests and is not imported here: its first call in a process takes seconds (numba). All
functions are pure and thread-safe. They return finite values without warnings for silence, constant or clipped signals
and clips shorter than a window. Arrays are float32 with frequency (or coefficient) first and frames second.
"""

from functools import lru_cache

import numpy as np

from vlm_audio_pipeline.contracts.errors import VlmAudioError

_BLOCK = 16  # frames per FFT call, so that window, samples and spectrum stay in the CPU cache


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise VlmAudioError(f"{name} must be 1 or more samples, got {value}; correct it")


@lru_cache(maxsize=16)
def window_weights(name: str, length: int) -> np.ndarray:
    """Return a periodic window.

    Args:
        name: name for `scipy.signal.get_window`; a window with a parameter is written as `tukey:0.25`.
        length: samples.

    Returns:
        (length,) float64, read-only and shared between calls.

    Raises:
        VlmAudioError: for a name that scipy does not have.
    """
    from scipy.signal import get_window

    kind, _, parameter = name.partition(":")
    try:
        window: np.ndarray = get_window((kind, float(parameter)) if parameter else kind, length, fftbins=True)
    except (ValueError, TypeError) as error:
        raise VlmAudioError(
            f"window must be a name that scipy.signal.get_window accepts, got '{name}'; use 'hann'"
        ) from error
    window.setflags(write=False)
    return window


def stft_power(
    samples: np.ndarray,
    n_fft: int,
    hop_length: int,
    window: str = "hann",
    center: bool = True,
    detrend: bool = False,
) -> np.ndarray:
    """Return the power of the short-time Fourier transform, |X[k, t]|^2.

    X[k, t] = sum_n w[n] x[t * hop + n] exp(-2 pi i k n / n_fft) with a periodic window w (Oppenheim & Schafer,
    Discrete-Time Signal Processing, section 10.3; the conventions of `librosa.stft` with `pad_mode="constant"`).
    The transform is computed in float64 as librosa does: in float32, rounding errors of a loud partial would exceed
    the power of bins 80 dB below it.

    Args:
        samples: (samples,) float, 1 = full scale.
        n_fft: window and transform length, samples.
        hop_length: step between frames, samples.
        window: name for `window_weights`.
        center: pad with n_fft // 2 zeros on both sides, so that frame t is centred on sample t * hop_length.
        detrend: subtract its mean from each frame, before the window.

    Returns:
        (n_fft // 2 + 1, frames) float32; frames = 1 + samples // hop_length if centred and n_fft is even.

    Raises:
        VlmAudioError: for lengths below 1, more than one channel, or fewer than n_fft samples that are not centred.

    >>> stft_power(np.zeros(1000, np.float32), n_fft=256, hop_length=100).shape
    (129, 11)
    """
    from scipy.fft import rfft

    _check_positive(n_fft=n_fft, hop_length=hop_length)
    if samples.ndim != 1:
        raise VlmAudioError(f"samples must be one channel of shape (samples,), got shape {samples.shape}; mix it down")
    padded = np.pad(samples, n_fft // 2) if center else samples
    if len(padded) < n_fft:
        raise VlmAudioError(
            f"samples must fill one window of {n_fft} samples, got {len(padded)}; pad them or use center=True"
        )
    weights = window_weights(window, n_fft)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    power = np.empty((len(frames), n_fft // 2 + 1), np.float32)
    weighted = np.empty((_BLOCK, n_fft))
    for start in range(0, len(frames), _BLOCK):
        block = frames[start : start + _BLOCK]
        if detrend:
            block = block - block.mean(axis=1, keepdims=True, dtype=np.float64)
        windowed = np.multiply(block, weights, out=weighted[: len(block)])
        pairs = rfft(windowed, axis=1, overwrite_x=True).view(np.float64)  # real and imaginary parts alternate
        np.multiply(pairs, pairs, out=pairs)
        np.add(pairs[:, ::2], pairs[:, 1::2], out=power[start : start + _BLOCK], casting="same_kind")
    return power.T


def hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    """Convert frequencies, Hz, to Slaney mel: linear below 1 kHz (200/3 Hz per mel), 27 mel per factor of 6.4 above.

    M. Slaney, Auditory Toolbox v2, Interval Research Technical Report 1998-010.

    Returns:
        float64, the shape of `hz`.
    """
    hz = np.asarray(hz, np.float64)
    return np.where(hz < 1000.0, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1000.0) / 1000.0) / np.log(6.4))


def mel_to_hz(mel: np.ndarray | float) -> np.ndarray:
    """Convert Slaney mel to frequencies, Hz: the inverse of `hz_to_mel`; float64, the shape of `mel`."""
    mel = np.asarray(mel, np.float64)
    return np.where(mel < 15, mel * 200 / 3, 1000.0 * np.exp(np.log(6.4) / 27 * (np.maximum(mel, 15) - 15)))


@lru_cache(maxsize=32)
def mel_filterbank(
    sample_rate_hz: int, n_fft: int, n_mels: int, f_min: float = 0.0, f_max: float | None = None
) -> np.ndarray:
    """Return triangular filters, equally spaced on the Slaney mel scale, each of area 1 over Hz.

    M. Slaney, Auditory Toolbox v2 (1998), as `librosa.filters.mel` with its defaults. A band that is narrower than the
    spacing of the bins may be empty; its power is then 0.

    Args:
        sample_rate_hz: sample rate, Hz.
        n_fft: transform length, samples.
        n_mels: number of bands.
        f_min: lower edge of the lowest band, Hz.
        f_max: upper edge of the highest band, Hz; None: half the sample rate.

    Returns:
        (n_mels, n_fft // 2 + 1) float32, read-only and shared between calls; apply as `filters @ power`.

    Raises:
        VlmAudioError: unless 0 <= f_min < f_max, and for counts below 1.
    """
    _check_positive(sample_rate_hz=sample_rate_hz, n_fft=n_fft, n_mels=n_mels)
    top = sample_rate_hz / 2 if f_max is None else f_max
    if not 0 <= f_min < top:
        raise VlmAudioError(
            f"f_min and f_max must satisfy 0 <= f_min < f_max in Hz, got {f_min} and {top}; correct them"
        )
    edges_hz = mel_to_hz(np.linspace(hz_to_mel(f_min), hz_to_mel(top), n_mels + 2))
    bins_hz = np.arange(n_fft // 2 + 1) * (sample_rate_hz / n_fft)
    width = np.diff(edges_hz)[:, None]
    rising = (bins_hz - edges_hz[:-2, None]) / width[:-1]
    falling = (edges_hz[2:, None] - bins_hz) / width[1:]
    area = 2.0 / (edges_hz[2:] - edges_hz[:-2])
    filters: np.ndarray = (np.maximum(0, np.minimum(rising, falling)) * area[:, None]).astype(np.float32)
    filters.setflags(write=False)
    return filters


def power_to_db(power: np.ndarray, ref: float = 1.0, amin: float = 1e-10, top_db: float | None = 80.0) -> np.ndarray:
    """Convert power to decibels: 10 log10(max(power, amin) / max(ref, amin)), at least the maximum minus `top_db`.

    The definition of `librosa.power_to_db`.

    Args:
        power: float of any shape, not negative.
        ref: power that is 0 dB.
        amin: floor of the power, above 0, so that silence is 10 log10(amin / ref) and not minus infinity.
        top_db: range below the maximum, dB; None for no limit.

    Returns:
        float32, dB, the shape of `power`.

    Raises:
        VlmAudioError: for amin not above 0 or top_db below 0.
    """
    if amin <= 0:
        raise VlmAudioError(f"amin must be above 0, got {amin}; use 1e-10")
    if top_db is not None and top_db < 0:
        raise VlmAudioError(f"top_db must be 0 dB or more, got {top_db}; use 80 or None")
    db: np.ndarray = np.maximum(power, amin, dtype=np.float32)
    np.log(db, out=db)  # in numpy several times as fast as log10, and as exact
    db *= np.float32(10 / np.log(10))
    db -= np.float32(10 * np.log10(max(amin, abs(ref))))
    if top_db is not None and db.size:
        np.maximum(db, db.max() - np.float32(top_db), out=db)
    return db


def mfcc(mel_db: np.ndarray, n_mfcc: int) -> np.ndarray:
    """Return mel-frequency cepstral coefficients: the first of an orthonormal DCT-II over the bands of each frame.

    Davis & Mermelstein, IEEE Trans. ASSP 28(4), 1980; as `librosa.feature.mfcc(S=mel_db)`.

    Args:
        mel_db: (n_mels, frames) float32, dB.
        n_mfcc: number of coefficients, at most n_mels.

    Returns:
        (n_mfcc, frames) float32.

    Raises:
        VlmAudioError: for more coefficients than bands.
    """
    from scipy.fft import dct

    if not 1 <= n_mfcc <= len(mel_db):
        raise VlmAudioError(f"n_mfcc must be between 1 and the {len(mel_db)} mel bands, got {n_mfcc}; lower it")
    coefficients: np.ndarray = dct(mel_db, axis=0, type=2, norm="ortho")
    return coefficients[:n_mfcc]


def pcen(
    magnitudes: np.ndarray,
    frames_per_s: float,
    *,
    gain: float = 0.98,
    bias: float = 2.0,
    power: float = 0.5,
    time_constant_s: float = 0.4,
    eps: float = 1e-6,
) -> np.ndarray:
    """Return per-channel energy normalisation: each band relative to its own recent level.

    (E / (eps + M)^gain + bias)^power - bias^power, where M is E smoothed over time by M[t] = (1 - b) M[t - 1] + b E[t] (Y. Wang et al.,
    Trainable frontend for robust and far-field keyword spotting, ICASSP 2017, https://arxiv.org/abs/1607.05666, equations 1 and
    2). b follows from the time constant as in `librosa.pcen`, whose defaults these are; they are for magnitudes of samples on the scale
    of 32-bit integers. M begins with the first frame. librosa's default is a level of 1, with which the beginning of every clip
    looks like an onset. On the choice of the parameters: V. Lostanlen et al., Per-channel energy normalization: why and how, IEEE
    Signal Processing Letters 26(1), 2019.

    Args:
        magnitudes: (bands, frames) float, not negative.
        frames_per_s: frames per second.
        gain: exponent of the recent level; 1 removes it.
        bias: added before the compression.
        power: exponent of the compression, above 0.
        time_constant_s: time constant of the smoothing, s.
        eps: level that counts as silence, above 0.

    Returns:
        (bands, frames) float32, 0 or more.
    """
    from scipy.signal import lfilter, lfilter_zi

    frames = time_constant_s * frames_per_s
    b = (np.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)
    energy = magnitudes.astype(np.float64)
    start = lfilter_zi([b], [1, b - 1]) * energy[:, :1] if energy.size else np.zeros((len(energy), 1))
    smooth, _ = lfilter([b], [1, b - 1], energy, axis=1, zi=start)
    relative = energy * np.exp(-gain * (np.log(eps) + np.log1p(smooth / eps)))  # in logarithms, as stable as librosa
    normalised: np.ndarray = (bias**power * np.expm1(power * np.log1p(relative / bias))).astype(np.float32)
    return normalised


def delta(features: np.ndarray, width: int = 9) -> np.ndarray:
    """Return the first derivative over time: the slope of a least-squares line through `width` frames.

    Savitzky & Golay, Analytical Chemistry 36(8), 1964, order 1. The first and last width // 2 frames have the slope of
    the first and last `width` frames, as in `librosa.feature.delta`. With fewer frames than `width` the slope is not
    defined (librosa raises an error); the result is then 0.

    Args:
        features: (features, frames) float32.
        width: number of frames of the fit, odd, 3 or more.

    Returns:
        (features, frames) float32, in units of `features` per frame.

    Raises:
        VlmAudioError: for an even width or one below 3.
    """
    if width < 3 or width % 2 == 0:
        raise VlmAudioError(f"width must be an odd number of frames, 3 or more, got {width}; use 9")
    half = width // 2
    slopes = np.zeros_like(features, dtype=np.float32)
    if features.shape[1] < width:
        return slopes
    steps = np.arange(-half, half + 1) / np.sum(np.arange(-half, half + 1) ** 2)
    inner = np.lib.stride_tricks.sliding_window_view(features, width, axis=1) @ steps
    slopes[:, half:-half] = inner
    slopes[:, :half] = slopes[:, half : half + 1]
    slopes[:, -half:] = slopes[:, -half - 1 : -half]
    return slopes


def zero_crossing_rate(samples: np.ndarray, frame_length: int, hop_length: int) -> np.ndarray:
    """Return the share of the samples of each frame whose sign differs from that of the sample before.

    Kedem, Proc. IEEE 74(11), 1986; conventions of `librosa.feature.zero_crossing_rate`: frames are centred and the edge
    samples repeated, magnitudes up to 1e-10 count as positive, the first sample of a frame is never a crossing.

    Args:
        samples: (samples,) float, 1 = full scale.
        frame_length: length of a frame, samples.
        hop_length: step between frames, samples.

    Returns:
        (frames,) float32, 0 to 1.

    Raises:
        VlmAudioError: for lengths below 1 or no samples.
    """
    _check_positive(frame_length=frame_length, hop_length=hop_length)
    if not len(samples):
        raise VlmAudioError("samples must contain at least one sample, got none; leave this clip out")
    negative = np.pad(samples < -1e-10, frame_length // 2, mode="edge")
    # count[i] is the number of crossings at samples 1..i, so a frame has the difference of two counts
    count = np.concatenate([[0], np.cumsum(negative[1:] != negative[:-1])])
    starts = np.arange(0, len(negative) - frame_length + 1, hop_length)
    crossings: np.ndarray = count[starts + frame_length - 1] - count[starts]
    return (crossings / frame_length).astype(np.float32)
