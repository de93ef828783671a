"""What every encoder with downloaded weights shares: its fields, its revision, and loading that accepts no gaps.

What belongs here: model, revision, device and number format in a study file; loading a transformers model so that a
missing weight is an error and never a random number. What does not: what a family does with the model.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.specs import not_identity
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.encoders.torch_batches import Device, Dtype, check_device, device_of, dtype_of
from vlm_audio_pipeline.encoders.weights import CONFIG, ModelName, Weights

if TYPE_CHECKING:
    import torch


class WrongWeights(VlmAudioError):
    """Weights that do not fit the model they are for: something would be left at random."""


class Pretrained(EncoderSpec):
    """An encoder whose weights come from the hub or a folder.

    A family gives `model` a default, and may set `needs` and `tensors` (files that must be there) and `bf16_safe`.
    """

    needs: ClassVar[tuple[str, ...]] = CONFIG
    tensors: ClassVar[tuple[str, ...]] = ()
    bf16_safe: ClassVar[bool] = False

    model: ModelName
    """Model id on the hub, or a folder (`./...` is seen from the study file)."""
    revision: str | None = not_identity(None)
    """Branch, tag or commit of the model; by default its default branch, as `vlm-audio fetch` last found it."""
    device: Device = not_identity("auto")
    """Where to compute: auto takes a GPU where there is one."""
    dtype: Dtype = not_identity("auto")
    """Number format; auto is bfloat16 on a GPU where that is safe for the family, else float32. Recorded as it was."""

    @property
    def weights(self) -> Weights:
        """The files it is loaded from."""
        return Weights(self.model, self.revision, self.needs, self.tensors)

    def identity(self) -> dict[str, Any]:
        """Give the parameters that can change a result; of a folder its digest counts (the revision), not its place."""
        own = super().identity()
        return {**own, "model": "folder"} if self.weights.is_folder else own

    @property
    def number_format(self) -> str:
        """Number format of the computation, with auto resolved."""
        return dtype_of(self.dtype, device_of(self.device), self.bf16_safe)

    @property
    def workers(self) -> int | None:
        """One: a model fills the machine by itself."""
        return 1

    @property
    def accelerator(self) -> bool:
        """Whether a GPU is wanted."""
        return self.device != "cpu"

    def preprocessor(self) -> dict[str, Any]:
        """Read how samples or pictures are prepared for the model; {} where that is not on this machine."""
        whole = self.weights.config("processor_config.json")
        nested = whole.get("feature_extractor") or whole.get("image_processor") or whole
        return self.weights.config("preprocessor_config.json") or nested

    def load_model(self, cls: Any, *, harmless: tuple[str, ...] = (), **kwargs: Any) -> "torch.nn.Module":
        """Load a transformers model on the device, in the number format, ready for inference.

        Args:
            cls: a model class, or an Auto class.
            harmless: patterns of names that may be missing, because nothing that is computed depends on them.
            **kwargs: for `from_pretrained`.

        Raises:
            NotAvailable: when the weights are not here.
            WrongWeights: when tensors are missing or of another shape; names them.
        """
        return load_transformers(
            cls, self.weights, device_of(self.device), self.number_format, harmless=harmless, **kwargs
        )


def load_transformers(
    cls: Any, weights: Weights, device: str, dtype: str, *, harmless: tuple[str, ...] = (), **kwargs: Any
) -> "torch.nn.Module":
    """Load a transformers model: from this machine, through safetensors or `weights_only`, without code of the repository.

    Tensors the model does not want (a head, the other tower) are tolerated; tensors it lacks are not.

    Args:
        cls: a model class, or an Auto class.
        weights: what to load.
        device: "cpu" or "cuda".
        dtype: "float32" or "bfloat16".
        harmless: patterns (searched, `re`) of names that may be missing.
        **kwargs: for `from_pretrained`.

    Returns:
        The model, in evaluation mode.

    Raises:
        NotAvailable: when the weights, or the device, are not here.
        WrongWeights: when tensors are missing or of another shape; names them.
    """
    import torch

    folder = weights.snapshot()
    check_device(device)
    safe = any(folder.glob("*.safetensors"))
    with quiet_loading():
        try:
            model, told = cls.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                use_safetensors=safe,  # else a .bin, which transformers reads with torch.load(weights_only=True)
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **kwargs,
            )
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise WrongWeights(
                f"{_named(weights)} must be loadable as {cls.__name__}, got: {_first(error)}; use a model of that family"
            ) from error
    missing = sorted(k for k in told["missing_keys"] if not any(re.search(p, k) for p in harmless))
    mismatched = sorted(str(k) for k in told.get("mismatched_keys") or ())
    if missing or mismatched:
        raise WrongWeights(
            f"{_named(weights)} must hold every tensor of {type(model).__name__}, got {len(missing)} missing "
            f"({_some(missing)}) and {len(mismatched)} of another shape ({_some(mismatched)}): they would be random. "
            "Its config.json may be of an older layout than its weights; pin a `revision` that transformers can read"
        )
    return model.to(device).eval()


def _named(weights: Weights) -> str:
    return f"weights of {weights.model} ({'digest' if weights.is_folder else 'revision'} {weights.resolve()})"


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "none"


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Hold back transformers' bars and warnings while loading: what they warn of is an error here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_tokenizer(weights: Weights, vocabulary: int) -> Any:
    """Load the tokenizer of a model, refusing one that is not the model's.

    Where its files are missing, transformers may hand back a tokenizer of a few pieces instead of raising.

    Args:
        weights: the model's files.
        vocabulary: `vocab_size` of the model, which may be padded by a few pieces.

    Raises:
        NotAvailable: when the weights are not here.
        WrongWeights: when there is no tokenizer, or it has far fewer pieces than the model, or more.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(weights.snapshot(), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise WrongWeights(
            f"the tokenizer of {weights.model} must be loadable, got: {_first(error)}; get its files with `vlm-audio "
            "fetch STUDY`, and install what it names"
        ) from error
    if not 0.9 * vocabulary <= len(tokenizer) <= vocabulary:
        raise WrongWeights(
            f"the tokenizer of {weights.model} must have the model's {vocabulary} pieces, got {len(tokenizer)}; its "
            "files are incomplete: get them with `vlm-audio fetch STUDY`"
        )
    return tokenizer
