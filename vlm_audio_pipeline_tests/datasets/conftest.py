import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.result_store import ResultStore

# Read at import because tests may delete the variable.
ESC10_DIR = os.environ.get("ESC10_DIR")


@pytest.fixture
def esc10_dir() -> Path:
    """Folder with the real ESC-10 in its legacy layout."""
    if not ESC10_DIR:
        pytest.skip("set ESC10_DIR to a copy of ESC-10 to run this")
    return Path(ESC10_DIR)


@pytest.fixture
def data_folder(tmp_path, monkeypatch) -> DataFolder:
    """An empty data folder; no variable names a local dataset."""
    monkeypatch.delenv("ESC10_DIR", raising=False)
    return DataFolder(tmp_path / "data")


@pytest.fixture
def result_store(tmp_path):
    """An empty result store."""
    store = ResultStore(tmp_path / "results.sqlite")
    yield store
    store.close()


@pytest.fixture
def tone():
    """Write a sine of 440 Hz, half of full scale: `tone(path, seconds, sample_rate_hz, channels)`."""

    def write(
        path: Path, seconds: float = 0.5, sample_rate_hz: int = 22050, channels: int = 1, **options
    ) -> np.ndarray:
        path.parent.mkdir(parents=True, exist_ok=True)
        t = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
        samples = np.repeat((0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[:, None], channels, axis=1)
        soundfile.write(path, samples, sample_rate_hz, **options)
        return samples

    return write
