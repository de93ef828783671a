"""Upper bounds of the tokens and the price of a request, before it is sent.

They are bounds, not estimates, because the budget is reserved by them.

* Text: a byte-level tokenizer makes at most one token per byte. Four bytes per token are usual, so the bound of text is about
  four times too high; text is the small part of a prompt.
* Images: OpenAI's published formulas for the models named below; for others, more than the tiling of any open model.
* Audio: 50 tokens per second and at least 30 s (OpenAI uses 10 per second, Gemini 32, Qwen2-Audio 25, Voxtral 12.5; many
  models pad audio to 30 s).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices, published_prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart, Request

MESSAGE_TOKENS = 16
"""Tokens around each turn; OpenAI uses 3 to 5."""
SCHEMA_TOKENS = 256
"""Tokens of a JSON schema without its labels."""
AUDIO_TOKENS_PER_S = 50
MIN_AUDIO_S = 30.0
UNKNOWN_MODEL_IMAGE_TOKENS = 8_192
"""Tokens of an image of any size, for a model without a published formula; more than the tiles of LLaVA-NeXT (2,880),
InternVL (3,328) and Llama 3.2 (6,404)."""
UNKNOWN_MODEL_PATCH = 14
"""Side of a patch, px. Each patch adds one token, as in models that take images at their original size (Qwen2-VL merges four
patches into one token)."""

_TILES = {"gpt-4o-mini": (2833, 5667), "gpt-4o": (85, 170), "gpt-4.1": (85, 170)}
"""Tokens of an image, and of each of its 512 px tiles; https://platform.openai.com/docs/guides/images-vision."""
_PATCHES = {"gpt-4.1-mini": 1.62, "gpt-4.1-nano": 2.46}
"""Tokens of each 32 px patch, at most 1,536 patches; same page."""


@dataclass(frozen=True)
class RequestSize:
    """The parts of a request that cost tokens.

    Attributes:
        messages: number of turns.
        text_bytes: length of all texts in UTF-8, bytes.
        images: width and height of each image, px.
        audio_s: duration of each recording, s.
        max_tokens: maximum length of generated text, tokens.
        labels_bytes: length of all labels in UTF-8 with their punctuation in a JSON schema, bytes.
    """

    messages: int
    text_bytes: int
    images: Sequence[tuple[int, int]]
    audio_s: Sequence[float]
    max_tokens: int
    labels_bytes: int = 0

    @classmethod
    def of(cls, request: Request) -> "RequestSize":
        """Return the size of a request."""
        parts = [part for message in request.messages for part in message.parts]
        texts = [part for part in parts if isinstance(part, str)]
        images = [part for part in parts if isinstance(part, ImagePart)]
        audio = [part.duration_s for part in parts if not isinstance(part, str | ImagePart)]
        return cls(
            messages=len(request.messages),
            text_bytes=sum(len(text.encode()) for text in texts),
            images=[_image_size(image) for image in images],
            audio_s=audio,
            max_tokens=request.sampling.max_tokens,
            labels_bytes=sum(len(label.encode()) + 8 for label in request.labels),
        )


def _image_size(image: ImagePart) -> tuple[int, int]:
    from PIL import Image

    with Image.open(BytesIO(image.data)) as opened:
        return opened.size


def max_image_tokens(model: str, width: int, height: int, detail: str = "auto", declared: int | None = None) -> int:
    """Return the maximum number of tokens of an image.

    Args:
        model: the model's name at the endpoint.
        width: px.
        height: px.
        detail: "auto" counts as "high".
        declared: the number declared in the study, which takes precedence.
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
            scale = min(1.0, 2048 / max(width, height))
            scale *= min(1.0, 768 / (min(width, height) * scale))
            tiles = math.ceil(math.ceil(width * scale) / 512) * math.ceil(math.ceil(height * scale) / 512)
            return base + tile * tiles
    return UNKNOWN_MODEL_IMAGE_TOKENS + math.ceil(width / UNKNOWN_MODEL_PATCH) * math.ceil(height / UNKNOWN_MODEL_PATCH)


def max_prompt_tokens(size: RequestSize, model: str, endpoint: Endpoint) -> int:
    """Return the maximum number of tokens of a prompt."""
    images = (max_image_tokens(model, w, h, endpoint.detail, endpoint.image_tokens) for w, h in size.images)
    audio = (math.ceil(AUDIO_TOKENS_PER_S * max(s, MIN_AUDIO_S)) for s in size.audio_s)
    schema = SCHEMA_TOKENS + size.labels_bytes if endpoint.structured else 0
    return MESSAGE_TOKENS * (size.messages + 1) + size.text_bytes + schema + sum(images) + sum(audio)


def find_prices(model: str, endpoint: Endpoint) -> Prices | None:
    """Return the prices of a model: those declared in the study, else the published ones, else None."""
    return endpoint.prices or published_prices(model, endpoint.host)


def cost_bound(request: Request | RequestSize, model: str, endpoint: Endpoint) -> tuple[int, float | None]:
    """Return the maximum tokens and price of a request: nothing cached, generated text of maximum length.

    Args:
        request: the request, or its size where the images do not exist yet.
        model: the model's name at the endpoint.
        endpoint: the endpoint.

    Returns:
        Tokens of prompt and generated text together, and the price, USD; None where no prices are known.
    """
    size = request if isinstance(request, RequestSize) else RequestSize.of(request)
    prompt_tokens, output_tokens = max_prompt_tokens(size, model, endpoint), size.max_tokens
    prices = find_prices(model, endpoint)
    if prices is None:
        return prompt_tokens + output_tokens, None
    input_price = max(prices.input, prices.cached_input or 0.0)  # in case cached tokens cost more
    return prompt_tokens + output_tokens, (prompt_tokens * input_price + output_tokens * prices.output) / 1e6
