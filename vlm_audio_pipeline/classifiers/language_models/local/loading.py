"""Load the processor and the weights of a language model from this machine, and check them."""

import importlib.util
import inspect
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
        dtype: "float32" or "bfloat16"; of 4-bit weights, the format they are computed in.
        quantization: "4bit": NF4 with double quantisation (QLoRA, https://arxiv.org/abs/2305.14314), by bitsandbytes.

    Raises:
        NotAvailable: if the weights, the device or bitsandbytes are missing.
        WrongWeights: if they are of another kind of model or incomplete.
    """
    import transformers

    kwargs: dict[str, Any] = {}
    if quantization:
        if device != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
            raise NotAvailable(
                f"4-bit weights must be computed by bitsandbytes on a GPU, got device {device}; `pip install bitsandbytes`, "
                "or leave out `quantization`"
            )
        kwargs["quantization_config"] = transformers.BitsAndBytesConfig(
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
        processor = _load(weights)
    if hasattr(processor, "use_default_system_prompt"):  # Janus: would add an English preamble to every prompt
        processor.use_default_system_prompt = False
    tokenizer = getattr(processor, "tokenizer", None)
    size = len(tokenizer) if tokenizer is not None else 0
    if not 0.9 * vocabulary <= size <= vocabulary:
        raise WrongWeights(
            f"the tokenizer of {weights.model} must have the model's {vocabulary} pieces, got {size}; its files are "
            "incomplete: get them with `vlm-audio fetch STUDY`"
        )
    if not (getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)):
        raise WrongWeights(
            f"{weights.model} must come with a chat template, got none; use a model that is made for chat"
        )
    return processor


def _load(weights: Weights) -> Any:
    from transformers import AutoProcessor

    folder, kwargs = weights.snapshot(), {"local_files_only": True, "trust_remote_code": False}
    try:
        try:
            return AutoProcessor.from_pretrained(folder, **kwargs)
        except ImportError:
            cls = _class_without_video(weights)
            if cls is None:
                raise
            return cls.from_pretrained(folder, **kwargs)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise NotAvailable(
            f"the processor of {weights.model} must be loadable, got: {reason[:300]}; install it"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise WrongWeights(
            f"the processor of {weights.model} must be loadable, got: {reason}; get its files with `vlm-audio fetch STUDY`"
        ) from error


def _class_without_video(weights: Weights) -> Any:
    """Return the processor's class without its video part, which needs torchvision; None if it cannot be left out."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES, processor_class_from_name

    name = weights.config("processor_config.json").get("processor_class") or weights.config(
        "preprocessor_config.json"
    ).get("processor_class")
    cls = processor_class_from_name(name or PROCESSOR_MAPPING_NAMES.get(weights.config().get("model_type", ""), ""))
    if cls is None or "video_processor" not in cls.get_attributes():
        return None
    if inspect.signature(cls).parameters["video_processor"].default is inspect.Parameter.empty:
        return None
    rest = [a for a in cls.get_attributes() if a != "video_processor"]
    return type(cls.__name__, (cls,), {"get_attributes": classmethod(lambda _: rest)})
