import importlib.util
import warnings

import numpy as np
import pytest
import torch

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.encoders import music2latent as module
from vlm_audio_pipeline.encoders.base import ENCODERS
from vlm_audio_pipeline.encoders.music2latent import Music2Latent
from vlm_audio_pipeline.encoders.pretrained import WrongWeights
from vlm_audio_pipeline_tests.encoders.checkpoints import publish

MODEL = "SonyCSLParis/music2latent"
needs_package = pytest.mark.skipif(
    importlib.util.find_spec("music2latent") is None, reason="the extra music2latent is not installed (CC BY-NC)"
)


@pytest.fixture
def small(monkeypatch):
    """Make the network of the package 8 times narrower with a small bottleneck: 1,024 features instead of 8,192."""
    from music2latent import models

    monkeypatch.setattr(models, "bottleneck_base_channels", 32)
    monkeypatch.setattr(models, "layers_list", [1] * 5)
    monkeypatch.setattr(models, "base_channels", 8)


@pytest.fixture
def real_width(monkeypatch):
    """Keep the encoder of the package up to the features; make only the following layers small."""
    from music2latent import models

    monkeypatch.setattr(models, "bottleneck_base_channels", 32)
    monkeypatch.setattr(models, "layers_list", [1] * 5)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Return a function that writes random weights with the current sizes of the network into a hub's cache folder."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def write(change=lambda state: state) -> str:
        from music2latent.models import UNet

        def save(folder):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                state = UNet().state_dict()  # many layers are initialised as zeros, so noise is added
                state = {k: v + 0.05 * torch.randn_like(v) for k, v in state.items()}
            torch.save({"gen_state_dict": change(state), "it": 3}, folder / "music2latent.pt")

        return publish(tmp_path, MODEL, save)

    return write


def package_features(monkeypatch, clip, **how):
    """Return the mean over time of the features of the package; only its download is replaced."""
    from music2latent import EncoderDecoder, inference

    monkeypatch.setattr(inference, "download_model", lambda: None)
    path = Music2Latent().weights.snapshot() / "music2latent.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it requests CUDA half precision on every device
        features = EncoderDecoder(str(path), torch.device("cpu")).encode(clip, extract_features=True, **how)
    assert features.shape[0] == 1
    return features[0].mean(dim=-1).numpy()


def noise(seconds, seed=0):
    return (np.random.default_rng(seed).standard_normal(round(seconds * 44100)) * 0.1).astype(np.float32)


@pytest.mark.slow
@needs_package
def test_vectors_equal_the_features_of_the_package_at_full_width(real_width, weights, monkeypatch):
    commit = weights()
    spec = Music2Latent(device="cpu")
    assert (spec.sample_rate_hz, spec.weights_revision, spec.number_format) == (44100, commit, "float32")
    clip = noise(1.0)
    [vector] = spec.load()([clip])
    assert vector.shape == (spec.card.dimensions,) == (8192,) and vector.dtype == np.float32
    np.testing.assert_allclose(vector, package_features(monkeypatch, clip), atol=1e-5)


@needs_package
def test_vectors_of_unit_length_are_those_of_can_vlms_hear(small, weights, monkeypatch):
    """`normalize(latents.mean(dim=-1).squeeze(0), p=2, dim=0)` in its notebook."""
    weights()
    clip = noise(1.0)
    [vector] = Music2Latent(device="cpu", unit_length=True).load()([clip])
    mean = package_features(monkeypatch, clip)
    np.testing.assert_allclose(vector, torch.nn.functional.normalize(torch.tensor(mean), p=2, dim=0), atol=1e-6)


@needs_package
@pytest.mark.parametrize("seconds", [0.13, 2.345, 5.0])
def test_clips_of_any_length(small, weights, monkeypatch, seconds):
    weights()
    clip = noise(seconds)
    [vector] = Music2Latent(device="cpu").load()([clip])
    expected = package_features(monkeypatch, clip)
    np.testing.assert_allclose(vector, expected, atol=1e-5)
    assert np.ptp(expected) > 0.1


@needs_package
@pytest.mark.parametrize("frames", [256, 171, 88])  # 3 x 80 and 16; 2 x 80 and 8 (3 are dropped); 80 and 8
def test_long_clips_have_the_windows_of_the_package(small, weights, monkeypatch, frames):
    weights()
    clip = noise(((frames + 3) * 512 + 17) / 44100)
    window_s = 1.0  # 86 frames, of which 80 are a multiple of 8
    [vector] = Music2Latent(device="cpu", window_s=window_s).load()([clip])
    expected = package_features(monkeypatch, clip, max_waveform_length=int(window_s * 44100))
    np.testing.assert_allclose(vector, expected, atol=1e-5)
    without_windows = package_features(monkeypatch, clip)
    assert np.abs(expected - without_windows).max() > 1e-5, "the windows change the features"


@pytest.mark.slow
@needs_package
def test_ten_minutes_are_encoded_window_by_window():
    clip = np.zeros(600 * 44100, np.float32)
    clip[:1000] = 0.5
    max_frames = 5168  # 60 s
    shapes, kept = [], 0
    for window, features in module.iterate_windows(clip, max_frames, "cpu"):
        shapes.append(tuple(window.shape))
        kept += features
    assert set(shapes) == {(1, 2, 1024, max_frames)} and len(shapes) == 10
    assert kept == ((600 * 44100) // 512 - 3) // 8


@needs_package
def test_vectors_do_not_depend_on_the_batch_or_its_order(small, weights):
    weights()
    encode = Music2Latent(device="cpu").load()
    clips = [noise(0.5, 1), noise(0.7, 2), noise(0.3, 3)]
    together = encode(clips)
    for clip, vector in zip(clips[::-1], encode(clips[::-1]), strict=True):
        np.testing.assert_array_equal(vector, encode([clip])[0])
    np.testing.assert_array_equal(together[1], encode([clips[1]])[0])


@needs_package
@pytest.mark.parametrize("clip", [np.zeros(44100), np.zeros(0), np.ones(44), noise(0.001)], ids=len)
def test_silence_and_very_short_clips_give_finite_vectors(small, weights, clip):
    weights()
    clip = clip.astype(np.float32)
    encode = Music2Latent(device="cpu").load()
    [vector] = encode([clip])
    assert np.isfinite(vector).all()
    if len(clip) < 5632:
        np.testing.assert_array_equal(vector, encode([np.pad(clip, (0, 5632 - len(clip)))])[0])


@needs_package
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "encoder.gain.scale"}, r'Missing key.* "gain\.scale"'),
        (lambda s: s | {"encoder.gain.scale": torch.ones(1, 1, 7, 1)}, r"size mismatch for gain\.scale"),
        (lambda s: "nothing", "str"),
    ],
    ids=["missing", "shape", "no state"],
)
def test_weights_that_do_not_match_the_architecture_are_refused(small, weights, change, message):
    weights(change)
    with pytest.raises(WrongWeights, match=message):
        Music2Latent(device="cpu").load()


@needs_package
def test_code_in_a_checkpoint_is_not_run(small, weights, tmp_path):
    class FileWriter:
        def __reduce__(self):
            return (open, (str(tmp_path / "done"), "w"))

    weights(lambda state: state | {"more": FileWriter()})
    with pytest.raises(WrongWeights, match=r"(?i)weights.only"):
        Music2Latent(device="cpu").load()
    assert not (tmp_path / "done").exists()


@needs_package
def test_missing_weights_are_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    spec = Music2Latent()
    assert spec.unavailable().startswith(f"weights of {MODEL} missing (revision main)")
    with pytest.raises(VlmAudioError, match="vlm-audio fetch"):
        spec.load()


def test_a_missing_package_is_reported_with_the_command_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert (
        Music2Latent()
        .unavailable()
        .startswith(
            "package music2latent missing: pip install 'vlm-audio-pipeline[music2latent]'; weights of SonyCSLParis/"
        )
    )
    publish(tmp_path, MODEL, lambda folder: (folder / "music2latent.pt").write_bytes(b"0"))
    assert Music2Latent().unavailable() == (
        "package music2latent missing: pip install 'vlm-audio-pipeline[music2latent]'"
    )


def test_the_window_is_part_of_the_result_key():
    assert Music2Latent(window_s=10).fingerprint() != Music2Latent().fingerprint()
    assert Music2Latent(device="cpu", batch_size=3).fingerprint() == Music2Latent().fingerprint()


@needs_package
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_same_vectors(real_width, weights):
    weights()
    clips = [noise(5.0), noise(0.2)]
    cpu, gpu = (Music2Latent(device=d, dtype="float32").load()(clips) for d in ("cpu", "cuda"))
    for a, b in zip(cpu, gpu, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


def test_registered():
    assert ENCODERS.get("music2latent") is Music2Latent
