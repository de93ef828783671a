"""Requests to a language model and its replies, in a form that all backends share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

Role = Literal["system", "user", "assistant"]
MediaType = Literal["image", "audio"]
"""What a model gets of a clip: its spectrogram image, or its audio."""
Scoring = Literal["likelihood", "generation"]
"""likelihood: the probability of each class label as the response; generation: the text that the model generates."""


@dataclass(frozen=True)
class ImagePart:
    """An image file, exactly as it is sent.

    Attributes:
        data: bytes of the file.
        media_type: "image/png" or "image/jpeg".
        sha256: SHA-256 of `data`.
    """

    data: bytes
    media_type: str
    sha256: str


@dataclass(frozen=True)
class AudioPart:
    """The audio of a clip, decoded when a backend needs it.

    Attributes:
        load: sample rate in Hz -> (n,) float32 mono, 1 = full scale.
        sha256: of the decoded samples (`clips.samples_sha256`).
        duration_s: duration, s.
    """

    load: Callable[[int], np.ndarray]
    sha256: str
    duration_s: float


MessagePart = str | ImagePart | AudioPart


@dataclass(frozen=True)
class Message:
    """One turn of a conversation: texts, images and audio in the order in which the model gets them."""

    role: Role
    parts: tuple[MessagePart, ...]

    def content(self) -> list[Any]:
        """Return what determines the turn, as JSON values: its texts, and the hashes of its images and audio."""
        return [self.role, *(part if isinstance(part, str) else [part.sha256] for part in self.parts)]


@dataclass(frozen=True)
class Sampling:
    """How text is generated. Every value is sent, so that no default of a server applies.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus sampling; 1 is off.
        max_tokens: maximum length of the text, tokens.
        seed: random seed; 0 for greedy decoding, so that equal requests have one key.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 32
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """A request to a language model.

    Attributes:
        messages: the conversation; the last turn is the user's.
        labels: the response that stands for each class, in the order of the study's classes; an endpoint with structured
            output may return only these.
        wants: the scorings to compute; a backend gets only those that it supports.
        sampling: how text is generated.
    """

    messages: tuple[Message, ...]
    labels: tuple[str, ...]
    scorings: frozenset[Scoring]
    sampling: Sampling = Sampling()

    def with_scorings(self, *scorings: Scoring) -> "Request":
        """Return the same request with other scorings."""
        return replace(self, scorings=frozenset(scorings))


@dataclass(frozen=True)
class Usage:
    """Tokens, time and price of a reply; None where they are not known.

    Attributes:
        input_tokens: tokens of the prompt.
        cached_tokens: prompt tokens taken from a cache (computed for an earlier request).
        output_tokens: generated tokens.
        seconds: time until the reply, s; for a batch, the mean per request.
        usd: price, USD.
    """

    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float | None = None
    usd: float | None = None


@dataclass(frozen=True)
class Reply:
    """The result of one request.

    Attributes:
        outcome: "answered"; "refused" where the backend reports a refusal; "error" where there is no response.
        text: generated text, verbatim; None unless generation was requested.
        log_probabilities: of each label with its end token, natural logarithm, summed over its tokens, in the order of
            `Request.labels`; None unless the likelihood was requested.
        label_tokens: number of tokens of each label, with its end token.
        error: what went wrong, without API keys or contents; None unless the outcome is "error".
        model: id of the model as the endpoint reports it, with its fingerprint; None for local models.
        usage: tokens, time and price.
    """

    outcome: Literal["answered", "refused", "error"]
    text: str | None = None
    log_probabilities: tuple[float, ...] | None = None
    label_tokens: tuple[int, ...] | None = None
    error: str | None = None
    model: str | None = None
    usage: Usage = Usage()


ReplyCallback = Callable[[int, Reply], None]
"""Called with the position of a request and its reply as soon as the reply arrives, in the thread that called `ask`."""


class Backend(Protocol):
    """What answers requests: a loaded model or a client of an endpoint."""

    def ask(self, requests: Sequence[Request], on_reply: ReplyCallback) -> str | None:
        """Answer every request and pass each reply to `on_reply` at once, so that a kill loses only requests in flight.

        A request that fails has a reply with the outcome "error". Neighbouring requests begin alike where possible; a
        backend may reuse what it computed for the beginning.

        Returns:
            Why it stopped early (the budget), or None when all requests were answered.

        Raises:
            NotAvailable: when no request can succeed (weights that do not fit into memory, a rejected API key, an unknown
                model).
        """
        ...

    def close(self) -> None:
        """Free memory and connections; nothing by default."""
        return

    def token_counts(self) -> Mapping[str, int]:
        """Return the tokens processed so far, by name; empty where the backend does not count them."""
        return {}

    def messages_as_sent(self, request: Request) -> str | None:
        """Return the text of a request in the model's chat template; None where the backend applies none."""
        return None
