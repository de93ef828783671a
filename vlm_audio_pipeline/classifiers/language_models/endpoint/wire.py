"""The wire format of chat completions: requests as JSON, and replies from JSON.

Reference: https://platform.openai.com/docs/api-reference/chat. Does not belong here: sending (`meter`, `backend`).
"""

import base64
import re
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import OPENAI, Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, MessagePart, Reply, Request, Usage

_REFUSAL_WORDS = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|extra (inputs|fields)|not permitted|not allowed|cannot find",
    re.IGNORECASE,
)
_REFUSAL_CODES = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
_PARENT = {"json_schema": "response_format", "strict": "response_format"}
_OPTIONAL = ("temperature", "top_p", "seed", "n", "response_format", "detail")
"""Parameters that may be left out without changing the question or the cost bound. The maximum length may not."""


@dataclass(frozen=True)
class Dialect:
    """The parameters that an endpoint accepts: all, until it refuses one by name.

    Attributes:
        limit: its name of the maximum length: "max_completion_tokens" at OpenAI, "max_tokens" elsewhere.
        without: parameters it refused, in the order of refusal; they are not sent.
        renamed: whether `limit` was changed.
    """

    limit: str
    without: tuple[str, ...] = ()
    renamed: bool = False

    @classmethod
    def of(cls, endpoint: Endpoint) -> "Dialect":
        """Return the dialect of the first request to an endpoint."""
        return cls("max_completion_tokens" if endpoint.url == OPENAI else "max_tokens")

    def parameters(self, request: Request, endpoint: Endpoint) -> dict[str, Any]:
        """Return all parameters of a request except the model, including every decoding parameter."""
        sampling = request.sampling
        values: dict[str, Any] = {
            "messages": [{"role": m.role, "content": self._content(m.parts, endpoint)} for m in request.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.limit: sampling.max_tokens,
            "seed": sampling.seed,
            "n": 1,
        }
        if endpoint.structured:
            values["response_format"] = _label_schema(request.labels)
        return {name: value for name, value in values.items() if name not in self.without}

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
        image = {"url": f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"}
        if "detail" not in self.without:
            image["detail"] = endpoint.detail
        return {"type": "image_url", "image_url": image}

    def adapt(self, code: str, parameter: str, message: str) -> "Dialect | None":
        """Leave out or rename the parameter that an error (400, 422) names.

        Args:
            code: the error's code, or "".
            parameter: the parameter the error names, or "".
            message: the error's text.

        Returns:
            The dialect for another attempt, or None where the error is about something else.
        """
        if code not in _REFUSAL_CODES and not _REFUSAL_WORDS.search(message):
            return None
        named = [parameter, *re.findall(r"[\"'`]([\w.\[\]]+)[\"'`]", message)]
        dialect = self
        for name in (_PARENT.get(n, n) for n in (name.rsplit(".", 1)[-1] for name in named)):
            if name == dialect.limit and not dialect.renamed:
                other = "max_completion_tokens" if name == "max_tokens" else "max_tokens"
                dialect = replace(dialect, limit=other, renamed=True)
            elif name in _OPTIONAL and name not in dialect.without:
                dialect = replace(dialect, without=(*dialect.without, name))
        return dialect if dialect != self else None

    def note(self) -> str:
        """Return the parameters that were left out, as a suffix of the model id; "" if none were."""
        return f" without {', '.join(self.without)}" if self.without else ""


def encode_wav(audio: AudioPart, rate: int) -> bytes:
    """Return audio as a WAV file, 16-bit PCM, mono, at `rate` Hz; samples beyond full scale are clipped."""
    import numpy as np
    import soundfile

    file = BytesIO()
    soundfile.write(file, np.clip(audio.load(rate), -1.0, 1.0), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _label_schema(labels: tuple[str, ...]) -> dict[str, Any]:
    label = {"type": "string", "enum": list(dict.fromkeys(labels))}
    schema = {"type": "object", "properties": {"label": label}, "required": ["label"], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def parse_reply(body: Any, note: str = "") -> Reply:
    """Return the reply of a response body, which may be anything.

    Args:
        body: the parsed body.
        note: suffix of the model id.

    Returns:
        The reply, without time and price. A text that was cut off at the maximum length counts as answered; the parser
        decides what it says.
    """
    body = body if isinstance(body, dict) else {}
    usage = _usage(_dict(body.get("usage")))
    name = " ".join(str(body[k]) for k in ("model", "system_fingerprint") if isinstance(body.get(k), str) and body[k])
    model = _valid_unicode(name + note).strip() or None

    def failed(reason: str) -> Reply:
        return Reply("error", error=reason, model=model, usage=usage)

    choices = body.get("choices")
    if not isinstance(choices, list):
        return failed("the endpoint returned something other than a chat completion")
    if not choices:
        return failed("the endpoint returned no choice")
    choice = _dict(choices[0])
    message = _dict(choice.get("message"))
    finish = choice.get("finish_reason")
    text = message.get("content")
    if isinstance(text, list):  # some endpoints return the text in parts
        text = "".join(str(_dict(part).get("text") or "") for part in text)
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        return Reply("refused", text=_valid_unicode(message["refusal"]), model=model, usage=usage)
    if finish == "content_filter":
        return Reply("refused", text=_valid_unicode(text) if isinstance(text, str) else None, model=model, usage=usage)
    text = _valid_unicode(text) if isinstance(text, str) else text
    if not isinstance(text, str):
        return failed(
            "the endpoint returned a choice without text"
            + (" (cut off: raise max_tokens)" if finish == "length" else "")
        )
    if not text and finish == "length":
        return failed("no text was generated within max_tokens; raise it")
    return Reply("answered", text=text, model=model, usage=usage)


def _usage(usage: dict[str, Any]) -> Usage:
    prompt, generated, total = (_count(usage.get(k)) for k in ("prompt_tokens", "completion_tokens", "total_tokens"))
    if prompt is not None and generated is not None and total is not None:
        generated = max(
            generated, total - prompt
        )  # Gemini counts hidden reasoning only in the total, and charges for it
    cached = _count(_dict(usage.get("prompt_tokens_details")).get("cached_tokens"))
    return Usage(input_tokens=prompt, cached_tokens=cached, output_tokens=generated)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _valid_unicode(text: str) -> str:
    """Return the text as valid Unicode: half of a surrogate pair, as in a text that was cut off, becomes "?"."""
    return text.encode(errors="replace").decode()


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


_DATA = re.compile(r"data:\w+/[\w.+-]+;base64,\S*|[A-Za-z0-9+/_=-]{48,}")


def redact(message: str, key: str | None, max_length: int = 200) -> str:
    """Return an endpoint's message without parts of the key, images or audio, cut to `max_length` characters.

    A word that shares eight consecutive characters with the key is removed, because endpoints quote parts of keys.
    """
    words = _DATA.sub("…", _valid_unicode(message[:20_000])).split()
    pieces = {key[i : i + 8] for i in range(max(len(key) - 7, 1))} if key else set()
    words = ["…" if any(piece in word for piece in pieces) else word for word in words]
    text = " ".join(words)
    return text if len(text) <= max_length else text[: max_length - 1] + "…"
