"""librosa is the reference: every function is compared with it on synthetic signals, random signals and, if available, real clips."""

import os
import warnings
from pathlib import Path

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.renderings.time_frequency import (
    delta,
    hz_to_mel,
    mel_filterbank,
    mel_to_hz,
    mfcc,
    pcen,
    power_to_db,
    stft_power,
    zero_crossing_rate,
)

pytestmark = pytest.mark.usefixtures("imported_librosa")
RATE = 22050
TIME = np.arange(3 * RATE) / RATE
SIGNALS = {
    "noise": np.random.default_rng(0).standard_normal(3 * RATE) * 0.1,
    "tone": np.sin(2 * np.pi * 440 * TIME),
    "sweep": np.sin(2 * np.pi * (100 * TIME + 1500 * TIME**2)),
    "constant": np.ones(3 * RATE),
    "click": np.eye(1, 3 * RATE, 5000)[0],
    "clipped": np.clip(5 * np.sin(2 * np.pi * 997 * TIME), -1, 1),
    "silence": np.zeros(3 * RATE),
    "odd length": np.random.default_rng(1).standard_normal(12345),
}


def real_clips():
    folder = os.environ.get("ESC10_DIR")
    return [] if folder is None else sorted(Path(folder).glob("*/*-A.ogg"))[::40]


def check(samples, rate, n_fft=2048, hop=512, n_mels=64):
    samples = samples.astype(np.float32)
    power = stft_power(samples, n_fft, hop)
    expected = np.abs(librosa.stft(samples, n_fft=n_fft, hop_length=hop)) ** 2
    assert power.dtype == np.float32 and power.shape == expected.shape
    mel = mel_filterbank(rate, n_fft, n_mels) @ power
    expected_mel = librosa.feature.melspectrogram(S=expected, sr=rate, n_mels=n_mels)
    for computed, reference in ((power, expected), (mel, expected_mel)):
        for top_db in (80.0, None):
            db = power_to_db(computed, top_db=top_db)
            assert db.dtype == np.float32
            np.testing.assert_allclose(db, librosa.power_to_db(reference, top_db=top_db), atol=1e-3, rtol=0)
    mel_db = power_to_db(mel)
    np.testing.assert_allclose(mfcc(mel_db, 20), librosa.feature.mfcc(S=mel_db, n_mfcc=20), atol=1e-3)
    np.testing.assert_allclose(delta(mel_db), librosa.feature.delta(mel_db), atol=1e-3)
    crossings = librosa.feature.zero_crossing_rate(samples, frame_length=n_fft, hop_length=hop)[0]
    np.testing.assert_allclose(zero_crossing_rate(samples, n_fft, hop), crossings, atol=1e-7)


@pytest.mark.parametrize("name", SIGNALS)
def test_equal_to_librosa(name):
    check(SIGNALS[name], RATE)


def test_equal_to_librosa_on_real_clips():
    files = real_clips()
    if not files:
        pytest.skip("ESC10_DIR must name a folder with the ESC-10 recordings")
    for file in files:
        samples, rate = librosa.load(file, sr=None)
        check(samples, rate)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    length=st.integers(1200, 5000),
    n_fft=st.sampled_from([256, 400, 512, 1024]),
    hop=st.integers(20, 400),
    window=st.sampled_from(["hann", "hamming", "blackman"]),
    center=st.booleans(),
)
def test_power_equals_librosa_for_any_framing(seed, length, n_fft, hop, window, center):
    samples = np.random.default_rng(seed).standard_normal(length).astype(np.float32)
    computed = power_to_db(stft_power(samples, n_fft, hop, window, center), top_db=None)
    expected = librosa.stft(samples, n_fft=n_fft, hop_length=hop, window=window, center=center)
    np.testing.assert_allclose(computed, librosa.power_to_db(np.abs(expected) ** 2, top_db=None), atol=1e-3, rtol=0)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    length=st.integers(1, 3000),
    frame=st.sampled_from([2, 64, 512]),
    hop=st.integers(1, 300),
    level=st.sampled_from([0.0, 1e-11, 1e-10, 0.5]),
)
def test_zero_crossings_equal_librosa(seed, length, frame, hop, level):
    samples = np.random.default_rng(seed).choice(np.array([-1, 0, 1]) * level, length).astype(np.float32)
    expected = librosa.feature.zero_crossing_rate(samples, frame_length=frame, hop_length=hop)[0]
    np.testing.assert_allclose(zero_crossing_rate(samples, frame, hop), expected, atol=1e-7)


def test_parseval():
    # a rectangular window of the whole signal: sum |X|^2 over all n_fft bins = n_fft * sum x^2; with x = +-1 that is
    # n_fft^2 = 4096 for n_fft = 64; bins 0 and 32 occur once, the others twice
    samples = np.random.default_rng(0).choice([-1.0, 1.0], 64).astype(np.float32)
    power = stft_power(samples, 64, 64, "boxcar", center=False)[:, 0]
    assert power[0] + power[-1] + 2 * power[1:-1].sum() == pytest.approx(4096, rel=1e-5)


@pytest.mark.parametrize(
    ("rate", "n_fft", "n_mels", "f_min", "f_max"), [(22050, 2048, 128, 0, None), (16000, 400, 40, 50, 7000)]
)
def test_mel_filters_equal_librosa(rate, n_fft, n_mels, f_min, f_max):
    expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max)
    computed = mel_filterbank(rate, n_fft, n_mels, f_min, f_max)
    np.testing.assert_allclose(computed, expected, atol=1e-8)
    assert mel_filterbank(rate, n_fft, n_mels, f_min, f_max) is computed, "computed once"
    with pytest.raises(ValueError, match="read-only"):
        computed[0, 0] = 1


def test_mel_scale():
    # 1000 Hz is mel 15 by definition; 6400 Hz is one factor of 6.4, that is 27 mel, above
    np.testing.assert_allclose(hz_to_mel(np.array([0, 200, 1000, 6400])), [0, 3, 15, 42])
    np.testing.assert_allclose(mel_to_hz(np.array([0, 3, 15, 42])), [0, 200, 1000, 6400])


@pytest.mark.parametrize("length", [0, 1, 22, 511, 2047, 2048])
@pytest.mark.parametrize("level", [0.0, 1.0, 1e-30])
def test_short_and_silent_clips_are_finite_without_warnings(length, level):
    samples = np.full(length, level, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        power = stft_power(samples, 2048, 512)
        mel_db = power_to_db(mel_filterbank(RATE, 2048, 64) @ power)
        arrays = [mel_db, mfcc(mel_db, 20), delta(mel_db)]
        arrays += [zero_crossing_rate(samples, 2048, 512)] if length else []
    # 1 + samples // hop, by the definition of centred frames
    assert all(a.shape[-1] == 1 + length // 512 and np.isfinite(a).all() for a in arrays)


def test_decibels():
    # 10 log10(100 / 10) = 10; 10 log10(1e-10 / 10) = -110, limited to 80 dB below the maximum, 10 - 80 = -70
    np.testing.assert_allclose(power_to_db(np.array([100.0, 0.0]), ref=10), [10, -70], rtol=1e-6)
    np.testing.assert_allclose(power_to_db(np.array([100.0, 0.0]), ref=10, top_db=None), [10, -110], rtol=1e-6)


def test_delta_of_a_line_is_its_slope_and_too_few_frames_give_zeros():
    line = np.arange(20, dtype=np.float32)[None] * 3
    np.testing.assert_allclose(delta(line), np.full((1, 20), 3.0), rtol=1e-6)
    assert not delta(line[:, :8]).any() and delta(line[:, :8]).shape == (1, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stft_power(np.zeros((2, 10)), 4, 2), "one channel"),
        (lambda: stft_power(np.zeros(10), 0, 2), "n_fft must be 1 or more"),
        (lambda: stft_power(np.zeros(10), 16, 2, center=False), "fill one window of 16 samples, got 10"),
        (lambda: stft_power(np.zeros(10), 4, 2, window="hat"), "got 'hat'"),
        (lambda: mel_filterbank(8000, 256, 10, 5000), "0 <= f_min < f_max in Hz, got 5000 and 4000"),
        (lambda: power_to_db(np.ones(2), amin=0), "amin must be above 0"),
        (lambda: power_to_db(np.ones(2), top_db=-1), "top_db must be 0 dB or more"),
        (lambda: mfcc(np.zeros((10, 3)), 11), "between 1 and the 10 mel bands, got 11"),
        (lambda: delta(np.zeros((1, 20)), 4), "odd number of frames"),
        (lambda: zero_crossing_rate(np.zeros(0), 4, 2), "at least one sample"),
    ],
)
def test_invalid_parameters_are_refused(call, message):
    with pytest.raises(VlmAudioError, match=message):
        call()


def librosa_pcen(magnitudes, rate=RATE, hop_length=512, time_constant=0.4, **options):
    """Call librosa with the first frame as the level before the clip; its own default is a level of 1."""
    frames = time_constant * rate / hop_length
    b = (np.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)  # as in librosa.pcen
    before = (1 - b) * magnitudes[:, :1]
    return librosa.pcen(magnitudes, sr=rate, hop_length=hop_length, time_constant=time_constant, zi=before, **options)


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize(
    "changed", [{}, {"gain": 0.8, "bias": 10.0, "power": 0.25, "time_constant_s": 0.06}], ids=["defaults", "short"]
)
def test_pcen_equals_librosa(name, changed):
    samples = SIGNALS[name].astype(np.float32)
    magnitudes = librosa.feature.melspectrogram(y=samples, sr=RATE, n_mels=40, power=1) * 2**31
    options = {{"time_constant_s": "time_constant"}.get(key, key): value for key, value in changed.items()}
    expected = librosa_pcen(magnitudes, **options)
    actual = pcen(magnitudes, RATE / 512, **changed)
    assert actual.dtype == np.float32 and np.allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_pcen_removes_a_steady_level_and_keeps_onsets():
    steady = np.full((2, 400), 1e6)
    steady[1, 200:] = 1e8
    normalised = pcen(steady, 43.0)
    # gain 0.98: a steady band tends to (E^0.02 + 2)^0.5 - 2^0.5, which hardly depends on its level
    assert np.allclose(normalised[0], np.sqrt(1e6**0.02 + 2) - np.sqrt(2), rtol=1e-4)
    assert normalised[1, 200] > 5 * normalised[1, 199] and normalised[1, 399] < 1.1 * normalised[1, 199]
