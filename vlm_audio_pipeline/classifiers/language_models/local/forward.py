"""One call of a model: tensors to its device, logits of the tokens that matter.

What belongs here: what both ways of answering, shared and alone, need of a model. What does not: which tokens.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Forward:
    """A model's forward call.

    Args:
        model: a conditional generation model of transformers.
        device: where it is.

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

    def moved(self, inputs: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
        """Put tensors where the model is; floating ones in its number format."""
        kept = {k: v for k, v in inputs.items() if hasattr(v, "is_floating_point")}
        return {k: v.to(self.device, self.dtype if v.is_floating_point() else None) for k, v in kept.items()}

    def logits(self, inputs: Mapping[str, "torch.Tensor"], rows: Sequence[int], **kwargs: Any) -> "torch.Tensor":
        """Compute one row of tokens.

        Args:
            inputs: `input_ids` (1, n) and what goes with it.
            rows: positions among the n tokens whose logits are wanted.
            **kwargs: for the model.

        Returns:
            (len(rows), vocabulary) float32 logits of the token after each.
        """
        import torch

        kept = torch.tensor(list(rows), device=self.device)
        inputs = self.moved(inputs)
        self.computed += inputs["input_ids"].shape[1]
        if self._keeps:
            return self.model(**inputs, **kwargs, logits_to_keep=kept).logits[0].float()
        return self.model(**inputs, **kwargs).logits[0, kept].float()

    def states(self, inputs: Mapping[str, "torch.Tensor"], **kwargs: Any) -> None:
        """Compute one row of tokens for the cache in `kwargs` alone."""
        inputs = self.moved(inputs)
        self.computed += inputs["input_ids"].shape[1]
        self.model.base_model(**inputs, **kwargs)


def followed_by(inputs: Mapping[str, "torch.Tensor"], tokens: Sequence[int]) -> dict[str, "torch.Tensor"]:
    """Put text tokens after the tokens of a row; whatever has a value for each token is 0 for text."""
    import torch

    shape = inputs["input_ids"].shape
    more = torch.tensor([list(tokens)], dtype=torch.long)
    return {
        k: torch.cat([v, more.to(v) if k == "input_ids" else torch.zeros_like(more).to(v)], 1)
        if getattr(v, "shape", None) == shape
        else v
        for k, v in inputs.items()
    }
