"""Dasheng: a masked autoencoder of speech, music and other sounds, at 16 kHz.

H. Dinkel, Z. Yan, Y. Wang, J. Zhang, Y. Wang and B. Wang, Scaling up masked audio encoder learning for general audio classification,
Interspeech 2024, https://arxiv.org/abs/2406.06992; https://github.com/XiaoMi/dasheng

transformers does not contain it: its repositories on the hub bring their own code, which is never executed here. The network is a plain
vision transformer on strips of four frames of a mel spectrogram, so it is computed here from the tensors of `model.safetensors`.

The vector is the mean of the last hidden states, one for every 40 ms. As in the authors' package, the transformer sees at most 1,008 frames
(10.08 s) at a time.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vlm_audio_pipeline.encoders.base import ENCODERS, AudioEncoder, Encode
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.pretrained import Pretrained, WrongWeights
from vlm_audio_pipeline.encoders.tensor_files import load_safetensors, require_tensors
from vlm_audio_pipeline.encoders.torch_batches import AdaptiveBatcher, call_in_groups, resolve_device, to_numpy
from vlm_audio_pipeline.encoders.weights import ModelName
from vlm_audio_pipeline.encoders.windows import pad

if TYPE_CHECKING:
    import torch

HEADS = {"dasheng-base": 12, "dasheng-0.6B": 16, "dasheng-1.2B": 24}
"""Attention heads of the published models."""

RATE = 16000  # Hz
N_FFT = 512  # samples, also the length of the window
HOP = 160  # samples
BANDS = 64
PATCH = 4  # frames of a hidden state
MIN_SAMPLES = N_FFT  # 4 frames

_BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


@ENCODERS.register("dasheng")
class Dasheng(AudioEncoder, Pretrained):
    """Dasheng, a masked autoencoder of all kinds of sounds: the mean of its last hidden states over the clip."""

    model: ModelName = "mispeech/dasheng-base"
    """Model id on the hub (`mispeech/dasheng-base`, `mispeech/dasheng-0.6B`, `mispeech/dasheng-1.2B`), or a folder."""

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate the model was trained at, Hz."""
        return RATE

    @property
    def card(self) -> ModelCard:
        """Card of the model."""
        return ModelCard(
            title="Dasheng, a masked autoencoder of audio (Xiaomi)",
            licence="Apache-2.0",
            url="https://arxiv.org/abs/2406.06992",
            citation="Dinkel, Yan, Wang, Zhang, Wang and Wang, Scaling up masked audio encoder learning for general audio "
            "classification, Interspeech 2024",
            training_data="272,000 h of audio without labels: ACAV100M, AudioSet and VGGSound (videos from YouTube), and MTG-Jamendo (music)",
        )

    def load(self) -> Encode:
        """Load the model; clips are (samples,) float32 at 16 kHz, vectors (dimensions,) float32."""
        import torch

        device, dtype = resolve_device(self.device), getattr(torch, self.number_format)
        tensors, heads = self._tensors()
        tensors = {name: tensor.to(device, dtype) for name, tensor in tensors.items()}
        max_frames = PATCH * tensors["time_pos_embed"].shape[-1]

        def forward(batch: list["torch.Tensor"]) -> list[np.ndarray]:
            spectra = torch.stack(batch).to(device, dtype)
            return to_numpy(hidden_states(tensors, heads, spectra).float().mean(dim=1))

        batches = AdaptiveBatcher(forward, self.batch_size, self.model_id)

        def encode(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
            spectra = [log_mel(pad(clip, MIN_SAMPLES)) for clip in clips]
            # Frames at the end that fill no patch are dropped.
            parts = [s[:, : s.shape[1] // PATCH * PATCH].split(max_frames, dim=1) for s in spectra]
            pieces = [piece for of_clip in parts for piece in of_clip]
            vectors = iter(call_in_groups(batches, pieces, key=lambda piece: piece.shape[1]))
            means = []
            for of_clip in parts:
                frames = [piece.shape[1] for piece in of_clip]
                means.append(np.average([next(vectors) for _ in of_clip], axis=0, weights=frames).astype(np.float32))
            return means

        return encode

    def _tensors(self) -> tuple[dict[str, "torch.Tensor"], int]:
        """Return the tensors of the encoder without the prefix `encoder.`, and the number of attention heads."""
        stored = load_safetensors(self.weights)
        tensors = {n.removeprefix("encoder."): t for n, t in stored.items() if n.startswith("encoder.")}
        config = self.weights.config()
        settings = {**config, **(config.get("encoder_kwargs") or {})}
        heads = settings.get("num_heads") or HEADS.get(str(config.get("name")))
        if not heads:
            raise WrongWeights(
                f"config.json of {self.model} must name one of {', '.join(HEADS)} or give `num_heads`, got neither; use a model of the "
                "family Dasheng"
            )
        depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
        required = [
            "time_pos_embed",
            "freq_pos_embed",
            "norm.weight",
            "norm.bias",
            "patch_embed.proj.weight",
            "patch_embed.proj.bias",
        ]
        required += [f"init_bn.1.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
        required += [
            f"blocks.{i}.{layer}.{kind}"
            for i in range(max(depth, 1))
            for layer in _BLOCK
            for kind in ("weight", "bias")
        ]
        surplus = [n for n in tensors if n not in required and not re.search(r"num_batches_tracked$|^front_end\.", n)]
        return require_tensors(self.weights, tensors, required, surplus), int(heads)


def log_mel(samples: np.ndarray) -> "torch.Tensor":
    """Return the mel spectrogram in dB, (64, frames) float32; one frame for every 160 samples, and one more.

    As `MelSpectrogram` and `AmplitudeToDB(top_db=120)` of torchaudio for one clip. (For a batch, torchaudio clips at 120 dB below the maximum of
    all its clips, so a result would depend on the batch.)

    Args:
        samples: (samples,) float32 at 16 kHz, at least 512.
    """
    import torch
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(N_FFT // 2 + 1, BANDS, 0, RATE / 2, RATE, norm=None, mel_scale="htk")
    spectrum = torch.stft(
        torch.from_numpy(np.ascontiguousarray(samples)),
        N_FFT,
        HOP,
        window=torch.hann_window(N_FFT),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    power = torch.from_numpy(filters.T.astype(np.float32)) @ spectrum.abs().square()
    decibels = 10 * torch.log10(power.clamp(min=1e-10))
    return decibels.clamp(min=float(decibels.max()) - 120)


def hidden_states(tensors: Mapping[str, "torch.Tensor"], heads: int, spectra: "torch.Tensor") -> "torch.Tensor":
    """Compute the last hidden states.

    Args:
        tensors: the tensors of the encoder.
        heads: attention heads.
        spectra: (batch, 64, frames), dB; frames is a multiple of 4.

    Returns:
        (batch, frames / 4, dimensions).
    """
    from torch.nn import functional

    def norm(name: str, x: "torch.Tensor") -> "torch.Tensor":
        weight = tensors[f"{name}.weight"]
        return functional.layer_norm(x, weight.shape, weight, tensors[f"{name}.bias"], eps=1e-6)

    def linear(name: str, x: "torch.Tensor") -> "torch.Tensor":
        return functional.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    bands = [tensors[f"init_bn.1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    x: Any = functional.batch_norm(spectra, *bands)
    weight = tensors["patch_embed.proj.weight"]
    x = functional.conv2d(x[:, None], weight, tensors["patch_embed.proj.bias"], stride=weight.shape[2:])
    x = x + tensors["time_pos_embed"][..., : x.shape[-1]] + tensors["freq_pos_embed"]
    x = x.flatten(2).transpose(1, 2)
    for i in range(len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})):
        block = f"blocks.{i}"
        qkv = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x))
        query, key, value = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + linear(f"{block}.attn.proj", attended)
        hidden = functional.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x)))
        x = x + linear(f"{block}.mlp.fc2", hidden)
    return norm("norm", x)
