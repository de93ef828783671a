"""The connection to an endpoint, as a study file describes it under `endpoint:`."""

import ipaddress
import os
import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices
from vlm_audio_pipeline.contracts.specs import excluded_from_fingerprint

OPENAI = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_VISIBLE = re.compile(r"[!-~]+")


class Endpoint(BaseModel):
    """An OpenAI-compatible chat endpoint: OpenAI, Gemini, vLLM, SGLang, Ollama and others."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    url: str = OPENAI
    """Base address of the API; https, or http on this machine only."""
    key: str | None = excluded_from_fingerprint(None)
    """Name of the environment variable that contains the API key, never the key itself. By default OPENAI_API_KEY for OpenAI
    and none on this machine. Any other host needs a name, so that no key is sent to the wrong host."""
    detail: Literal["auto", "low", "high"] = "auto"
    """Image resolution that the model uses, for endpoints with this parameter."""
    structured: bool = False
    """Restrict responses to the labels by a JSON schema, for endpoints with structured output."""
    sample_rate: int = Field(24_000, ge=8_000, le=192_000)
    """Sample rate of the audio that is sent, Hz."""
    prices: Prices | None = excluded_from_fingerprint(None)
    """Prices of the model; required unless the endpoint is on this machine or the prices are published ones."""
    image_tokens: int | None = excluded_from_fingerprint(None, ge=1)
    """Maximum number of tokens of an image, for models without a published formula; used only for cost bounds."""
    timeout_s: float = excluded_from_fingerprint(120.0, gt=0, le=3600)
    """Time limit of one attempt, s."""
    concurrency: int = excluded_from_fingerprint(16, ge=1, le=256)
    """Maximum number of requests in flight; the actual number adapts to the endpoint."""
    retries: int = excluded_from_fingerprint(5, ge=0, le=20)
    """Number of retries, each after a longer pause or the pause that the endpoint asks for."""

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

    @model_validator(mode="after")
    def _check_key_is_named(self) -> "Endpoint":
        if self.key is None and not self.is_loopback and self.host != urlsplit(OPENAI).hostname:
            raise ValueError(
                f"key must be given for {self.host}; name the environment variable that contains its key, such as "
                "`key: GEMINI_API_KEY`"
            )
        return self

    @property
    def host(self) -> str:
        """The host name in lower case."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine: nothing is charged and no data leave the machine."""
        return _is_loopback(self.host)

    @property
    def key_variable(self) -> str | None:
        """Name of the environment variable with the key; None if no key is sent."""
        return self.key or (None if self.is_loopback else OPENAI_KEY)

    def read_key(self) -> str | None:
        """Return the key itself, or None if none is sent or set. Only for the client."""
        return os.environ.get(self.key_variable, "").strip() or None if self.key_variable else None

    def unavailable(self) -> str | None:
        """Return why no request can be sent now (its key is not set), or None."""
        if self.key_variable is None:
            return None
        key = self.read_key()
        if key is None:
            return (
                f"the environment variable {self.key_variable} must contain the key of {self.host}, got nothing; set it"
            )
        if not _VISIBLE.fullmatch(key):  # HTTP libraries print a header that they cannot send
            return (
                f"the environment variable {self.key_variable} must contain the key of {self.host}, got something with "
                "spaces, line ends or non-ASCII characters; set it to the key alone"
            )
        return None

    def fingerprint_fields(self) -> dict[str, Any]:
        """Return the parameters that can change a response, without those that equal their default.

        The address counts, because another host may serve another model under the same name. On this machine it does not,
        because ports change. Keys, prices, timeouts, retries and concurrency change no response.
        """
        where = urlsplit(self.url)
        port = f":{where.port}" if where.port not in (None, 443) else ""
        address = "loopback" if self.is_loopback else f"{self.host}{port}{where.path}"
        values = {"url": address, "detail": self.detail, "structured": self.structured, "sample_rate": self.sample_rate}
        defaults = {
            "url": OPENAI.removeprefix("https://"),
            "detail": "auto",
            "structured": False,
            "sample_rate": 24_000,
        }
        return {name: value for name, value in values.items() if value != defaults[name]}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
