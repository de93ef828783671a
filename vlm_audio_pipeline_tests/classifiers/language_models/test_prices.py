"""Prices and cost bounds, compared with published prices, published formulas and real bills."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from vlm_audio_pipeline.classifiers.language_models.endpoint.cost_bounds import (
    RequestSize,
    cost_bound,
    find_prices,
    max_image_tokens,
    max_prompt_tokens,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.model_table import published_prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices, declare_prices_advice
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import (
    AudioPart,
    ImagePart,
    Message,
    Request,
    Sampling,
    Usage,
)

LOCAL = Endpoint(url="http://127.0.0.1:8000/v1")


def test_the_price_of_a_reply_is_the_price_of_its_tokens():
    """936 input x 2.50 + 64 cached x 1.25 + 5 output x 10 USD per million: 2340 + 80 + 50 = 2470 millionths of a USD."""
    prices = Prices(input=2.5, cached_input=1.25, output=10)
    assert prices.usd(Usage(input_tokens=1000, cached_tokens=64, output_tokens=5)) == pytest.approx(0.002470)
    assert prices.usd(Usage(input_tokens=1000, output_tokens=5)) == pytest.approx(0.002550)
    assert prices.usd(Usage(input_tokens=10, cached_tokens=64, output_tokens=0)) == pytest.approx(10 * 1.25e-6)
    assert Prices(input=2.5, output=10).usd(
        Usage(input_tokens=1000, cached_tokens=64, output_tokens=5)
    ) == pytest.approx(0.002550)


@pytest.mark.parametrize("usage", [Usage(), Usage(input_tokens=1), Usage(output_tokens=1, cached_tokens=1)])
def test_a_reply_without_token_counts_has_no_price(usage):
    assert Prices(input=1, output=1).usd(usage) is None


def test_built_in_prices_apply_to_openai_only_and_declared_prices_have_priority():
    assert published_prices("gpt-4o-2024-11-20", "api.openai.com") == Prices(input=2.5, cached_input=1.25, output=10)
    assert published_prices("gpt-4o-2024-11-20", "openrouter.ai") is None
    assert published_prices("gpt-99", "api.openai.com") is None
    own = Prices(input=1, output=2)
    assert find_prices("gpt-4o", Endpoint()) == Prices(input=2.5, cached_input=1.25, output=10)
    assert find_prices("gpt-4o", Endpoint(prices=own)) == own
    assert find_prices("gpt-4o", LOCAL) is None
    assert "prices: {input:" in declare_prices_advice("gpt-99")


@pytest.mark.parametrize(
    "wrong", [{"input": -1, "output": 1}, {"input": 1}, {"input": float("nan"), "output": 1}, {"in": 1}]
)
def test_wrong_prices_are_refused(wrong):
    with pytest.raises(ValidationError):
        Prices(**wrong)


@pytest.mark.parametrize(
    ("model", "width", "height", "detail", "tokens"),
    [
        # the examples of the vision page of OpenAI
        ("gpt-4o", 1024, 1024, "high", 765),
        ("gpt-4o-2024-11-20", 2048, 4096, "high", 1105),
        ("gpt-4o", 4096, 8192, "low", 85),
        ("gpt-4.1-mini", 1024, 1024, "high", 1659),  # 1024 patches x 1.62 = 1658.9
        # billed with 12 tokens of text, https://community.openai.com/t/1262691: 267, 97, 8512, 2845, 26, 33
        ("gpt-4o-2024-08-06", 128, 64, "high", 255),
        ("gpt-4.1-2025-04-14", 128, 64, "low", 85),
        ("gpt-4o-mini-2024-07-18", 128, 64, "high", 8500),
        ("gpt-4o-mini-2024-07-18", 128, 64, "low", 2833),
        # maximum number of patches, https://community.openai.com/t/1281361: 1536 x 1.62
        ("gpt-4.1-mini-2025-04-14", 4000, 1474, "auto", 2489),
    ],
)
def test_image_tokens_are_calculated_as_published(model, width, height, detail, tokens):
    assert max_image_tokens(model, width, height, detail) == tokens


def test_detail_auto_is_calculated_as_the_more_expensive_detail():
    assert max_image_tokens("gpt-4o", 512, 512) == max_image_tokens("gpt-4o", 512, 512, "high") == 255


@pytest.mark.parametrize(
    ("model", "width", "height", "image_tokens"),
    [
        ("deepseek-community/Janus-Pro-7B", 384, 384, 578),  # 576, begin and end
        ("llava-next", 672, 672, 2880),  # 5 x 576
        ("Llama-3.2-11B-Vision", 1120, 1120, 6404),  # 4 tiles of 1,601
        ("Qwen2-VL", 4200, 4200, 22500),  # 28 px per token
    ],
)
def test_other_images_have_fewer_tokens_than_the_bound(model, width, height, image_tokens):
    assert max_image_tokens(model, width, height) >= image_tokens
    assert max_image_tokens(model, width, height, declared=600) == 600


@given(st.text(max_size=200))
def test_no_byte_level_tokenizer_exceeds_the_bound(text):
    """The finest such tokenizer has one token per byte."""
    content = RequestSize(messages=1, text_bytes=len(text.encode()), images=(), audio_s=(), max_tokens=1)
    assert max_prompt_tokens(content, "m", LOCAL) >= len(list(text.encode())) + 4


def png(width: int, height: int) -> ImagePart:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return ImagePart(file.getvalue(), "image/png", "00")


def test_the_bound_of_a_request_includes_all_its_parts():
    """System 9 bytes; "é dog " 7 bytes; 3 x 16 tokens of the chat template; 2 images of 255; response 32 x 10 USD.

    (48 + 16 + 510 = 574) x 2.5 + 32 x 10 USD per million tokens: 1435 + 320 = 1755 millionths of a USD.
    """
    messages = (Message("system", ("You hear.",)), Message("user", ("é ", png(300, 200), png(512, 512), "dog ")))
    request = Request(messages, ("dog", "cat"), frozenset({"generation"}), Sampling(max_tokens=32))
    assert RequestSize.from_request(request) == RequestSize(2, 16, [(300, 200), (512, 512)], [], 32, 22)
    tokens, usd = cost_bound(request, "gpt-4o", Endpoint())
    assert (tokens, usd) == (574 + 32, pytest.approx(0.001755))
    assert cost_bound(RequestSize.from_request(request), "gpt-4o", Endpoint()) == (tokens, usd)
    assert cost_bound(request, "gpt-4o", Endpoint(structured=True))[0] == tokens + 256 + 22
    assert cost_bound(request, "m", LOCAL)[1] is None
    expensive_cache = Prices(input=1, cached_input=3, output=0)
    assert cost_bound(request, "gpt-4o", Endpoint(prices=expensive_cache))[1] == pytest.approx(574 * 3e-6)


def test_audio_tokens_follow_the_duration_with_a_minimum_of_30_s():
    def prompt_tokens(seconds):
        audio = AudioPart(lambda rate: np.zeros(1, np.float32), "00", seconds)
        request = Request((Message("user", (audio,)),), (), frozenset({"generation"}), Sampling(max_tokens=0))
        return cost_bound(request, "m", LOCAL)[0]

    assert prompt_tokens(5.0) == prompt_tokens(30.0) == 32 + 1500
    assert prompt_tokens(60.01) == 32 + 3001  # 3000.5, rounded up
