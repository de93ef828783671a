"""The wire format of Anthropic's Messages API: requests as JSON, and replies from JSON; live requests and batches share it.

Reference: https://platform.claude.com/docs/en/api/messages. Anthropic's OpenAI-compatible form returns no thinking text, ignores
`reasoning_effort`, JSON schemas and log-probabilities, and is meant for comparisons only
(https://platform.claude.com/docs/en/api/openai-sdk). Does not belong here: sending (`backend`).
"""

import base64
from collections.abc import Collection
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.json_values import as_dict, token_count, valid_unicode
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import label_schema
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, MessagePart, Reply, Request, Usage
from vlm_audio_pipeline.classifiers.language_models.reasoning import split_reasoning

ANTHROPIC_VERSION = "2023-06-01"
"""Value of the header `anthropic-version`."""
_OUTCOMES = {
    "end_turn": "answered",
    "stop_sequence": "answered",
    "max_tokens": "truncated",
    "model_context_window_exceeded": "truncated",
    "refusal": "refused",
}
"""Outcome of each stop reason (https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons). Every other reason is
an error: `tool_use` and `pause_turn` belong to tools, which are never sent."""


def omitted_parameters(endpoint: Endpoint) -> tuple[str, ...]:
    """Return the parameters that the first request leaves out: those of `omit`, and those that the API does not allow beside thinking."""
    thinking = as_dict(_options(endpoint).get("thinking")).get("type")
    sampling_names = ("temperature", "top_p") if thinking in ("enabled", "adaptive") else ()
    return tuple(dict.fromkeys((*endpoint.omit, *sampling_names)))


def messages_request(model: str, request: Request, endpoint: Endpoint, omitted: Collection[str] = ()) -> dict[str, Any]:
    """Return the body of a request to `/v1/messages`; it is also the `params` of an entry of a message batch.

    `top_p` is sent only below 1, because new models refuse it beside `temperature`. The API has no seed.

    Args:
        model: the model's name at the endpoint.
        request: the request; it may not contain audio.
        endpoint: the endpoint.
        omitted: names of parameters that are left out: `temperature`, `top_p` or `response_format`.

    Raises:
        ValueError: if the request contains audio, which the API does not take.
    """
    sampling = request.sampling
    system = [part for message in request.messages if message.role == "system" for part in message.parts]
    turns = [message for message in request.messages if message.role != "system"]
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": sampling.max_tokens,
        "messages": [{"role": m.role, "content": [_block(part) for part in m.parts if part != ""]} for m in turns],
    }
    if system:
        body["system"] = [_block(part) for part in system if part != ""]
    if "temperature" not in omitted:
        body["temperature"] = sampling.temperature
    if sampling.top_p < 1 and "top_p" not in omitted:
        body["top_p"] = sampling.top_p
    if endpoint.structured and "response_format" not in omitted:
        body["output_config"] = {"format": {"type": "json_schema", "schema": label_schema(request.labels)}}
    for name, value in _options(endpoint).items():
        body[name] = {**body[name], **value} if isinstance(value, dict) and isinstance(body.get(name), dict) else value
    return body


def _options(endpoint: Endpoint) -> dict[str, Any]:
    """Return the parameters of thinking, and those of `extra_body`, which have priority."""
    options: dict[str, Any] = {}
    effort = endpoint.reasoning_effort
    if endpoint.thinking_budget:
        options["thinking"] = {"type": "enabled", "budget_tokens": endpoint.thinking_budget}
    elif endpoint.thinking_budget == 0 or effort == "none":
        options["thinking"] = {"type": "disabled"}
    elif effort is not None:
        # New models return the text of their thinking only on request.
        options["thinking"] = {"type": "adaptive", "display": "summarized"}
    if effort not in (None, "none"):
        options["output_config"] = {"effort": effort}
    for name, value in endpoint.extra_body.items():
        is_merged = name == "output_config" and isinstance(value, dict) and name in options
        options[name] = {**options[name], **value} if is_merged else value
    return options


def _block(part: MessagePart) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, AudioPart):
        raise ValueError("the Messages API of Anthropic takes no audio; use `input: image`")
    data = base64.b64encode(part.data).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": data}}


def parse_message(body: Any, model_suffix: str = "") -> Reply:
    """Convert a Messages response to a reply. The body is not trusted: it may have any format.

    Args:
        body: the parsed body: a message, or the `message` of a succeeded entry of a batch.
        model_suffix: suffix of the model id, such as " without temperature".

    Returns:
        The reply, without time and price. `input_tokens` includes the tokens that were read from or written to a cache.
    """
    body = as_dict(body)
    name = body["model"] if isinstance(body.get("model"), str) else ""
    model = valid_unicode(name + model_suffix).strip() or None
    usage = _usage(as_dict(body.get("usage")))
    if not isinstance(body.get("content"), list):
        reason = "the endpoint returned something other than a message of the Messages API"
        return Reply("error", error=reason, model=model, usage=usage)
    blocks = [as_dict(block) for block in body["content"]]
    reasoning = "".join(_text(block, "thinking") for block in blocks if block.get("type") == "thinking")
    texts = [_text(block, "text") for block in blocks if block.get("type") == "text"]
    marked_reasoning, text = split_reasoning("".join(texts))
    reasoning += marked_reasoning or ""
    stop_reason = str(body.get("stop_reason") or "")
    outcome = _OUTCOMES.get(stop_reason, "error")
    if outcome == "refused":
        text = text or _text(as_dict(body.get("stop_details")), "explanation")
        return Reply("refused", text=text, reasoning=reasoning or None, model=model, usage=usage)
    if outcome == "truncated":
        return Reply("truncated", text=text, reasoning=reasoning or None, model=model, usage=usage)
    if outcome == "error":
        reason = f"the endpoint ended the response for the reason {stop_reason[:60]!r}"
        return Reply("error", error=reason, model=model, usage=usage)
    if not texts:
        return Reply("error", error="the endpoint returned a message without text", model=model, usage=usage)
    return Reply("answered", text=text, reasoning=reasoning or None, model=model, usage=usage)


def _usage(usage: dict[str, Any]) -> Usage:
    uncached_tokens, cache_reads, cache_writes, output_tokens = (
        token_count(usage.get(name))
        for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
    )
    thinking = token_count(as_dict(usage.get("output_tokens_details")).get("thinking_tokens"))
    prompt = None if uncached_tokens is None else uncached_tokens + (cache_reads or 0) + (cache_writes or 0)
    return Usage(input_tokens=prompt, cached_tokens=cache_reads, output_tokens=output_tokens, reasoning_tokens=thinking)


def _text(block: dict[str, Any], name: str) -> str:
    value = block.get(name)
    return valid_unicode(value) if isinstance(value, str) else ""
