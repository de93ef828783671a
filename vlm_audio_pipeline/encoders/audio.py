"""Audio encoders of transformers' Auto classes: AST, wav2vec 2.0, HuBERT, WavLM and the encoder of Whisper.

A clip is cut into consecutive windows; the last window may be shorter. The vector is the mean of the window means, weighted by
their lengths in samples, which is close to the mean over all frames. A window shorter than the model's smallest input is
padded with zeros to that length.

- AST: windows of 10.24 s, padded by its feature extractor; mean over the tokens of patches that begin within the clip.
- Whisper: windows of 30 s, padded by its feature extractor; mean over the frames that begin within the clip.
- wav2vec 2.0, HuBERT, WavLM: windows of 30 s (attention grows with the square of the length). Only windows of equal length
  share a batch, so nothing is padded and every frame counts. A mask of padded frames would not help: models with a group
  norm (the base models) also normalise over the padding, so a vector would depend on the other clips of its batch.

CLAP is in `clap`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.encoders.base import ENCODERS, AudioEncoder, Encode
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.pretrained import Pretrained
from vlm_audio_pipeline.encoders.torch_batches import AdaptiveBatcher, call_in_groups, to_numpy
from vlm_audio_pipeline.encoders.weights import ModelName

if TYPE_CHECKING:
    import torch

CARDS = {
    "audio-spectrogram-transformer": ModelCard(
        "AST, audio spectrogram transformer",
        "BSD-3-Clause",
        "https://arxiv.org/abs/2104.01778",
        training_data="ImageNet, then AudioSet (labelled YouTube videos)",
    ),
    "wav2vec2": ModelCard(
        "wav2vec 2.0", "Apache-2.0", "https://arxiv.org/abs/2006.11477", training_data="LibriSpeech or LibriVox: speech"
    ),
    "hubert": ModelCard(
        "HuBERT", "Apache-2.0", "https://arxiv.org/abs/2106.07447", training_data="LibriSpeech or LibriVox: speech"
    ),
    "wavlm": ModelCard(
        "WavLM",
        "see the model's page",
        "https://arxiv.org/abs/2110.13900",
        training_data="LibriSpeech; or LibriVox, GigaSpeech, VoxPopuli (speech), mixed with the noises of DNS",
    ),
    "whisper": ModelCard(
        "Whisper",
        "Apache-2.0 on the hub; MIT in the original repository",
        "https://arxiv.org/abs/2212.04356",
        training_data="680,000 h of audio from the web with transcripts; more for later models",
    ),
}
"""Cards by model type. A checkpoint that was fine-tuned later may have other training data, too."""

UNUSED_TENSORS = (r"masked_spec_embed$",)
"""Tensors that may be missing: they replace masked frames in training and are not used here."""

_WINDOW_S = 30  # for models that do not define a window length


@dataclass(frozen=True)
class WindowEncoder:
    """The computation of one model type on windows.

    Attributes:
        forward: windows -> their mean vectors, each (dimensions,) float32.
        window_length: samples per window.
        min_length: a shorter window is padded with zeros to this many samples.
        same_length: whether only windows of equal length may share a batch.
    """

    forward: Callable[[list[np.ndarray]], list[np.ndarray]]
    window_length: int
    min_length: int
    same_length: bool


@ENCODERS.register("audio")
class Audio(AudioEncoder, Pretrained):
    """An audio model (AST, wav2vec 2.0, HuBERT, WavLM, Whisper's encoder): the mean of its last hidden states over the clip."""

    model: ModelName = "MIT/ast-finetuned-audioset-10-10-0.4593"
    """Model id on the hub, or a folder."""

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate the model was trained at, Hz; 16,000 if its files contain none."""
        return int(self.preprocessor().get("sampling_rate", 16000))

    @property
    def card(self) -> ModelCard:
        """Card of the model's family."""
        kind = self.weights.config().get("model_type") or next((k for k in CARDS if k in self.model.lower()), "")
        if not kind and "/ast-" in self.model:
            kind = "audio-spectrogram-transformer"
        return CARDS.get(kind, ModelCard(title=self.model, training_data="not known to this project"))

    def load(self) -> Encode:
        """Load the model; clips are (samples,) float32 at `sample_rate_hz`, vectors (dimensions,) float32."""
        from transformers import AutoFeatureExtractor, AutoModel

        folder = self.weights.snapshot()
        kind = str(self.weights.config().get("model_type"))
        if kind not in CARDS:
            raise VlmAudioError(
                f"`model` of kind audio must have one of the types {', '.join(CARDS)}, got {self.model} of type {kind}; "
                "use another model"
            )
        model: Any = self.load_model(AutoModel, optional_tensors=UNUSED_TENSORS)
        extractor = AutoFeatureExtractor.from_pretrained(  # transformers has no types here
            folder, local_files_only=True
        )
        window_encoder = {"audio-spectrogram-transformer": _ast, "whisper": _whisper}.get(kind, _speech)(
            model, extractor
        )
        batches = AdaptiveBatcher(window_encoder.forward, self.batch_size, self.model_id)

        def encode(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
            clip_indices, pieces = [], []
            for i, samples in enumerate(clips):
                for start in range(0, max(len(samples), 1), window_encoder.window_length):
                    clip_indices.append(i)
                    pieces.append(samples[start : start + window_encoder.window_length])
            padded = [
                np.pad(p, (0, max(0, window_encoder.min_length - len(p)))) if len(p) < window_encoder.min_length else p
                for p in pieces
            ]
            vectors = call_in_groups(batches, padded, key=len) if window_encoder.same_length else batches(padded)
            weights = np.array([max(len(p), 1) for p in pieces], np.float64)
            sums = np.zeros((len(clips), len(vectors[0])), np.float64)
            np.add.at(sums, clip_indices, weights[:, None] * np.stack(vectors))
            return list((sums / np.bincount(clip_indices, weights)[:, None]).astype(np.float32))

        return encode


def _model_input(model: Any, extractor: Any, batch: list[np.ndarray]) -> "torch.Tensor":
    features = extractor(batch, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    values: torch.Tensor = features[model.main_input_name]
    return values.to(model.device, model.dtype)


def _masked_mean(hidden: "torch.Tensor", valid: list[int]) -> list[np.ndarray]:
    """Return the mean over the first `valid` frames: (batch, frames, dimensions) -> (dimensions,) each."""
    import torch

    frames = torch.arange(hidden.shape[1], device=hidden.device)
    mask = (frames[None] < torch.tensor(valid, device=hidden.device)[:, None]).float()
    return to_numpy((hidden.float() * mask[..., None]).sum(1) / mask.sum(1)[:, None])


def _ast(model: Any, extractor: Any) -> WindowEncoder:
    config, rate = model.config, int(extractor.sampling_rate)
    frame, hop = rate * 25 // 1000, rate * 10 // 1000  # Kaldi's filter bank: 25 ms every 10 ms, whole frames only
    mel_patches = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
    time_patches = (config.max_length - config.patch_size) // config.time_stride + 1

    def forward(batch: list[np.ndarray]) -> list[np.ndarray]:
        hidden = model(_model_input(model, extractor, batch)).last_hidden_state[
            :, 2:
        ]  # after the class and distillation tokens
        by_time = hidden.float().unflatten(1, (mel_patches, time_patches)).mean(1)  # tokens run along time first
        frames = [1 + (len(samples) - frame) // hop for samples in batch]
        return _masked_mean(by_time, [min(time_patches, -(-f // config.time_stride)) for f in frames])

    return WindowEncoder(forward, config.max_length * hop, frame, same_length=False)


def _whisper(model: Any, extractor: Any) -> WindowEncoder:
    encoder = model.get_encoder()
    step = 2 * int(extractor.hop_length)  # samples per output frame: the second convolution has stride 2

    def forward(batch: list[np.ndarray]) -> list[np.ndarray]:
        hidden = encoder(_model_input(model, extractor, batch)).last_hidden_state
        return _masked_mean(hidden, [-(-len(samples) // step) for samples in batch])

    return WindowEncoder(forward, int(extractor.n_samples), 1, same_length=False)


def _speech(model: Any, extractor: Any) -> WindowEncoder:
    min_length = 1
    for kernel, stride in zip(reversed(model.config.conv_kernel), reversed(model.config.conv_stride), strict=True):
        min_length = (min_length - 1) * stride + kernel  # receptive field of one output frame, samples

    def forward(batch: list[np.ndarray]) -> list[np.ndarray]:
        return to_numpy(model(_model_input(model, extractor, batch)).last_hidden_state.float().mean(1))

    return WindowEncoder(forward, _WINDOW_S * int(extractor.sampling_rate), min_length, same_length=True)
