import numpy as np
import pytest

from vlm_audio_pipeline.encoders.base import ENCODERS
from vlm_audio_pipeline.encoders.scripted import Scripted, band_levels


def noise(seed):
    return (np.random.default_rng(seed).standard_normal(16000) * 0.1).astype(np.float32)


def test_the_same_clip_gives_the_same_vector_and_the_seed_rotates_it():
    first, second = Scripted().load()([noise(1)]), Scripted().load()([noise(1)])
    other = Scripted(seed=1).load()([noise(1)])
    assert first[0].dtype == np.float32 and first[0].shape == (8,)
    np.testing.assert_array_equal(first[0], second[0])
    assert not np.allclose(first[0], other[0])
    # a rotation keeps lengths
    assert np.linalg.norm(first[0]) == pytest.approx(np.linalg.norm(band_levels(noise(1), 8)), rel=1e-5)


@pytest.mark.parametrize("samples", [np.zeros(16000), np.zeros(16), np.zeros(0), np.ones(5)])
@pytest.mark.parametrize("dimensions", [1, 8, 600])
def test_unusual_clips_give_finite_vectors(samples, dimensions):
    [vector] = Scripted(dimensions=dimensions).load()([samples.astype(np.float32)])
    assert vector.shape == (dimensions,) and np.isfinite(vector).all()


def test_band_levels():
    # silence: log10(0 + 1e-10) = -10 in every band
    np.testing.assert_allclose(band_levels(np.zeros(2048), 4), [-10] * 4)
    # a cosine of amplitude 1 on bin 300 of 1024: |rfft|^2 = (1024 / 2)^2, over 1024 = 256; bin 300 of 513 is in the
    # third of 4 bands, bins 256 to 383, so its mean is 256 / 128 = 2
    tone = np.cos(2 * np.pi * 300 * np.arange(2048) / 1024)
    assert 10 ** band_levels(tone, 4)[2] == pytest.approx(2, rel=1e-6)
    assert 10 ** band_levels(tone, 4)[0] < 1e-9


def test_missing_weights_are_reported_and_do_not_enter_the_fingerprint():
    assert Scripted().unavailable() is None
    assert Scripted(missing=True).unavailable() == "weights of scripted missing"
    assert Scripted(missing=True).fingerprint() == Scripted().fingerprint()


def test_registered():
    assert ENCODERS.get("scripted") is Scripted
