"""The backend `transformers`: language models that run on this machine."""

import threading
from typing import TYPE_CHECKING, Any, Literal

from vlm_audio_pipeline.classifiers.language_models.language_model import BACKENDS, LanguageModel
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.specs import excluded_from_fingerprint
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.torch_batches import Device, Dtype, resolve_device, resolve_dtype
from vlm_audio_pipeline.encoders.weights import Weights

if TYPE_CHECKING:
    from vlm_audio_pipeline.classifiers.language_models.local.backend import LocalBackend

_loaded: dict[str, "LocalBackend"] = {}  # at most one: two large models seldom fit into memory
_loading = threading.Lock()


@BACKENDS.register("transformers")
class LocalLanguageModel(LanguageModel):
    """A language model of transformers that runs on this machine."""

    backend: Literal["transformers"] = "transformers"
    """transformers: the model runs on this machine."""
    revision: str | None = excluded_from_fingerprint(None)
    """Branch, tag or commit of the model; by default its default branch, as `vlm-audio fetch` last found it."""
    device: Device = excluded_from_fingerprint("auto")
    """Where to compute: auto uses a GPU if the machine has one."""
    dtype: Dtype = excluded_from_fingerprint("auto")
    """Number format; auto is bfloat16 on a GPU, else float32. Responses record the format that was used."""
    quantization: Literal["4bit"] | None = None
    """Weights in 4 bits, on a GPU (needs bitsandbytes)."""
    batch_size: int | None = excluded_from_fingerprint(None, ge=1)
    """Requests per batch, halved when memory runs out; by default 8 on a GPU and 1 elsewhere."""

    @property
    def weights(self) -> Weights:
        """The model's files."""
        return Weights(self.model, self.revision)

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
        if self.weights.is_packaged:
            return ModelCard(
                f"{self.model}: Janus' architecture, trained for the demo",
                "Apache-2.0",
                training_data="synthetic sounds made by this project; no claim about any real model",
            )
        return super().card

    @property
    def number_format(self) -> str:
        """Number format of the computation, with auto resolved."""
        return resolve_dtype(self.dtype, resolve_device(self.device), bf16_safe=True)

    @property
    def accelerator(self) -> bool:
        """Whether it uses a GPU if there is one."""
        return self.device != "cpu"

    def unavailable(self) -> str | None:
        """Return why the model cannot run on this machine now (missing weights), or None."""
        return self.weights.missing()

    def model_identity(self) -> dict[str, Any]:
        """Return the revision and number format of the model."""
        quantization = {"quantization": self.quantization} if self.quantization else {}
        revision = self.weights.resolve()
        return {"backend": self.backend, "revision": revision, "dtype": self.number_format, **quantization}

    def open_backend(self, context: StageContext) -> "LocalBackend":
        """Load the model, or return it if it is loaded: it stays loaded until another one is opened.

        Raises:
            NotAvailable: when weights, device or packages are missing.
            WrongWeights: when the weights are not those of such a model.
        """
        from vlm_audio_pipeline.classifiers.language_models.local.backend import LocalBackend

        options: dict[str, Any] = {
            "input": self.input,
            "device": self.device,
            "dtype": self.dtype,
            "batch_size": self.batch_size,
            "quantization": self.quantization,
        }
        key = fingerprint(self.model, self.weights.resolve(), options)
        with _loading:
            if key not in _loaded:
                unload_model()
                _loaded[key] = LocalBackend(self.weights, **options)
            return _loaded[key]


def unload_model() -> None:
    """Free the memory of the loaded model."""
    while _loaded:
        _loaded.popitem()[1].close()
