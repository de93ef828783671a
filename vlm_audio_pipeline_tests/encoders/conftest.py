"""A hub's cache folder with tiny checkpoints, made once and used offline."""

from pathlib import Path

import pytest

from vlm_audio_pipeline_tests.encoders import checkpoints


@pytest.fixture(scope="session")
def _made(tmp_path_factory) -> dict:
    return {"cache": tmp_path_factory.mktemp("hub"), "commits": {}}


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """An empty cache folder, and no way to the hub."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "hub"


@pytest.fixture
def hub(monkeypatch, _made):
    """Give a function: real model name -> its commit, once a tiny checkpoint of it is in the cache folder."""
    monkeypatch.setenv("HF_HUB_CACHE", str(_made["cache"]))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def there(model: str) -> str:
        if model not in _made["commits"]:
            _made["commits"][model] = checkpoints.publish(_made["cache"], model, checkpoints.checkpoint(model))
        return _made["commits"][model]

    return there
