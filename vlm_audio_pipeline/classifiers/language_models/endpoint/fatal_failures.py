"""Distinguish a failure of one request from a failure of every request to a model: wrong key, unknown model, no credit."""

import re

from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint

_TEMPLATE_MESSAGE = re.compile(
    r"chat[ _-]?template|roles must alternate|system role (?:is )?not supported", re.IGNORECASE
)
"""Messages of servers whose model cannot be asked, because its chat template is missing or rejects the messages."""
_FATAL_MESSAGE = re.compile(
    r"(?:api|access)[ _-]?key|authenticat"
    r"|\b(?:invalid|unknown) model\b|\bnot a valid model\b|\bmodel\b.{0,80}\b(?:not found|does not exist)\b|\bpinned to\b"
    r"|\bmodel\b.{0,80}\b(?:decommissioned|retired|shut ?down|no longer (?:available|supported))\b",
    re.IGNORECASE,
)
"""Messages with status 400 or 422 that mean a wrong key (401) or an unknown or retired model (404). Gemini sends them for a wrong key,
OpenRouter and `transformers serve` for an unknown model."""
_NO_CREDIT = re.compile(
    r"credit balance is too low|reached your specified (?:API )?usage limit|insufficient[_ ](?:quota|balance|credits?|funds)"
    r"|billing hard limit|account .{0,60}\bsuspended\b|in arrears",
    re.IGNORECASE,
)
"""Messages with other statuses that mean 402: Anthropic's with 400, those of others with 403 and 429."""
FIRST_TOKEN_ADVICE = "remove first_token from `scoring`, or lower `top_logprobs` if the server allows fewer"
_LOGPROBS = re.compile(r"\b(?:top_)?logprobs\b")


def fatal_reason(model: str, endpoint: Endpoint, status: int, code: str, reason: str, has_response: bool) -> str | None:
    """Return why no request to a model can succeed, with advice; None if only this request has failed.

    Args:
        model: the model's name at the endpoint.
        endpoint: the endpoint.
        status: HTTP status of the failure.
        code: error code of the response, or "".
        reason: status and error message of the response; API keys are removed from it.
        has_response: whether the endpoint has already answered a request; then its refusals concern single requests.
    """
    name = f"{model} at {endpoint.host}"
    if status == 401:
        key = endpoint.key_variable
        advice = f"correct the key in {key}" if key else "name the variable with its key as `endpoint: {key: ...}`"
        return f"{name} rejects the key: {reason}; {advice}"
    if status == 402 or code == "insufficient_quota" or _NO_CREDIT.search(reason):
        return f"{name} needs credit: {reason}; top up the account"
    if has_response:
        return None
    if status in (403, 404, 410):
        return f"{name} does not exist or is not available to the key: {reason}; check `model`, `url` and the account"
    if status in (400, 422, 500) and _TEMPLATE_MESSAGE.search(reason):
        return (
            f"{name} cannot be asked, because its chat template fails: {reason}; give the server a template for this model, or "
            "use a prompt that the template accepts"
        )
    if status in (400, 422) and _LOGPROBS.search(reason):
        return f"{name} returns no log-probabilities: {reason}; {FIRST_TOKEN_ADVICE}"
    if status in (400, 422) and _FATAL_MESSAGE.search(reason):
        return f"{name} rejects the key or the model: {reason}; check `model`, `url` and the key"
    return None
