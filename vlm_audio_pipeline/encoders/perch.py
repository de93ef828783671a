"""Perch 2: embeddings of the bioacoustic classifier of Google DeepMind.

B. van Merriënboer, V. Dumoulin, J. Hamer, L. Harrell, A. Burns and T. Denton, Perch 2.0: the bittern lesson for bioacoustics (2025),
https://arxiv.org/abs/2508.04665; https://github.com/google-research/perch-hoplite

Google publishes the weights for TensorFlow, on Kaggle. Its package perch-hoplite also runs their conversion to ONNX on the hub, as this family
does: in a worker process with the package `onnxruntime`, in an isolated environment.

As in perch-hoplite, a window has 5 s; a shorter clip is padded with zeros on both sides; the mean of each window is subtracted, and its peak is
scaled to 0.25.
"""

from pathlib import Path
from typing import Any

import numpy as np

from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.specs import excluded_from_fingerprint
from vlm_audio_pipeline.encoders.base import ENCODERS
from vlm_audio_pipeline.encoders.isolated import Environment
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.weights import ModelName, Weights, fetch_weights
from vlm_audio_pipeline.encoders.window_encoder import IsolatedWindowEncoder
from vlm_audio_pipeline.storage.data_folder import DataFolder

FILE = "perch_v2.onnx"
PEAK = 0.25  # of full scale

ENVIRONMENT = Environment(
    "perch",
    ("onnxruntime==1.32.0", "numpy==2.4.6"),
    first_unsupported_python=(3, 15),  # onnxruntime 1.32 has wheels for 3.11 to 3.14
)


@ENCODERS.register("perch")
class Perch(IsolatedWindowEncoder):
    """Perch 2, a classifier of the sounds of animals: the mean of its embeddings of windows of 5 s, 1,536 dimensions."""

    environment = ENVIRONMENT
    runtime = "onnx"
    rate = 32000
    window = 160000  # 5 s
    dimensions = 1536

    model: ModelName = "justinchuby/Perch-onnx"
    """Model id on the hub, or a folder, with `perch_v2.onnx`."""
    revision: str | None = excluded_from_fingerprint(None)
    """Branch, tag or commit of the model; by default its default branch, as of the last `vlm-audio fetch`."""

    @property
    def weights(self) -> Weights:
        """The file of the model."""
        return Weights(self.model, self.revision, (), (FILE,))

    def fingerprint_fields(self) -> dict[str, Any]:
        """Return the parameters that can change a result. A folder is identified by its digest (the revision), not by its path."""
        fields = super().fingerprint_fields()
        return {**fields, "model": "folder"} if self.weights.is_folder else fields

    @property
    def model_file(self) -> Path:
        """File of the model; raises NotAvailable if it is missing."""
        return self.weights.snapshot() / FILE

    @property
    def card(self) -> ModelCard:
        """Card of the model."""
        return ModelCard(
            title="Perch 2, a classifier of the sounds of animals (Google DeepMind)",
            licence="Apache-2.0",
            url="https://arxiv.org/abs/2508.04665",
            citation="van Merriënboer, Dumoulin, Hamer, Harrell, Burns and Denton, Perch 2.0: the bittern lesson for bioacoustics, 2025",
            dimensions=self.dimensions,
            training_data="Xeno-canto, iNaturalist, the Tierstimmenarchiv (animals), and FSD50K (FreeSound)",
            overlaps=("FreeSound", "FSD50K"),
        )

    def unavailable(self) -> str | None:
        """Return which of weights and environment is missing, or None."""
        if reason := super().unavailable():
            return reason
        if not ENVIRONMENT.is_complete(DataFolder.locate()):
            return f"environment of {ENVIRONMENT.name} missing: create it with `vlm-audio fetch STUDY`"
        return None

    def fetch(self, data_folder: DataFolder, progress: Progress = no_progress) -> None:
        """Create the environment, about 0.25 GB, and download the model.

        Raises:
            NotAvailable: if one of these fails.
        """
        ENVIRONMENT.create(data_folder, progress)
        fetch_weights(self.weights, progress)

    def prepare_window(self, samples: np.ndarray) -> np.ndarray:
        """Pad a shorter clip on both sides, subtract the mean, and scale the peak to 0.25; silence stays silence."""
        missing = max(self.window - len(samples), 0)
        centred = np.pad(samples, (missing // 2, missing - missing // 2)) if missing else samples
        centred = centred - centred.mean()
        peak = np.abs(centred).max()
        scaled: np.ndarray = centred / peak * PEAK if peak > 0 else centred
        return scaled.astype(np.float32)
