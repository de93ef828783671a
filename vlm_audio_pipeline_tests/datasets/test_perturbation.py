"""Changes of the audio: their power is measured, they are seeded, and nothing else of a clip changes."""

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.datasets.base import Clip, Dataset
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.datasets.perturbation import Perturb
from vlm_audio_pipeline_tests.datasets.clip_rows import typed_row

RATE = 8000


def sine(hz=440.0, seconds=0.5, rate=RATE, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def power_db(samples):
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))


def changes(**values):
    return Perturb(**values).perturbations


@pytest.fixture
def noise_file(tmp_path):
    """A tenth of a second of noise at twice the rate of the clips: it is resampled and repeated."""
    path = tmp_path / "Heavy rain.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(1).standard_normal(1600), 2 * RATE)
    return path


@pytest.mark.parametrize("source", ["white", "file"])
@pytest.mark.parametrize("snr_db", [20, 0, -12.5])
def test_the_signal_to_noise_ratio_is_that_of_the_mean_powers(source, snr_db, noise_file):
    (change,) = changes(noise="white" if source == "white" else noise_file, snr_db=[snr_db])
    clip = sine()
    noisy = change.apply(clip, RATE, "00")
    assert noisy.dtype == np.float32 and noisy.shape == clip.shape
    assert power_db(clip) - power_db(noisy.astype(np.float64) - clip) == pytest.approx(snr_db, abs=1e-3)


def test_the_noise_of_a_clip_is_the_same_at_every_ratio_and_seeded_by_its_content():
    clip = sine().astype(np.float64)
    loud, soft = (change.apply(sine(), RATE, "00") - clip for change in changes(noise="white", snr_db=[0, 20]))
    assert np.allclose(loud, 10 * soft, atol=1e-5)  # 20 dB: a tenth of the amplitude
    (other_seed,) = changes(noise="white", snr_db=[0], seed=1)
    other_clip = changes(noise="white", snr_db=[0])[0].apply(sine(), RATE, "01") - clip
    for other in (other_seed.apply(sine(), RATE, "00") - clip, other_clip):
        assert abs(np.corrcoef(loud, other)[0, 1]) < 0.1


def test_noise_of_a_file_is_a_part_of_it(tmp_path):
    ramp = np.linspace(0.1, 0.9, 3 * RATE, dtype=np.float32)
    soundfile.write(tmp_path / "ramp.wav", ramp, RATE, subtype="FLOAT")
    (change,) = changes(noise=tmp_path / "ramp.wav", snr_db=[0])
    clip = sine()
    noise = change.apply(clip, RATE, "00") - clip.astype(np.float64)
    steps = np.diff(noise)
    assert np.allclose(steps, steps.mean(), atol=1e-6) and steps.mean() > 0  # one stretch of the ramp, not the seam
    starts = {round(float((change.apply(clip, RATE, sha) - clip)[0]), 4) for sha in ("00", "01", "02")}
    assert len(starts) == 3


def test_gain_and_low_pass_have_the_levels_of_their_formulas():
    quiet, low_passed = changes(gain_db=[-20], low_pass_hz=[1000])
    assert np.allclose(quiet.apply(sine(), RATE, "00"), 0.1 * sine(), atol=1e-8)

    def loss_db(hz):
        tone = sine(hz, seconds=1, rate=48000)
        return power_db(tone[24000:]) - power_db(low_passed.apply(tone, 48000, "00")[24000:])

    # Butterworth of order 8 by the bilinear transform: 10 log10(1 + (tan(pi f / rate) / tan(pi 1000 / rate))^16)
    assert loss_db(500) == pytest.approx(0.0, abs=0.01)
    assert loss_db(1000) == pytest.approx(3.01, abs=0.01)  # 10 log10(2)
    assert loss_db(2000) == pytest.approx(48.46, abs=0.05)  # the ratio of the tangents is 2.00864
    assert low_passed.apply(sine(rate=2000), 2000, "00").tolist() == sine(rate=2000).tolist()


def test_silence_stays_silence():
    (change,) = changes(noise="white", snr_db=[0])
    assert not change.apply(np.zeros(100, np.float32), RATE, "00").any()


def test_conditions_have_distinct_names(noise_file):
    perturb = Perturb(noise=noise_file, snr_db=[20, 2.5, 0, -5], gain_db=[-20], low_pass_hz=[4000])
    assert [change.name for change in perturb.perturbations] == [
        "heavy_rain_noise_20db",
        "heavy_rain_noise_2_5db",
        "heavy_rain_noise_0db",
        "heavy_rain_noise_minus_5db",
        "gain_minus_20db",
        "low_pass_4000hz",
    ]
    assert changes(noise="white", snr_db=[20])[0].name == "white_noise_20db"


def test_the_content_of_the_noise_counts_not_its_path(noise_file, tmp_path):
    (change,) = changes(noise=noise_file, snr_db=[0])
    moved = noise_file.rename(tmp_path / "heavy rain 2.wav")
    (renamed,) = changes(noise=moved, snr_db=[0])
    assert renamed.content_sha256("00") == change.content_sha256("00") != change.content_sha256("01")
    soundfile.write(moved, np.full(100, 0.5), RATE)
    (other,) = changes(noise=moved, snr_db=[0])
    assert other.content_sha256("00") != change.content_sha256("00")
    with pytest.raises(VlmAudioError, match=r"heavy rain 2.wav changed while the study was running"):
        renamed.apply(sine(), RATE, "00")


def test_missing_and_silent_noise_is_refused(tmp_path):
    (missing,) = changes(noise=tmp_path / "none.wav", snr_db=[0])
    assert missing.unavailable() == f"the noise {tmp_path / 'none.wav'} is missing"
    with pytest.raises(NotAvailable, match=r"none.wav is missing; put it there"):
        missing.apply(sine(), RATE, "00")
    soundfile.write(tmp_path / "silent.wav", np.zeros(100), RATE)
    (silent,) = changes(noise=tmp_path / "silent.wav", snr_db=[0])
    assert silent.unavailable() is None
    with pytest.raises(VlmAudioError, match=r"must not be silent, got .*silent.wav with 0.5 s of digital silence"):
        silent.apply(sine(), RATE, "00")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"noise": "white"}, "noise and snr_db belong together, got no snr_db"),
        ({"snr_db": [10]}, "noise and snr_db belong together, got no noise"),
        ({"noise": "white", "snr_db": [10, 10.0]}, "each value must occur only once"),
        ({"gain_db": [1000]}, "less than or equal to 60"),
        ({"low_pass_hz": [0]}, "greater than or equal to 1"),
    ],
)
def test_values_without_meaning_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        Perturb(**values)


def test_a_dataset_changes_the_samples_before_they_are_resampled(tmp_path):
    soundfile.write(tmp_path / "a.wav", sine(), RATE, subtype="FLOAT")
    dataset = Dataset(tmp_path, ("x",), (Clip("a", "x", 1, "a", "a.wav"),), DatasetCard("t"))
    row = typed_row(dataset, dataset.clips[0])
    (change,) = changes(noise="white", snr_db=[0])
    changed = dataset.perturb(change)
    assert changed.samples(row, RATE).tolist() == change.apply(sine(), RATE, row.samples_sha256).tolist()
    assert len(changed.samples(row, 16000)) == 8000
    assert changed.recordings.content_sha256(row) == change.content_sha256(row.samples_sha256)
    assert dataset.samples(row, RATE).tolist() == sine().tolist()
    assert dataset.recordings.content_sha256(row) == row.samples_sha256
    assert dataset.recordings.files(row) == (tmp_path / "a.wav",)
