"""The forward call of a model: move tensors to its device and return the logits of selected tokens."""

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Forward:
    """A model's forward call.

    Args:
        model: a conditional generation model of transformers.
        device: device of the model.

    Attributes:
        computed: tokens computed so far.
    """

    def __init__(self, model: Any, device: str):
        self.model = model
        self.device = device
        self.computed = 0
        self._has_logits_to_keep = "logits_to_keep" in inspect.signature(model.forward).parameters

    @property
    def dtype(self) -> "torch.dtype":
        """Number format of the computation."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    def to_device(self, inputs: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
        """Move tensors to the device of the model; convert floating-point tensors to its number format."""
        tensors = {k: v for k, v in inputs.items() if hasattr(v, "is_floating_point")}
        return {k: v.to(self.device, self.dtype if v.is_floating_point() else None) for k, v in tensors.items()}

    def logits(self, inputs: Mapping[str, "torch.Tensor"], indices: Sequence[int], **kwargs: Any) -> "torch.Tensor":
        """Compute one row of tokens.

        Args:
            inputs: `input_ids` (1, n) and the other inputs of the model.
            indices: indices among the n tokens whose logits are returned.
            **kwargs: passed to the model.

        Returns:
            (len(indices), vocabulary) float32 logits of the token after each index.
        """
        import torch

        index_tensor = torch.tensor(list(indices), device=self.device)
        inputs = self.to_device(inputs)
        self.computed += inputs["input_ids"].shape[1]
        if self._has_logits_to_keep:
            logits: torch.Tensor = self.model(**inputs, **kwargs, logits_to_keep=index_tensor).logits[0]
        else:
            logits = self.model(**inputs, **kwargs).logits[0, index_tensor]
        return logits.float()

    def fill_cache(self, inputs: Mapping[str, "torch.Tensor"], **kwargs: Any) -> None:
        """Compute one row of tokens only to fill the cache in `kwargs`."""
        inputs = self.to_device(inputs)
        self.computed += inputs["input_ids"].shape[1]
        self.model.base_model(**inputs, **kwargs)


def append_tokens(inputs: Mapping[str, "torch.Tensor"], tokens: Sequence[int]) -> dict[str, "torch.Tensor"]:
    """Append text tokens to a row; other inputs with one value per token are padded with 0."""
    import torch

    shape = inputs["input_ids"].shape
    new_ids = torch.tensor([list(tokens)], dtype=torch.long)
    return {
        k: torch.cat([v, new_ids.to(v) if k == "input_ids" else torch.zeros_like(new_ids).to(v)], 1)
        if getattr(v, "shape", None) == shape
        else v
        for k, v in inputs.items()
    }
