"""The model that a response names: whether it is the requested one."""

from typing import Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.redaction import redact
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.contracts.model_ids import is_other_model


def other_model(model: str, endpoint: Endpoint, body: Any) -> str | None:
    """Return the id that a response body names if it is neither the requested model nor accepted; None otherwise.

    Args:
        model: the requested model.
        endpoint: the endpoint, whose `accept` names other models.
        body: the response body, which is not trusted.
    """
    returned = body.get("model") if isinstance(body, dict) else None
    if not isinstance(returned, str) or returned in endpoint.accept:
        return None
    return redact(returned, endpoint.read_key()) if is_other_model(model, returned) else None
