"""LAION-CLAP, computed by its authors' package from their checkpoints, in an isolated environment.

The package pins an old numpy, changes `sys.path` and downloads files when it is imported, so it runs in a worker process
(`laion_clap_worker`). The same weights exist for transformers (kind `clap`), which is the default. This family is the
reference for kind `clap`, and loads checkpoints that were never converted to transformers.
Y. Wu et al., https://arxiv.org/abs/2211.06687; https://github.com/LAION-AI/CLAP
"""

from dataclasses import replace
from typing import Any, Literal

from vlm_audio_pipeline.encoders.base import ENCODERS
from vlm_audio_pipeline.encoders.clap import Clap
from vlm_audio_pipeline.encoders.isolated import Environment
from vlm_audio_pipeline.encoders.isolated_clap import IsolatedClap
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.weights import ModelName, Weights

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


@ENCODERS.register("laion_clap")
class LaionClap(IsolatedClap):
    """CLAP by the original package with one of its checkpoints: vectors of audio and texts, 512 dimensions, length 1."""

    environment = ENVIRONMENT
    tokenizer = TOKENIZER
    worker = "laion_clap_worker.py"
    rate = 48000
    window = 480000  # 10 s

    model: ModelName = "lukewys/laion_clap"
    """Model id on the hub, or a folder, with the checkpoint."""
    checkpoint: Checkpoint = "630k-audioset-best.pt"
    """File name of the checkpoint in the repository."""

    @property
    def checkpoint_file(self) -> str:
        """File name of the checkpoint in the repository."""
        return self.checkpoint

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

    def worker_settings(self) -> dict[str, Any]:
        """Return the variant of the model."""
        return {
            "audio_model": "HTSAT-base" if self.checkpoint.startswith("music") else "HTSAT-tiny",
            "fusion": "fusion" in self.checkpoint,
        }
