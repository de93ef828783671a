"""Load the processor and the weights of a language model from this machine, and check them."""

import importlib.util
import inspect
from pathlib import Path
from typing import Any, Literal

from vlm_audio_pipeline.classifiers.language_models.messages import MediaType
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.encoders.pretrained import WrongWeights, load_transformers, quiet_loading
from vlm_audio_pipeline.encoders.weights import Weights

Quantization = Literal["4bit"]


def load_model(weights: Weights, input: MediaType, device: str, dtype: str, quantization: Quantization | None) -> Any:
    """Load a conditional generation model of transformers.

    Args:
        weights: the model's files.
        input: "image" or "audio".
        device: "cpu" or "cuda".
        dtype: "float32" or "bfloat16"; for 4-bit weights, the format of the computation.
        quantization: "4bit": NF4 with double quantisation (QLoRA, https://arxiv.org/abs/2305.14314), by bitsandbytes.

    Raises:
        NotAvailable: if the weights, the device or bitsandbytes are missing.
        WrongWeights: if the weights are incomplete or belong to another kind of model.
    """
    import transformers

    kwargs: dict[str, Any] = {}
    if quantization:
        if device != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
            raise NotAvailable(
                f"4-bit weights need a GPU and bitsandbytes, got device {device}; `pip install bitsandbytes`, "
                "or leave out `quantization`"
            )
        kwargs["quantization_config"] = transformers.BitsAndBytesConfig(  # transformers has no types here
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        kwargs["device_map"] = {"": 0}
    cls = transformers.AutoModelForImageTextToText if input == "image" else transformers.AutoModelForMultimodalLM
    return load_transformers(cls, weights, device, dtype, **kwargs)


def load_processor(weights: Weights, vocabulary: int) -> Any:
    """Load the processor, which converts a conversation to tensors.

    Args:
        weights: the model's files.
        vocabulary: `vocab_size` of the model, padding included.

    Raises:
        NotAvailable: if files or packages are missing.
        WrongWeights: if the processor has no chat template, or a tokenizer of another model.
    """
    with quiet_loading():
        processor = read_processor(weights.snapshot(), weights)
    if hasattr(processor, "use_default_system_prompt"):  # `Conversation` adds the preamble, for prompts that have it
        processor.use_default_system_prompt = False
    tokenizer = getattr(processor, "tokenizer", None)
    size = len(tokenizer) if tokenizer is not None else 0
    if not 0.9 * vocabulary <= size <= vocabulary:
        raise WrongWeights(
            f"the tokenizer of {weights.model} has {size} tokens, but the model has {vocabulary}; its files are "
            "incomplete: get them with `vlm-audio fetch STUDY`"
        )
    if not (getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)):
        raise WrongWeights(f"{weights.model} has no chat template; use a chat model")
    return processor


def read_processor(folder: Path, weights: Weights) -> Any:
    """Read the processor of a model from a folder.

    Args:
        folder: the folder with the processor's files; the weights themselves are not needed.
        weights: the model, for its config and for messages.

    Raises:
        NotAvailable: if a package is missing.
        WrongWeights: if the files are damaged or incomplete.
    """
    from transformers import AutoProcessor

    kwargs = {"local_files_only": True, "trust_remote_code": False}
    try:
        try:
            return AutoProcessor.from_pretrained(folder, **kwargs)  # transformers has no types here
        except ImportError:
            cls = _class_without_video(weights)
            if cls is None:
                raise
            return cls.from_pretrained(folder, **kwargs)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise NotAvailable(
            f"the processor of {weights.model} cannot be loaded: {reason[:300]}; install the missing package"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise WrongWeights(
            f"the processor of {weights.model} cannot be loaded: {reason}; get its files with `vlm-audio fetch STUDY`"
        ) from error


def _class_without_video(weights: Weights) -> Any:
    """Return the processor's class without its video part, which needs torchvision; None if it cannot be left out."""
    from transformers.models.auto.processing_auto import (  # its module differs between versions
        PROCESSOR_MAPPING_NAMES,
        processor_class_from_name,
    )

    name = weights.config("processor_config.json").get("processor_class") or weights.config(
        "preprocessor_config.json"
    ).get("processor_class")
    cls = processor_class_from_name(name or PROCESSOR_MAPPING_NAMES.get(weights.config().get("model_type", ""), ""))
    if cls is None or "video_processor" not in cls.get_attributes():
        return None
    if inspect.signature(cls).parameters["video_processor"].default is inspect.Parameter.empty:
        return None
    attributes = [a for a in cls.get_attributes() if a != "video_processor"]
    return type(cls.__name__, (cls,), {"get_attributes": classmethod(lambda _: attributes)})
