"""The backend `transformers`: language models that run on this machine."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from vlm_audio_pipeline.classifiers.base import NO_ENCODERS
from vlm_audio_pipeline.classifiers.language_models.language_model import BACKENDS, LanguageModel
from vlm_audio_pipeline.classifiers.language_models.local.batching import chunk_size
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, Backend, MediaType, Request
from vlm_audio_pipeline.classifiers.protocol import Protocol
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.specs import excluded_from_fingerprint
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.torch_batches import Device, Dtype, resolve_device, resolve_dtype
from vlm_audio_pipeline.encoders.weights import Weights

if TYPE_CHECKING:
    from vlm_audio_pipeline.classifiers.language_models.local.backend import LocalBackend

_loaded_backends: dict[str, "LocalBackend"] = {}  # at most one entry: two large models seldom fit into memory
_load_lock = threading.Lock()


@BACKENDS.register("transformers")
class LocalLanguageModel(LanguageModel):
    """A language model of transformers that runs on this machine."""

    backend: Literal["transformers"] = "transformers"
    """transformers: the model runs on this machine."""
    revision: str | None = excluded_from_fingerprint(None)
    """Branch, tag or commit of the model; by default its default branch, as of the last `vlm-audio fetch`."""
    device: Device = excluded_from_fingerprint("auto")
    """Where to compute: auto uses a GPU if the machine has one."""
    dtype: Dtype = excluded_from_fingerprint("auto")
    """Number format; auto is bfloat16 on a GPU, else float32. Responses record the format that was used."""
    quantization: Literal["4bit"] | None = None
    """Weights in 4 bits, on a GPU (needs bitsandbytes)."""
    batch_size: int | None = excluded_from_fingerprint(None, ge=1)
    """Requests that are computed together, halved when memory runs out; by default 8 on a GPU and 1 on a CPU."""

    def protocol(self, encoders: Mapping[str, EncoderSpec] = NO_ENCODERS) -> Protocol:
        """Return the protocol with the number format; the model's name says if its weights are quantized."""
        model = self.model if self.quantization is None else f"{self.model}, {self.quantization}"
        return replace(super().protocol(encoders), model=model, number_format=self.dtype)

    @property
    def weights(self) -> Weights:
        """The model's files."""
        return Weights(self.model, self.revision)

    @property
    def card(self) -> ModelCard:
        """The model card."""
        if self.weights.is_demo_model:
            return ModelCard(
                f"{self.model}: Janus' architecture, trained for the demo",
                "Apache-2.0",
                training_data="other sounds of the synthesiser that makes the sounds of the demo",
                is_demonstration=True,
            )
        return super().card

    @property
    def number_format(self) -> str:
        """Number format of the computation, with auto resolved."""
        return resolve_dtype(self.dtype, resolve_device(self.device), bf16_safe=True)

    @property
    def accelerator(self) -> bool:
        """Whether it uses a GPU if the machine has one."""
        return self.device != "cpu"

    def unavailable(self) -> str | None:
        """Return why the model cannot run on this machine now (missing weights), or None."""
        return self.weights.missing()

    def model_identity(self) -> dict[str, Any]:
        """Return the revision and number format of the model."""
        return self._identity(self.weights.resolve(), self.number_format)

    def possible_identities(self, revision: str | None) -> list[dict[str, Any]]:
        """Return one identity for each number format, because the machine that computed the response chose it."""
        return [self._identity(revision, number_format) for number_format in ("float32", "bfloat16")]

    def _identity(self, revision: str | None, number_format: str) -> dict[str, Any]:
        quantization = {"quantization": self.quantization} if self.quantization else {}
        return {"backend": self.backend, "revision": revision, "dtype": number_format, **quantization}

    def with_device(self, has_gpu: bool | None = None) -> Self:
        """Return the spec with its device fixed: cuda or cpu; see `Spec.with_device`."""
        return self.model_copy(update={"device": resolve_device(self.device, has_gpu)})

    def open_backend(self, context: StageContext) -> Backend:
        """Load the model where the engine computes, or return it if it is loaded there.

        Raises:
            NotAvailable: if weights, device or packages are missing.
            WrongWeights: if the weights belong to another kind of model.
        """
        device = resolve_device(self.device)
        dtype = resolve_dtype(self.dtype, device, bf16_safe=True)
        revision = self.weights.resolve()
        work = LocalBackendWork(self.weights, revision, self.input, device, dtype, self.batch_size, self.quantization)
        backend: Backend = context.engine.open_backend(work)
        return backend


@dataclass(frozen=True)
class LocalBackendWork:
    """Loads a language model; see `contracts.work.BackendWork`.

    Attributes:
        weights: files of the model.
        revision: their revision, part of the result keys.
        input: whether the model gets images or audio.
        device: where it computes.
        dtype: number format.
        batch_size: maximum requests per row; None: see `LocalBackend`.
        quantization: "4bit" for weights in 4 bits.
    """

    weights: Weights
    revision: str | None
    input: MediaType
    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]
    batch_size: int | None
    quantization: Literal["4bit"] | None

    @property
    def key(self) -> str:
        """Hash of the model, its revision and the options."""
        options = [self.input, self.device, self.dtype, self.batch_size, self.quantization]
        return fingerprint(self.weights.model, self.revision, *options)

    @property
    def uses_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        return self.device == "cuda"

    def files_of(self, request: Request) -> tuple[Path, ...]:
        """Return the recordings in the messages."""
        parts = [part for message in request.messages for part in message.parts]
        return tuple(file for part in parts if isinstance(part, AudioPart) for file in part.files)

    @property
    def chunk_size(self) -> int:
        """Requests that are computed together."""
        return chunk_size(self.batch_size, self.device)

    def open(self) -> "LocalBackend":
        """Load the model, or return it if it is loaded. It stays loaded until another model is opened.

        Raises:
            NotAvailable: if weights, device or packages are missing, or the weights have another revision.
            WrongWeights: if the weights belong to another kind of model.
        """
        from vlm_audio_pipeline.classifiers.language_models.local.backend import LocalBackend

        if (current := self.weights.resolve()) != self.revision:
            raise NotAvailable(
                f"the weights of {self.weights.model} must have revision {self.revision}, got {current}; fetch them again"
            )
        with _load_lock:
            loaded = _loaded_backends.get(self.key)
            if loaded is None or loaded.is_closed:
                unload_model()
                _loaded_backends[self.key] = LocalBackend(
                    self.weights,
                    input=self.input,
                    device=self.device,
                    dtype=self.dtype,
                    batch_size=self.batch_size,
                    quantization=self.quantization,
                )
            return _loaded_backends[self.key]


def unload_model() -> None:
    """Free the memory of the loaded model."""
    while _loaded_backends:
        _loaded_backends.popitem()[1].close()
