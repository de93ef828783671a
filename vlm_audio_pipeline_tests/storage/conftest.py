"""A result store for tests."""

from pathlib import Path

import pytest

from vlm_audio_pipeline.storage.result_store import ResultStore


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "results.sqlite"


@pytest.fixture
def result_store(path):
    store = ResultStore(path)
    yield store
    store.close()
