"""Audio encoders of transformers' Auto classes: AST, wav2vec 2.0, HuBERT, WavLM and the encoder of Whisper.

What belongs here: which frames of a model's output belong to the clip, and their mean. What does not: CLAP (`clap`).

Clips longer than a window are cut into consecutive windows, the last one as short as it comes; the means of the windows
are averaged, weighted by their lengths in samples, which is close to the mean over all frames. What is shorter than the
model's smallest input is padded with zeros to that.

- AST: windows of 10.24 s, padded by its feature extractor; the mean over the tokens of patches that begin within the clip.
- Whisper: windows of 30 s, padded likewise; the mean over the frames that begin within the clip.
- wav2vec 2.0, HuBERT, WavLM: windows of 30 s (attention grows with the square of the length); only windows of one length
  share a batch, so nothing is padded and every frame counts. A mask would not do: models with a group norm (the base
  models) normalise over the padding too, and a vector would depend on the batch it came in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.encoders.base import ENCODERS, Encode, ModelCard
from vlm_audio_pipeline.encoders.pretrained import Pretrained
from vlm_audio_pipeline.encoders.torch_batches import Halving, in_groups, to_numpy
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
        training_data="680,000 h of audio of the web with transcripts; later models more",
    ),
}
"""By model type. Checkpoints fine-tuned by others may have seen more."""

HARMLESS = (r"masked_spec_embed$",)
"""Put in place of frames that are masked in training; never used here."""

_LONGEST_S = 30  # seconds of a window, for models without one of their own


@dataclass(frozen=True)
class Reading:
    """How a model type hears windows.

    Attributes:
        forward: windows -> their means, each (dimensions,) float32.
        window: samples a window.
        shortest: samples below which a window is padded with zeros.
        same_length: whether only windows of one length may share a batch.
    """

    forward: Callable[[list[np.ndarray]], list[np.ndarray]]
    window: int
    shortest: int
    same_length: bool


@ENCODERS.register("audio")
class Audio(Pretrained):
    """A model that hears (AST, wav2vec 2.0, HuBERT, WavLM, Whisper's encoder): the mean of its last hidden states over the clip."""

    model: ModelName = "MIT/ast-finetuned-audioset-10-10-0.4593"
    """Model id on the hub, or a folder."""

    @property
    def rate_hz(self) -> int:
        """Sampling rate the model was trained at, Hz; 16,000 unless its files say otherwise."""
        return int(self.preprocessor().get("sampling_rate", 16000))

    @property
    def card(self) -> ModelCard:
        """What is known of the model's family."""
        kind = self.weights.config().get("model_type") or next((k for k in CARDS if k in self.model.lower()), "")
        if not kind and "/ast-" in self.model:
            kind = "audio-spectrogram-transformer"
        return CARDS.get(kind, ModelCard(title=self.model, training_data="not known to this project"))

    def load(self) -> Encode:
        """Load the model; clips are (samples,) float32 at `rate_hz`, vectors (dimensions,) float32."""
        from transformers import AutoFeatureExtractor, AutoModel

        folder = self.weights.snapshot()
        kind = str(self.weights.config().get("model_type"))
        if kind not in CARDS:
            raise VlmAudioError(
                f"`model` of kind audio must be one of {', '.join(CARDS)}, got {self.model}, a {kind}; choose one of those"
            )
        model: Any = self.load_model(AutoModel, harmless=HARMLESS)
        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        reading = {"audio-spectrogram-transformer": _ast, "whisper": _whisper}.get(kind, _speech)(model, extractor)
        batches = Halving(reading.forward, self.batch_size, self.model_id)

        def encode(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
            owners, pieces = [], []
            for i, samples in enumerate(clips):
                for at in range(0, max(len(samples), 1), reading.window):
                    owners.append(i)
                    pieces.append(samples[at : at + reading.window])
            padded = [
                np.pad(p, (0, max(0, reading.shortest - len(p)))) if len(p) < reading.shortest else p for p in pieces
            ]
            vectors = in_groups(batches, padded, key=len) if reading.same_length else batches(padded)
            weights = np.array([max(len(p), 1) for p in pieces], np.float64)
            sums = np.zeros((len(clips), len(vectors[0])), np.float64)
            np.add.at(sums, owners, weights[:, None] * np.stack(vectors))
            return list((sums / np.bincount(owners, weights)[:, None]).astype(np.float32))

        return encode


def _given(model: Any, extractor: Any, batch: list[np.ndarray]) -> "torch.Tensor":
    made = extractor(batch, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    return made[model.main_input_name].to(model.device, model.dtype)


def _masked_mean(hidden: "torch.Tensor", valid: list[int]) -> list[np.ndarray]:
    """Mean over the first `valid` of the frames: (batch, frames, dimensions) -> (dimensions,) each."""
    import torch

    frames = torch.arange(hidden.shape[1], device=hidden.device)
    mask = (frames[None] < torch.tensor(valid, device=hidden.device)[:, None]).float()
    return to_numpy((hidden.float() * mask[..., None]).sum(1) / mask.sum(1)[:, None])


def _ast(model: Any, extractor: Any) -> Reading:
    config, rate = model.config, int(extractor.sampling_rate)
    frame, hop = rate * 25 // 1000, rate * 10 // 1000  # Kaldi's filter bank: 25 ms every 10 ms, whole frames only
    across = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
    along = (config.max_length - config.patch_size) // config.time_stride + 1

    def forward(batch: list[np.ndarray]) -> list[np.ndarray]:
        hidden = model(_given(model, extractor, batch)).last_hidden_state[
            :, 2:
        ]  # after the class and distillation tokens
        by_time = hidden.float().unflatten(1, (across, along)).mean(1)  # tokens run along time first
        frames = [1 + (len(samples) - frame) // hop for samples in batch]
        return _masked_mean(by_time, [min(along, -(-f // config.time_stride)) for f in frames])

    return Reading(forward, config.max_length * hop, frame, same_length=False)


def _whisper(model: Any, extractor: Any) -> Reading:
    encoder = model.get_encoder()
    step = 2 * int(extractor.hop_length)  # samples an output frame: the second convolution has stride 2

    def forward(batch: list[np.ndarray]) -> list[np.ndarray]:
        hidden = encoder(_given(model, extractor, batch)).last_hidden_state
        return _masked_mean(hidden, [-(-len(samples) // step) for samples in batch])

    return Reading(forward, int(extractor.n_samples), 1, same_length=False)


def _speech(model: Any, extractor: Any) -> Reading:
    shortest = 1
    for kernel, stride in zip(reversed(model.config.conv_kernel), reversed(model.config.conv_stride), strict=True):
        shortest = (shortest - 1) * stride + kernel  # samples one output frame is made of

    def forward(batch: list[np.ndarray]) -> list[np.ndarray]:
        return to_numpy(model(_given(model, extractor, batch)).last_hidden_state.float().mean(1))

    return Reading(forward, _LONGEST_S * int(extractor.sampling_rate), shortest, same_length=True)
