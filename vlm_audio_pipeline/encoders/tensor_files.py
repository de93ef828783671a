"""Tensors of models that transformers does not contain. They are read without executing code; missing tensors are an error."""

import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.encoders.pretrained import WrongWeights, loading_error
from vlm_audio_pipeline.encoders.weights import Weights

if TYPE_CHECKING:
    import torch


def load_safetensors(weights: Weights) -> dict[str, "torch.Tensor"]:
    """Read all tensors of a model in the format safetensors, also from several files.

    Raises:
        NotAvailable: if the files are missing.
        WrongWeights: if a file is damaged, or there is none of this format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    files = sorted(weights.snapshot().glob("*.safetensors"))
    if not files:
        raise WrongWeights(f"{weights.model} has no *.safetensors file; pin a `revision` that has one")
    for path in files:
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise WrongWeights(f"{path} cannot be read as safetensors: {error}; download it again") from error
    return tensors


def load_checkpoint(weights: Weights, file: str) -> dict[str, Any]:
    """Read a checkpoint of torch with `weights_only=True`, so that no code in it is executed.

    Raises:
        NotAvailable: if the file is missing.
        WrongWeights: if it is damaged, contains other objects, or is not a dict.
    """
    import torch

    path = weights.snapshot() / file
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise WrongWeights(f"{path} cannot be loaded: {loading_error(error)}") from error
    if not isinstance(content, dict):
        raise WrongWeights(f"{path} must contain a dict, got {type(content).__name__}; use a checkpoint of the authors")
    return content


def require_tensors(
    weights: Weights, tensors: dict[str, "torch.Tensor"], required: Sequence[str], surplus: Sequence[str] = ()
) -> dict[str, "torch.Tensor"]:
    """Return the required tensors.

    Args:
        weights: the model, for the message.
        tensors: all tensors of the model.
        required: names of tensors that the model is computed with.
        surplus: names of tensors that the model has, and that would change a result.

    Raises:
        WrongWeights: if tensors are missing or surplus.
    """
    missing = [name for name in required if name not in tensors]
    if missing or surplus:
        names = ", ".join([*missing, *surplus][:5])
        raise WrongWeights(
            f"the tensors of {weights.model} are not those of this family: {len(missing)} missing, {len(surplus)} unknown, among them "
            f"{names}; use one of the published models, or pin a `revision`"
        )
    return {name: tensors[name] for name in required}
