"""Base class of encoders with downloaded weights, and loading of transformers models.

A missing tensor is an error; it is never filled with random numbers.
"""

import contextlib
import pickle
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.specs import excluded_from_fingerprint
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.encoders.torch_batches import Device, Dtype, check_device, resolve_device, resolve_dtype
from vlm_audio_pipeline.encoders.weights import CONFIG, ModelName, Weights

if TYPE_CHECKING:
    import torch


class WrongWeights(VlmAudioError):
    """Weights that do not fit the model, so that some of its tensors would be random."""


class Pretrained(EncoderSpec):
    """An encoder whose weights come from the hub or a folder.

    A family gives `model` a default and may set `needs` and `tensors` (required files) and `bf16_safe` (whether
    bfloat16 is accurate enough to be the default on a GPU).
    """

    needs: ClassVar[tuple[str, ...]] = CONFIG
    tensors: ClassVar[tuple[str, ...]] = ()
    bf16_safe: ClassVar[bool] = False
    max_cpu_batches: ClassVar[int] = 4
    """Batches at the same time on a CPU; each needs memory for its activations."""

    model: ModelName
    """Model id on the hub, or a folder (`./...` is relative to the study file)."""
    revision: str | None = excluded_from_fingerprint(None)
    """Branch, tag or commit of the model; by default its default branch, as of the last `vlm-audio fetch`."""
    device: Device = excluded_from_fingerprint("auto")
    """Where to compute: auto uses a GPU if the machine has one."""
    dtype: Dtype = excluded_from_fingerprint("auto")
    """Number format; auto is bfloat16 on a GPU if the family supports it, else float32. The table `embeddings` records the format that was used."""

    @property
    def weights(self) -> Weights:
        """Files of the model."""
        return Weights(self.model, self.revision, self.needs, self.tensors)

    def fingerprint_fields(self) -> dict[str, Any]:
        """Return the parameters that can change a result. A folder is identified by its digest (the revision), not by its path."""
        fields = super().fingerprint_fields()
        return {**fields, "model": "folder"} if self.weights.is_folder else fields

    @property
    def number_format(self) -> str:
        """Number format of the computation, with auto resolved."""
        return resolve_dtype(self.dtype, resolve_device(self.device), self.bf16_safe)

    def with_device(self, has_gpu: bool | None = None) -> Self:
        """Return the spec with its device fixed: cuda or cpu; see `Spec.with_device`."""
        return self.model_copy(update={"device": resolve_device(self.device, has_gpu)})

    @property
    def max_parallel(self) -> int | None:
        """1 on a GPU. On a CPU, a batch has one thread (see `one_torch_thread`), so several batches are computed at a time."""
        return 1 if resolve_device(self.device) == "cuda" else self.max_cpu_batches

    @property
    def accelerator(self) -> bool:
        """Whether it uses a GPU if the machine has one."""
        return self.device != "cpu"

    def preprocessor(self) -> dict[str, Any]:
        """Return the preprocessor config (of audio or images); {} if it is not on this machine."""
        config = self.weights.config("processor_config.json")
        nested = config.get("feature_extractor") or config.get("image_processor") or config
        return self.weights.config("preprocessor_config.json") or nested

    def load_model(self, cls: Any, *, optional_tensors: tuple[str, ...] = (), **kwargs: Any) -> "torch.nn.Module":
        """Load a transformers model on the device, in the number format, ready for inference.

        Args:
            cls: a model class, or an Auto class.
            optional_tensors: patterns of tensor names that may be missing, because no result depends on them.
            **kwargs: for `from_pretrained`.

        Raises:
            NotAvailable: if the weights are missing.
            WrongWeights: if tensors are missing or have another shape.
        """
        return load_transformers(
            cls,
            self.weights,
            resolve_device(self.device),
            self.number_format,
            optional_tensors=optional_tensors,
            **kwargs,
        )


def load_transformers(
    cls: Any, weights: Weights, device: str, dtype: str, *, optional_tensors: tuple[str, ...] = (), **kwargs: Any
) -> "torch.nn.Module":
    """Load a transformers model from this machine, by safetensors or `weights_only`, without executing code of the repository.

    Surplus tensors (a head, the other tower) are ignored; missing tensors are an error.

    Args:
        cls: a model class, or an Auto class.
        weights: files of the model.
        device: "cpu" or "cuda".
        dtype: "float32" or "bfloat16".
        optional_tensors: regular expressions, searched in tensor names, for tensors that may be missing.
        **kwargs: for `from_pretrained`.

    Returns:
        The model, in evaluation mode.

    Raises:
        NotAvailable: if the weights or the device are missing.
        WrongWeights: if tensors are missing or have another shape.
    """
    import torch

    folder = weights.snapshot()
    check_device(device)
    has_safetensors = any(folder.glob("*.safetensors"))
    with quiet_loading():
        try:
            model, loading_info = cls.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                use_safetensors=has_safetensors,  # otherwise a .bin, which transformers reads with torch.load(weights_only=True)
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **kwargs,
            )
        except (RuntimeError, ValueError, TypeError, KeyError, OSError, EOFError, pickle.UnpicklingError) as error:
            raise WrongWeights(
                f"{_describe(weights)} cannot be loaded as {cls.__name__}: {_first_line(error)}; use a model of that family"
            ) from error
    missing = sorted(k for k in loading_info["missing_keys"] if not any(re.search(p, k) for p in optional_tensors))
    mismatched = sorted(str(k) for k in loading_info.get("mismatched_keys") or ())
    if missing or mismatched:
        raise WrongWeights(
            f"{_describe(weights)} do not contain every tensor of {type(model).__name__}: {len(missing)} missing "
            f"({_join(missing)}) and {len(mismatched)} of another shape ({_join(mismatched)}), which would be random. "
            "Its config.json may be of an older layout than its weights; pin a `revision` that transformers can read"
        )
    module: torch.nn.Module = model.to(device).eval()
    return module


def _describe(weights: Weights) -> str:
    return f"weights of {weights.model} ({'digest' if weights.is_folder else 'revision'} {weights.resolve()})"


def _join(names: list[str], max_names: int = 5) -> str:
    return (
        ", ".join(names[:max_names]) + (f" and {len(names) - max_names} more" if len(names) > max_names else "")
        or "none"
    )


_DAMAGED = re.compile(r"weights.only|PytorchStreamReader|corrupt", re.IGNORECASE)


def loading_error(error: BaseException, max_length: int = 300) -> str:
    """Describe on one line why a file of weights cannot be loaded.

    torch advises to load a file that it refuses with `weights_only=False`, which runs code from the file; this advice is not
    passed on.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, EOFError | pickle.UnpicklingError) or _DAMAGED.search(text):
        return (
            "the file does not contain weights only: it is damaged, or contains other objects, which could run code when they are "
            "loaded; download it again, or use weights in the format safetensors"
        )
    return text[:max_length]


def _first_line(error: BaseException) -> str:
    text = loading_error(error)
    return text if "weights only" in text else (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Suppress progress bars and warnings of transformers while loading; the problems that they report are errors here."""
    from transformers.utils import logging

    level, has_progress_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_progress_bar:
            logging.enable_progress_bar()


def load_tokenizer(weights: Weights, vocabulary: int) -> Any:
    """Load the tokenizer of a model and check the size of its vocabulary.

    If its files are missing, transformers may return a tokenizer of a few tokens instead of an error.

    Args:
        weights: the model's files.
        vocabulary: `vocab_size` of the model, which may be padded.

    Raises:
        NotAvailable: if the weights are missing.
        WrongWeights: if there is no tokenizer, or it has far fewer tokens than the model, or more.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(weights.snapshot(), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise WrongWeights(
            f"the tokenizer of {weights.model} cannot be loaded: {_first_line(error)}; get its files with `vlm-audio "
            "fetch STUDY`, and install the packages that it names"
        ) from error
    if not 0.9 * vocabulary <= len(tokenizer) <= vocabulary:
        raise WrongWeights(
            f"the tokenizer of {weights.model} has {len(tokenizer)} tokens, but the model has {vocabulary}; its files "
            "are incomplete: get them with `vlm-audio fetch STUDY`"
        )
    return tokenizer
