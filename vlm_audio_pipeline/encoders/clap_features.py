"""The log-mel spectrogram of CLAP's feature extractor, computed in blocks instead of frame by frame.

The extractor loops over frames in Python, which takes longer than the model on a GPU and blocks other threads. The extractor
still repeats, pads, crops and stacks the audio.
"""

from typing import Any

import numpy as np

from vlm_audio_pipeline.renderings.time_frequency import stft_power

FLOOR = 1e-10
"""Smallest power, -100 dB (`transformers.audio_utils.power_to_db`)."""


def vectorise_log_mel(extractor: Any) -> Any:
    """Replace the spectrogram of a ClapFeatureExtractor by a vectorised one, equal within 1e-3 dB.

    Args:
        extractor: the extractor of transformers; modified in place.

    Returns:
        The same extractor.
    """
    length, hop = extractor.fft_window_size, extractor.hop_length

    def log_mel(waveform: np.ndarray, mel_filters: np.ndarray) -> np.ndarray:
        """Convert (samples,) to (frames, mel bands) float32, dB re power 1; frames are centred, the ends reflected."""
        power = stft_power(np.pad(waveform, length // 2, mode="reflect"), length, hop, center=False)
        mel = mel_filters.T.astype(np.float32) @ power
        decibels: np.ndarray = 10 * np.log10(np.maximum(mel, np.float32(FLOOR)))
        return decibels.T

    extractor._np_extract_fbank_features = log_mel
    return extractor
