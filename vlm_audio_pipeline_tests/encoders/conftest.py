"""Fixtures for a hub's cache folder with tiny checkpoints, written once and used offline."""

from pathlib import Path

import pytest

from vlm_audio_pipeline_tests.encoders import checkpoints


@pytest.fixture(scope="session")
def _shared_cache(tmp_path_factory) -> dict:
    return {"cache": tmp_path_factory.mktemp("hub"), "commits": {}}


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """Return an empty cache folder; the hub is offline."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "hub"


@pytest.fixture
def hub(monkeypatch, _shared_cache):
    """Return a function that writes the tiny checkpoint of a model into the cache folder and returns its commit."""
    monkeypatch.setenv("HF_HUB_CACHE", str(_shared_cache["cache"]))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def publish_once(model: str) -> str:
        if model not in _shared_cache["commits"]:
            _shared_cache["commits"][model] = checkpoints.publish(
                _shared_cache["cache"], model, checkpoints.checkpoint(model)
            )
        return _shared_cache["commits"][model]

    return publish_once
