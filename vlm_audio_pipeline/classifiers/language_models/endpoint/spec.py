"""The connection to an endpoint: the key `endpoint` of a study file."""

import ipaddress
import os
import re
from datetime import date
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices
from vlm_audio_pipeline.contracts.specs import excluded_from_fingerprint
from vlm_audio_pipeline.encoders.weights import ModelName

OPENAI = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
ANTHROPIC = "https://api.anthropic.com/v1"
OptionalParameter = Literal["top_p", "temperature", "seed", "n", "response_format", "detail"]
"""Parameters that may be omitted: they change neither the question nor the cost bound, unlike the maximum length."""
_RESERVED = frozenset(("model", "messages", "stream", "n", "max_tokens", "max_completion_tokens"))
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_KEY_CHARACTERS = re.compile(r"[!-~]+")


class Endpoint(BaseModel):
    """An endpoint with OpenAI's chat completions (OpenAI, Gemini, vLLM, SGLang, Ollama and others) or Anthropic's Messages API."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str = OPENAI
    """Base address of the API; https, or http on this machine only."""
    protocol: Literal["openai", "anthropic"] = "openai"
    """openai: chat completions; anthropic: the Messages API of Anthropic, at an address such as https://api.anthropic.com/v1,
    which returns the thinking and its tokens."""
    key: str | None = excluded_from_fingerprint(None)
    """Name of the environment variable that contains the API key, never the key itself. By default OPENAI_API_KEY for OpenAI
    and none on this machine. Any other host needs an explicit name, so that no key is sent to the wrong host."""
    detail: Literal["auto", "low", "high"] = "auto"
    """Image resolution that the model uses, for endpoints with this parameter."""
    structured: bool = False
    """Restrict responses to the labels by a JSON schema, for endpoints with structured output."""
    reasoning_effort: str | None = None
    """How long a reasoning model may reason, such as none, minimal, low, medium or high; by default the model decides."""
    thinking_budget: int | None = Field(None, ge=0)
    """Maximum number of reasoning tokens, sent in the form of the provider. `max_tokens` must leave room for the answer."""
    omit: tuple[OptionalParameter, ...] = ()
    """Parameters that are not sent, for models that refuse them; parameters that a server refuses are omitted anyway."""
    extra_body: dict[str, Any] = {}
    """Further parameters of the provider, sent in the body of each request."""
    likelihood: Literal["prompt_logprobs", "input_token_logprobs"] | None = None
    """How the server returns log-probabilities, for the scoring `likelihood`: prompt_logprobs (vLLM) or input_token_logprobs
    (SGLang). Other servers return none."""
    end_token: str | None = Field(None, min_length=1)
    """Text of the token that ends a response in the model's chat template, such as <|im_end|>; required with `likelihood`."""
    top_logprobs: int = Field(20, ge=1, le=1000)
    """Number of the most likely first tokens to request for the scoring `first_token`; most servers allow up to 20, some 5."""
    processor: ModelName | None = None
    """Model (hub id or folder) whose chat template is used for input_token_logprobs; its files must be on this machine, the
    weights need not. By default `model`."""
    accept: tuple[str, ...] = excluded_from_fingerprint(())
    """Ids that the endpoint may return although they name another model than `model`, such as those of a gateway."""
    sample_rate: int = Field(24_000, ge=8_000, le=192_000)
    """Sample rate of the audio that is sent, Hz."""
    prices: Prices | None = excluded_from_fingerprint(None)
    """Prices of the model; required unless the endpoint is on this machine or has published prices."""
    retires: date | Literal["never"] | None = excluded_from_fingerprint(None)
    """Day on which the provider retires the model, or never; by default that of the table of models."""
    image_tokens: int | None = excluded_from_fingerprint(None, ge=1)
    """Maximum number of tokens of an image, for models without a published formula; used only for cost bounds."""
    timeout_s: float = excluded_from_fingerprint(120.0, gt=0, le=3600)
    """Time limit of one attempt, s."""
    concurrency: int = excluded_from_fingerprint(16, ge=1, le=256)
    """Maximum number of requests in flight; the actual number adapts to the endpoint."""
    retries: int = excluded_from_fingerprint(5, ge=0, le=20)
    """Number of retries, each after a longer pause or the pause that the endpoint asks for."""
    batch: bool | Literal["openai", "anthropic"] = excluded_from_fingerprint(False)
    """Send the requests as batches, which are answered within a day for half the price: true, or the name of `protocol`."""

    @field_validator("key", mode="before")
    @classmethod
    def _check_key_is_a_name(cls, key: object) -> object:
        is_name = isinstance(key, str) and _VARIABLE.fullmatch(key) and (len(key) < 24 or "_" in key)
        if key is not None and not is_name:
            raise ValueError(
                "must be the NAME of an environment variable (capitals, digits, underscores); got something else, which "
                "is not shown because it may be the key. Put the key into the environment and its name here"
            )
        return key

    @field_validator("url")
    @classmethod
    def _check_address(cls, url: str) -> str:
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError(
                "must start with https:// and name a host; give the base address of the API, such as " + OPENAI
            )
        if address.username or address.password or address.query or address.fragment:
            raise ValueError(
                "must be an address only, without user, password, ? or #; name the key's variable in `key`"
            )
        if address.scheme == "http" and not _is_loopback(address.hostname):
            raise ValueError(
                f"must be https for a host that is not this machine, got http://{address.hostname}: the key and the clips "
                "would be sent unencrypted; use https, or a tunnel to 127.0.0.1"
            )
        return url.rstrip("/")

    @field_validator("extra_body")
    @classmethod
    def _refuse_reserved_parameters(cls, extra_body: dict[str, Any]) -> dict[str, Any]:
        if reserved := sorted(_RESERVED & extra_body.keys()):
            raise ValueError(
                f"must not contain {', '.join(reserved)}: these are set by the classifier; use its own keys"
            )
        return extra_body

    @field_validator("batch")
    @classmethod
    def _check_batch_protocol(
        cls, batch: bool | Literal["openai", "anthropic"], info: ValidationInfo
    ) -> bool | Literal["openai", "anthropic"]:
        """Refuse a batch protocol other than `protocol`: batches and live requests share stored responses, so both send the same."""
        protocol = info.data.get("protocol")
        if isinstance(batch, str) and protocol not in (None, batch):
            raise ValueError(
                f"must be the protocol of the endpoint, got {batch} with `protocol: {protocol}`; set `protocol: {batch}` or "
                f"`batch: {protocol}`"
            )
        host = urlsplit(info.data.get("url", "")).hostname or ""
        if batch and protocol == "openai" and _is_anthropic(host):
            raise ValueError(
                f"needs `protocol: anthropic` for {host}, which has no batches with `protocol: openai`; set `protocol: anthropic`"
            )
        return batch

    @model_validator(mode="after")
    def _check_key_is_named(self) -> "Endpoint":
        if self.key is None and not self.is_loopback and self.host != urlsplit(OPENAI).hostname:
            raise ValueError(
                f"key is required for {self.host}; name the environment variable that contains its key, such as "
                "`key: GEMINI_API_KEY`"
            )
        return self

    @model_validator(mode="after")
    def _check_protocol(self) -> "Endpoint":
        if self.protocol == "anthropic" and self.url == OPENAI:
            raise ValueError(f"url must be that of a Messages API, such as {ANTHROPIC}, got {OPENAI}; set `url`")
        if self.protocol == "anthropic" and self.likelihood is not None:
            raise ValueError(
                "likelihood must be left out for `protocol: anthropic`, which returns no log-probabilities"
            )
        if self.processor is not None and self.likelihood != "input_token_logprobs":
            raise ValueError("processor belongs to `likelihood: input_token_logprobs`; remove it, or set `likelihood`")
        if (self.likelihood is None) != (self.end_token is None):
            raise ValueError(
                "likelihood and end_token belong together, got one of them; set both, such as `likelihood: prompt_logprobs` "
                'and `end_token: "<|im_end|>"` (the token that ends a response in the chat template of the model)'
            )
        return self

    @property
    def host(self) -> str:
        """The host name in lower case."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_loopback(self) -> bool:
        """Whether the address is on this machine. A proxy or a tunnel at such an address may still charge."""
        return _is_loopback(self.host)

    @property
    def may_charge(self) -> bool:
        """Whether requests may cost money: declared prices above 0; without prices, another host or a key."""
        if self.prices is not None and self.is_loopback:
            return any((self.prices.input, self.prices.output, self.prices.cached_input))
        return not self.is_loopback or self.key is not None

    @property
    def has_batches(self) -> bool:
        """Whether batches are used, or the provider is known to serve them for half the price."""
        return bool(self.batch) or self.host == "api.openai.com" or _is_anthropic(self.host)

    @property
    def address(self) -> str:
        """The address in result keys: on this machine only "loopback", because ports change."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port not in (None, 443) else ""
        return "loopback" if self.is_loopback else f"{self.host}{port}{parts.path}"

    def thinking_parameters(self) -> dict[str, Any]:
        """Return `thinking_budget` in the form of the provider: Anthropic, Gemini, OpenRouter, else that of Qwen."""
        budget = self.thinking_budget
        if budget is None:
            return {}
        if _is_anthropic(self.host):
            return {"thinking": {"type": "enabled", "budget_tokens": budget} if budget else {"type": "disabled"}}
        if self.host.endswith("googleapis.com"):
            return {"extra_body": {"google": {"thinking_config": {"thinking_budget": budget}}}}
        if self.host.endswith("openrouter.ai"):
            return {"reasoning": {"max_tokens": budget} if budget else {"enabled": False}}
        return {"thinking_budget": budget}

    @property
    def key_variable(self) -> str | None:
        """Name of the environment variable with the key; None if no key is sent."""
        return self.key or (None if self.is_loopback else OPENAI_KEY)

    def read_key(self) -> str | None:
        """Return the key itself, or None if no key is sent or set. Only for the client."""
        return os.environ.get(self.key_variable, "").strip() or None if self.key_variable else None

    def unavailable(self) -> str | None:
        """Return why no request can be sent now (its key is missing or malformed), or None."""
        if self.key_variable is None:
            return None
        key = self.read_key()
        if key is None:
            return f"the environment variable {self.key_variable} must contain the key of {self.host}, but is not set; set it"
        if not _KEY_CHARACTERS.fullmatch(key):  # HTTP libraries print a header that they cannot send
            return (
                f"the environment variable {self.key_variable} must contain the key of {self.host}, but contains "
                "spaces, line ends or non-ASCII characters; set it to the key alone"
            )
        return None

    def fingerprint_fields(self) -> dict[str, Any]:
        """Return the parameters that can change a response, without those that equal their default.

        The address is included, because another host may serve another model under the same name. Keys, prices, timeouts,
        retries, concurrency and batches change no response.
        """
        values = {
            "url": self.address,
            "protocol": self.protocol,
            "detail": self.detail,
            "structured": self.structured,
            "sample_rate": self.sample_rate,
            "reasoning_effort": self.reasoning_effort,
            "thinking_budget": self.thinking_budget,
            "omit": sorted(self.omit),
            "extra_body": self.extra_body,
            "first_token": self.top_logprobs,
            "likelihood": None if self.likelihood is None else [self.likelihood, self.end_token, self.processor],
        }
        defaults = {
            "url": OPENAI.removeprefix("https://"),
            "protocol": "openai",
            "detail": "auto",
            "structured": False,
            "sample_rate": 24_000,
            "reasoning_effort": None,
            "thinking_budget": None,
            "omit": [],
            "extra_body": {},
            "first_token": 20,
            "likelihood": None,
        }
        return {name: value for name, value in values.items() if value != defaults[name]}


def _is_anthropic(host: str) -> bool:
    return host == "anthropic.com" or host.endswith(".anthropic.com")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
