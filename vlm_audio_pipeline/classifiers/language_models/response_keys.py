"""The keys of responses in the result store: hashes of everything that determines a response."""

from collections.abc import Mapping, Sequence
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.messages import Request, Scoring
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.storage.asked_again import current_keys
from vlm_audio_pipeline.storage.result_store import ResultStore

_KEY_MAX_TOKENS = 32
"""Keys contain this number instead of the maximum length, which was once part of them: stored responses stay valid."""
RESPONSE_VERSION = 1
"""Increase it when the code changes how a request is sent to a model, or how its response is measured."""


def response_key(request: Request, scoring: Scoring, model_identity: Mapping[str, Any]) -> str:
    """Return the result key of a response: a hash of everything that determines the response.

    Names of studies, classifiers, clips and prompts are not part of it, and neither is the maximum length: a response that
    ended by itself does not depend on it. A response that was cut off has another key; see `truncated_key`.

    Args:
        request: the request.
        scoring: one of its scorings.
        model_identity: values that identify the model: id or revision, number format, parameters of the endpoint. How an
            endpoint gives `likelihood` and `first_token` is part of the keys of that scoring only.
    """
    identity = {k: v for k, v in model_identity.items() if k not in ("likelihood", "first_token") or k == scoring}
    conversation = [message.content() for message in request.messages]
    sampling = request.sampling
    if scoring in ("likelihood", "first_token"):
        options: list[Any] = list(request.labels)
    else:
        options = [sampling.temperature, sampling.top_p, _KEY_MAX_TOKENS, sampling.seed, *request.labels]
    if request.preamble:
        conversation = [["preamble"], *conversation]
    # "answer" is part of every stored key: another word would make all stored, and paid, responses unusable.
    return fingerprint("answer", RESPONSE_VERSION, identity, scoring, conversation, options, length=64)


def truncated_key(key: str, max_tokens: int) -> str:
    """Return the result key of a response that was cut off after `max_tokens`; with a higher maximum it is requested again."""
    return fingerprint("truncated", key, max_tokens, length=64)


def current_response_keys(
    requests: Sequence[Request], model_identity: Mapping[str, Any], result_store: ResultStore
) -> list[str]:
    """Return the result key of the generated response to each request, or that of its successor if it is asked again."""
    keys = [response_key(request, "generation", model_identity) for request in requests]
    latest = current_keys(result_store, list(dict.fromkeys(keys)))
    return [latest[key] for key in keys]


def current_truncated_keys(requests: Sequence[tuple[str, int]], result_store: ResultStore) -> list[str]:
    """Return the key of a truncated response for each (response key, max_tokens), or that of its successor."""
    keys = [truncated_key(key, max_tokens) for key, max_tokens in requests]
    latest = current_keys(result_store, list(dict.fromkeys(keys)))
    return [latest[key] for key in keys]
