"""Fixture for tiny local models, loaded by the real code. They use one thread, because parallel tests would share the cores."""

import pytest

from vlm_audio_pipeline_tests.classifiers.language_models import checkpoints


@pytest.fixture
def local(monkeypatch):
    """Return a function that loads the tiny checkpoint of a model, given by its real name, as a `LocalBackend`."""
    import torch

    from vlm_audio_pipeline.classifiers.language_models.local.backend import LocalBackend

    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def load(model: str = checkpoints.JANUS, dtype: str = "float32", **kwargs) -> LocalBackend:
        weights = checkpoints.weights(monkeypatch, model)
        medium = "audio" if model in checkpoints.AUDIO_MODELS else "image"
        return LocalBackend(weights, input=medium, device="cpu", dtype=dtype, **kwargs)

    yield load
    torch.set_num_threads(threads)
