"""The prices of endpoints, declared in a study or published, and the price of a reply.

Does not belong here: the most that a request can cost (`cost_bounds`), budgets (`storage.ledger`).
"""

from pydantic import BaseModel, ConfigDict, Field

from vlm_audio_pipeline.classifiers.language_models.messages import Usage


class Prices(BaseModel):
    """Prices of an endpoint, USD per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    input: float = Field(ge=0, allow_inf_nan=False)
    """Price of the prompt. Where audio costs more than text, give the price of audio, so that bounds are not too low."""
    output: float = Field(ge=0, allow_inf_nan=False)
    """Price of generated tokens, including hidden reasoning."""
    cached_input: float | None = Field(None, ge=0, allow_inf_nan=False)
    """Price of prompt tokens from the endpoint's cache; by default the same as `input`."""

    def usd(self, usage: Usage) -> float | None:
        """Return the price of a reply, USD; None where its tokens were not counted."""
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        cached = min(usage.cached_tokens or 0, usage.input_tokens)
        cached_price = self.input if self.cached_input is None else self.cached_input
        fresh = usage.input_tokens - cached
        return (fresh * self.input + cached * cached_price + usage.output_tokens * self.output) / 1e6


PUBLISHED_AT = (
    "api.openai.com",
    "https://developers.openai.com/api/docs/pricing, as published for these models in 2025",
)
"""The host of the published prices, and their publication. They may be out of date: prices in a study take precedence."""
_GPT_4O = Prices(input=2.5, cached_input=1.25, output=10)
_GPT_4O_MINI = Prices(input=0.15, cached_input=0.075, output=0.6)
_GPT_41 = Prices(input=2, cached_input=0.5, output=8)
_GPT_41_MINI = Prices(input=0.4, cached_input=0.1, output=1.6)
_GPT_41_NANO = Prices(input=0.1, cached_input=0.025, output=0.4)
PUBLISHED_PRICES = {
    "gpt-4o": _GPT_4O,
    "gpt-4o-2024-08-06": _GPT_4O,
    "gpt-4o-2024-11-20": _GPT_4O,
    "gpt-4o-mini": _GPT_4O_MINI,
    "gpt-4o-mini-2024-07-18": _GPT_4O_MINI,
    "gpt-4.1": _GPT_41,
    "gpt-4.1-2025-04-14": _GPT_41,
    "gpt-4.1-mini": _GPT_41_MINI,
    "gpt-4.1-mini-2025-04-14": _GPT_41_MINI,
    "gpt-4.1-nano": _GPT_41_NANO,
    "gpt-4.1-nano-2025-04-14": _GPT_41_NANO,
}


def published_prices(model: str, host: str) -> Prices | None:
    """Return the published prices of a model, or None."""
    return PUBLISHED_PRICES.get(model) if host == PUBLISHED_AT[0] else None


def declare_prices_advice(model: str) -> str:
    """Return an error message that explains how to declare prices in a study."""
    return (
        f"the prices of {model} are not known and must be declared; write the prices of its provider, in USD "
        "per million tokens: `endpoint: {prices: {input: 2.5, cached_input: 1.25, output: 10}}`"
    )
