"""What a request can take at most: tokens and money, before it is sent.

What belongs here: upper bounds. They are bounds, not estimates, for money is reserved by them. Text: a tokenizer that works
on bytes makes at most one token of a byte (four bytes a token is usual, so texts are over-reckoned fourfold; they are the
small part of a prompt). Pictures: OpenAI's published formulas for the models named below, otherwise more than any open
model's tiling makes of a picture. Sounds: 50 tokens a second of at least 30 s (OpenAI takes 10 a second, Gemini 32,
Qwen2-Audio 25, Voxtral 12.5; many pad to 30 s). What does not belong here: prices (`prices`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices, known_prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import Picture, Request

MESSAGE_TOKENS = 16
"""Around each turn; OpenAI takes 3 to 5."""
SCHEMA_TOKENS = 256
"""Of a JSON schema around its labels."""
SOUND_TOKENS_PER_S = 50
SOUND_AT_LEAST_S = 30.0
OTHER_PICTURE_TOKENS = 8_192
"""Of a picture of any size, for a model whose formula is not known; above the 2,880 of LLaVA-NeXT's tiles, the 3,328 of
InternVL's and the 6,404 of Llama 3.2's."""
OTHER_PATCH = 14
"""px; one token more for each patch of this side, as in models that take pictures at their own size (Qwen2-VL makes one
token of four)."""

_TILES = {"gpt-4o-mini": (2833, 5667), "gpt-4o": (85, 170), "gpt-4.1": (85, 170)}
"""Tokens of a picture, and of each 512 px tile of it; https://platform.openai.com/docs/guides/images-vision."""
_PATCHES = {"gpt-4.1-mini": 1.62, "gpt-4.1-nano": 2.46}
"""Tokens of each 32 px patch, of which there are at most 1,536; same page."""


@dataclass(frozen=True)
class Content:
    """What a request holds, as far as it can cost anything.

    Attributes:
        messages: turns.
        text_bytes: all texts in UTF-8, bytes.
        pictures: width and height of each, px.
        sounds_s: length of each, s.
        max_tokens: longest answer, tokens.
        labels_bytes: all labels in UTF-8 and what stands around them in a schema, bytes.
    """

    messages: int
    text_bytes: int
    pictures: Sequence[tuple[int, int]]
    sounds_s: Sequence[float]
    max_tokens: int
    labels_bytes: int = 0

    @classmethod
    def of(cls, request: Request) -> "Content":
        """Measure a request."""
        parts = [part for message in request.messages for part in message.parts]
        texts = [part for part in parts if isinstance(part, str)]
        pictures = [part for part in parts if isinstance(part, Picture)]
        sounds = [part.duration_s for part in parts if not isinstance(part, str | Picture)]
        return cls(
            messages=len(request.messages),
            text_bytes=sum(len(text.encode()) for text in texts),
            pictures=[_size(picture) for picture in pictures],
            sounds_s=sounds,
            max_tokens=request.sampling.max_tokens,
            labels_bytes=sum(len(label.encode()) + 8 for label in request.labels),
        )


def _size(picture: Picture) -> tuple[int, int]:
    from PIL import Image

    with Image.open(BytesIO(picture.data)) as opened:
        return opened.size


def picture_bound(model: str, width: int, height: int, detail: str = "auto", declared: int | None = None) -> int:
    """Give the most tokens a picture can take.

    Args:
        model: the model's name at the endpoint.
        width: px.
        height: px.
        detail: "auto" is reckoned as "high".
        declared: what the study says, which comes first.
    """
    if declared is not None:
        return declared
    name = model.lower()
    for start, factor in _PATCHES.items():
        if name.startswith(start):
            return math.ceil(min(1536, math.ceil(width / 32) * math.ceil(height / 32)) * factor)
    for start, (base, tile) in _TILES.items():
        if name.startswith(start):
            if detail == "low":
                return base
            shrink = min(1.0, 2048 / max(width, height))
            shrink *= min(1.0, 768 / (min(width, height) * shrink))
            tiles = math.ceil(math.ceil(width * shrink) / 512) * math.ceil(math.ceil(height * shrink) / 512)
            return base + tile * tiles
    return OTHER_PICTURE_TOKENS + math.ceil(width / OTHER_PATCH) * math.ceil(height / OTHER_PATCH)


def most_tokens(content: Content, model: str, endpoint: Endpoint) -> int:
    """Give the most tokens a prompt can take."""
    pictures = (picture_bound(model, w, h, endpoint.detail, endpoint.picture_tokens) for w, h in content.pictures)
    sounds = (math.ceil(SOUND_TOKENS_PER_S * max(s, SOUND_AT_LEAST_S)) for s in content.sounds_s)
    schema = SCHEMA_TOKENS + content.labels_bytes if endpoint.structured else 0
    return MESSAGE_TOKENS * (content.messages + 1) + content.text_bytes + schema + sum(pictures) + sum(sounds)


def prices_of(model: str, endpoint: Endpoint) -> Prices | None:
    """Give what a model costs: as the study declares, else as known; None for neither."""
    return endpoint.prices or known_prices(model, endpoint.host)


def estimate(request: Request | Content, model: str, endpoint: Endpoint) -> tuple[int, float | None]:
    """Give what a request can take at most: nothing cached, the longest answer.

    Args:
        request: the request, or what it will hold before there are pictures to measure.
        model: the model's name at the endpoint.
        endpoint: where it is asked.

    Returns:
        Tokens of prompt and answer together, and USD; None for USD where no prices are known.
    """
    content = request if isinstance(request, Content) else Content.of(request)
    asked, said = most_tokens(content, model, endpoint), content.max_tokens
    prices = prices_of(model, endpoint)
    if prices is None:
        return asked + said, None
    dearest = max(prices.input, prices.cached_input or 0.0)  # should the cache ever be the dearer one
    return asked + said, (asked * dearest + said * prices.output) / 1e6
