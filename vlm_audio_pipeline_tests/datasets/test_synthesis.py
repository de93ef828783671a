import subprocess
import sys

import numpy as np
import pytest
from scipy import signal

from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.datasets.synthesis import SOUNDS, _decay_curve, _harmonics, _noise, _record, synthesise

RATE = 44100
N = 5 * RATE


def dry_sound(label, source=0, take=0):
    """Return the sound without reverberation and background noise."""
    return SOUNDS[label](np.random.default_rng([source]), np.random.default_rng([source, take]), N, RATE)


def spectrum(x):
    """Return (frequencies in Hz, power) by Welch's method."""
    return signal.welch(x, RATE, nperseg=8192)


def share_below(x, hz):
    f, p = spectrum(x)
    return p[f < hz].sum() / p.sum()


def envelope(x, hop=441):
    """Return the RMS of windows of `hop` samples (10 ms by default)."""
    return np.sqrt(np.mean(x[: len(x) // hop * hop].reshape(-1, hop).astype(np.float64) ** 2, axis=1))


def periodicity(x, fastest_hz, slowest_hz, hop):
    """Return the strongest autocorrelation of the envelope between two rates, and the rate in Hz."""
    e = envelope(x, hop)
    e = e - e.mean()
    c = np.correlate(e, e, "full")[len(e) - 1 :]
    c = c / (c[0] * np.arange(len(e), 0, -1) / len(e))
    low, high = int(RATE / hop / fastest_hz), int(RATE / hop / slowest_hz) + 1
    best = low + int(np.argmax(c[low:high]))
    return c[best], RATE / hop / best


def test_there_is_a_sound_for_each_class_of_esc10():
    assert set(SOUNDS) == set(ESC10)


@pytest.mark.parametrize("label", SOUNDS)
def test_sounds_have_valid_samples_and_levels(label):
    for source in range(6):
        x = synthesise(label, 0, source, 0)
        assert x.dtype == np.float32
        assert x.shape == (N,)
        assert np.isfinite(x).all()
        # peak of -14 to -1 dBFS: 10^(-14/20) = 0.1995, 10^(-1/20) = 0.8913
        assert 0.199 < np.abs(x).max() < 0.892
        assert abs(x.mean()) < 0.01


@pytest.mark.parametrize("label", SOUNDS)
@pytest.mark.parametrize(("duration_s", "sample_rate_hz"), [(1.0, 8000), (1.234, 22050), (7.0, 16000)])
def test_other_durations_and_sample_rates_are_possible(label, duration_s, sample_rate_hz):
    x = synthesise(label, 3, 1, 1, duration_s=duration_s, sample_rate_hz=sample_rate_hz)
    assert x.shape == (round(duration_s * sample_rate_hz),)
    assert np.isfinite(x).all()
    assert np.abs(x).max() > 0.19


def test_another_process_synthesises_the_same_samples():
    code = (
        "from vlm_audio_pipeline.contracts.hashing import digest\n"
        "from vlm_audio_pipeline.datasets.synthesis import SOUNDS, synthesise\n"
        "for label in reversed(SOUNDS): print(label, digest(synthesise(label, 7, 3, 1, duration_s=1).tobytes()))\n"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    digests = dict(line.split() for line in output.splitlines())
    assert digests == {label: digest(synthesise(label, 7, 3, 1, duration_s=1).tobytes()) for label in SOUNDS}


@pytest.mark.parametrize("label", SOUNDS)
def test_seed_source_and_take_each_change_the_sound(label):
    sounds = [
        synthesise(label, *seeds, duration_s=1).tobytes() for seeds in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    assert len(set(sounds)) == 4


@pytest.mark.slow
def test_takes_are_more_similar_than_other_sources():
    def timbre(label, source, take):
        _, p = spectrum(synthesise(label, 0, source, take))
        bands = np.log10(p[1:4097].reshape(64, 64).mean(axis=1))
        return bands - bands.mean()

    for label in SOUNDS:
        a = np.array([timbre(label, s, 0) for s in range(8)])
        b = np.array([timbre(label, s, 1) for s in range(8)])
        distance = np.linalg.norm(a[:, None] - b[None], axis=-1)
        same_source, other_sources = np.diag(distance).mean(), distance[~np.eye(8, dtype=bool)].mean()
        assert same_source < 0.6 * other_sources, label


# The acoustic properties of each class


@pytest.mark.parametrize("source", range(4))
def test_clock_ticks_are_periodic(source):
    # periods of 0.2 to 1 s, 6 % either way; a tick and the tock after it differ, so twice the period may be the best
    strength, _ = periodicity(dry_sound("clock_tick", source), 5.4, 0.45, hop=441)
    assert strength > 0.6
    assert np.median(envelope(dry_sound("clock_tick", source))) < 0.05 * envelope(dry_sound("clock_tick", source)).max()


@pytest.mark.parametrize("source", range(4))
def test_helicopters_have_low_frequencies_and_a_periodic_envelope(source):
    x = dry_sound("helicopter", source)
    assert share_below(x, 2000) > 0.8
    strength, rate = periodicity(x, 25, 8, hop=147)
    assert strength > 0.2
    assert 8 < rate < 25


@pytest.mark.parametrize("source", range(4))
def test_rain_is_flat_in_time_and_frequency(source):
    x = dry_sound("rain", source)
    e = envelope(x, 4410)
    assert e.std() / e.mean() < 0.25
    f, p = spectrum(x)
    p = p[(f > 1000) & (f < 8000)]
    assert np.exp(np.log(p).mean()) / p.mean() > 0.4  # spectral flatness: 1 for white noise, below 0.1 for a voice


@pytest.mark.parametrize("source", range(4))
def test_sea_waves_swell_within_seconds(source):
    e = envelope(dry_sound("sea_waves", source), 4410)
    assert np.percentile(e, 90) / np.percentile(e, 10) > 1.7
    # smooth: a tenth of a second changes little, against fire or barks
    assert np.abs(np.diff(e)).mean() < 0.25 * e.mean()


@pytest.mark.parametrize("source", range(4))
def test_fire_is_sparse_and_irregular(source):
    x = dry_sound("crackling_fire", source)
    kurtosis = np.mean(x**4) / np.mean(x**2) ** 2  # 3 for Gaussian noise
    assert kurtosis > 15


@pytest.mark.parametrize("label", ["dog", "rooster", "crying_baby"])
@pytest.mark.parametrize("source", range(3))
def test_voices_are_harmonic(label, source):
    x = dry_sound(label, source)
    loud = int(np.argmax(envelope(x, 2205))) * 2205
    frame = x[loud : loud + 2205] * np.hanning(2205)
    c = np.correlate(frame, frame, "full")[2204:]
    # pitches of 130 to 1300 Hz; noise stays below 0.3 there
    assert c[RATE // 1300 : RATE // 130].max() / c[0] > 0.45


@pytest.mark.parametrize("source", range(4))
def test_a_sneeze_is_one_or_two_bursts(source):
    e = envelope(dry_sound("sneezing", source), 4410)
    assert np.sum(e**2 > 0.1 * e.max() ** 2) <= 14  # loud for at most 1.4 s of 5 s
    assert share_below(dry_sound("sneezing", source), 500) < 0.5


@pytest.mark.parametrize("source", range(4))
def test_chainsaws_are_harmonic_without_pauses(source):
    x = dry_sound("chainsaw", source)
    e = envelope(x, 4410)
    assert e.min() > 0.15 * e.max()
    buzz = []
    for start in range(0, N - 8820, 8820):
        frame = x[start : start + 8820] * np.hanning(8820)
        c = signal.correlate(frame, frame)[8819:]
        # an engine of 80 to 170 Hz, idling at 0.35 and revving up to 1.2 of that: 28 to 204 Hz
        buzz.append(c[int(RATE / 210) : int(RATE / 26)].max() / c[0])
    assert np.median(buzz) > 0.3


# The building blocks, against other libraries


@pytest.mark.parametrize("tilt", [0.0, 1.0, 2.0])
def test_noise_has_the_requested_spectral_slope(tilt):
    f, p = spectrum(_noise(np.random.default_rng(0), 10 * RATE, RATE, tilt=tilt, low_hz=1, high_hz=1e6))
    inside = (f > 100) & (f < 10000)
    slope = np.polyfit(np.log10(f[inside]), np.log10(p[inside]), 1)[0]
    assert slope == pytest.approx(-tilt, abs=0.05)


def test_noise_stays_in_its_band():
    f, p = spectrum(_noise(np.random.default_rng(0), 10 * RATE, RATE, low_hz=500, high_hz=2000))
    # power of second-order slopes, 1 / ((1 + (f/2000)^4) (1 + (500/f)^4)): at 1 kHz (16/17)^2 = 0.8858, at 2 kHz
    # 1/2 * 256/257 = 0.4981, at 8 kHz 1/257 = 0.003891; so -2.50 dB and -23.57 dB against 1 kHz
    middle = p[(f > 900) & (f < 1100)].mean()
    assert 10 * np.log10(p[(f > 1950) & (f < 2050)].mean() / middle) == pytest.approx(-2.5, abs=0.5)
    assert 10 * np.log10(p[(f > 7900) & (f < 8100)].mean() / middle) == pytest.approx(-23.57, abs=0.5)


def test_harmonics_are_sines_and_do_not_alias():
    f0, amplitudes = 441.0, [1.0, 0.5, 0.25]
    x = _harmonics(np.full(RATE, f0), amplitudes, RATE)
    line = np.abs(np.fft.rfft(x)) / (RATE / 2)  # 1 s: bin k is k Hz
    # amplitudes are scaled to a standard deviation of 1: sqrt((1 + 1/4 + 1/16) / 2) = 0.8101
    assert line[[441, 882, 1323]] == pytest.approx(np.array(amplitudes) / 0.8101, rel=1e-3)
    line[[441, 882, 1323]] = 0
    assert line.max() < 1e-4
    high = np.abs(np.fft.rfft(_harmonics(np.full(RATE, 9000.0), [1] * 10, RATE)))
    assert set(np.flatnonzero(high > 0.01 * high.max())) == {9000, 18000}  # 27 kHz lies above Nyquist


def test_a_strike_decays_to_1_e_in_its_decay_time():
    e = _decay_curve(RATE, RATE, 0.01, 0.1)
    assert e[441] == pytest.approx(1, abs=1e-3)
    assert e[441 + 4410] == pytest.approx(np.exp(-1), abs=1e-3)


def test_the_background_is_4_to_30_db_below_the_sound():
    # a clip that is silent in its second half, which then has only the background and the end of the reverberation
    burst = np.zeros(N, np.float32)
    burst[: N // 4] = np.random.default_rng(0).standard_normal(N // 4)
    levels_db = []
    for k in range(40):
        recorded = _record(burst, np.random.default_rng(k), np.random.default_rng(100 + k), RATE)
        noise = np.mean(recorded[N // 2 :] ** 2)
        levels_db.append(10 * np.log10((np.mean(recorded**2) - noise) / noise))
    assert 2.5 < min(levels_db) < 9
    assert 24 < max(levels_db) < 31.5
