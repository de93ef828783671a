"""LAION-CLAP, computed by its authors' package from their checkpoints, in an isolated environment.

The package pins an old numpy, changes `sys.path` and downloads files when it is imported, so it runs in a worker process
(`laion_clap_worker`). The same weights exist for transformers (kind `clap`), which is the default. This family is the
reference for kind `clap`, and loads checkpoints that were never converted to transformers.
Y. Wu et al., https://arxiv.org/abs/2211.06687; https://github.com/LAION-AI/CLAP
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.specs import excluded_from_fingerprint
from vlm_audio_pipeline.encoders.base import ENCODERS, AudioEncoder, Encode, TextEncoder
from vlm_audio_pipeline.encoders.clap import Clap
from vlm_audio_pipeline.encoders.isolated import Environment, IsolatedProcess
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.pretrained import Pretrained
from vlm_audio_pipeline.encoders.torch_batches import unit_vector
from vlm_audio_pipeline.encoders.weights import ModelName, Weights, fetch_weights
from vlm_audio_pipeline.encoders.windows import window_vectors
from vlm_audio_pipeline.storage.data_folder import DataFolder

RATE = 48000  # Hz
MAX_SAMPLES = 480000  # per call; the package would crop longer audio at random

ENVIRONMENT = Environment(
    "laion_clap",
    (
        "torch==2.13.0",
        "numpy==1.26.4",
        "transformers==4.57.6",
        "librosa==0.11.0",
        "numba==0.68.1",
        "scipy==1.17.1",
        "scikit-learn==1.9.1",
        "torchlibrosa==0.1.0",
        "ftfy==6.3.1",
        "regex==2026.11.15",
        "tqdm==4.70.1",
    ),
    without_dependencies=("laion-clap==1.1.7",),  # its other dependencies are for training
    first_unsupported_python=(3, 13),  # numpy 1.26 has no wheels for later versions
)

TOKENIZER = Weights("FacebookAI/roberta-base", None, ("vocab.json", "config.json"), ("merges.txt",))

Checkpoint = Literal[
    "630k-best.pt",
    "630k-audioset-best.pt",
    "630k-fusion-best.pt",
    "630k-audioset-fusion-best.pt",
    "music_audioset_epoch_15_esc_90.14.pt",
    "music_speech_audioset_epoch_15_esc_89.98.pt",
    "music_speech_epoch_15_esc_89.25.pt",
]


def create_environment(data_folder: DataFolder, progress: Progress = no_progress) -> Path:
    """Create the isolated environment, unless it is complete. It takes about 1.5 GB and a few minutes.

    Args:
        data_folder: the data folder.
        progress: called before each of three steps.

    Returns:
        Path of the environment's Python interpreter.

    Raises:
        NotAvailable: if there is no suitable Python, or pip fails; contains the output of pip.
    """
    return ENVIRONMENT.create(data_folder, progress)


@ENCODERS.register("laion_clap")
class LaionClap(AudioEncoder, Pretrained):
    """CLAP by the original package with one of its checkpoints: vectors of audio and texts, 512 dimensions, length 1."""

    max_cpu_batches: ClassVar[int] = 1  # one worker process

    model: ModelName = "lukewys/laion_clap"
    """Model id on the hub, or a folder, with the checkpoint."""
    checkpoint: Checkpoint = "630k-audioset-best.pt"
    """File name of the checkpoint in the repository."""
    dtype: Literal["auto", "float32"] = excluded_from_fingerprint("auto")
    """Number format: the package computes in float32."""

    @property
    def weights(self) -> Weights:
        """The checkpoint."""
        return Weights(self.model, self.revision, (), (self.checkpoint,), has_other_models=True)

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate the model was trained at, Hz."""
        return RATE

    @property
    def card(self) -> ModelCard:
        """Card of the model."""
        card = Clap().card
        music = "; music" if self.checkpoint.startswith("music") else ""
        return replace(
            card,
            title=f"LAION-CLAP, {self.checkpoint.removesuffix('.pt')} (original package)",
            licence="CC0-1.0",
            training_data=f"{card.training_data}{music}",
        )

    @property
    def has_text_encoder(self) -> bool:
        """True: every CLAP model has a text encoder."""
        return True

    @property
    def number_format(self) -> str:
        """Always float32."""
        return "float32"

    def unavailable(self) -> str | None:
        """Return which of checkpoint, tokenizer and environment is missing, or None."""
        if reason := super().unavailable() or TOKENIZER.missing():
            return reason
        if not ENVIRONMENT.is_complete(DataFolder.locate()):
            return (
                f"environment of {ENVIRONMENT.without_dependencies[0]} missing: create it with `vlm-audio fetch STUDY`"
            )
        return None

    def fetch(self, data_folder: DataFolder, progress: Progress = no_progress) -> None:
        """Create the environment; download the checkpoint and the files of RoBERTa's tokenizer.

        Raises:
            NotAvailable: if one of these fails.
        """
        create_environment(data_folder, progress)
        fetch_weights(self.weights, progress)
        fetch_weights(TOKENIZER, progress)

    def load(self) -> Encode:
        """Start the worker; clips are (samples,) float32 at 48 kHz, vectors (512,) float32 of length 1.

        Clips longer than 10 s are cut into windows as for kind `clap`; the unit vectors of the windows are averaged and the
        mean is scaled to length 1.
        """
        worker = self._worker()

        def encode(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
            # The package repeats short clips, so an empty one is padded to one sample.
            vectors = window_vectors(worker.embed_clips, clips, MAX_SAMPLES, self.batch_size)
            return [unit_vector(clip_vectors.sum(axis=0)) for clip_vectors in vectors]

        return encode

    def load_text_encoder(self) -> TextEncoder:
        """Start the worker; texts are truncated to 77 tokens, as the package does."""
        worker = self._worker()
        return TextEncoder(lambda texts: list(worker.embed_texts(texts)), float(worker.properties["logit_scale"]))

    def _worker(self) -> IsolatedProcess:
        if (reason := self.unavailable()) is not None:
            raise NotAvailable(reason)
        return IsolatedProcess(
            ENVIRONMENT.name,
            (
                str(ENVIRONMENT.python(DataFolder.locate())),
                "-I",  # isolated mode: this folder is not on the path, because its laion_clap.py would hide the package
                str(Path(__file__).with_name("laion_clap_worker.py")),
            ),
            {
                "checkpoint": str(self.weights.snapshot() / self.checkpoint),
                "audio_model": "HTSAT-base" if self.checkpoint.startswith("music") else "HTSAT-tiny",
                "fusion": "fusion" in self.checkpoint,
                "tokenizer_folder": str(TOKENIZER.snapshot()),
                "device": self.device,
            },
        )
