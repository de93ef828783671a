"""Prices of endpoints, and the price of a reply.

Does not belong here: published prices (`model_table`), upper bounds of the price of a request (`cost_bounds`), budgets (`storage.ledger`).
"""

from pydantic import BaseModel, ConfigDict, Field

from vlm_audio_pipeline.classifiers.language_models.messages import Usage

MAX_PRICE = 1e6
"""Highest price that a study may declare, USD per million tokens."""
BATCH_PRICE = 0.5
"""Price of a batch as a share of the price of live requests, at OpenAI (https://platform.openai.com/docs/guides/batch) and
Anthropic (https://docs.claude.com/en/docs/build-with-claude/batch-processing)."""


class Prices(BaseModel):
    """Prices of an endpoint, USD per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0, le=MAX_PRICE, allow_inf_nan=False)
    """Price of the prompt. Where audio costs more than text, give the price of audio, so that bounds are not too low."""
    output: float = Field(ge=0, le=MAX_PRICE, allow_inf_nan=False)
    """Price of generated tokens, including hidden reasoning."""
    cached_input: float | None = Field(None, ge=0, le=MAX_PRICE, allow_inf_nan=False)
    """Price of prompt tokens from the endpoint's cache; by default the same as `input`."""

    def batch_prices(self) -> "Prices":
        """Return the prices of the same tokens in a batch."""
        values = {name: None if price is None else price * BATCH_PRICE for name, price in self.model_dump().items()}
        return self.model_copy(update=values)

    def usd(self, usage: Usage) -> float | None:
        """Return the price of a reply, USD; None if the endpoint did not count its tokens."""
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        cached = min(usage.cached_tokens or 0, usage.input_tokens)
        cached_price = self.input if self.cached_input is None else self.cached_input
        uncached = usage.input_tokens - cached
        return (uncached * self.input + cached * cached_price + usage.output_tokens * self.output) / 1e6


def declare_prices_advice(model: str) -> str:
    """Return an error message that explains how to declare prices in a study."""
    return (
        f"the prices of {model} are unknown and must be declared; write the prices of its provider, in USD "
        "per million tokens: `endpoint: {prices: {input: 2.5, cached_input: 1.25, output: 10}}`"
    )
