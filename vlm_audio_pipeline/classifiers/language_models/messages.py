"""Requests to a language model and its replies, in a form that all backends share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from vlm_audio_pipeline.classifiers.language_models.first_token import FirstTokens

Role = Literal["system", "user", "assistant"]
MediaType = Literal["image", "audio"]
"""Input of a model: the spectrogram image of a clip, or its audio."""
Scoring = Literal["likelihood", "generation", "first_token"]
"""likelihood: the probability of each class label as the response; generation: the text that the model generates; first_token:
the probability of the first token of each class label, which is not a likelihood of the class."""


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
        load: sample rate in Hz -> (n,) float32 mono, 1 = full scale; picklable.
        sha256: of the decoded samples (`clips.samples_sha256`).
        duration_s: duration, s.
        files: the recording that `load` reads, and the file of added noise; empty if it reads none.
    """

    load: Callable[[int], np.ndarray]
    sha256: str
    duration_s: float
    files: tuple[Path, ...] = ()


MessagePart = str | ImagePart | AudioPart


@dataclass(frozen=True)
class Message:
    """One turn of a conversation: texts, images and audio in the order in which the model receives them."""

    role: Role
    parts: tuple[MessagePart, ...]

    def content(self) -> list[Any]:
        """Return the content of the turn as JSON values: role, texts, and hashes of images and audio."""
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
        scorings: the scorings to compute; a backend gets only those that it supports.
        sampling: how text is generated.
        preamble: begin with the system text that the model's processor adds by default; models without one ignore it.
    """

    messages: tuple[Message, ...]
    labels: tuple[str, ...]
    scorings: frozenset[Scoring]
    sampling: Sampling = Sampling()
    preamble: bool = False

    def with_scorings(self, *scorings: Scoring) -> "Request":
        """Return the same request with other scorings."""
        return replace(self, scorings=frozenset(scorings))


@dataclass(frozen=True)
class Usage:
    """Tokens, time and price of a reply; None if the backend does not report them.

    Attributes:
        input_tokens: tokens of the prompt.
        cached_tokens: prompt tokens taken from a cache (computed for an earlier request).
        output_tokens: generated tokens, with those of the reasoning.
        seconds: time until the reply, s; for requests that a local model computes together, the mean; None in a batch of a provider.
        usd: price, USD.
        reasoning_tokens: generated tokens of the reasoning.
    """

    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float | None = None
    usd: float | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True)
class Reply:
    """The result of one request.

    Attributes:
        outcome: "answered"; "truncated" if the response was cut off at the maximum length; "refused" if the backend reports a
            refusal; "error" if there is no response.
        text: generated text, verbatim, without the reasoning; None unless generation was requested.
        reasoning: text that the model generated before its answer, where the server separates or marks it.
        log_probabilities: log-probability (natural logarithm) of each label, summed over its tokens and end token, in the order of
            `Request.labels`; None unless the likelihood was requested.
        label_tokens: number of tokens of each label, with its end token.
        first_tokens: probabilities of the first token of each label; None unless they were requested and returned.
        error: what went wrong, without API keys or contents; None unless the outcome is "error".
        model: id of the model as the endpoint reports it, with its fingerprint; None for local models.
        usage: tokens, time and price.
        scorings: scorings of the request that the reply answers, if the backend answers them one after the other; None: all.
    """

    outcome: Literal["answered", "truncated", "refused", "error"]
    text: str | None = None
    reasoning: str | None = None
    log_probabilities: tuple[float, ...] | None = None
    label_tokens: tuple[int, ...] | None = None
    first_tokens: FirstTokens | None = None
    error: str | None = None
    model: str | None = None
    usage: Usage = Usage()
    scorings: frozenset[Scoring] | None = None


@dataclass(frozen=True)
class BatchProgress:
    """The progress of batches at a server.

    Attributes:
        done: number of requests that have ended, as the server counts them.
        total: number of requests.
        is_ready: whether a run can continue now: a batch has ended, or must be looked for.
    """

    done: int
    total: int
    is_ready: bool


ReplyCallback = Callable[[int, Reply], None]
"""Called with the position of a request and its reply as soon as the reply arrives, in the thread that called `ask`. A request
with several scorings may have several replies; see `Reply.scorings`."""


class Backend(Protocol):
    """Answers requests: a loaded model or a client of an endpoint.

    Attributes:
        chunk_size: requests that are computed together, so that their last digits depend on each other; if the response to one of
            them is missing, all of them are asked again (see `contracts.chunks.cut_chunks`). 1: each request stands alone.
    """

    chunk_size: int = 1

    def ask(self, requests: Sequence[Request], on_reply: ReplyCallback) -> str | None:
        """Answer every request and pass each reply to `on_reply` at once, so that a kill loses only requests in flight.

        A request that fails has a reply with the outcome "error". Neighbouring requests share long prefixes where possible;
        a backend may compute a shared prefix only once.

        Returns:
            Why the backend stopped early (the budget), or None if all requests were answered.

        Raises:
            NotAvailable: if no request can succeed (weights that do not fit into memory, a rejected API key, an unknown
                model).
        """
        ...

    def set_claim(self, claim: Callable[[int], bool]) -> None:
        """Set the function that is called with the position of a request just before it is sent; False: do not send it.

        It is for backends whose requests cost money, so that two processes never send the same request. By default it is not
        called.
        """
        return

    def close(self) -> None:
        """Free memory and connections; nothing by default."""
        return

    def token_counts(self) -> Mapping[str, int]:
        """Return the tokens processed so far, by name; empty if the backend does not count them."""
        return {}

    def render_messages(self, request: Request) -> str | None:
        """Return the text of a request in the model's chat template; None if the backend has no chat template."""
        return None
