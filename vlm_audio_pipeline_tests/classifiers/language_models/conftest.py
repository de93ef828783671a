"""Tiny local models, loaded by the real code on one thread: more would wait for each other."""

import pytest

from vlm_audio_pipeline_tests.classifiers.language_models import checkpoints


@pytest.fixture
def local(monkeypatch):
    """Return a function: name of a real model -> its tiny checkpoint as a `LocalBackend`."""
    import torch

    from vlm_audio_pipeline.classifiers.language_models.local.backend import LocalBackend

    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def load(model: str = checkpoints.JANUS, dtype: str = "float32", **kwargs) -> LocalBackend:
        weights = checkpoints.weights(monkeypatch, model)
        medium = "audio" if model in checkpoints.SOUNDS else "image"
        return LocalBackend(weights, input=medium, device="cpu", dtype=dtype, **kwargs)

    yield load
    torch.set_num_threads(threads)
