"""The connection to an endpoint, as a study file describes it under `endpoint:`.

What belongs here: where the endpoint is, by which environment variable its key is found, and how it is asked. What does
not: prices (`prices`), and asking (`backend`).
"""

import ipaddress
import os
import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices
from vlm_audio_pipeline.contracts.specs import not_identity

OPENAI = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_VISIBLE = re.compile(r"[!-~]+")


class Endpoint(BaseModel):
    """An OpenAI-compatible chat endpoint: OpenAI, Gemini's, vLLM, SGLang, Ollama and kin."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    url: str = OPENAI
    """Where its API starts; https, or http on this machine alone."""
    key: str | None = not_identity(None)
    """Name of the environment variable that holds the key, never the key itself. By default OPENAI_API_KEY for OpenAI and
    none on this machine; any other host needs a name, so that nobody's key is sent to somebody else."""
    detail: Literal["auto", "low", "high"] = "auto"
    """How closely pictures are looked at, where the endpoint knows the word."""
    structured: bool = False
    """Hold answers to the labels by a JSON schema, where the endpoint can."""
    sample_rate: int = Field(24_000, ge=8_000, le=192_000)
    """Rate at which sounds are sent, Hz."""
    prices: Prices | None = not_identity(None)
    """What it charges; needed unless it is on this machine or its prices are known."""
    picture_tokens: int | None = not_identity(None, ge=1)
    """The most tokens a picture can take, for models whose formula is not known here; only for reckoning costs."""
    timeout_s: float = not_identity(120.0, gt=0, le=3600)
    """Longest wait for one attempt, s."""
    concurrency: int = not_identity(16, ge=1, le=256)
    """Most requests at once; how many there are adapts to what the endpoint bears."""
    retries: int = not_identity(5, ge=0, le=20)
    """Attempts of the client after the first, each with a longer pause or the one the endpoint asks for."""

    @field_validator("key", mode="before")
    @classmethod
    def _a_name(cls, key: object) -> object:
        name = isinstance(key, str) and _VARIABLE.fullmatch(key) and (len(key) < 24 or "_" in key)
        if key is not None and not name:
            raise ValueError(
                "must be the NAME of an environment variable (capitals, digits, underscores), and what stands here is "
                "not (it is not shown, lest it be the key); put the key into the environment and its name here"
            )
        return key

    @field_validator("url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        where = urlsplit(url)
        if where.scheme not in ("http", "https") or not where.hostname:
            raise ValueError("must start with https:// and name a host; give where the API starts, as " + OPENAI)
        if where.username or where.password or where.query or where.fragment:
            raise ValueError(
                "must be an address only, without user, password, ? or #; name the key's variable in `key`"
            )
        if where.scheme == "http" and not _loopback(where.hostname):
            raise ValueError(
                f"must be https for a host that is not this machine, got http://{where.hostname}: the key and the clips "
                "would travel in clear; use https, or a tunnel to 127.0.0.1"
            )
        return url.rstrip("/")

    @model_validator(mode="after")
    def _a_key_for_its_host(self) -> "Endpoint":
        if self.key is None and not self.is_loopback and self.host != urlsplit(OPENAI).hostname:
            raise ValueError(
                f"key must be given for {self.host}; name the environment variable that holds its key, as "
                "`key: GEMINI_API_KEY`"
            )
        return self

    @property
    def host(self) -> str:
        """The host's name, in small letters."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine, where nothing is charged and nothing leaves."""
        return _loopback(self.host)

    @property
    def key_variable(self) -> str | None:
        """Name of the environment variable with the key; None where none is sent."""
        return self.key or (None if self.is_loopback else OPENAI_KEY)

    def read_key(self) -> str | None:
        """Give the key itself, or None where none is sent or set. For the client alone."""
        return os.environ.get(self.key_variable, "").strip() or None if self.key_variable else None

    def unavailable(self) -> str | None:
        """Say why it cannot be asked from this machine now: its key is not set; None where it can."""
        if self.key_variable is None:
            return None
        key = self.read_key()
        if key is None:
            return f"the environment variable {self.key_variable} must hold the key of {self.host}, got nothing; set it"
        if not _VISIBLE.fullmatch(key):  # HTTP libraries quote a header that they cannot send
            return (
                f"the environment variable {self.key_variable} must hold the key of {self.host}, got something with "
                "spaces, line ends or letters beyond ASCII; set it to the key alone"
            )
        return None

    def identity(self) -> dict[str, Any]:
        """Give what can change an answer, without what equals its default.

        The address counts (the same name may be served otherwise elsewhere) but not on this machine, where ports come and
        go; `detail`, `structured` and `sample_rate` change what is said and seen. Keys, prices, timeouts, retries and
        concurrency change nothing.
        """
        where = urlsplit(self.url)
        port = f":{where.port}" if where.port not in (None, 443) else ""
        address = "loopback" if self.is_loopback else f"{self.host}{port}{where.path}"
        values = {"url": address, "detail": self.detail, "structured": self.structured, "sample_rate": self.sample_rate}
        usual = {"url": OPENAI.removeprefix("https://"), "detail": "auto", "structured": False, "sample_rate": 24_000}
        return {name: value for name, value in values.items() if value != usual[name]}


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
