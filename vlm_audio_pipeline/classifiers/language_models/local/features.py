"""Compute the features of images with the model's vision encoder, once per image.

If every query has its own examples, the same image occurs after different prefixes. The language model must compute it
again, but the vision encoder does not, and the image is not decoded and resized again. Audio, and families whose forward
call takes no image features, are prepared as a whole row without this cache.
"""

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.local.conversation import Conversation
from vlm_audio_pipeline.classifiers.language_models.local.forward import Forward
from vlm_audio_pipeline.classifiers.language_models.local.prompt_pieces import PromptPiece

if TYPE_CHECKING:
    import torch

MAX_IMAGES_PER_CALL = 8
"""Maximum number of images per call of the vision encoder."""
MAX_CACHED_IMAGES = 256
"""Maximum number of images whose features are cached; features of Janus-Pro-1B in bfloat16 take 2.4 MB per image."""


class ImageFeatures:
    """Prepares consecutive pieces for the model and caches image features.

    Args:
        forward: the model.
        conversation: conversion of prompts to tokens.
    """

    def __init__(self, forward: Forward, conversation: Conversation):
        self.forward = forward
        self.conversation = conversation
        encode = getattr(forward.model.base_model, "get_image_features", None)
        takes_features = "mm_encoder_outputs" in inspect.signature(forward.model.forward).parameters
        self._encode = encode if takes_features and conversation.input == "image" else None
        self.clear()

    def clear(self) -> None:
        """Empty the cache."""
        self._cached: OrderedDict[str, Any] = OrderedDict()

    def prepare(self, pieces: Sequence[PromptPiece]) -> tuple[dict[str, "torch.Tensor"], dict[str, Any]]:
        """Return the tokens of consecutive pieces as one row, and other arguments of the forward call."""
        import torch

        features = self._features([s for s in pieces if s.media is not None]) if self._encode else []
        if self._encode is None:  # `_compute` also sets it to None, if the model has several kinds of features
            return self.conversation.checked_inputs(pieces), {}
        ids = [token for s in pieces for token in self.conversation.tokens(s).ids]
        inputs = {"input_ids": torch.tensor([ids], dtype=torch.long)}
        if not features:
            return inputs, {}
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        are_tensors = isinstance(features[0], torch.Tensor)
        pooled: Any = torch.cat(features) if are_tensors else [tensor for image in features for tensor in image]
        return inputs, {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=pooled)}}

    def _features(self, images: Sequence[PromptPiece]) -> list[Any]:
        """Return the features of each image: a tensor or a sequence of tensors, depending on the family."""
        new_images = {_key(s): s for s in images if _key(s) not in self._cached}
        features = {key: self._cached[key] for key in map(_key, images) if key in self._cached}
        for _, same_size in groupby(new_images.values(), key=self.conversation.size):
            while batch := list(islice(same_size, MAX_IMAGES_PER_CALL)):
                features |= zip(map(_key, batch), self._compute(batch), strict=False)
        if self._encode is None:
            return []
        for key in map(_key, images):
            self._cached[key] = features[key]
            self._cached.move_to_end(key)
        while len(self._cached) > MAX_CACHED_IMAGES:
            self._cached.popitem(last=False)
        return [features[key] for key in map(_key, images)]

    def _compute(self, images: Sequence[PromptPiece]) -> list[Any]:
        """Compute the features of images of equal size, which have equally many features each."""
        if self._encode is None:
            return []
        parameters = inspect.signature(self._encode).parameters
        inputs = self.forward.to_device(self.conversation.inputs(images))
        outputs = self._encode(**{k: v for k, v in inputs.items() if k in parameters}, return_dict=True)
        if getattr(outputs, "deepstack_features", None) is not None:
            self._encode = None
            return []
        features = outputs.pooler_output
        per_image, remainder = divmod(len(features), len(images))
        if remainder:
            raise ValueError(
                f"{len(images)} images of one size have {len(features)} features in all, which is not a multiple"
            )
        return [features[i * per_image : (i + 1) * per_image] for i in range(len(images))]


def _key(piece: PromptPiece) -> str:
    return piece.media.sha256 if piece.media else ""
