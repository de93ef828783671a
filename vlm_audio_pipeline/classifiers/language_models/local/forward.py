"""One forward call of a model: moves tensors to its device and returns the logits of selected tokens."""

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
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    @property
    def dtype(self) -> "torch.dtype":
        """Number format of the computation."""
        return self.model.dtype

    def to_device(self, inputs: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
        """Move tensors to the device of the model; convert floating-point tensors to its number format."""
        kept = {k: v for k, v in inputs.items() if hasattr(v, "is_floating_point")}
        return {k: v.to(self.device, self.dtype if v.is_floating_point() else None) for k, v in kept.items()}

    def logits(self, inputs: Mapping[str, "torch.Tensor"], indices: Sequence[int], **kwargs: Any) -> "torch.Tensor":
        """Compute one row of tokens.

        Args:
            inputs: `input_ids` (1, n) and the other inputs of the model.
            indices: indices among the n tokens whose logits are returned.
            **kwargs: passed to the model.

        Returns:
            (len(indices), vocabulary) float32 logits of the token after each.
        """
        import torch

        kept = torch.tensor(list(indices), device=self.device)
        inputs = self.to_device(inputs)
        self.computed += inputs["input_ids"].shape[1]
        if self._keeps:
            return self.model(**inputs, **kwargs, logits_to_keep=kept).logits[0].float()
        return self.model(**inputs, **kwargs).logits[0, kept].float()

    def fill_cache(self, inputs: Mapping[str, "torch.Tensor"], **kwargs: Any) -> None:
        """Compute one row of tokens only to fill the cache in `kwargs`."""
        inputs = self.to_device(inputs)
        self.computed += inputs["input_ids"].shape[1]
        self.model.base_model(**inputs, **kwargs)


def append_tokens(inputs: Mapping[str, "torch.Tensor"], tokens: Sequence[int]) -> dict[str, "torch.Tensor"]:
    """Append text tokens to a row; other inputs with one value per token get 0 for them."""
    import torch

    shape = inputs["input_ids"].shape
    more = torch.tensor([list(tokens)], dtype=torch.long)
    return {
        k: torch.cat([v, more.to(v) if k == "input_ids" else torch.zeros_like(more).to(v)], 1)
        if getattr(v, "shape", None) == shape
        else v
        for k, v in inputs.items()
    }
