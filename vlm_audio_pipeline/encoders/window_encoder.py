"""Base class of encoders of windows of a fixed length, whose model runs in an isolated environment (`window_worker`).

A clip is cut into consecutive windows; the last window is aligned to the end of the clip. The vector is the mean of the embeddings of the
windows.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.encoders.base import AudioEncoder, Encode
from vlm_audio_pipeline.encoders.isolated import Environment, IsolatedProcess
from vlm_audio_pipeline.encoders.windows import pad, window_vectors
from vlm_audio_pipeline.engines.local import core_count
from vlm_audio_pipeline.storage.data_folder import DataFolder

_MAX_THREADS = 8  # each thread has its own copy of the model


class IsolatedWindowEncoder(AudioEncoder):
    """An encoder with a model of fixed input length in TensorFlow Lite or ONNX. A family sets the class variables."""

    environment: ClassVar[Environment]
    """The isolated environment with the runtime."""
    runtime: ClassVar[Literal["tflite", "onnx"]]
    """Runtime of the model."""
    rate: ClassVar[int]
    """Sample rate of the model's input, Hz."""
    window: ClassVar[int]
    """Samples of a window."""
    dimensions: ClassVar[int]
    """Length of an embedding."""

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate the model was trained at, Hz."""
        return self.rate

    @property
    def max_parallel(self) -> int:
        """1: there is one worker process, which uses all cores."""
        return 1

    @property
    @abstractmethod
    def model_file(self) -> Path:
        """File of the model; raises NotAvailable if it is missing."""

    def prepare_window(self, samples: np.ndarray) -> np.ndarray:
        """Return the model's input, (window,) float32, for a window or a shorter clip: padded with zeros at the end."""
        return pad(samples, self.window)

    def load(self) -> Encode:
        """Start the worker; clips are (samples,) float32 at `sample_rate_hz`, vectors (dimensions,) float32."""
        worker = self._worker()

        def embed(windows: list[np.ndarray]) -> np.ndarray:
            return worker.embed_clips([self.prepare_window(w) for w in windows])

        def encode(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
            vectors = window_vectors(embed, clips, self.window, self.batch_size)
            return [clip_vectors.mean(axis=0).astype(np.float32) for clip_vectors in vectors]

        return encode

    def _worker(self) -> IsolatedProcess:
        if (reason := self.unavailable()) is not None:
            raise NotAvailable(reason)
        return IsolatedProcess(
            self.environment.name,
            (
                str(self.environment.python(DataFolder.locate())),
                "-I",  # isolated mode: this folder is not on the path
                str(Path(__file__).with_name("window_worker.py")),
            ),
            {
                "runtime": self.runtime,
                "model": str(self.model_file),
                "samples": self.window,
                "dimensions": self.dimensions,
                "threads": min(core_count(), _MAX_THREADS),
            },
        )
