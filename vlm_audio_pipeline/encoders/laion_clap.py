"""LAION-CLAP as its authors published it: their package, their checkpoints, in an environment of its own.

What belongs here: making that environment, and talking to the worker in it (`laion_clap_worker`) through files. What does
not: importing laion-clap, which pins an old numpy, changes `sys.path` and downloads when it is imported. The same
weights exist for transformers (kind `clap`), which is the default; this family holds that one to the original, and
reaches checkpoints that were never converted.
Y. Wu et al., https://arxiv.org/abs/2211.06687; https://github.com/LAION-AI/CLAP
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.encoders.base import ENCODERS, Encode, ModelCard, TextSide
from vlm_audio_pipeline.encoders.clap import Clap, windows
from vlm_audio_pipeline.encoders.isolated import Environment, Worker
from vlm_audio_pipeline.encoders.pretrained import Pretrained
from vlm_audio_pipeline.encoders.torch_batches import unit
from vlm_audio_pipeline.encoders.weights import ModelName, Weights, fetch_weights
from vlm_audio_pipeline.storage.layout import Layout

RATE = 48000  # Hz
LONGEST = 480000  # samples the model takes at once; what is longer the package would crop at random

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
    alone=("laion-clap==1.1.7",),  # the rest of its dependencies serve its training code
    before=(3, 13),  # numpy 1.26 has no wheels for later ones
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


def make_environment(layout: Layout, progress: Progress = silent) -> Path:
    """Make the isolated environment, unless it is there as it should be: some 1.5 GB, a few minutes.

    Args:
        layout: the data folder.
        progress: told before each of three steps.

    Returns:
        Its Python.

    Raises:
        NotAvailable: when there is no fitting Python, or pip cannot install something; with pip's own words.
    """
    return ENVIRONMENT.make(layout, progress)


@ENCODERS.register("laion_clap")
class LaionClap(Pretrained):
    """CLAP by the original package and one of its own checkpoints; audio and texts, 512 dimensions, length 1."""

    model: ModelName = "lukewys/laion_clap"
    """Model id on the hub, or a folder, with the checkpoint."""
    checkpoint: Checkpoint = "630k-audioset-best.pt"
    """File of the model, as the authors named it."""
    dtype: Literal["auto", "float32"] = "auto"
    """Number format: the package computes in float32."""

    @property
    def weights(self) -> Weights:
        """The checkpoint."""
        return Weights(self.model, self.revision, (), (self.checkpoint,), among_others=True)

    @property
    def rate_hz(self) -> int:
        """Sampling rate the model was trained at, Hz."""
        return RATE

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
        known = Clap().card
        more = "; music" if self.checkpoint.startswith("music") else ""
        return replace(
            known,
            title=f"LAION-CLAP, {self.checkpoint.removesuffix('.pt')} (original package)",
            licence="CC0-1.0",
            training_data=f"{known.training_data}{more}",
        )

    @property
    def has_text_side(self) -> bool:
        """Always."""
        return True

    @property
    def number_format(self) -> str:
        """Always float32."""
        return "float32"

    def unavailable(self) -> str | None:
        """Say that the checkpoint, the tokenizer or the environment is missing, or None."""
        if reason := super().unavailable() or TOKENIZER.missing():
            return reason
        if not ENVIRONMENT.is_whole(Layout.default()):
            return f"environment of {ENVIRONMENT.alone[0]} missing: make it with `vlm-audio fetch STUDY`"
        return None

    def fetch(self, layout: Layout, progress: Progress = silent) -> None:
        """Get all it needs: the environment, the checkpoint, the files of RoBERTa's tokenizer.

        Raises:
            NotAvailable: when something cannot be had.
        """
        make_environment(layout, progress)
        fetch_weights(self.weights, progress)
        fetch_weights(TOKENIZER, progress)

    def load(self) -> Encode:
        """Start the worker; clips are (samples,) float32 at 48 kHz, vectors (512,) float32 of length 1.

        What is longer than 10 s is cut into windows as for kind `clap`; their unit vectors are averaged and scaled to
        length 1.
        """
        worker = self._worker()

        def encode(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
            clips = [c if len(c) else np.zeros(1, np.float32) for c in clips]  # the package repeats what is short
            pieces = [(i, clip[a:b]) for i, clip in enumerate(clips) for a, b in windows(len(clip), LONGEST)]
            sums: list[Any] = [0.0] * len(clips)
            for at in range(0, len(pieces), self.batch_size):
                batch = pieces[at : at + self.batch_size]
                for (i, _), vector in zip(batch, worker.clips([p for _, p in batch]), strict=True):
                    sums[i] = sums[i] + vector.astype(np.float64)
            return [unit(total) for total in sums]

        return encode

    def load_text(self) -> TextSide:
        """Start the worker; texts are cut at 77 pieces, as the package does."""
        worker = self._worker()
        return TextSide(lambda texts: list(worker.texts(texts)), float(worker.told["logit_scale"]))

    def _worker(self) -> Worker:
        if (reason := self.unavailable()) is not None:
            raise NotAvailable(reason)
        return Worker(
            ENVIRONMENT.name,
            (
                str(ENVIRONMENT.python(Layout.default())),
                "-I",  # nothing of this folder on its path: one of the files here is called laion_clap
                str(Path(__file__).with_name("laion_clap_worker.py")),
            ),
            {
                "checkpoint": str(self.weights.snapshot() / self.checkpoint),
                "audio_model": "HTSAT-base" if self.checkpoint.startswith("music") else "HTSAT-tiny",
                "fusion": "fusion" in self.checkpoint,
                "text": str(TOKENIZER.snapshot()),
                "device": self.device,
            },
        )
