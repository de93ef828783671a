"""CLAP: audio and text in one space (Y. Wu et al., https://arxiv.org/abs/2211.06687), through transformers.

The feature extractor would crop audio longer than 10 s at random. Here such a clip is cut into consecutive windows of 10 s;
the last window is aligned to the end of the clip. The unit vectors of the windows are averaged and the mean is scaled to
length 1. The feature extractor repeats and pads shorter clips. The original package is in `laion_clap`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vlm_audio_pipeline.encoders.base import ENCODERS, AudioEncoder, Encode, TextEncoder
from vlm_audio_pipeline.encoders.clap_features import vectorise_log_mel
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.pretrained import Pretrained, load_tokenizer
from vlm_audio_pipeline.encoders.torch_batches import AdaptiveBatcher, to_numpy, unit_vector
from vlm_audio_pipeline.encoders.weights import ModelName
from vlm_audio_pipeline.encoders.windows import windows

if TYPE_CHECKING:
    import torch

INDEX_TENSORS = (r"relative_position_index$", r"position_ids$", r"token_type_ids$")
"""Index tables, computed when the model is built. Older checkpoints contain them, newer checkpoints do not."""


@ENCODERS.register("clap")
class Clap(AudioEncoder, Pretrained):
    """CLAP of transformers: projected vectors of audio and texts, of length 1."""

    step_version: ClassVar[int] = 2
    bf16_safe: ClassVar[bool] = True

    model: ModelName = "laion/clap-htsat-unfused"
    """Model id on the hub (`laion/clap-htsat-fused`, `laion/larger_clap_general`, ...), or a folder."""

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate the model was trained at, Hz: 48,000 for all models of LAION."""
        return int(self.preprocessor().get("sampling_rate", 48000))

    @property
    def card(self) -> ModelCard:
        """Card of LAION's CLAP models, or of the demo model."""
        if self.weights.is_demo_model:
            return ModelCard(
                "demo-clap: CLAP's architecture, trained for the demo",
                "Apache-2.0",
                dimensions=64,
                training_data="other sounds of the synthesiser that makes the sounds of the demo",
                is_demonstration=True,
            )
        return ModelCard(
            title="CLAP, contrastive language-audio pretraining (LAION)",
            licence="Apache-2.0 on the hub; the code is CC0-1.0",
            url="https://arxiv.org/abs/2211.06687",
            citation="Wu et al., Large-scale contrastive language-audio pretraining with feature fusion and "
            "keyword-to-caption augmentation, ICASSP 2023",
            dimensions=512,
            training_data="LAION-Audio-630K (FreeSound among its sources), AudioCaps, Clotho, AudioSet; to evaluate on ESC-50 its "
            "authors left out the clips seen in training (https://github.com/LAION-AI/audio-dataset/issues/97)",
            overlaps=("FreeSound", "ESC-50", "ESC-10"),
        )

    @property
    def has_text_encoder(self) -> bool:
        """True: every CLAP model has a text encoder."""
        return True

    def load(self) -> Encode:
        """Load the model; clips are (samples,) float32 at `sample_rate_hz`, vectors (512,) float32 of length 1."""
        import torch
        from transformers import ClapFeatureExtractor, ClapModel

        model: Any = self.load_model(ClapModel, optional_tensors=INDEX_TENSORS)
        extractor = vectorise_log_mel(
            ClapFeatureExtractor.from_pretrained(self.weights.snapshot(), local_files_only=True)
        )
        length = int(extractor.nb_max_samples)

        def forward(batch: list[np.ndarray]) -> list[np.ndarray]:
            inputs = extractor(batch, sampling_rate=self.sample_rate_hz, return_tensors="pt")
            features = model.get_audio_features(
                input_features=inputs["input_features"].to(model.device, model.dtype),
                is_longer=torch.as_tensor(inputs["is_longer"]).to(model.device),
            )
            return to_numpy(features.pooler_output)

        # The feature extractor of a fused model marks a random clip of a batch as longer than the others, so batches have one clip.
        fused = model.config.audio_config.enable_fusion or extractor.truncation == "fusion"
        batches = AdaptiveBatcher(forward, 1 if fused else self.batch_size, self.model_id)

        def encode(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
            pieces = [(i, samples[a:b]) for i, samples in enumerate(clips) for a, b in windows(len(samples), length)]
            vectors = batches([piece for _, piece in pieces])
            sums = np.zeros((len(clips), model.config.projection_dim), np.float64)
            np.add.at(sums, [i for i, _ in pieces], [unit_vector(v) for v in vectors])
            return [unit_vector(row) for row in sums]

        return encode

    def load_text_encoder(self) -> TextEncoder:
        """Load the model for texts; vectors are (512,) float32 of length 1."""
        from transformers import ClapModel

        model: Any = self.load_model(ClapModel, optional_tensors=INDEX_TENSORS)
        tokenizer = load_tokenizer(self.weights, model.config.text_config.vocab_size)

        def forward(texts: list[str]) -> list[np.ndarray]:
            inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(model.device)
            return [unit_vector(v) for v in to_numpy(model.get_text_features(**inputs).pooler_output)]

        scale: torch.Tensor = model.logit_scale_a
        return TextEncoder(
            AdaptiveBatcher(forward, self.batch_size, self.model_id), float(scale.detach().float().exp())
        )
