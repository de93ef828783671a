"""The backend `scripted`: a deterministic model without weights, for tests and examples. It can refuse, name no class, or fail."""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlm_audio_pipeline.classifiers.language_models.language_model import BACKENDS, LanguageModel
from vlm_audio_pipeline.classifiers.language_models.messages import Backend, Reply, ReplyCallback, Request, Usage
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import StageContext

UNRELATED_TEXT = "The image shows energy at several frequencies; it could be many things."
REFUSAL_TEXT = "I'm sorry, but I can't help with that."


class Script(BaseModel):
    """Behaviour of the scripted model. Fractions are fractions of all requests; a hash of the query selects the requests."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uses_query: bool = True
    """Whether the response depends on the query; if not, it is always the first class."""
    refuses: float = Field(0.0, ge=0, le=1)
    """Fraction of requests whose response is a text that refuses."""
    unparseable: float = Field(0.0, ge=0, le=1)
    """Fraction of requests whose response is a text that names no class."""
    fails: float = Field(0.0, ge=0, le=1)
    """Fraction of requests that end in an error."""
    seed: int = 0
    """Seed of the responses."""

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        if (total := self.refuses + self.unparseable + self.fails) > 1:
            raise ValueError(f"refuses + unparseable + fails must be at most 1, got {total:g}")
        return self


@BACKENDS.register("scripted")
class ScriptedLanguageModel(LanguageModel):
    """A language model without weights, for tests and for trying out a study."""

    backend: Literal["scripted"] = "scripted"
    """scripted: no model; responses are computed from hashes."""
    script: Script = Script()
    """Behaviour of the scripted model."""

    def model_identity(self) -> dict[str, Any]:
        """Return the script."""
        return {"backend": self.backend, **self.script.model_dump()}

    def open_backend(self, context: StageContext) -> "ScriptedBackend":
        """Return the scripted model."""
        return ScriptedBackend(self.script)


class ScriptedBackend(Backend):
    """Replies computed from hashes of the query: the same request gets the same reply in every process.

    Args:
        script: behaviour of the model.
    """

    def __init__(self, script: Script):
        self.script = script

    def ask(self, requests: Sequence[Request], on_reply: ReplyCallback) -> str | None:
        """Answer requests, in order."""
        for i, request in enumerate(requests):
            on_reply(i, self._reply(request))
        return None

    def _reply(self, request: Request) -> Reply:
        query = request.messages[-1].content() if self.script.uses_query else []
        seeds = fingerprint("scripted", self.script.seed, query, length=32)
        draw, choice = int(seeds[:8], 16) / 2**32, int(seeds[8:16], 16)
        usage = Usage(input_tokens=len(str([m.content() for m in request.messages])) // 4, output_tokens=1, seconds=0.0)
        thresholds = np.cumsum([self.script.fails, self.script.refuses, self.script.unparseable])
        if draw < thresholds[0]:
            return Reply("error", error="the script makes this request fail", usage=usage)
        logits = np.random.default_rng(int(seeds[16:], 16)).normal(size=len(request.labels))
        best = choice % len(request.labels) if self.script.uses_query else 0
        logits[best] = logits.max() + 1  # the text and the most likely class agree
        log_probabilities = logits - np.log(np.exp(logits).sum())
        text = (
            REFUSAL_TEXT if draw < thresholds[1] else UNRELATED_TEXT if draw < thresholds[2] else request.labels[best]
        )
        likelihood = "likelihood" in request.scorings
        return Reply(
            "answered",
            text=text if "generation" in request.scorings else None,
            log_probabilities=tuple(map(float, log_probabilities)) if likelihood else None,
            label_tokens=tuple(len(label.split("_")) + 1 for label in request.labels) if likelihood else None,
            usage=usage,
        )
