import warnings

import librosa
import numpy as np
import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.encoders.base import ENCODERS
from vlm_audio_pipeline.encoders.features import Features

pytestmark = pytest.mark.usefixtures("imported_librosa")


def chirp_with_noise() -> np.ndarray:
    """Two seconds at 22,050 Hz, the same on every machine."""
    t = np.arange(2 * 22050) / 22050
    noise = (np.arange(len(t)) * 2654435761 % 2**32) / 2**32 - 0.5  # Knuth's multiplicative hash
    return (0.5 * np.sin(2 * np.pi * (200 * t + 700 * t**2)) + 0.05 * noise).astype(np.float32)


def oracle(samples, rate=22050):
    mel = librosa.feature.melspectrogram(y=samples, sr=rate, n_fft=2048, hop_length=512, n_mels=64)
    logmel = librosa.power_to_db(mel)
    mfcc = librosa.feature.mfcc(S=logmel, n_mfcc=20)
    zcr = librosa.feature.zero_crossing_rate(samples, frame_length=2048, hop_length=512)
    delta = librosa.feature.delta(mfcc)
    parts = [mfcc.mean(1), mfcc.std(1), delta.std(1), zcr.mean(1), zcr.std(1), logmel.mean(1), logmel.std(1)]
    return np.concatenate(parts)


def test_golden_output_of_step_version_1():
    # Raise Features.step_version when these change: stored vectors would no longer be what the code gives.
    assert Features.step_version == 1
    vector = Features().vector(chirp_with_noise())
    assert vector.dtype == np.float32 and vector.shape == (190,)
    np.testing.assert_allclose(vector, oracle(chirp_with_noise()), atol=2e-3)
    golden = {
        0: -198.616,
        1: -15.877,
        19: -2.899,
        20: 15.205,
        39: 12.967,
        40: 2.738,
        59: 3.307,
        60: 0.143,
        61: 0.072,
        62: -37.683,
        80: -27.941,
        125: -19.726,
        126: 7.397,
        150: 16.399,
        189: 0.385,
    }
    assert {i: round(float(vector[i]), 3) for i in golden} == pytest.approx(golden, abs=2e-3)


def test_dimensions_follow_the_named_order():
    """By default: mfcc 2 x 20, delta 20 (only standard deviations), zero-crossing rate 2, logmel 2 x 64; in all 190."""
    samples = chirp_with_noise()
    mfcc, delta, zero_crossing_rate, logmel = np.split(Features().vector(samples), [40, 60, 62])
    part = Features(features=("logmel", "zero_crossing_rate", "mfcc")).vector(samples)
    np.testing.assert_array_equal(part, np.concatenate([logmel, zero_crossing_rate, mfcc]))
    np.testing.assert_array_equal(Features(features=("delta",)).vector(samples), delta)


@pytest.mark.parametrize("samples", [np.zeros(22050), np.zeros(22), np.ones(22), np.ones(1), np.tile([1, -1], 9999)])
def test_unusual_clips_give_finite_vectors_without_warnings(samples):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [vector] = Features().load()([samples.astype(np.float32)])
    assert vector.shape == (190,) and np.isfinite(vector).all()


def test_defaults_do_not_change_the_fingerprint_and_parameters_do():
    assert Features(rate=22050, batch_size=3).fingerprint() == Features().fingerprint()
    assert Features(n_mfcc=13).fingerprint() != Features().fingerprint()
    assert Features(rate=16000).sample_rate_hz == 16000


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"features": ()}, "at least 1 item"),
        ({"features": ("mfcc", "mfcc")}, r"each value must occur only once, got \['mfcc', 'mfcc'\]"),
        ({"features": ("chroma",)}, "'mfcc', 'delta', 'zero_crossing_rate' or 'logmel'"),
        ({"n_mfcc": 65}, "at most n_mels = 64, got 65"),
    ],
)
def test_invalid_parameters_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        Features(**wrong)


def test_registered():
    assert ENCODERS.get("features") is Features
