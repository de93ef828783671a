"""Compute upper bounds of the tokens and the price of a request before it is sent.

They are bounds, not estimates, because these amounts are reserved from the budget.

* Text: a byte-level tokenizer makes at most one token per byte. Four bytes per token are usual, so the bound of text is about
  four times too high; text is the small part of a prompt.
* Images: OpenAI's published formulas for the models of `models.csv` that have them; for other models, more than the tiling of any open model.
* Audio: 50 tokens per second and at least 30 s (OpenAI uses 10 per second, Gemini 32, Qwen2-Audio 25, Voxtral 12.5; many
  models pad audio to 30 s).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from vlm_audio_pipeline.classifiers.language_models.endpoint.model_table import image_formula, published_prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart, Request

MESSAGE_TOKENS = 16
"""Tokens around each turn; OpenAI uses 3 to 5."""
SCHEMA_TOKENS = 256
"""Tokens of a JSON schema without its labels."""
AUDIO_TOKENS_PER_S = 50
MIN_AUDIO_S = 30.0
SCORING_CALLS = 2
"""Calls for the likelihoods of a request besides one per label: the prompt without a response, and a check of its end."""
UNKNOWN_MODEL_IMAGE_TOKENS = 8_192
"""Tokens of an image of any size, for a model without a published formula; more than the tiles of LLaVA-NeXT (2,880),
InternVL (3,328) and Llama 3.2 (6,404)."""
UNKNOWN_MODEL_PATCH = 14
"""Side of a patch, px. Each patch adds one token, as in models that take images at their original size (Qwen2-VL merges four
patches into one token)."""


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
        labels: number of labels that are scored by likelihood, each with its own call; 0 without this scoring.
        generates: whether a text is generated.
    """

    messages: int
    text_bytes: int
    images: Sequence[tuple[int, int]]
    audio_s: Sequence[float]
    max_tokens: int
    labels_bytes: int = 0
    labels: int = 0
    generates: bool = True

    @classmethod
    def from_request(cls, request: Request) -> "RequestSize":
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
            labels=len(request.labels) if "likelihood" in request.scorings else 0,
            generates=bool(request.scorings - {"likelihood"}),
        )


def _image_size(image: ImagePart) -> tuple[int, int]:
    from PIL import Image

    with Image.open(BytesIO(image.data)) as opened:
        return opened.size


def max_image_tokens(model: str, width: int, height: int, detail: str = "auto", declared: int | None = None) -> int:
    """Return the maximum number of tokens of an image.

    Args:
        model: the model's name at the endpoint.
        width: width, px.
        height: height, px.
        detail: "auto" counts as "high".
        declared: the number in the study, which has priority; None if the study does not declare it.
    """
    if declared is not None:
        return declared
    row = image_formula(model)
    if row is not None and row.image_patch_factor:
        return math.ceil(min(1536, math.ceil(width / 32) * math.ceil(height / 32)) * row.image_patch_factor)
    if row is not None and row.image_tiles:
        base, tile = row.image_tiles
        if detail == "low":
            return base
        scale = min(1.0, 2048 / max(width, height))
        scale *= min(1.0, 768 / (min(width, height) * scale))
        return base + tile * math.ceil(math.ceil(width * scale) / 512) * math.ceil(math.ceil(height * scale) / 512)
    return UNKNOWN_MODEL_IMAGE_TOKENS + math.ceil(width / UNKNOWN_MODEL_PATCH) * math.ceil(height / UNKNOWN_MODEL_PATCH)


def max_prompt_tokens(size: RequestSize, model: str, endpoint: Endpoint) -> int:
    """Return the maximum number of tokens of a prompt."""
    images = (max_image_tokens(model, w, h, endpoint.detail, endpoint.image_tokens) for w, h in size.images)
    audio = (math.ceil(AUDIO_TOKENS_PER_S * max(s, MIN_AUDIO_S)) for s in size.audio_s)
    schema = SCHEMA_TOKENS + size.labels_bytes if endpoint.structured else 0
    return MESSAGE_TOKENS * (size.messages + 1) + size.text_bytes + schema + sum(images) + sum(audio)


def find_prices(model: str, endpoint: Endpoint) -> Prices | None:
    """Return the prices of a model: those in the study, else the published prices, else None; half of them for batches."""
    prices = endpoint.prices or published_prices(model, endpoint.host)
    return prices.batch_prices() if prices is not None and endpoint.batch else prices


def cost_bound(request: Request | RequestSize, model: str, endpoint: Endpoint) -> tuple[int, float | None]:
    """Return the maximum tokens and price of a request with all its calls: no token is cached, and the text has maximum length.

    Args:
        request: the request, or its size if the images do not exist yet.
        model: the model's name at the endpoint.
        endpoint: the endpoint.

    Returns:
        Tokens of prompt and generated text together, and the price, USD; None if the prices are unknown.
    """
    size = request if isinstance(request, RequestSize) else RequestSize.from_request(request)
    prompt, calls = max_prompt_tokens(size, model, endpoint), SCORING_CALLS + size.labels if size.labels else 0
    scored = (
        calls * (prompt + MESSAGE_TOKENS) + bool(calls) * size.labels_bytes
    )  # one call per label, each with the whole prompt
    prompt_tokens, output_tokens = prompt * size.generates + scored, size.max_tokens * size.generates + calls
    prices = find_prices(model, endpoint)
    if prices is None:
        return prompt_tokens + output_tokens, None
    input_price = max(prices.input, prices.cached_input or 0.0)  # cached tokens may cost more
    return prompt_tokens + output_tokens, (prompt_tokens * input_price + output_tokens * prices.output) / 1e6
