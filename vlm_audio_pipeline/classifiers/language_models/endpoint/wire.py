"""The wire format of chat completions: a request as JSON, an answer's JSON as a reply.

What belongs here: https://platform.openai.com/docs/api-reference/chat, and what of it an endpoint turns out not to take.
What does not: sending (`meter`, `backend`).
"""

import base64
import re
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import OPENAI, Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import Part, Reply, Request, Sound, Usage

_REFUSES = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|extra (inputs|fields)|not permitted|not allowed|cannot find",
    re.IGNORECASE,
)
_REFUSAL_CODES = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
_ALSO = {"json_schema": "response_format", "strict": "response_format"}
_MAY_GO = ("temperature", "top_p", "seed", "n", "response_format", "detail")
"""What can be left out without asking another question or risking money; how long an answer may be cannot."""


@dataclass(frozen=True)
class Dialect:
    """Which parameters an endpoint takes: all of them, until it refuses one by name.

    Attributes:
        limit: what it calls the longest answer: "max_completion_tokens" at OpenAI, "max_tokens" elsewhere.
        without: parameters it refused, which are not sent, in the order of refusal.
        renamed: whether `limit` is the other name than at first.
    """

    limit: str
    without: tuple[str, ...] = ()
    renamed: bool = False

    @classmethod
    def of(cls, endpoint: Endpoint) -> "Dialect":
        """Give what an endpoint is spoken to at first."""
        return cls("max_completion_tokens" if endpoint.url == OPENAI else "max_tokens")

    def parameters(self, request: Request, endpoint: Endpoint) -> dict[str, Any]:
        """Give everything that is sent but the model's name, every decoding parameter among it."""
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
            values["response_format"] = _one_of(request.labels)
        return {name: value for name, value in values.items() if name not in self.without}

    def _content(self, parts: tuple[Part, ...], endpoint: Endpoint) -> str | list[dict[str, Any]]:
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(parts):  # every endpoint takes text as text; not every one takes it in parts
            return "".join(texts)
        return [self._part(part, endpoint) for part in parts]

    def _part(self, part: Part, endpoint: Endpoint) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        if isinstance(part, Sound):
            data = base64.b64encode(wav(part, endpoint.sample_rate)).decode()
            return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
        picture = {"url": f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"}
        if "detail" not in self.without:
            picture["detail"] = endpoint.detail
        return {"type": "image_url", "image_url": picture}

    def refused(self, code: str, parameter: str, message: str) -> "Dialect | None":
        """Take a refusal (400, 422) to heart.

        Args:
            code: the error's code, or "".
            parameter: the parameter the error names, or "".
            message: the error's text.

        Returns:
            How to ask again, or None where the refusal is of the question, not of its form.
        """
        if code not in _REFUSAL_CODES and not _REFUSES.search(message):
            return None
        named = [parameter, *re.findall(r"[\"'`]([\w.\[\]]+)[\"'`]", message)]
        learnt = self
        for name in (_ALSO.get(n, n) for n in (name.rsplit(".", 1)[-1] for name in named)):
            if name == learnt.limit and not learnt.renamed:
                other = "max_completion_tokens" if name == "max_tokens" else "max_tokens"
                learnt = replace(learnt, limit=other, renamed=True)
            elif name in _MAY_GO and name not in learnt.without:
                learnt = replace(learnt, without=(*learnt.without, name))
        return learnt if learnt != self else None

    def note(self) -> str:
        """Say what is not as asked for, to stand beside the model's id; "" where all is."""
        return f" without {', '.join(self.without)}" if self.without else ""


def wav(sound: Sound, rate: int) -> bytes:
    """Give a sound as a WAV file, 16-bit PCM, mono, at `rate` Hz; what exceeds full scale is clipped."""
    import numpy as np
    import soundfile

    file = BytesIO()
    soundfile.write(file, np.clip(sound.load(rate), -1.0, 1.0), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _one_of(labels: tuple[str, ...]) -> dict[str, Any]:
    label = {"type": "string", "enum": list(dict.fromkeys(labels))}
    schema = {"type": "object", "properties": {"label": label}, "required": ["label"], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def reply_of(body: Any, note: str = "") -> Reply:
    """Read an answer's JSON, which may be anything.

    Args:
        body: the parsed body.
        note: what stands beside the model's id.

    Returns:
        The reply, without time and price. A reply cut off at the longest answer counts as answered where there is text:
        what it says is judged by whoever reads it.
    """
    body = body if isinstance(body, dict) else {}
    usage = _usage(_dict(body.get("usage")))
    name = " ".join(str(body[k]) for k in ("model", "system_fingerprint") if isinstance(body.get(k), str) and body[k])
    model = _sound(name + note).strip() or None

    def failed(reason: str) -> Reply:
        return Reply("error", error=reason, model=model, usage=usage)

    choices = body.get("choices")
    if not isinstance(choices, list):
        return failed("the endpoint answered with something other than a chat completion")
    if not choices:
        return failed("the endpoint gave no choice")
    choice = _dict(choices[0])
    message = _dict(choice.get("message"))
    finish = choice.get("finish_reason")
    text = message.get("content")
    if isinstance(text, list):  # some endpoints answer in parts
        text = "".join(str(_dict(part).get("text") or "") for part in text)
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        return Reply("refused", text=_sound(message["refusal"]), model=model, usage=usage)
    if finish == "content_filter":
        return Reply("refused", text=_sound(text) if isinstance(text, str) else None, model=model, usage=usage)
    text = _sound(text) if isinstance(text, str) else text
    if not isinstance(text, str):
        return failed(
            "the endpoint gave a choice without text" + (" (cut off: raise max_tokens)" if finish == "length" else "")
        )
    if not text and finish == "length":
        return failed("nothing was said within max_tokens; raise it")
    return Reply("answered", text=text, model=model, usage=usage)


def _usage(usage: dict[str, Any]) -> Usage:
    asked, said, total = (_count(usage.get(k)) for k in ("prompt_tokens", "completion_tokens", "total_tokens"))
    if asked is not None and said is not None and total is not None:
        said = max(said, total - asked)  # Gemini counts what it thought in the total alone, and charges for it
    cached = _count(_dict(usage.get("prompt_tokens_details")).get("cached_tokens"))
    return Usage(input_tokens=asked, cached_tokens=cached, output_tokens=said)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _sound(text: str) -> str:
    """Give a text that can be written as UTF-8: half of a surrogate pair, from an answer cut off, becomes "?"."""
    return text.encode(errors="replace").decode()


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


_DATA = re.compile(r"data:\w+/[\w.+-]+;base64,\S*|[A-Za-z0-9+/_=-]{48,}")


def clean(message: str, key: str | None, longest: int = 200) -> str:
    """Give an endpoint's own words without anything of the key, pictures or sounds, cut to `longest` characters.

    A word that shares eight characters in a row with the key is left out whole: endpoints quote keys in part.
    """
    words = _DATA.sub("…", _sound(message[:20_000])).split()
    pieces = {key[i : i + 8] for i in range(max(len(key) - 7, 1))} if key else set()
    words = ["…" if any(piece in word for piece in pieces) else word for word in words]
    text = " ".join(words)
    return text if len(text) <= longest else text[: longest - 1] + "…"
