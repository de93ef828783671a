"""Read the log-probabilities of a prompt's tokens from a response of vLLM or SGLang.

vLLM returns them for chat completions with `prompt_logprobs`: one entry per token of the prompt, `{token id: {logprob, rank,
decoded_token}}`, and null for the first (https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html). SGLang returns
`meta_info.input_token_logprobs` from `/generate`: `[logprob, token id, text]` for each token from a position on
(https://docs.sglang.io/docs/basic_usage/sampling_params.md).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.json_values import (
    as_dict,
    log_probability,
    token_count,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import parse_reply
from vlm_audio_pipeline.classifiers.language_models.messages import Reply, Usage

NO_LOG_PROBABILITIES = "the endpoint returned no log-probabilities of the prompt"


@dataclass(frozen=True)
class PromptToken:
    """A token of a prompt.

    Attributes:
        token: its id.
        log_probability: its log-probability (natural logarithm) after all tokens before it; None if it is not known.
        text: its text, or None.
    """

    token: int
    log_probability: float | None
    text: str | None


@dataclass(frozen=True)
class PromptReply(Reply):
    """A reply with the tokens of its prompt.

    Attributes:
        prompt: the last tokens of the prompt; None at positions that the server does not report.
        prompt_tokens: number of all tokens of the prompt.
    """

    prompt: tuple[PromptToken | None, ...] = ()
    prompt_tokens: int = 0


def parse_prompt_logprobs(body: Any, model_suffix: str = "") -> Reply:
    """Convert a chat completion of vLLM to a reply with the tokens of its prompt, or to an error."""
    reply = parse_reply(body, model_suffix)
    if reply.outcome == "error":
        return reply
    body = as_dict(body)
    choices = body.get("choices")
    choice = as_dict(choices[0]) if isinstance(choices, list) and choices else {}
    entries = body.get("prompt_logprobs") or choice.get("prompt_logprobs")
    ids = body.get("prompt_token_ids")
    if not isinstance(entries, list) or not entries:
        return error_reply(reply, NO_LOG_PROBABILITIES)
    if not isinstance(ids, list) or len(ids) != len(entries):
        ids = [None] * len(entries)
    tokens = [_token(as_dict(entry), token) for entry, token in zip(entries, ids, strict=True)]
    if any(token is None for token in tokens[1:]):
        return error_reply(reply, NO_LOG_PROBABILITIES)
    return PromptReply(
        "answered", model=reply.model, usage=reply.usage, prompt=tuple(tokens), prompt_tokens=len(tokens)
    )


def parse_input_logprobs(body: Any, has_logprobs: bool) -> Reply:
    """Convert a response of SGLang's `/generate` to a reply with the tokens of its prompt, or to an error."""
    meta = as_dict(as_dict(body).get("meta_info"))
    prompt, cached = token_count(meta.get("prompt_tokens")), token_count(meta.get("cached_tokens"))
    usage = Usage(input_tokens=prompt, cached_tokens=cached, output_tokens=token_count(meta.get("completion_tokens")))
    entries = meta.get("input_token_logprobs")
    if prompt is None or (has_logprobs and not isinstance(entries, list)):
        return Reply("error", error=NO_LOG_PROBABILITIES, usage=usage)
    tokens = [_input_token(entry) for entry in entries or []] if has_logprobs else []
    return PromptReply("answered", usage=usage, prompt=tuple(tokens), prompt_tokens=prompt)


def _input_token(entry: Any) -> PromptToken | None:
    value, token, text = (*entry, None, None, None)[:3] if isinstance(entry, list) else (None, None, None)
    if token_count(token) is None:
        return None
    return PromptToken(token, log_probability(value), text if isinstance(text, str) else None)


def _token(entry: dict[str, Any], token: Any) -> PromptToken | None:
    """Return the token of an entry; the entry may contain more likely tokens beside it if its id is known."""
    if not isinstance(token, int) and len(entry) == 1:
        token = next(iter(entry))
    value = as_dict(entry.get(str(token)))
    number, text = log_probability(value.get("logprob")), value.get("decoded_token")
    if number is None or not re.fullmatch("[0-9]{1,18}", str(token)):
        return None
    return PromptToken(int(token), number, text if isinstance(text, str) else None)


def error_reply(reply: Reply, reason: str) -> Reply:
    """Return an error with the model and the usage of a reply."""
    return Reply("error", error=reason, model=reply.model, usage=reply.usage)


def sum_usage(replies: Sequence[Reply]) -> Usage:
    """Return the tokens, time and price of several calls together; None where no call reports a value."""
    totals = {}
    for name in ("input_tokens", "cached_tokens", "seconds", "usd"):
        values = [value for reply in replies if (value := getattr(reply.usage, name)) is not None]
        totals[name] = sum(values) if values else None
    return replace(Usage(), **totals)
