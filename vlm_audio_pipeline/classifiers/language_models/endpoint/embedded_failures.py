"""Failures that a server reports: their status, code and words, also inside a response with status 200.

Gateways have sent the status before the model fails, so that they put the error into the body: beside the choices (OpenRouter,
https://openrouter.ai/docs/api-reference/errors) or into a choice. Such a failure is handled like the status that it names.
"""

import json
from typing import Any

_STATUS_OF_CODE = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 402,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "model_not_found": 404,
    "content_filter": 400,
    "invalid_request_error": 400,
    "overloaded_error": 503,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "api_error": 500,
    "timeout_error": 504,
    "insufficient_credits": 402,
    "insufficient_balance": 402,
    "payment_required": 402,
    "unauthenticated": 401,
    "unauthorized": 401,
    "permission_denied": 403,
    "not_found": 404,
    "invalid_argument": 400,
    "resource_exhausted": 429,
    "too_many_requests": 429,
    "rate_limited": 429,
    "unavailable": 503,
    "deadline_exceeded": 504,
    "internal": 500,
    "internal_server_error": 500,
    "server_error": 500,
}
_OTHER_STATUS = 502


def embedded_failure(content: bytes) -> tuple[int, dict[str, Any]] | None:
    """Return the status and the body of the failure that a response body contains, or None.

    >>> embedded_failure(b'{"error": {"code": 429, "message": "Daily limit reached"}}')
    (429, {'error': {'code': 429, 'message': 'Daily limit reached'}})
    >>> embedded_failure(b'{"choices": [{"message": {"content": "dog"}}]}')
    """
    if (b'"error"' not in content and b'"choices"' in content) or b'"meta_info"' in content:
        return None
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return failure_in_body(body)


def failure_in_body(body: Any) -> tuple[int, dict[str, Any]] | None:
    """Return the status and the body of the failure that a parsed response body contains, or None; see `embedded_failure`."""
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    error = body.get("error") or (choice.get("error") if isinstance(choice, dict) else None)
    if not error and not choices and "content" not in body and _message(body):
        error = True
    if not error:
        return None
    if error is True:  # the words are beside it
        error = {**body, "message": _message(body), "code": body.get("code") or body.get("error_code")}
    details = error if isinstance(error, dict) else {"message": str(error), "code": body.get("code")}
    return failure_status(details), {"error": details}


def _message(body: dict[str, Any], depth: int = 3) -> str:
    """Return the text of an error object, or "". Servers nest it under several names, in lists and objects; 3 levels are read."""
    names = ("message", "detail", "msg", "error_msg", "errors", "error")
    value = next((body[name] for name in names if isinstance(body.get(name), str | list | dict) and body[name]), "")
    entries = value if isinstance(value, list) else [value]
    texts = [_message(e, depth - 1) if isinstance(e, dict) and depth else str(e) for e in entries]
    place = body.get("loc")
    if isinstance(place, list):  # FastAPI
        texts = [f"'{'.'.join(map(str, place))}': {text}" for text in texts]
    details = body.get("metadata")
    raw = details.get("raw") if isinstance(details, dict) else None  # the words of the provider behind OpenRouter
    return ": ".join(["; ".join(texts), *([raw] if isinstance(raw, str) and raw else [])])


def failure_status(error: dict[str, Any]) -> int:
    """Return the HTTP status that an error object (`{code, status, type, message}`) stands for.

    >>> failure_status({"type": "overloaded_error", "message": "Overloaded"})
    503
    """
    for value in (error.get("code"), error.get("status"), error.get("type")):
        if isinstance(value, int | float) or (isinstance(value, str) and value.isascii() and value.isdigit()):
            number = float(value) if isinstance(value, str) else value  # float() of an int may overflow
            status = int(number) if abs(number) < 1e6 else 0
            return status if 400 <= status < 600 else _OTHER_STATUS
        if isinstance(value, str) and value.lower() in _STATUS_OF_CODE:
            return _STATUS_OF_CODE[value.lower()]
    return _OTHER_STATUS


def describe_error(body: Any) -> tuple[str, str, str]:
    """Return code, parameter and message of the body of an error, for the formats of several endpoints. The texts may contain the key."""
    if isinstance(body, list) and body:  # Gemini
        body = body[0]
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    if not isinstance(body, dict):
        return "", "", str(body or "no reason given")
    code, parameter = (str(body.get(k) or "") for k in ("code", "param"))
    return "" if code.isdigit() else code, parameter, _message(body) or "no reason given"
