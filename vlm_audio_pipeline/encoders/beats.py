"""BEATs: a transformer on patches of a spectrogram, trained with acoustic tokenizers, at 16 kHz.

S. Chen, Y. Wu, C. Wang, S. Liu, D. Tompkins, Z. Chen and F. Wei, BEATs: audio pre-training with acoustic tokenizers, ICML 2023,
https://arxiv.org/abs/2212.09058; https://github.com/microsoft/unilm/tree/master/beats

transformers does not contain it, and its authors publish no package, so it is computed here from the tensors of their checkpoints. The vector
is the mean of the last hidden states, one for every patch of 160 ms and 16 mel bands. A clip is cut into windows of 10 s, the length of the
clips that it was trained on; the last window is aligned to the end of the clip, and the vectors of the windows are averaged.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vlm_audio_pipeline.encoders.base import ENCODERS, AudioEncoder, Encode
from vlm_audio_pipeline.encoders.beats_network import Settings, hidden_states, tensor_names
from vlm_audio_pipeline.encoders.kaldi import log_mel
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.pretrained import Pretrained, WrongWeights
from vlm_audio_pipeline.encoders.tensor_files import load_checkpoint, require_tensors
from vlm_audio_pipeline.encoders.torch_batches import AdaptiveBatcher, call_in_groups, resolve_device, to_numpy
from vlm_audio_pipeline.encoders.weights import ModelName, Weights
from vlm_audio_pipeline.encoders.windows import window_vectors

if TYPE_CHECKING:
    import torch

RATE = 16000  # Hz
WINDOW = 160000  # samples, 10 s
MIN_SAMPLES = 2800  # 16 frames, the height of a patch: 25 ms and 15 steps of 10 ms
MEAN, DEVIATION = 15.41663, 6.55582  # of the log-mel bands of AudioSet; the authors divide by twice the deviation


@ENCODERS.register("beats")
class Beats(AudioEncoder, Pretrained):
    """BEATs, a transformer trained on AudioSet with acoustic tokenizers: the mean of its last hidden states."""

    needs: ClassVar[tuple[str, ...]] = ()

    model: ModelName
    """A folder with the checkpoint, or a model id on the hub. The authors publish no repository on the hub."""
    checkpoint: str = "BEATs_iter3_plus_AS2M.pt"
    """File name of the checkpoint; also one that was fine-tuned, whose classifier is not used."""

    @property
    def weights(self) -> Weights:
        """The checkpoint."""
        return Weights(self.model, self.revision, (), (self.checkpoint,), has_other_models=True)

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate the model was trained at, Hz."""
        return RATE

    @property
    def card(self) -> ModelCard:
        """Card of the model."""
        return ModelCard(
            title="BEATs, audio pre-training with acoustic tokenizers (Microsoft)",
            licence="MIT",
            url="https://arxiv.org/abs/2212.09058",
            citation="Chen, Wu, Wang, Liu, Tompkins, Chen and Wei, BEATs: audio pre-training with acoustic tokenizers, ICML 2023",
            training_data="AudioSet (videos from YouTube), without labels; fine-tuned checkpoints also with labels",
        )

    def load(self) -> Encode:
        """Load the model; clips are (samples,) float32 at 16 kHz, vectors (dimensions,) float32."""
        import torch

        settings, tensors = self._model()
        device, dtype = resolve_device(self.device), getattr(torch, self.number_format)
        tensors = {name: tensor.to(device, dtype) for name, tensor in tensors.items()}

        def forward(batch: list[np.ndarray]) -> list[np.ndarray]:
            spectra = np.stack([(log_mel(window * np.float32(2**15)) - MEAN) / (2 * DEVIATION) for window in batch])
            states = hidden_states(tensors, settings, torch.from_numpy(spectra.astype(np.float32)).to(device, dtype))
            return to_numpy(states.float().mean(dim=1))

        batches = AdaptiveBatcher(forward, self.batch_size, self.model_id)
        embed = partial(call_in_groups, batches, key=len)

        def encode(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
            vectors = window_vectors(embed, clips, WINDOW, self.batch_size, min_length=MIN_SAMPLES)
            return [of_clip.mean(axis=0).astype(np.float32) for of_clip in vectors]

        return encode

    def _model(self) -> tuple[Settings, dict[str, "torch.Tensor"]]:
        content: dict[str, Any] = load_checkpoint(self.weights, self.checkpoint)
        try:
            settings = Settings.from_checkpoint(content["cfg"])
            stored: dict[str, torch.Tensor] = content["model"]
            names = tensor_names(settings)
        except (KeyError, TypeError, ValueError) as error:
            raise WrongWeights(
                f"{self.checkpoint} of {self.model} must contain `cfg` and `model` as the checkpoints of BEATs do: {error}; use one of "
                "https://github.com/microsoft/unilm/tree/master/beats"
            ) from error
        return settings, require_tensors(self.weights, stored, names)
