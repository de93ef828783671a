import numpy as np
import pytest

from vlm_audio_pipeline.encoders.clap_features import vectorise_log_mel

SHAPES = [
    {},  # as laion/clap-htsat-unfused except for truncation: 10 s, windows of 1024 samples, hop 480
    {"truncation": "rand_trunc"},
    {"truncation": "rand_trunc", "hop_length": 960, "fft_window_size": 2048, "max_length_s": 5, "frequency_min": 50},
]


def clips() -> dict[str, np.ndarray]:
    """Return clips by name, (samples,) float32 at 48 kHz: short, exactly 10 s long, and difficult cases."""
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
@pytest.mark.parametrize("name", clips())
def test_features_equal_those_of_transformers(shape, name):
    from transformers import ClapFeatureExtractor

    samples = clips()[name]
    if shape.get("max_length_s") == 5:
        samples = samples[: 5 * 48000]  # longer clips are cropped at random; the encoder never passes them
    computed, expected = (
        extractor(samples, sampling_rate=48000, return_tensors="np")
        for extractor in (vectorise_log_mel(ClapFeatureExtractor(**shape)), ClapFeatureExtractor(**shape))
    )
    assert computed["input_features"].dtype == expected["input_features"].dtype == np.float32
    assert computed["input_features"].shape == expected["input_features"].shape
    np.testing.assert_array_equal(computed["is_longer"], expected["is_longer"])
    # values 80 dB or more below the maximum are rounding errors in both (complex64)
    significant = expected["input_features"] > expected["input_features"].max() - 80
    assert np.abs(computed["input_features"] - expected["input_features"])[significant].max() < 1e-3


def test_fused_models_receive_the_same_four_spectrograms_as_in_transformers():
    """A clip longer than 10 s has four spectrograms: the downsampled whole and three random crops."""
    from transformers import ClapFeatureExtractor

    samples = 0.1 * np.random.default_rng(1).standard_normal(48000 * 13, dtype=np.float32)
    features = []
    for extractor in (vectorise_log_mel(ClapFeatureExtractor()), ClapFeatureExtractor()):
        np.random.seed(3)  # the extractor draws from numpy's global generator
        features.append(extractor(samples, sampling_rate=48000, return_tensors="np")["input_features"])
    assert features[0].shape == (1, 4, 1001, 64)
    np.testing.assert_allclose(features[0], features[1], atol=1e-3)
