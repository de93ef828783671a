"""Music2Latent: the encoder of a consistency autoencoder for music and speech, at 44.1 kHz.

M. Pasini, S. Lattner and G. Fazekas, Music2Latent, ISMIR 2024, https://arxiv.org/abs/2408.06500; the package `music2latent`
(CC BY-NC 4.0) is an optional dependency. A vector is the mean over time of the features before the bottleneck, as the package's
`encode(clip, extract_features=True)` computes them on a CPU.

The constructor of the package is not used, because it downloads the weights into site-packages and unpickles them. The weights
from the hub are read with `weights_only=True` into the modules of the package. (On a GPU the package computes in half
precision; here the number format is that of the study, float32 by default.)
"""

import importlib.util
import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from vlm_audio_pipeline.encoders.base import ENCODERS, AudioEncoder, Encode
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.pretrained import Pretrained, WrongWeights, loading_error
from vlm_audio_pipeline.encoders.torch_batches import AdaptiveBatcher, check_device, resolve_device, unit_vector
from vlm_audio_pipeline.encoders.weights import ModelName

if TYPE_CHECKING:
    import torch

WEIGHTS_FILE = "music2latent.pt"
RATE = 44100  # Hz
HOP = 512  # samples between frames; a frame is 4 hops long
STRIDE = 8  # frames per feature: the network halves the time axis three times


@ENCODERS.register("music2latent")
class Music2Latent(AudioEncoder, Pretrained):
    """Features before the bottleneck of Music2Latent, averaged over time: 8,192 dimensions."""

    needs: ClassVar[tuple[str, ...]] = ()
    tensors: ClassVar[tuple[str, ...]] = (WEIGHTS_FILE,)
    max_cpu_batches: ClassVar[int] = 2

    model: ModelName = "SonyCSLParis/music2latent"
    """Model id on the hub, or a folder with `music2latent.pt`."""
    window_s: float = Field(60.0, ge=1, le=600)
    """Longest window that is encoded at once, s (the default is the package's); memory grows by 0.12 GB per second."""

    unit_length: bool = False
    """Scale the vector to length 1."""

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate the model was trained at, Hz; the package takes any sample rate and never resamples."""
        return RATE

    @property
    def card(self) -> ModelCard:
        """Card of the model."""
        return ModelCard(
            title="Music2Latent, a consistency autoencoder (Sony CSL Paris)",
            licence="CC BY-NC 4.0",
            url="https://arxiv.org/abs/2408.06500",
            citation="Pasini, Lattner and Fazekas, Music2Latent: consistency autoencoders for latent audio "
            "compression, ISMIR 2024",
            dimensions=8192,
            training_data="MTG Jamendo (music) and DNS Challenge 4 (speech)",
        )

    def unavailable(self) -> str | None:
        """Return which of package and weights is missing, or None."""
        is_installed = importlib.util.find_spec("music2latent") is not None
        package = (
            None if is_installed else "package music2latent missing: pip install 'vlm-audio-pipeline[music2latent]'"
        )
        return "; ".join(filter(None, (package, super().unavailable()))) or None

    def load(self) -> Encode:
        """Load the encoder; clips are (samples,) float32 at 44.1 kHz, vectors (8192,) float32, of length 1 with `unit_length`."""
        import torch

        encoder, device = self._encoder(), resolve_device(self.device)
        bfloat16 = self.number_format == "bfloat16"
        max_frames = int(self.window_s * RATE / HOP) // STRIDE * STRIDE

        def vector(clips: list[np.ndarray]) -> list[np.ndarray]:
            [clip] = clips
            total, features = torch.zeros((), dtype=torch.float64), 0
            for representation, n_features in iterate_windows(clip, max_frames, device):
                with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
                    output = encoder(representation, extract_features=True)[0, :, :n_features]
                total = total + output.double().sum(dim=-1).cpu()
                features += n_features
            mean = (total / features).float().numpy()
            return [unit_vector(mean) if self.unit_length else mean]

        # One clip per call, as in the package; a batch would only take more memory.
        batches = AdaptiveBatcher(vector, 1, self.model_id)
        return lambda clips: batches(clips)

    def _encoder(self) -> Any:
        import torch
        from music2latent.models import Encoder

        path, device = self.weights.snapshot() / WEIGHTS_FILE, resolve_device(self.device)
        check_device(device)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)["gen_state_dict"]
            encoder_state = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
            encoder = Encoder()
            encoder.load_state_dict(encoder_state, strict=True)
        except (
            RuntimeError,
            KeyError,
            AttributeError,
            TypeError,
            ValueError,
            EOFError,
            pickle.UnpicklingError,
        ) as error:
            raise WrongWeights(
                f"{path} does not contain the weights of Music2Latent's encoder under `gen_state_dict`: "
                f"{loading_error(error)}; `vlm-audio fetch STUDY` downloads it"
            ) from error
        return encoder.to(device).eval()


def pad_clip(clip: np.ndarray) -> np.ndarray:
    """Pad a clip with zeros to the length of one feature, 5,632 samples (0.13 s); the package raises an error for shorter clips."""
    return np.pad(clip, (0, max((3 + STRIDE) * HOP - len(clip), 0)))


def iterate_windows(clip: np.ndarray, max_frames: int, device: str) -> "Iterator[tuple[torch.Tensor, int]]":
    """Yield windows of the complex spectrum exactly as the package computes them, one in memory at a time.

    Frames are dropped at the end until their number is a multiple of 8. The last of several windows is filled with the first
    frames of the clip; the features of these frames are not used.

    Args:
        clip: (samples,) float at 44.1 kHz.
        max_frames: frames per window, a multiple of 8.
        device: "cpu" or "cuda".

    Yields:
        (1, 2, 1024, frames) float32, real and imaginary part, and the number of its features to use.
    """
    import torch
    from music2latent.audio import to_representation_encoder

    samples = np.ascontiguousarray(pad_clip(clip), dtype=np.float32)
    frames = (len(samples) - 3 * HOP) // HOP // STRIDE * STRIDE

    def spectrum(start: int, stop: int) -> "torch.Tensor":
        window_samples = torch.from_numpy(samples[start * HOP : (stop + 3) * HOP]).to(device)
        representation: torch.Tensor = to_representation_encoder(window_samples[None])
        return representation

    for start in range(0, frames, max_frames):
        stop = min(start + max_frames, frames)
        window = spectrum(start, stop)
        if start and stop - start < max_frames:
            window = torch.cat([window, spectrum(0, max_frames - (stop - start))], dim=-1)
        yield window, (stop - start) // STRIDE
