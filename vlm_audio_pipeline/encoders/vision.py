"""Image encoders: AIMv2, DINOv2, CLIP and SigLIP, through transformers' Auto classes.

The model's own image processor resizes an image to the model's size. Those of CLIP and AIMv2 resize the shorter side and crop
the centre, so the ends of an image that is not square are cut off; render square images for them. The processor always uses PIL, never
torchvision, so that the same image gives the same vector on every machine.
"""

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.specs import refers_to
from vlm_audio_pipeline.encoders.base import ENCODERS, Encode, TextEncoder
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.pretrained import Pretrained, load_tokenizer
from vlm_audio_pipeline.encoders.torch_batches import AdaptiveBatcher, call_in_groups, to_numpy, unit_vector
from vlm_audio_pipeline.encoders.weights import ModelName

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

TWO_TOWER_TYPES = ("aimv2", "clip", "siglip")
"""Model types with two towers, one for images and one for texts."""

PREFIX_TOKENS = {
    "aimv2": 0,
    "aimv2_vision_model": 0,
    "clip": 1,
    "clip_vision_model": 1,
    "dinov2": 1,
    "dinov2_with_registers": 1,  # plus its registers
    "siglip": 0,
    "siglip_vision_model": 0,
}
"""Supported model types, with the number of tokens (class token) before the patch tokens."""

_WEB = "images and captions from the web"
CARDS = {
    "demo-aimv2": ModelCard(
        "demo-aimv2: AIMv2's architecture, trained for the demo",
        "Apache-2.0",
        training_data="other sounds of the synthesiser that makes the sounds of the demo",
        is_demonstration=True,
    ),
    "apple/aimv2": ModelCard(
        "AIMv2, autoregressive image models", "apple-amlr", "https://arxiv.org/abs/2411.14402", training_data=_WEB
    ),
    "facebook/dinov2": ModelCard(
        "DINOv2",
        "Apache-2.0",
        "https://arxiv.org/abs/2304.07193",
        training_data="LVD-142M: curated images from the web",
    ),
    "openai/clip": ModelCard(
        "CLIP", "MIT", "https://arxiv.org/abs/2103.00020", training_data=f"WebImageText: 400 M {_WEB}"
    ),
    "google/siglip": ModelCard(
        "SigLIP", "Apache-2.0", "https://arxiv.org/abs/2303.15343", training_data=f"WebLI: {_WEB}"
    ),
}
"""Cards by the beginning of the model id. No training set is known to contain recordings or their spectrograms."""


@ENCODERS.register("vision")
class Vision(Pretrained):
    """A vision model on the image of a clip: the mean of its patch tokens, or the model's pooled vector."""

    takes_images: ClassVar[bool] = True
    bf16_safe: ClassVar[bool] = True

    model: ModelName = "apple/aimv2-large-patch14-224"
    """Model id on the hub (AIMv2, DINOv2, CLIP or SigLIP), or a folder."""
    rendering: str = refers_to("renderings")
    """Rendering whose images are encoded."""
    pooling: Literal["mean", "pooler", "first_patch"] = "mean"
    """Mean of the patch tokens; pooler: the model's own vector (CLIP and SigLIP: in the space shared with texts);
    first_patch: position 0 of the last hidden states. In models without a class token (AIMv2, SigLIP) it is the token of the
    upper left patch, which the published AIMv2 embeddings of can-vlms-hear call "cls"."""

    @property
    def sample_rate_hz(self) -> int:
        """0, because the model takes images."""
        return 0

    @property
    def card(self) -> ModelCard:
        """Card of the model."""
        cards = (card for prefix, card in CARDS.items() if self.model.startswith(prefix))
        return next(cards, ModelCard(title=self.model, training_data="not known to this project"))

    @property
    def has_text_encoder(self) -> bool:
        """Whether `pooling` is pooler and the model has two towers. A model whose files are missing is assumed to have them."""
        return (
            self.pooling == "pooler" and self.weights.config().get("model_type", TWO_TOWER_TYPES[0]) in TWO_TOWER_TYPES
        )

    def _load(self) -> tuple[Any, str]:
        from transformers import Aimv2VisionModel, AutoModel

        self.weights.snapshot()  # raises if the files are missing, whose config gives the type
        config = self.weights.config()
        kind = str(config.get("model_type"))
        if kind not in PREFIX_TOKENS:
            raise VlmAudioError(
                f"`model` of kind vision must have one of the types {', '.join(PREFIX_TOKENS)}, got {self.model} of type "
                f"{kind}; use another model"
            )
        # If the type is wrong, `load_model` reports weights that do not fit.
        is_old_layout = kind == "aimv2" and "vision_config" not in config
        return self.load_model(
            Aimv2VisionModel if is_old_layout else AutoModel, optional_tensors=(r"position_ids$",)
        ), kind

    def load(self) -> Encode:
        """Load the model; images are PIL in RGB, vectors (dimensions,) float32.

        Vectors in a space shared with texts have length 1, others are not scaled.
        """
        from transformers import AutoImageProcessor

        model, kind = self._load()
        processor = AutoImageProcessor.from_pretrained(  # transformers has no types here
            self.weights.snapshot(), backend="pil", local_files_only=True
        )
        n_prefix_tokens = PREFIX_TOKENS[kind] + getattr(model.config, "num_register_tokens", 0)
        is_shared_space = kind in TWO_TOWER_TYPES and self.pooling == "pooler" and hasattr(model, "get_image_features")
        tower = model.vision_model if hasattr(model, "text_model") else model

        def forward(batch: list["torch.Tensor"]) -> list[np.ndarray]:
            import torch

            pixels = torch.stack(batch).to(model.device, model.dtype)
            if is_shared_space:
                return [unit_vector(v) for v in to_numpy(model.get_image_features(pixel_values=pixels).pooler_output)]
            out = tower(pixel_values=pixels)
            if self.pooling == "pooler":
                return to_numpy(self._pooler_output(out))
            patches = out.last_hidden_state[:, n_prefix_tokens:].float()
            return to_numpy(patches.mean(dim=1) if self.pooling == "mean" else patches[:, 0])

        batches = AdaptiveBatcher(forward, self.batch_size, self.model_id)

        def encode(images: Sequence["Image"]) -> list[np.ndarray]:
            pixels = [processor(images=p, return_tensors="pt")["pixel_values"][0] for p in images]
            # The sizes differ only for models that take images of any size.
            return call_in_groups(batches, pixels, key=lambda p: tuple(p.shape))

        return encode

    def _pooler_output(self, out: Any) -> "torch.Tensor":
        pooled: torch.Tensor | None = getattr(out, "pooler_output", None)
        if pooled is None:
            raise VlmAudioError(
                f"{self.model} has no pooled vector, so `pooling` must be mean or first_patch, got pooler; use "
                "`pooling: mean`"
            )
        return pooled

    def load_text_encoder(self) -> TextEncoder:
        """Load the text tower; vectors are (dimensions,) float32 of length 1."""
        model, kind = self._load()
        if not self.has_text_encoder:
            return super().load_text_encoder()
        if kind == "siglip" and importlib.util.find_spec("sentencepiece") is None:
            raise NotAvailable(
                f"the tokenizer of {self.model} needs the package sentencepiece; `pip install sentencepiece`"
            )
        text = model.config.text_config
        tokenizer = load_tokenizer(self.weights, text.vocab_size)
        # SigLIP was trained on texts padded to their full length, without a mask.
        padding: Any = "max_length" if kind == "siglip" else True
        names = ("input_ids",) if kind == "siglip" else ("input_ids", "attention_mask")

        def forward(texts: list[str]) -> list[np.ndarray]:
            tokens = tokenizer(
                texts, padding=padding, truncation=True, max_length=text.max_position_embeddings, return_tensors="pt"
            )
            features = model.get_text_features(**{n: tokens[n].to(model.device) for n in names})
            return [unit_vector(v) for v in to_numpy(features.pooler_output)]

        return TextEncoder(
            AdaptiveBatcher(forward, self.batch_size, self.model_id), float(model.logit_scale.detach().float().exp())
        )
