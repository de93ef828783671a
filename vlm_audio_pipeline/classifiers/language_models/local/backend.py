"""Asking a language model on this machine.

What belongs here: which requests are computed together, whether sharing can be trusted, replies, accounting. What does not:
how either is computed (`shared_prefix`, `alone`).
"""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.local.alone import Alone
from vlm_audio_pipeline.classifiers.language_models.local.answer import Answer
from vlm_audio_pipeline.classifiers.language_models.local.conversation import Conversation, Prompt, Segment
from vlm_audio_pipeline.classifiers.language_models.local.forward import Forward
from vlm_audio_pipeline.classifiers.language_models.local.loading import (
    Input,
    Quantization,
    load_model,
    load_processor,
)
from vlm_audio_pipeline.classifiers.language_models.local.shared_prefix import SharedPrefix, common, shareable
from vlm_audio_pipeline.classifiers.language_models.messages import Answered, Reply, Request, Usage
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.encoders.torch_batches import Device, Dtype, Halving, device_of, dtype_of, out_of_memory
from vlm_audio_pipeline.encoders.weights import Weights

PACKED = 4096
"""Tokens computed in one row, at most, where it holds several requests: each costs attention to all the others."""
AGREEMENT = {"float32": 1e-3, "bfloat16": 0.1}
"""By how much a log-probability may differ between the two ways of computing it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tokens:
    """What was computed, and what a loop without any sharing would have computed.

    Attributes:
        computed: tokens that went through the language model.
        naive: for each request its whole prompt and every label's answer for the likelihood, and its prompt again with what
            was said for the generation.
    """

    computed: int = 0
    naive: int = 0


class LocalBackend:
    """A language model of transformers, loaded.

    Args:
        weights: its files.
        input: what it is shown.
        device: where to compute.
        dtype: number format; auto is bfloat16 on a GPU.
        batch_size: requests computed in one row; None: 8 on a GPU, 1 elsewhere, where more are no faster.
        quantization: "4bit" to load the weights so.
        share: False to compute every request by itself.

    Attributes:
        device: "cpu" or "cuda".
        dtype: "float32" or "bfloat16".
        why_alone: why requests are computed each by itself; None where what they share is computed once.

    Raises:
        NotAvailable: when weights, device or packages are not here.
        WrongWeights: when the weights are not those of such a model.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        input: Input,
        device: Device = "auto",
        dtype: Dtype = "auto",
        batch_size: int | None = None,
        quantization: Quantization | None = None,
        share: bool = True,
    ):
        self.device = device_of(device)
        self.dtype = dtype_of(dtype, self.device, bf16_safe=True)
        self.model: Any = load_model(weights, input, self.device, self.dtype, quantization)
        self.config: Any = self.model.config.get_text_config(decoder=True)
        self.conversation = Conversation(load_processor(weights, self.config.vocab_size), self.model, input)
        self.why_alone: str | None = None if share else "it was asked for"
        if share and not shareable(self.model.config):
            self.why_alone = "the model forgets tokens (sliding windows, states)"
        self._forward = Forward(self.model, self.device)
        self._alone = Alone(self._forward, self.conversation)
        self._shared = SharedPrefix(self._forward, self.conversation)
        self._checked: set[int] = set()
        self._naive = 0
        self._one_at_a_time = threading.Lock()  # the cache is one
        size = batch_size or (8 if self.device == "cuda" else 1)
        self._halving: Halving[_Asked, Reply] = Halving(self._answer, size, f"a prompt of {weights.model}")

    @property
    def tokens(self) -> Tokens:
        """Tokens computed so far."""
        return Tokens(self._forward.computed, self._naive)

    @property
    def context_length(self) -> int | None:
        """Tokens the model can read and write at once; None where it does not say."""
        return getattr(self.config, "max_position_embeddings", None)

    def prompt_tokens(self, request: Request) -> int:
        """Count the tokens of a prompt, without computing anything."""
        return sum(sum(self.conversation.count(s)) for s in self.conversation.prompt(request).segments)

    def messages_as_sent(self, request: Request) -> str:
        """Write a prompt as the model's chat template has it, with a placeholder for each picture or sound."""
        return self.conversation.render(request.messages)

    def ask(self, requests: Sequence[Request], answered: Answered) -> None:
        """Answer requests, those that begin alike together.

        Raises:
            VlmAudioError: before anything is computed, when a prompt does not fit into the context; when one does not fit
                into memory.
        """
        with self._one_at_a_time:
            self._ask(requests, answered)

    def _ask(self, requests: Sequence[Request], answered: Answered) -> None:
        asked = []
        for i, request in enumerate(requests):
            try:
                prompt = self.conversation.prompt(request)
                parts = [self.conversation.count(s) for s in prompt.segments]
            except _REQUESTS_OWN as error:
                answered(i, _failed(error))
                continue
            self._refuse_what_overflows(prompt, parts)
            asked.append(_Asked(i, prompt, tuple(map(sum, parts)), answered))
        while asked:
            together = self._together(asked)
            self._halving(together)
            del asked[: len(together)]

    def close(self) -> None:
        """Give back memory."""
        import gc

        import torch

        for name in ("model", "conversation", "_forward", "_alone", "_shared"):  # each holds on to the weights
            delattr(self, name)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _refuse_what_overflows(self, prompt: Prompt, parts: Sequence[tuple[int, int]]) -> None:
        text, shown = sum(t for t, _ in parts), Counter(n for _, n in parts if n)
        generated = prompt.request.sampling.max_tokens * ("generation" in prompt.request.wants)
        said = max([generated, *map(len, prompt.answers)])
        total = text + sum(n * times for n, times in shown.items()) + said
        if self.context_length is None or total <= self.context_length:
            return
        what = "pictures" if self.conversation.input == "picture" else "sounds"
        sums = " + ".join(
            [*(f"{times} {what} x {n}" for n, times in shown.items()), f"{text} of text", f"{said} to answer"]
        )
        raise VlmAudioError(
            f"a prompt must fit into the model's {self.context_length} tokens, got {sums} = {total}; show fewer examples "
            "(`shots`), or use a model with a longer context"
        )

    def _together(self, asked: Sequence["_Asked"]) -> list["_Asked"]:
        """Give the requests to compute next in one row: those that share as much as the first does with the second.

        Or with what is cached, where that is more: the last request of a fold is not to push out its own examples.
        """
        if self.why_alone:
            return [asked[0]]
        first, *others = asked[: self._halving.size]
        shared = common(first.segments, self._shared.known)
        if len(asked) > 1:
            shared = max(shared, common(first.segments, asked[1].segments))
        shared = min(shared, len(first.segments) - 1)  # the last is always computed: its logits are wanted
        room = PACKED - first.rest(shared)
        together = [replace(first, shared=shared)]
        for other in others:
            room -= other.rest(shared)
            enough = len(other.segments) > shared and common(first.segments, other.segments) >= shared
            if room < 0 or not enough or not shared:  # what begins a prompt is tokenised as such, and only once a row
                break
            together.append(replace(other, shared=shared))
        return together

    def _answer(self, asked: list["_Asked"]) -> list[Reply]:
        """Answer requests in one row; one that cannot be answered is an error of its own."""
        started = time.perf_counter()
        try:
            answers = self._computed(asked)
        except (RuntimeError, MemoryError, *_REQUESTS_OWN) as error:
            self._shared.forget()
            if out_of_memory(error):
                raise
            if len(asked) > 1:
                return [self._answer([one])[0] for one in asked]
            replies = [_failed(error)]
        else:
            seconds = (time.perf_counter() - started) / len(asked)
            replies = [self._reply(one.prompt, a, seconds) for one, a in zip(asked, answers, strict=True)]
        for one, reply in zip(asked, replies, strict=True):
            one.answered(one.index, reply)
        return replies

    def _computed(self, asked: list["_Asked"]) -> list[Answer]:
        prompts = [one.prompt for one in asked]
        if self.why_alone:
            return [self._alone.answer(p) for p in prompts]
        known = len(prompts[-1].segments) in self._checked
        try:
            answers = self._shared.answer(prompts, asked[0].shared)
            why = None if known else self._disagreement(prompts[-1], answers[-1])
        except (RuntimeError, *_REQUESTS_OWN) as error:
            if known or out_of_memory(error):
                raise
            why = _said(error)
        self._checked.add(len(prompts[-1].segments))
        if why is None:
            return answers
        answers = [self._alone.answer(p) for p in prompts]  # raises where the fault is the request's own
        log.warning("%s: requests are computed each by itself, which is slower: %s", type(self.model).__name__, why)
        self.why_alone = why
        self._shared.forget()
        return answers

    def _disagreement(self, prompt: Prompt, answer: Answer) -> str | None:
        """Hold one label, the longest, against a forward call of its own; say how they differ, or None.

        Done for the first prompt of each number of pictures: families differ in positions, masks and memory.
        """
        self.conversation.together(prompt.segments)
        lengths = [len(a) for a in prompt.answers]
        if not lengths or not all(map(math.isfinite, answer.log_probabilities)):
            return None
        label = lengths.index(max(lengths))
        alone, shared = self._alone.score(prompt, label), answer.log_probabilities[label]
        allowed = AGREEMENT[self.dtype] + (0.02 * abs(alone) if self.dtype != "float32" else 0)
        if abs(alone - shared) <= allowed:
            return None
        return f"a label has log-probability {alone:.4f} by itself, but {shared:.4f} after a shared beginning"

    def _reply(self, prompt: Prompt, answer: Answer, seconds: float) -> Reply:
        wants, labels = prompt.request.wants, prompt.request.labels
        lengths = tuple(len(a) for a in prompt.answers)
        said = answer.tokens
        self._naive += (answer.prompt_tokens + sum(lengths)) * ("likelihood" in wants)
        self._naive += (answer.prompt_tokens + len(said)) if said is not None else 0
        wrong = [(k, v) for k, v in zip(labels, answer.log_probabilities, strict=False) if not math.isfinite(v)]
        if wrong:
            return Reply("error", error=f"the log-probability of {wrong[0][0]!r} must be finite, got {wrong[0][1]}")
        return Reply(
            "answered",
            text=None if said is None else self.conversation.decode(said),
            log_probabilities=answer.log_probabilities if "likelihood" in wants else None,
            label_tokens=lengths if "likelihood" in wants else None,
            usage=Usage(
                input_tokens=answer.prompt_tokens,
                cached_tokens=answer.cached_tokens,
                output_tokens=None if said is None else len(said),
                seconds=seconds,
            ),
        )


@dataclass(frozen=True)
class _Asked:
    """A request on its way: its position, the tokens of its segments, and how many segments are shared."""

    index: int
    prompt: Prompt
    lengths: tuple[int, ...]
    answered: Answered
    shared: int = 0

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self.prompt.segments

    def rest(self, shared: int) -> int:
        return sum(self.lengths[shared:])


_REQUESTS_OWN = (ValueError, TypeError, KeyError, IndexError, OSError, VlmAudioError)
"""What preparing a request may raise: a picture that is none, a recording that is gone, a template that wants otherwise."""


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0][:300]}"


def _failed(error: BaseException) -> Reply:
    return Reply("error", error=_said(error))
