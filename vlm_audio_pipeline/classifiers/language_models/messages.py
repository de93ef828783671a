"""What is said to a language model and what comes back, whichever backend carries it.

What belongs here: the neutral form of a request and a reply. What does not: wording (`prompts`), and how a backend turns
messages into tokens or JSON.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

Role = Literal["system", "user", "assistant"]
Scoring = Literal["likelihood", "generation"]
"""likelihood: how probable each class's answer is; generation: what the model says by itself."""


@dataclass(frozen=True)
class Picture:
    """An encoded picture, exactly as it is sent.

    Attributes:
        data: bytes of the file.
        media_type: "image/png" or "image/jpeg".
        sha256: SHA-256 of `data`.
    """

    data: bytes
    media_type: str
    sha256: str


@dataclass(frozen=True)
class Sound:
    """A clip's samples, decoded when a backend needs them.

    Attributes:
        load: rate in Hz -> (n,) float32 mono, 1 = full scale.
        sha256: of the decoded samples (`clips.samples_sha256`).
        duration_s: length, s.
    """

    load: Callable[[int], np.ndarray]
    sha256: str
    duration_s: float


Part = str | Picture | Sound


@dataclass(frozen=True)
class Message:
    """One turn: texts, pictures and sounds in the order in which they are read."""

    role: Role
    parts: tuple[Part, ...]

    def content(self) -> list[Any]:
        """Give what determines the turn as plain values: texts as they are, pictures and sounds by their hashes."""
        return [self.role, *(part if isinstance(part, str) else [part.sha256] for part in self.parts)]


@dataclass(frozen=True)
class Sampling:
    """How an answer is generated; every value is sent explicitly, or a server's own defaults would apply.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus sampling; 1 is off.
        max_tokens: longest answer, tokens.
        seed: of this answer; 0 where nothing is drawn, so that equal requests are one request.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 32
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """One question.

    Attributes:
        messages: ends with a user's turn; the model's turn is next.
        labels: what the model would answer for each class, in the order of the study's classes; an endpoint that can be
            held to a list of answers is held to these.
        wants: what is asked for; a backend that cannot score is never asked for a likelihood.
        sampling: how an answer is generated.
    """

    messages: tuple[Message, ...]
    labels: tuple[str, ...]
    wants: frozenset[Scoring]
    sampling: Sampling = Sampling()

    def wanting(self, *scorings: Scoring) -> "Request":
        """Give the same question with other wants."""
        return replace(self, wants=frozenset(scorings))


@dataclass(frozen=True)
class Usage:
    """What one reply took; None where nobody counted.

    Attributes:
        input_tokens: tokens of the prompt.
        cached_tokens: of these, taken from a cache (computed for an earlier request).
        output_tokens: tokens generated.
        seconds: time to answer, s; of a batch, the mean of its requests.
        usd: price, USD.
    """

    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float | None = None
    usd: float | None = None


@dataclass(frozen=True)
class Reply:
    """What became of one request.

    Attributes:
        outcome: "answered"; "refused" where the backend itself reports a refusal; "error" where there is no answer.
        text: generated answer, verbatim; None where none was asked for.
        log_probabilities: of each class's answer with its end token, natural logarithm, summed over its tokens, in the order
            of `Request.labels`; None where not asked for.
        label_tokens: tokens of each class's answer, end token included.
        error: what went wrong, without keys or contents; None unless the outcome is "error".
        model: id the endpoint says it used, with its fingerprint; None for local models.
        usage: what it took.
    """

    outcome: Literal["answered", "refused", "error"]
    text: str | None = None
    log_probabilities: tuple[float, ...] | None = None
    label_tokens: tuple[int, ...] | None = None
    error: str | None = None
    model: str | None = None
    usage: Usage = Usage()


Answered = Callable[[int, Reply], None]
"""Told the position of a request and its reply, as soon as it is there, from the thread that asked."""


class Backend(Protocol):
    """Whatever answers requests.

    `ask` answers every request, each told to `answered` as soon as it is known, so that a kill loses only what is in
    flight. Consecutive requests are to share long beginnings. A request that cannot be answered is told as an "error",
    with one exception: what makes every request pointless (weights that do not fit, a refused key, a model that does not
    exist) raises NotAvailable. Returns why it stopped early (the budget), or None when all were answered.
    """

    def ask(self, requests: Sequence[Request], answered: Answered) -> str | None:
        """Answer requests."""
        ...

    def close(self) -> None:
        """Give back memory and connections."""
        ...
