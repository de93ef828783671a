import numpy as np
import pytest

from vlm_audio_pipeline.encoders.clap_features import with_vectorised_mel

SHAPES = [
    {},  # laion/clap-htsat-unfused but for truncation: 10 s, 1024 samples a window, 480 a step
    {"truncation": "rand_trunc"},
    {"truncation": "rand_trunc", "hop_length": 960, "fft_window_size": 2048, "max_length_s": 5, "frequency_min": 50},
]


def sounds() -> dict[str, np.ndarray]:
    """By name (samples,) float32 at 48 kHz: short, exactly as long as a window of 10 s, and hard cases."""
    rng = np.random.default_rng(0)
    seconds = np.arange(48000 * 10) / 48000
    return {
        "noise": 0.1 * rng.standard_normal(len(seconds), dtype=np.float32),
        "loud tone": np.sin(2 * np.pi * 440 * seconds).astype(np.float32),
        "short": 0.3 * rng.standard_normal(20000, dtype=np.float32),
        "one sample": np.ones(1, np.float32),
        "silence": np.zeros(48000, np.float32),
        "clipped": np.sign(rng.standard_normal(48000)).astype(np.float32),
    }


@pytest.mark.parametrize("shape", SHAPES, ids=["fusion", "unfused", "demo"])
@pytest.mark.parametrize("name", sounds())
def test_equal_to_transformers_own(shape, name):
    from transformers import ClapFeatureExtractor

    samples = sounds()[name]
    if shape.get("max_length_s") == 5:
        samples = samples[: 5 * 48000]  # what is longer is cut at random; the encoder never gives it that
    ours, theirs = (
        made(samples, sampling_rate=48000, return_tensors="np")
        for made in (with_vectorised_mel(ClapFeatureExtractor(**shape)), ClapFeatureExtractor(**shape))
    )
    assert ours["input_features"].dtype == theirs["input_features"].dtype == np.float32
    assert ours["input_features"].shape == theirs["input_features"].shape
    np.testing.assert_array_equal(ours["is_longer"], theirs["is_longer"])
    # what lies 80 dB and more below the loudest band is rounding, of theirs (complex64) as of ours
    heard = theirs["input_features"] > theirs["input_features"].max() - 80
    assert np.abs(ours["input_features"] - theirs["input_features"])[heard].max() < 1e-3


def test_fused_models_are_given_the_same_four_spectrograms():
    """What is longer than 10 s is stacked from four: the whole, shrunk, and three parts at random."""
    from transformers import ClapFeatureExtractor

    samples = 0.1 * np.random.default_rng(1).standard_normal(48000 * 13, dtype=np.float32)
    found = []
    for made in (with_vectorised_mel(ClapFeatureExtractor()), ClapFeatureExtractor()):
        np.random.seed(3)  # the extractor draws from numpy's global generator
        found.append(made(samples, sampling_rate=48000, return_tensors="np")["input_features"])
    assert found[0].shape == (1, 4, 1001, 64)
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)
