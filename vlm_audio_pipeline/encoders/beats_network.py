"""The transformer of BEATs, computed from its tensors (see `beats`).

Its attention adds to the scores a bias for the distance of two patches, weighted by a gate that depends on the query
(Chi et al., XLM-E, https://arxiv.org/abs/2106.16138). Its residuals are scaled (DeepNorm, https://arxiv.org/abs/2203.00555).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Settings:
    """The settings of a checkpoint that a result depends on.

    Attributes:
        layers: layers of the transformer.
        heads: attention heads.
        patch: height and width of a patch, mel bands and frames.
        groups: groups of the convolution that encodes positions.
        buckets: buckets of distances between patches.
        max_distance: all distances from this one on share a bucket.
        residual_scale: factor of the residuals.
        has_projection: whether the patches are projected to the width of the transformer.
    """

    layers: int
    heads: int
    patch: int
    groups: int
    buckets: int
    max_distance: int
    residual_scale: float
    has_projection: bool

    @classmethod
    def from_checkpoint(cls, cfg: Mapping[str, Any]) -> Self:
        """Read the settings of a checkpoint.

        Raises:
            KeyError: if a setting is missing.
            ValueError: if it has a variant that no published checkpoint has.
        """
        required = {
            "layer_norm_first": False,
            "relative_position_embedding": True,
            "gru_rel_pos": True,
            "activation_fn": "gelu",
        }
        other_values = {name: cfg[name] for name, value in required.items() if cfg[name] != value}
        if other_values:
            raise ValueError(f"`cfg` must contain {required}, got {other_values}")
        layers = int(cfg["encoder_layers"])
        return cls(
            layers,
            int(cfg["encoder_attention_heads"]),
            int(cfg["input_patch_size"]),
            int(cfg["conv_pos_groups"]),
            int(cfg["num_buckets"]),
            int(cfg["max_distance"]),
            (2 * layers) ** 0.25 if cfg["deep_norm"] else 1.0,
            cfg["embed_dim"] != cfg["encoder_embed_dim"],
        )


_LAYER = (
    *(f"self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "out_proj", "grep_linear")),
    *("self_attn_layer_norm", "fc1", "fc2", "final_layer_norm"),
)
"""The modules of a layer, each with a weight and a bias."""


def tensor_names(settings: Settings) -> list[str]:
    """Return the names of the tensors that a result depends on."""
    modules = ["layer_norm", "encoder.layer_norm", *(["post_extract_proj"] if settings.has_projection else [])]
    layers = [f"encoder.layers.{i}" for i in range(settings.layers)]
    names = [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]
    names += [f"{layer}.{module}.{kind}" for layer in layers for module in _LAYER for kind in ("weight", "bias")]
    names += [f"{layer}.self_attn.grep_a" for layer in layers]
    names += [f"encoder.pos_conv.0.{kind}" for kind in ("weight_g", "weight_v", "bias")]
    return [*names, "patch_embedding.weight", f"{layers[0]}.self_attn.relative_attention_bias.weight"]


def hidden_states(tensors: Mapping[str, "torch.Tensor"], settings: Settings, spectra: "torch.Tensor") -> "torch.Tensor":
    """Compute the last hidden states.

    Args:
        tensors: those of `tensor_names`.
        settings: settings of the checkpoint.
        spectra: (batch, frames, mel bands), normalised; at least as many frames as a patch has.

    Returns:
        (batch, patches, dimensions); patches run along the mel bands first.
    """
    import torch
    from torch.nn import functional

    def norm(name: str, x: "torch.Tensor") -> "torch.Tensor":
        weight = tensors[f"{name}.weight"]
        return functional.layer_norm(x, weight.shape, weight, tensors[f"{name}.bias"])

    def linear(name: str, x: "torch.Tensor") -> "torch.Tensor":
        return functional.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def attention(name: str, x: "torch.Tensor") -> "torch.Tensor":
        query, key, value = (
            linear(f"{name}.{part}_proj", x).unflatten(-1, (settings.heads, -1)).transpose(1, 2) for part in "qkv"
        )
        gates = torch.sigmoid(linear(f"{name}.grep_linear", query).unflatten(-1, (2, 4)).sum(-1))
        gate = gates[..., :1] * (gates[..., 1:] * tensors[f"{name}.grep_a"] - 1) + 2
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=gate * distance_bias)
        return linear(f"{name}.out_proj", attended.transpose(1, 2).flatten(2))

    patches = functional.conv2d(spectra[:, None], tensors["patch_embedding.weight"], stride=settings.patch)
    x = norm("layer_norm", patches.flatten(2).transpose(1, 2))
    if settings.has_projection:
        x = linear("post_extract_proj", x)
    x = norm("encoder.layer_norm", x + _encode_positions(tensors, settings, x))
    distance_bias = _distance_bias(tensors, settings, x.shape[1])
    for i in range(settings.layers):
        layer = f"encoder.layers.{i}"
        x = norm(f"{layer}.self_attn_layer_norm", x * settings.residual_scale + attention(f"{layer}.self_attn", x))
        feed_forward = linear(f"{layer}.fc2", functional.gelu(linear(f"{layer}.fc1", x)))
        x = norm(f"{layer}.final_layer_norm", x * settings.residual_scale + feed_forward)
    return x


def _encode_positions(tensors: Mapping[str, "torch.Tensor"], settings: Settings, x: "torch.Tensor") -> "torch.Tensor":
    """Return the positional encoding: a grouped convolution along the patches, whose weights are normalised per tap."""
    from torch.nn import functional

    direction, length = tensors["encoder.pos_conv.0.weight_v"], tensors["encoder.pos_conv.0.weight_g"]
    weight = direction * (length / direction.norm(dim=(0, 1), keepdim=True))
    taps = weight.shape[-1]
    encoded = functional.conv1d(
        x.transpose(1, 2), weight, tensors["encoder.pos_conv.0.bias"], padding=taps // 2, groups=settings.groups
    )
    return functional.gelu(encoded[..., : x.shape[1]]).transpose(1, 2)  # an even number of taps gives one more


def _distance_bias(tensors: Mapping[str, "torch.Tensor"], settings: Settings, patches: int) -> "torch.Tensor":
    """Return the bias of the distance between query and key, (heads, patches, patches)."""
    import torch

    table = tensors["encoder.layers.0.self_attn.relative_attention_bias.weight"]  # the layers share it
    positions = torch.arange(patches, device=table.device)
    return table[bucket(positions[None, :] - positions[:, None], settings.buckets, settings.max_distance)].permute(
        2, 0, 1
    )


def bucket(distances: "torch.Tensor", buckets: int, max_distance: int) -> "torch.Tensor":
    """Return the buckets of distances between patches, as in T5 (https://arxiv.org/abs/1910.10683): half of them for each direction.

    The nearest distances have a bucket each; the others share buckets that grow with the logarithm of the distance.
    """
    import torch

    half = buckets // 2
    nearest, steps = half // 2, distances.abs()
    growth = torch.log(steps.float() / nearest) / math.log(max_distance / nearest)
    distant = (nearest + (growth * (half - nearest)).long()).clamp(max=half - 1)
    return torch.where(steps < nearest, steps, distant) + (distances > 0) * half
