"""Base class of CLAP models that are computed by the package of their authors, in an isolated environment.

The worker of a family loads the package and a checkpoint. Clips longer than a window are cut into consecutive windows, the last one aligned to
the end of the clip; the unit vectors of the windows are averaged, and the mean is scaled to length 1. The packages repeat shorter clips.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.specs import excluded_from_fingerprint
from vlm_audio_pipeline.encoders.base import AudioEncoder, Encode, TextEncoder
from vlm_audio_pipeline.encoders.isolated import Environment, IsolatedProcess
from vlm_audio_pipeline.encoders.pretrained import Pretrained
from vlm_audio_pipeline.encoders.torch_batches import unit_vector
from vlm_audio_pipeline.encoders.weights import Weights, fetch_weights
from vlm_audio_pipeline.encoders.windows import window_vectors
from vlm_audio_pipeline.storage.data_folder import DataFolder


class IsolatedClap(AudioEncoder, Pretrained):
    """A CLAP model in an isolated environment. A family sets the class variables."""

    max_cpu_batches: ClassVar[int] = 1  # one worker process

    environment: ClassVar[Environment]
    """The isolated environment with the package."""
    tokenizer: ClassVar[Weights]
    """Files of the tokenizer on the hub."""
    worker: ClassVar[str]
    """File name of the worker program in this folder."""
    rate: ClassVar[int]
    """Sample rate of the model's input, Hz."""
    window: ClassVar[int]
    """Samples of a window; the package would crop longer audio at random."""

    dtype: Literal["auto", "float32"] = excluded_from_fingerprint("auto")
    """Number format: the package computes in float32."""

    @property
    @abstractmethod
    def checkpoint_file(self) -> str:
        """File name of the checkpoint in the repository."""

    @property
    def weights(self) -> Weights:
        """The checkpoint."""
        return Weights(self.model, self.revision, (), (self.checkpoint_file,), has_other_models=True)

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate the model was trained at, Hz."""
        return self.rate

    @property
    def has_text_encoder(self) -> bool:
        """True: every CLAP model has a text encoder."""
        return True

    @property
    def number_format(self) -> str:
        """Always float32."""
        return "float32"

    def worker_settings(self) -> dict[str, Any]:
        """Return the settings of the worker besides the checkpoint, the tokenizer's folder and the device."""
        return {}

    def unavailable(self) -> str | None:
        """Return which of checkpoint, tokenizer and environment is missing, or None."""
        if reason := super().unavailable() or self.tokenizer.missing():
            return reason
        if not self.environment.is_complete(DataFolder.locate()):
            package = self.environment.without_dependencies[0]
            return f"environment of {package} missing: create it with `vlm-audio fetch STUDY`"
        return None

    def fetch(self, data_folder: DataFolder, progress: Progress = no_progress) -> None:
        """Create the environment; download the checkpoint and the files of the tokenizer.

        Raises:
            NotAvailable: if one of these fails.
        """
        self.environment.create(data_folder, progress)
        fetch_weights(self.weights, progress)
        fetch_weights(self.tokenizer, progress)

    def load(self) -> Encode:
        """Start the worker; clips are (samples,) float32 at `sample_rate_hz`, vectors (dimensions,) float32 of length 1."""
        worker = self._worker()

        def encode(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
            # The package repeats short clips, so an empty one is padded to one sample.
            vectors = window_vectors(worker.embed_clips, clips, self.window, self.batch_size)
            return [unit_vector(of_clip.sum(axis=0)) for of_clip in vectors]

        return encode

    def load_text_encoder(self) -> TextEncoder:
        """Start the worker; texts are truncated to 77 tokens, vectors have length 1."""
        worker = self._worker()
        return TextEncoder(lambda texts: list(worker.embed_texts(texts)), float(worker.properties["logit_scale"]))

    def _worker(self) -> IsolatedProcess:
        if (reason := self.unavailable()) is not None:
            raise NotAvailable(reason)
        return IsolatedProcess(
            self.environment.name,
            (
                str(self.environment.python(DataFolder.locate())),
                "-I",  # isolated mode: this folder is not on the path, because its laion_clap.py would hide the package
                str(Path(__file__).with_name(self.worker)),
            ),
            {
                "checkpoint": str(self.weights.snapshot() / self.checkpoint_file),
                "tokenizer_folder": str(self.tokenizer.snapshot()),
                "device": self.device,
                **self.worker_settings(),
            },
        )
