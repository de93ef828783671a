"""Remove the API key from what an endpoint returns, before anything is stored, shown or logged."""

import base64
import re
from dataclasses import replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from vlm_audio_pipeline.classifiers.language_models.endpoint.json_values import valid_unicode
from vlm_audio_pipeline.classifiers.language_models.messages import Reply
from vlm_audio_pipeline.contracts.escapes import show_control_codes

_PIECE = 8
"""This many consecutive characters of a key count as a part of it. A shorter key of letters alone ("EMPTY", "none") is a
placeholder: it is not removed."""
_ENCODED_DATA = re.compile(r"data:\w+/[\w.+-]+;base64,\S*|[A-Za-z0-9+/_=-]{48,}")


def remove_key(value: Any, key: str | None) -> Any:
    """Return a response body without the key, which an endpoint may repeat in any of its texts.

    Each eight consecutive characters of the key are removed unless they are an ordinary word. The key is also removed with
    spaces in it, percent-encoded and in base64. Everything else is unchanged.

    >>> remove_key({"model": "m sk-12345678", "choices": [{"text": "dog"}]}, "sk-12345678")
    {'model': 'm …', 'choices': [{'text': 'dog'}]}
    """
    if not key or (len(key) < _PIECE and key.isalpha()):
        return value
    if isinstance(value, str):
        for form in _forms_of_key(key):
            value = form.sub("…", value)
        return _remove_pieces(value, _pieces_of_key(key))
    if isinstance(value, dict):
        return {remove_key(k, key): remove_key(v, key) for k, v in value.items()}
    return [remove_key(v, key) for v in value] if isinstance(value, list) else value


def remove_key_from_reply(reply: Reply, key: str | None) -> Reply:
    """Return a reply without the key. The parts of a streamed text can spell the key only together, so each whole text is checked."""
    texts = {name: remove_key(getattr(reply, name), key) for name in ("text", "reasoning", "error", "model")}
    return replace(reply, **texts)


def redact(message: str, key: str | None, max_length: int = 200) -> str:
    """Remove parts of the key, images and audio from an endpoint's message, and cut it to `max_length` characters.

    A word that shares eight consecutive characters with the key is removed, because endpoints quote parts of keys.
    """
    message = show_control_codes(" ".join(valid_unicode(message[:20_000]).split()))
    words = _ENCODED_DATA.sub("…", message).split()
    pieces = {key[i : i + _PIECE] for i in range(len(key) - _PIECE + 1)} if key else set()
    words = ["…" if any(piece in word for piece in pieces) else word for word in words]
    text: str = remove_key(" ".join(words), key)
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


@lru_cache(maxsize=8)
def _forms_of_key(key: str) -> tuple[re.Pattern[str], ...]:
    if len(key) < _PIECE:  # may be a part of a word
        return (re.compile(rf"(?<!\w){re.escape(key)}(?!\w)"),)
    encoded = {base64.b64encode(text.encode()).decode().rstrip("=") for text in (key, f"Bearer {key}", f":{key}")}
    spaced = r"[\s\u200b\u00ad]*".join(map(re.escape, key))  # wrapped over lines
    others = {quote(key, safe=""), *encoded} - {key}
    return (re.compile(spaced, re.IGNORECASE), *(re.compile(re.escape(other)) for other in others))


@lru_cache(maxsize=8)
def _pieces_of_key(key: str) -> tuple[str, ...]:
    pieces = dict.fromkeys(key[i : i + _PIECE] for i in range(len(key) - _PIECE + 1))
    return tuple(piece for piece in pieces if not (piece.isalpha() and (piece[1:].islower() or piece.isupper())))


def _remove_pieces(text: str, pieces: tuple[str, ...]) -> str:
    is_secret = bytearray(len(text))
    for piece in pieces:
        start = text.find(piece)
        while start >= 0:
            is_secret[start : start + len(piece)] = b"\1" * len(piece)
            start = text.find(piece, start + 1)
    if not any(is_secret):
        return text
    marked = "".join("\0" if secret else character for character, secret in zip(text, is_secret, strict=True))
    return re.sub("\0+", "…", marked)
