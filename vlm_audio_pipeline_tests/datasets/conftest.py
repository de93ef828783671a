import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.result_store import ResultStore

# At import: a test may well clear the variable itself.
REAL = os.environ.get("ESC10_DIR")


@pytest.fixture
def esc10_dir() -> Path:
    """The real ESC-10, legacy layout."""
    if not REAL:
        pytest.skip("set ESC10_DIR to a copy of ESC-10 to run this")
    return Path(REAL)


@pytest.fixture
def data_folder(tmp_path, monkeypatch) -> DataFolder:
    """An empty data folder, with no dataset pointed to."""
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

    def write(path: Path, seconds: float = 0.5, sample_rate_hz: int = 22050, channels: int = 1, **how) -> np.ndarray:
        path.parent.mkdir(parents=True, exist_ok=True)
        t = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
        samples = np.repeat((0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[:, None], channels, axis=1)
        soundfile.write(path, samples, sample_rate_hz, **how)
        return samples

    return write
