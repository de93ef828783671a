"""Music2Latent: the encoder of a consistency autoencoder for music and speech, at 44.1 kHz.

What belongs here: the features before its bottleneck, averaged over time. What does not: decoding.
M. Pasini, S. Lattner and G. Fazekas, Music2Latent, ISMIR 2024, https://arxiv.org/abs/2408.06500; the package
`music2latent` (CC BY-NC 4.0) is an extra.

The package's own constructor downloads into site-packages and unpickles what it finds; it is not used. The weights are
those of the hub at a revision, read with `weights_only=True` into the package's own modules, and every vector is the mean
over time of what the package's `encode(clip, extract_features=True)` gives on a CPU. (On a GPU the package computes in
half precision; here the number format is that of the study, float32 by default.)
"""

import importlib.util
import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from vlm_audio_pipeline.encoders.base import ENCODERS, Encode, ModelCard
from vlm_audio_pipeline.encoders.pretrained import Pretrained, WrongWeights
from vlm_audio_pipeline.encoders.torch_batches import Halving, check_device, device_of
from vlm_audio_pipeline.encoders.weights import ModelName

if TYPE_CHECKING:
    import torch

FILE = "music2latent.pt"
RATE = 44100  # Hz
HOP = 512  # samples between frames; a frame is 4 hops long
STRIDE = 8  # frames a feature spans: the network halves time three times


@ENCODERS.register("music2latent")
class Music2Latent(Pretrained):
    """Features before the bottleneck of Music2Latent, averaged over time: 8,192 dimensions."""

    needs: ClassVar[tuple[str, ...]] = ()
    tensors: ClassVar[tuple[str, ...]] = (FILE,)

    model: ModelName = "SonyCSLParis/music2latent"
    """Model id on the hub, or a folder that holds `music2latent.pt`."""
    window_s: float = Field(60.0, ge=1, le=600)
    """Longest stretch encoded at once, s, as the package has it; memory grows by 0.12 GB a second."""

    @property
    def rate_hz(self) -> int:
        """Sampling rate the model was trained at, Hz; the package takes any and never resamples."""
        return RATE

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
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
        """Say that the package or the weights are missing, or None."""
        there = importlib.util.find_spec("music2latent") is not None
        package = None if there else "package music2latent missing: pip install 'vlm-audio-pipeline[music2latent]'"
        return "; ".join(filter(None, (package, super().unavailable()))) or None

    def load(self) -> Encode:
        """Load the encoder; clips are (samples,) float32 at 44.1 kHz, vectors (8192,) float32."""
        import torch

        encoder, device = self._encoder(), device_of(self.device)
        bfloat16 = self.number_format == "bfloat16"
        longest = int(self.window_s * RATE / HOP) // STRIDE * STRIDE

        def vector(clips: list[np.ndarray]) -> list[np.ndarray]:
            [clip] = clips
            total, features = torch.zeros((), dtype=torch.float64), 0
            for representation, kept in representations(clip, longest, device):
                with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
                    found = encoder(representation, extract_features=True)[0, :, :kept]
                total = total + found.double().sum(dim=-1).cpu()
                features += kept
            return [(total / features).float().numpy()]

        one_by_one = Halving(vector, 1, self.model_id)  # as the package does: a batch would only take more memory
        return lambda clips: one_by_one(clips)

    def _encoder(self) -> Any:
        import torch
        from music2latent.models import Encoder

        path, device = self.weights.snapshot() / FILE, device_of(self.device)
        check_device(device)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)["gen_state_dict"]
            own = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
            encoder = Encoder()
            encoder.load_state_dict(own, strict=True)
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
                f"{path} must hold the weights of Music2Latent's encoder under `gen_state_dict`, got: "
                f"{' '.join(str(error).split())[:300]}; get it again with `vlm-audio fetch STUDY`"
            ) from error
        return encoder.to(device).eval()


def padded(clip: np.ndarray) -> np.ndarray:
    """Add silence behind what is too short for one feature: 5,632 samples, 0.13 s; the package raises instead."""
    return np.pad(clip, (0, max((3 + STRIDE) * HOP - len(clip), 0)))


def representations(clip: np.ndarray, longest: int, device: str) -> "Iterator[tuple[torch.Tensor, int]]":
    """Cut a clip into windows of the package's complex spectrum, exactly as the package does, one in memory at a time.

    Frames are dropped at the end until their number is a multiple of 8. The last of several windows is filled with the
    clip's first frames; features of these are not kept.

    Args:
        clip: (samples,) float at 44.1 kHz.
        longest: frames of a window, a multiple of 8.
        device: "cpu" or "cuda".

    Yields:
        (1, 2, 1024, frames) float32, real and imaginary part, and how many features of it count.
    """
    import torch
    from music2latent.audio import to_representation_encoder

    samples = np.ascontiguousarray(padded(clip), dtype=np.float32)
    frames = (len(samples) - 3 * HOP) // HOP // STRIDE * STRIDE

    def between(start: int, stop: int) -> "torch.Tensor":
        part = torch.from_numpy(samples[start * HOP : (stop + 3) * HOP]).to(device)
        return to_representation_encoder(part[None])

    for start in range(0, frames, longest):
        stop = min(start + longest, frames)
        window = between(start, stop)
        if start and stop - start < longest:
            window = torch.cat([window, between(0, longest - (stop - start))], dim=-1)
        yield window, (stop - start) // STRIDE
