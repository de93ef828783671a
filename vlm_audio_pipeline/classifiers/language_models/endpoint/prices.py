"""What an endpoint charges.

What belongs here: prices, as declared or as known, and the price of a reply. What does not: what a request can cost at most
(`reckoning`), and who may spend how much (`storage.ledger`).
"""

from pydantic import BaseModel, ConfigDict, Field

from vlm_audio_pipeline.classifiers.language_models.messages import Usage


class Prices(BaseModel):
    """What an endpoint charges, in USD per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    input: float = Field(ge=0, allow_inf_nan=False)
    """Of the prompt. Where sounds cost more than text, their price: what is declared must not be too low."""
    output: float = Field(ge=0, allow_inf_nan=False)
    """Of the answer, hidden reasoning included."""
    cached_input: float | None = Field(None, ge=0, allow_inf_nan=False)
    """Of what the endpoint still had in its cache; by default as much as `input`."""

    def usd(self, usage: Usage) -> float | None:
        """Give the price of a reply, USD; None where its tokens were not counted."""
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        cached = min(usage.cached_tokens or 0, usage.input_tokens)
        cached_price = self.input if self.cached_input is None else self.cached_input
        fresh = usage.input_tokens - cached
        return (fresh * self.input + cached * cached_price + usage.output_tokens * self.output) / 1e6


KNOWN_AT = ("api.openai.com", "https://developers.openai.com/api/docs/pricing, as published for these models in 2025")
"""The host whose prices are known, and where they were read. They age: what a study declares comes first."""
_GPT_4O = Prices(input=2.5, cached_input=1.25, output=10)
_GPT_4O_MINI = Prices(input=0.15, cached_input=0.075, output=0.6)
_GPT_41 = Prices(input=2, cached_input=0.5, output=8)
_GPT_41_MINI = Prices(input=0.4, cached_input=0.1, output=1.6)
_GPT_41_NANO = Prices(input=0.1, cached_input=0.025, output=0.4)
KNOWN = {
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


def known_prices(model: str, host: str) -> Prices | None:
    """Give the prices of a model where they are known, or None."""
    return KNOWN.get(model) if host == KNOWN_AT[0] else None


def how_to_declare(model: str) -> str:
    """Say how a study declares prices."""
    return (
        f"the prices of {model} must be declared, for they are not known here; write what its provider charges, in USD "
        "per million tokens: `endpoint: {prices: {input: 2.5, cached_input: 1.25, output: 10}}`"
    )
