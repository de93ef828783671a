"""CLAP of Microsoft, computed by its authors' package from their checkpoint, in an isolated environment.

B. Elizalde, S. Deshmukh and H. Wang, Natural language supervision for general-purpose audio representations, ICASSP 2024,
https://arxiv.org/abs/2309.05767; https://github.com/microsoft/CLAP

transformers does not contain it: its text encoder is GPT-2, and its audio encoder takes 7 s at 44.1 kHz. The package needs an old numpy and an old
transformers, and downloads GPT-2 before it replaces its weights, so its network runs in a worker process (`ms_clap_worker`).
"""

from vlm_audio_pipeline.encoders.base import ENCODERS
from vlm_audio_pipeline.encoders.isolated import Environment
from vlm_audio_pipeline.encoders.isolated_clap import IsolatedClap
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.weights import ModelName, Weights

FILE = "CLAP_weights_2023.pth"

ENVIRONMENT = Environment(
    "ms_clap",
    (
        "torch==2.13.0",
        "numpy==1.26.4",
        "transformers==4.57.6",
        "librosa==0.11.0",
        "numba==0.68.1",
        "scipy==1.17.1",
        "scikit-learn==1.9.1",
        "torchlibrosa==0.1.0",
        "pyyaml==6.0.3",
    ),
    without_dependencies=("msclap==1.3.4",),  # its other dependencies read recordings
    first_unsupported_python=(3, 13),  # numpy 1.26 has no wheels for later versions
)

TOKENIZER = Weights("openai-community/gpt2", None, ("vocab.json", "config.json"), ("merges.txt",))


@ENCODERS.register("ms_clap")
class MsClap(IsolatedClap):
    """CLAP of Microsoft (2023) by the package of its authors: vectors of audio and texts, 1,024 dimensions, length 1."""

    environment = ENVIRONMENT
    tokenizer = TOKENIZER
    worker = "ms_clap_worker.py"
    rate = 44100
    window = 308700  # 7 s

    model: ModelName = "microsoft/msclap"
    """Model id on the hub, or a folder, with `CLAP_weights_2023.pth`."""

    @property
    def checkpoint_file(self) -> str:
        """File name of the checkpoint in the repository."""
        return FILE

    @property
    def card(self) -> ModelCard:
        """Card of the model."""
        return ModelCard(
            title="MS-CLAP 2023, contrastive language-audio pretraining (Microsoft)",
            licence="MIT",
            url="https://arxiv.org/abs/2309.05767",
            citation="Elizalde, Deshmukh and Wang, Natural language supervision for general-purpose audio representations, ICASSP 2024",
            dimensions=1024,
            training_data="4.6 M pairs of audio and text from many collections, FreeSound, FSD50K, AudioCaps, Clotho and WavCaps among them",
            overlaps=("FreeSound", "FSD50K"),
        )
