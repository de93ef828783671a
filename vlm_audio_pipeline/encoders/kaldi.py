"""The log-mel filter bank of Kaldi, with the settings that BEATs was trained with."""

import warnings
from functools import lru_cache

import numpy as np

RATE = 16000  # Hz
FRAME = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
N_FFT = 512
BANDS = 128


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Return the natural logarithm of the mel energies, as `kaldi.fbank(num_mel_bins=128)` of torchaudio.

    Only whole frames are used. Each frame has its mean removed, is pre-emphasised with 0.97, and is weighted with Kaldi's "povey" window.

    Args:
        samples: (samples,) float32 at 16 kHz in the range of 16-bit integers, at least 400.

    Returns:
        (frames, 128) float32.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float32), FRAME)[::HOP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    previous_samples = np.concatenate(
        [frames[:, :1], frames[:, :-1]], axis=1
    )  # the first sample of a frame precedes itself
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / (FRAME - 1))) ** 0.85
    power = np.abs(np.fft.rfft((frames - np.float32(0.97) * previous_samples) * window, N_FFT)) ** 2
    energies: np.ndarray = np.log(np.maximum(power @ _filters(), np.finfo(np.float32).eps))
    return energies.astype(np.float32)


@lru_cache(maxsize=1)
def _filters() -> np.ndarray:
    """Return the mel filters, (257, 128)."""
    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the narrowest filters contain no frequency, in Kaldi, too
        filters: np.ndarray = mel_filter_bank(
            N_FFT // 2 + 1, BANDS, 20, RATE / 2, RATE, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True
        )
    return filters
