"""The backend of a classifier: made when there is something to ask, and kept between folds where loading is long.

What belongs here: which backend a study's words mean. What does not: the backends.
"""

import threading
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import EndpointBackend
from vlm_audio_pipeline.classifiers.language_models.messages import Backend
from vlm_audio_pipeline.classifiers.language_models.scripted import ScriptedBackend
from vlm_audio_pipeline.contracts.hashing import fingerprint

if TYPE_CHECKING:
    from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel
    from vlm_audio_pipeline.classifiers.language_models.local.backend import LocalBackend
    from vlm_audio_pipeline.contracts.stages import StageContext

_kept: dict[str, "LocalBackend"] = {}  # one: two large models seldom fit into memory
_keeping = threading.Lock()


def backend_of(spec: "LanguageModel", context: "StageContext") -> Backend:
    """Give what answers the questions of a classifier.

    A local model stays loaded until another is asked for, so that five folds load it once.

    Raises:
        NotAvailable: when the model cannot be had.
    """
    if spec.backend == "openai":
        return EndpointBackend(spec.model, spec.endpoint, context.ledger, context.name, part(context.fold))
    if spec.weights is None:
        return ScriptedBackend(spec.script)
    from vlm_audio_pipeline.classifiers.language_models.local.backend import LocalBackend

    words: dict[str, Any] = {
        "input": spec.input,
        "device": spec.device,
        "dtype": spec.dtype,
        "batch_size": spec.batch_size,
        "quantization": spec.quantization,
    }
    key = fingerprint(spec.model, spec.weights.resolve(), words)
    with _keeping:
        if key not in _kept:
            forget()
            _kept[key] = LocalBackend(spec.weights, **words)
        return _kept[key]


def forget() -> None:
    """Give back the memory of the model that is kept."""
    while _kept:
        _kept.popitem()[1].close()


def part(fold: int | None) -> str:
    """Name a fold's share of a classifier's requests, for the ledger."""
    return f"fold {fold}"
