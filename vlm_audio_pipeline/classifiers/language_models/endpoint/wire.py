"""The wire format of chat completions: requests as JSON, and replies from JSON.

Reference: https://platform.openai.com/docs/api-reference/chat. Does not belong here: sending (`meter`, `backend`).
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.json_values import (
    as_dict,
    log_probability,
    token_count,
    valid_unicode,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.rejected_parameters import OPTIONAL, rejected_parameters
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import OPENAI, Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.stop_reasons import outcome_of
from vlm_audio_pipeline.classifiers.language_models.first_token import FirstTokens, first_tokens, no_first_tokens
from vlm_audio_pipeline.classifiers.language_models.messages import (
    AudioPart,
    ImagePart,
    MessagePart,
    Reply,
    Request,
    Usage,
)
from vlm_audio_pipeline.classifiers.language_models.reasoning import split_reasoning


@dataclass(frozen=True)
class Dialect:
    """The parameters that are sent to an endpoint: all, until the endpoint rejects a parameter by name.

    Attributes:
        limit_name: name of the maximum length: "max_completion_tokens" at OpenAI, "max_tokens" elsewhere.
        rejected_parameters: parameters that the endpoint rejected, in this order; they are not sent.
        is_limit_renamed: whether `limit_name` was changed.
    """

    limit_name: str
    rejected_parameters: tuple[str, ...] = ()
    is_limit_renamed: bool = False

    @classmethod
    def from_endpoint(cls, endpoint: Endpoint) -> "Dialect":
        """Return the dialect of the first request to an endpoint."""
        return cls("max_completion_tokens" if endpoint.url == OPENAI else "max_tokens", endpoint.omit)

    def parameters(self, request: Request, endpoint: Endpoint) -> dict[str, Any]:
        """Return all parameters of a request except the model, including every decoding parameter."""
        sampling = request.sampling
        values: dict[str, Any] = {
            "messages": [{"role": m.role, "content": self._content(m.parts, endpoint)} for m in request.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.limit_name: sampling.max_tokens,
            "seed": sampling.seed,
            "n": 1,
        }
        if endpoint.structured:
            schema = label_schema(request.labels)
            values["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            }
        if "first_token" in request.scorings:
            values |= {"logprobs": True, "top_logprobs": endpoint.top_logprobs}
            if "generation" not in request.scorings:
                values[self.limit_name] = 1
        if endpoint.reasoning_effort is not None:
            values["reasoning_effort"] = endpoint.reasoning_effort
        sent = {name: value for name, value in values.items() if name not in self.rejected_parameters}
        extra_body = {**endpoint.thinking_parameters(), **endpoint.extra_body}
        return {**sent, "extra_body": extra_body} if extra_body else sent

    def _content(self, parts: tuple[MessagePart, ...], endpoint: Endpoint) -> str | list[dict[str, Any]]:
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(parts):  # every endpoint accepts a string, but not every one accepts text parts
            return "".join(texts)
        return [self._part(part, endpoint) for part in parts]

    def _part(self, part: MessagePart, endpoint: Endpoint) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        if isinstance(part, AudioPart):
            data = base64.b64encode(encode_wav(part, endpoint.sample_rate)).decode()
            return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
        image = {"url": data_url(part, endpoint)}
        if "detail" not in self.rejected_parameters:
            image["detail"] = endpoint.detail
        return {"type": "image_url", "image_url": image}

    def adapt(self, code: str, parameter: str, message: str) -> "Dialect | None":
        """Omit or rename the parameter that an error (400, 422) names.

        Args:
            code: code of the error, or "".
            parameter: parameter that the error names, or "".
            message: text of the error.

        Returns:
            The dialect for another attempt, or None if the error has another cause.
        """
        names, is_exclusive = rejected_parameters(code, parameter, message, self.limit_name)
        dialect = self
        for name in names:
            if name == dialect.limit_name and not dialect.is_limit_renamed:
                other_name = "max_completion_tokens" if name == "max_tokens" else "max_tokens"
                dialect = replace(dialect, limit_name=other_name, is_limit_renamed=True)
            elif name in OPTIONAL and name not in dialect.rejected_parameters:
                dialect = replace(dialect, rejected_parameters=(*dialect.rejected_parameters, name))
                if is_exclusive:  # the others are accepted without this one
                    break
        return dialect if dialect != self else None

    def model_suffix(self) -> str:
        """Return the rejected parameters as a suffix of the model id; "" if there are none."""
        return f" without {', '.join(self.rejected_parameters)}" if self.rejected_parameters else ""


def data_url(part: ImagePart | AudioPart, endpoint: Endpoint) -> str:
    """Return an image, or audio as a WAV file, as a data URL."""
    if isinstance(part, AudioPart):
        data, media_type = encode_wav(part, endpoint.sample_rate), "audio/wav"
    else:
        data, media_type = part.data, part.media_type
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def encode_wav(audio: AudioPart, rate: int) -> bytes:
    """Return audio as a WAV file, 16-bit PCM, mono, at `rate` Hz; samples beyond full scale are clipped."""
    import numpy as np
    import soundfile

    file = BytesIO()
    soundfile.write(file, np.clip(audio.load(rate), -1.0, 1.0), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def label_schema(labels: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON schema of a response that is restricted to the labels."""
    label = {"type": "string", "enum": list(dict.fromkeys(labels))}
    return {"type": "object", "properties": {"label": label}, "required": ["label"], "additionalProperties": False}


def parse_reply(body: Any, model_suffix: str = "", first_token_labels: Sequence[str] = ()) -> Reply:
    """Convert a response body to a reply. The body is not trusted: it may have any format.

    Args:
        body: the parsed body.
        model_suffix: suffix of the model id.
        first_token_labels: the labels, to read the probabilities of their first tokens from the response.

    Returns:
        The reply, without time and price. Only a response that ended by itself is answered; one that was cut off at the
        maximum length is truncated, one that a safety filter ended is refused, and every other end is an error.
    """
    body = body if isinstance(body, dict) else {}
    usage = _usage(as_dict(body.get("usage")))
    name = " ".join(str(body[k]) for k in ("model", "system_fingerprint") if isinstance(body.get(k), str) and body[k])
    model = valid_unicode(name + model_suffix).strip() or None

    def error_reply(reason: str) -> Reply:
        return Reply("error", error=reason, model=model, usage=usage)

    choices = body.get("choices")
    if not choices and _is_prompt_blocked(body):
        return Reply("refused", model=model, usage=usage)
    if not isinstance(choices, list):
        return error_reply("the endpoint returned something other than a chat completion")
    if not choices:
        return error_reply("the endpoint returned no choice")
    choice = as_dict(choices[0])
    message = as_dict(choice.get("message"))
    stop_reason = str(choice.get("finish_reason") or "")
    text, reasoning = _text_and_reasoning(message)
    if refusal := _refusal(message):
        return Reply("refused", text=refusal, reasoning=reasoning, model=model, usage=usage)
    outcome = outcome_of(stop_reason)
    if outcome == "refused":
        return Reply("refused", text=text, reasoning=reasoning, model=model, usage=usage)
    first = _first_tokens(choice, reasoning, first_token_labels) if first_token_labels else None
    if outcome == "truncated":
        return Reply("truncated", text or "", reasoning, first_tokens=first, model=model, usage=usage)
    if outcome == "error":
        return error_reply(f"the endpoint ended the response for the reason {stop_reason[:60]!r}")
    if text == "" and usage.output_tokens == 0:
        return error_reply("the endpoint generated no token")
    if text is None:
        if reasoning:
            return error_reply(
                "the endpoint returned no text: the answer stands in the reasoning field; correct the reasoning parser of "
                "the server"
            )
        return error_reply("the endpoint returned a choice without text")
    return Reply("answered", text, reasoning, first_tokens=first, model=model, usage=usage)


def _first_tokens(choice: dict[str, Any], reasoning: str | None, labels: Sequence[str]) -> FirstTokens | None:
    """Return the probabilities of the first tokens; None if the response contains no log-probabilities."""
    if reasoning:
        return no_first_tokens(labels, "the response begins with reasoning")
    content = as_dict(choice.get("logprobs")).get("content")
    top = as_dict(content[0]).get("top_logprobs") if isinstance(content, list) and content else None
    candidates = [
        (valid_unicode(token["token"]), number)
        for token in (top if isinstance(top, list) else [])
        if isinstance(token, dict)
        and isinstance(token.get("token"), str)
        and (number := log_probability(token.get("logprob"))) is not None
    ]
    return first_tokens(candidates, labels) if candidates else None


def _text_and_reasoning(message: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the text of the answer and the reasoning of a message, each None if there is none.

    Servers put reasoning into a field of its own (`reasoning_content` at DeepSeek and vLLM, `reasoning` and `reasoning_details` at
    OpenRouter, `thinking` at Ollama), into parts of type thinking (Mistral, Anthropic) or, marked, into the text.
    """
    content = message.get("content")
    separate = [message.get(name) for name in ("reasoning_content", "reasoning", "thinking")]
    reasoning = next((valid_unicode(text) for text in separate if isinstance(text, str) and text), "")
    if not reasoning and isinstance(message.get("reasoning_details"), list):
        reasoning = "".join(_part_text(as_dict(part)) for part in message["reasoning_details"])
    has_separate_reasoning = bool(reasoning)
    if isinstance(content, dict):
        content = [content]
    if isinstance(content, list):
        parts = [{"text": part} if isinstance(part, str) else as_dict(part) for part in content]
        reasoning += "".join(_part_text(p) for p in parts if _is_reasoning(p))
        content = "".join(_part_text(p) for p in parts if not _is_reasoning(p))
    if not isinstance(content, str):
        return None, reasoning or None
    marked, text = split_reasoning(valid_unicode(content))
    if has_separate_reasoning and not text.strip():  # some servers send "" instead of null
        return None, reasoning + (marked or "")
    return text, (reasoning + (marked or "")) or None


def _refusal(message: dict[str, Any]) -> str:
    """Return the text of a refusal, which is a field of the message or a part of its content; "" without a refusal."""
    content = message.get("content")
    parts = [message, *(as_dict(part) for part in (content if isinstance(content, list) else []))]
    texts = [part.get("refusal") for part in parts]
    return next((valid_unicode(text) for text in texts if isinstance(text, str) and text), "")


def _is_prompt_blocked(body: dict[str, Any]) -> bool:
    """Return whether a filter blocked the prompt, so that there are no choices (Gemini)."""
    feedback = as_dict(body.get("prompt_feedback") or body.get("promptFeedback"))
    return bool(feedback.get("block_reason") or feedback.get("blockReason"))


def _is_reasoning(part: dict[str, Any]) -> bool:
    return str(part.get("type")) in ("thinking", "reasoning", "redacted_thinking")


def _part_text(part: dict[str, Any]) -> str:
    """Return the text of a part; a part of type thinking contains a text or a list of text parts."""
    value = part.get("text") or part.get("thinking") or part.get("reasoning")
    if isinstance(value, list):
        return "".join(_part_text(as_dict(inner)) for inner in value)
    return valid_unicode(value) if isinstance(value, str) else ""


def _usage(usage: dict[str, Any]) -> Usage:
    prompt, generated, total = (
        token_count(usage.get(k)) for k in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    if prompt is not None and generated is not None and total is not None:
        # Gemini counts hidden reasoning only in the total, and charges for it.
        generated = max(generated, total - prompt)
    cached = token_count(as_dict(usage.get("prompt_tokens_details")).get("cached_tokens"))
    reasoning = token_count(as_dict(usage.get("completion_tokens_details")).get("reasoning_tokens"))
    return Usage(input_tokens=prompt, cached_tokens=cached, output_tokens=generated, reasoning_tokens=reasoning)
