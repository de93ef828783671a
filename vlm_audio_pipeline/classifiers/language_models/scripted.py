"""A language model without weights: deterministic, quick, and able to refuse, ramble and fail when told to.

What belongs here: answers made from hashes, for tests, documentation and trying a study on a bare machine. What does not:
anything a result should rest on.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlm_audio_pipeline.classifiers.language_models.messages import Answered, Reply, Request, Usage
from vlm_audio_pipeline.contracts.hashing import fingerprint

RAMBLING = "The picture shows energy at several frequencies; it could be many things."
REFUSING = "I'm sorry, but I can't help with that."


class Script(BaseModel):
    """What the scripted model does; shares are of the requests, chosen by a hash of what each shows."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    looks: bool = True
    """Whether the answer depends on the query; if not, it is the first class every time."""
    refuses: float = Field(0.0, ge=0, le=1)
    """Share of requests it refuses in words."""
    rambles: float = Field(0.0, ge=0, le=1)
    """Share of requests it answers with prose that names no class."""
    fails: float = Field(0.0, ge=0, le=1)
    """Share of requests that end in an error."""
    seed: int = 0
    """Another seed gives other answers."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if (total := self.refuses + self.rambles + self.fails) > 1:
            raise ValueError(f"refuses + rambles + fails must be at most 1, got {total:g}")
        return self


class ScriptedBackend:
    """Answers by hashes of the query: the same request gives the same reply in every process.

    Args:
        script: what it does.
    """

    def __init__(self, script: Script):
        self.script = script

    def ask(self, requests: Sequence[Request], answered: Answered) -> str | None:
        """Answer requests, in order."""
        for i, request in enumerate(requests):
            answered(i, self._reply(request))
        return None

    def close(self) -> None:
        """Hold nothing."""

    def _reply(self, request: Request) -> Reply:
        shown = request.messages[-1].content() if self.script.looks else []
        seeds = fingerprint("scripted", self.script.seed, shown, length=32)
        fate, choice = int(seeds[:8], 16) / 2**32, int(seeds[8:16], 16)
        usage = Usage(input_tokens=len(str([m.content() for m in request.messages])) // 4, output_tokens=1, seconds=0.0)
        ends = np.cumsum([self.script.fails, self.script.refuses, self.script.rambles])
        if fate < ends[0]:
            return Reply("error", error="the script says that this request fails", usage=usage)
        logits = np.random.default_rng(int(seeds[16:], 16)).normal(size=len(request.labels))
        best = choice % len(request.labels) if self.script.looks else 0
        logits[best] = logits.max() + 1  # the answer in words and the likeliest class are one
        logs = logits - np.log(np.exp(logits).sum())
        said = REFUSING if fate < ends[1] else RAMBLING if fate < ends[2] else request.labels[best]
        likelihood = "likelihood" in request.wants
        return Reply(
            "answered",
            text=said if "generation" in request.wants else None,
            log_probabilities=tuple(map(float, logs)) if likelihood else None,
            label_tokens=tuple(len(label.split("_")) + 1 for label in request.labels) if likelihood else None,
            usage=usage,
        )
