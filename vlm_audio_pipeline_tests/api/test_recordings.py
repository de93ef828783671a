"""Files and samples in memory."""

import numpy as np
import pytest
import soundfile

from vlm_audio_pipeline.api.recordings import recording_files, recording_list
from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.datasets.audio import decode

WAVE = (np.sin(np.arange(400) / 7) * 0.5).astype(np.float32)


def decoded(recording):
    with recording_files([recording]) as [file]:
        samples, rate, channels = decode(file.path)
        return samples, rate, channels


def test_float_samples_are_unchanged():
    samples, rate, channels = decoded((WAVE, 11025))
    assert np.array_equal(samples, WAVE) and (rate, channels) == (11025, 1)


@pytest.mark.parametrize(
    ("dtype", "subtype"), [("int16", "PCM_16"), ("int32", "PCM_32"), ("float32", "FLOAT"), ("float64", "DOUBLE")]
)
def test_samples_equal_those_of_a_file_with_the_same_numbers(dtype, subtype, tmp_path):
    """libsndfile defines what an integer sample means."""
    scale = np.iinfo(dtype).max if dtype.startswith("int") else 1
    samples = (WAVE.astype(np.float64) * scale).astype(dtype)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype=subtype)
    assert np.array_equal(decoded((samples, 8000))[0], decode(tmp_path / "a.wav")[0])


def test_unsigned_samples_are_centred(tmp_path):
    samples = np.array([0, 64, 128, 192, 255], np.uint8)
    assert decoded((samples, 8000))[0].tolist() == [-1, -0.5, 0, 0.5, 127 / 128]


def test_channels_are_averaged_as_in_a_file(tmp_path):
    stereo = np.stack([WAVE, -WAVE / 2], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 8000, subtype="FLOAT")
    samples, _, channels = decoded((stereo, 8000))
    assert channels == 2 and np.array_equal(samples, decode(tmp_path / "a.wav")[0])


def test_one_recording_is_a_list_of_one(tmp_path):
    assert recording_list("a.wav") == ["a.wav"] and recording_list(tmp_path) == [tmp_path]
    assert len(recording_list((WAVE, 8000))) == 1
    assert recording_list(("a.wav", "b.wav")) == ["a.wav", "b.wav"]
    assert len(recording_list([(WAVE, 8000), "a.wav"])) == 2
    assert len(recording_list(((WAVE, 8000), (WAVE, 8000)))) == 2


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        ((44100, WAVE), r"Hz above 0, got an array of shape \(400,\); a recording is \(samples, sample rate\)"),
        ((WAVE, 0), "must be a whole number of Hz above 0, got 0"),
        ((WAVE, 44100.5), "must be a whole number of Hz above 0, got 44100.5"),
        ((WAVE, "44100"), "must be a whole number of Hz above 0, got '44100'"),
        ((np.zeros((2, 4000), np.float32), 44100), r"at most 64 channels.*transpose it with `samples.T`"),
        ((np.zeros((2, 2, 2)), 44100), r"must have the shape \(samples,\) or \(samples, channels\), got \(2, 2, 2\)"),
        ((np.zeros(0), 44100), "has no samples"),
        ((np.array([1j]), 44100), "must have float or integer samples, got the type complex128"),
        (WAVE, "give their sample rate, too"),
        (None, "recording 0 must be a file or"),
    ],
)
def test_mistakes_say_what_to_do(recording, message):
    with pytest.raises(BadClips, match=message), recording_files([recording]):
        pass


def test_a_home_folder_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with recording_files(["~/a.wav"]) as [file]:
        assert file.path == tmp_path / "a.wav" and file.name == "~/a.wav"
