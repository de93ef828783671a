import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.storage.result_store import RowStore

# At import: a test may well clear the variable itself.
REAL = os.environ.get("ESC10_DIR")


@pytest.fixture
def esc10_dir() -> Path:
    """The real ESC-10, legacy layout."""
    if not REAL:
        pytest.skip("set ESC10_DIR to a copy of ESC-10 to run this")
    return Path(REAL)


@pytest.fixture
def layout(tmp_path, monkeypatch) -> Layout:
    """An empty data folder, with no dataset pointed to."""
    monkeypatch.delenv("ESC10_DIR", raising=False)
    return Layout(tmp_path / "data")


@pytest.fixture
def rows(tmp_path):
    """An empty row store."""
    store = RowStore(tmp_path / "rows.sqlite")
    yield store
    store.close()


@pytest.fixture
def tone():
    """Write a sine of 440 Hz, half of full scale: `tone(path, seconds, rate_hz, channels)`."""

    def write(path: Path, seconds: float = 0.5, rate_hz: int = 22050, channels: int = 1, **how) -> np.ndarray:
        path.parent.mkdir(parents=True, exist_ok=True)
        t = np.arange(round(seconds * rate_hz)) / rate_hz
        samples = np.repeat((0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[:, None], channels, axis=1)
        soundfile.write(path, samples, rate_hz, **how)
        return samples

    return write
