"""A language model that runs on this machine: batches of requests, replies, and the check that sharing a prefix is right."""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.local.batching import PendingRequest, next_batch
from vlm_audio_pipeline.classifiers.language_models.local.conversation import Conversation
from vlm_audio_pipeline.classifiers.language_models.local.forward import Forward
from vlm_audio_pipeline.classifiers.language_models.local.kv_cache import can_share_prefix
from vlm_audio_pipeline.classifiers.language_models.local.loading import (
    Quantization,
    load_model,
    load_processor,
)
from vlm_audio_pipeline.classifiers.language_models.local.prompt_result import PromptResult
from vlm_audio_pipeline.classifiers.language_models.local.reference_scorer import ReferenceScorer
from vlm_audio_pipeline.classifiers.language_models.local.segments import SegmentedPrompt
from vlm_audio_pipeline.classifiers.language_models.local.shared_prefix import SharedPrefix
from vlm_audio_pipeline.classifiers.language_models.messages import (
    Backend,
    MediaType,
    Reply,
    ReplyCallback,
    Request,
    Usage,
)
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.encoders.torch_batches import (
    AdaptiveBatcher,
    Device,
    Dtype,
    out_of_memory,
    resolve_device,
    resolve_dtype,
)
from vlm_audio_pipeline.encoders.weights import Weights

AGREEMENT = {"float32": 1e-3, "bfloat16": 0.1}
"""Largest allowed difference of a log-probability between shared and reference computation."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenCounts:
    """Tokens that were computed, and tokens that a loop without sharing would have computed.

    Attributes:
        computed: tokens that went through the language model.
        naive: for each request its whole prompt and every label's answer for the likelihood, and its prompt again with the
            response for the generation.
    """

    computed: int = 0
    naive: int = 0


class LocalBackend(Backend):
    """A loaded language model of transformers.

    Args:
        weights: its files.
        input: "image" or "audio".
        device: where to compute.
        dtype: number format; auto is bfloat16 on a GPU.
        batch_size: requests per row, at most; None: 8 on a GPU, 1 on a CPU, where more are no faster.
        quantization: "4bit" for weights in 4 bits.
        share: False to compute every request alone.

    Attributes:
        device: "cpu" or "cuda".
        dtype: "float32" or "bfloat16".
        sharing_disabled_reason: why requests are computed one by one; None while they share prefixes.

    Raises:
        NotAvailable: if weights, device or packages are missing.
        WrongWeights: if the weights are not those of such a model.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        input: MediaType,
        device: Device = "auto",
        dtype: Dtype = "auto",
        batch_size: int | None = None,
        quantization: Quantization | None = None,
        share: bool = True,
    ):
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype, self.device, bf16_safe=True)
        self.model: Any = load_model(weights, input, self.device, self.dtype, quantization)
        self.config: Any = self.model.config.get_text_config(decoder=True)
        self.conversation = Conversation(load_processor(weights, self.config.vocab_size), self.model, input)
        self.sharing_disabled_reason: str | None = None if share else "disabled by `share=False`"
        if share and not can_share_prefix(self.model.config):
            self.sharing_disabled_reason = "the model does not keep all tokens (sliding windows, states)"
        self._forward = Forward(self.model, self.device)
        self._reference = ReferenceScorer(self._forward, self.conversation)
        self._shared = SharedPrefix(self._forward, self.conversation)
        self._checked: set[int] = set()
        self._naive = 0
        self._lock = threading.Lock()  # all requests share one cache
        size = batch_size or (8 if self.device == "cuda" else 1)
        self._batcher: AdaptiveBatcher[PendingRequest, Reply] = AdaptiveBatcher(
            self._run_batch, size, f"a prompt of {weights.model}"
        )

    @property
    def tokens(self) -> TokenCounts:
        """Tokens computed so far."""
        return TokenCounts(self._forward.computed, self._naive)

    def token_counts(self) -> dict[str, int]:
        """Return the tokens computed so far, and those that a loop without sharing would have computed."""
        return {"tokens_computed": self.tokens.computed, "tokens_naive": self.tokens.naive}

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and response that the model takes, at most; None if its config does not say."""
        return getattr(self.config, "max_position_embeddings", None)

    def prompt_tokens(self, request: Request) -> int:
        """Count the tokens of a prompt without running the model."""
        return sum(sum(self.conversation.count_tokens(s)) for s in self.conversation.prompt(request).segments)

    def messages_as_sent(self, request: Request) -> str:
        """Render a prompt with the chat template, with a placeholder for each image or audio."""
        return self.conversation.render(request.messages)

    def ask(self, requests: Sequence[Request], on_reply: ReplyCallback) -> None:
        """Compute the replies to requests; consecutive requests with a common prefix share a row.

        Raises:
            VlmAudioError: before anything is computed, if a prompt exceeds the context length; if one exceeds the memory.
        """
        with self._lock:
            self._ask(requests, on_reply)

    def _ask(self, requests: Sequence[Request], on_reply: ReplyCallback) -> None:
        pending = []
        for i, request in enumerate(requests):
            try:
                prompt = self.conversation.prompt(request)
                counts = [self.conversation.count_tokens(s) for s in prompt.segments]
            except _REQUEST_ERRORS as error:
                on_reply(i, _error_reply(error))
                continue
            self._check_context_length(prompt, counts)
            pending.append(PendingRequest(i, prompt, tuple(map(sum, counts)), on_reply))
        while pending:
            if self.sharing_disabled_reason:
                batch = [pending[0]]
            else:
                batch = next_batch(pending, self._shared.cached_segments, self._batcher.size)
            self._batcher(batch)
            del pending[: len(batch)]

    def close(self) -> None:
        """Free the memory."""
        import gc

        import torch

        for name in ("model", "conversation", "_forward", "_reference", "_shared"):  # each refers to the weights
            delattr(self, name)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _check_context_length(self, prompt: SegmentedPrompt, counts: Sequence[tuple[int, int]]) -> None:
        text, media = sum(t for t, _ in counts), Counter(n for _, n in counts if n)
        generated = prompt.request.sampling.max_tokens * ("generation" in prompt.request.scorings)
        answer = max([generated, *map(len, prompt.answers)])
        total = text + sum(n * times for n, times in media.items()) + answer
        if self.context_length is None or total <= self.context_length:
            return
        noun = "images" if self.conversation.input == "image" else "audio clips"
        sums = " + ".join(
            [*(f"{times} {noun} x {n}" for n, times in media.items()), f"{text} of text", f"{answer} to answer"]
        )
        raise VlmAudioError(
            f"a prompt must fit into the model's {self.context_length} tokens, got {sums} = {total}; show fewer examples "
            "(`shots`), or use a model with a longer context"
        )

    def _run_batch(self, batch: list[PendingRequest]) -> list[Reply]:
        """Compute requests in one row and report their replies; a request that fails gets an error reply of its own."""
        started = time.perf_counter()
        try:
            results = self._compute_results(batch)
        except (RuntimeError, MemoryError, *_REQUEST_ERRORS) as error:
            self._shared.clear()
            if out_of_memory(error):
                raise
            if len(batch) > 1:
                return [self._run_batch([pending])[0] for pending in batch]
            replies = [_error_reply(error)]
        else:
            seconds = (time.perf_counter() - started) / len(batch)
            replies = [self._reply(pending.prompt, r, seconds) for pending, r in zip(batch, results, strict=True)]
        for pending, reply in zip(batch, replies, strict=True):
            pending.on_reply(pending.index, reply)
        return replies

    def _compute_results(self, batch: list[PendingRequest]) -> list[PromptResult]:
        prompts = [pending.prompt for pending in batch]
        if self.sharing_disabled_reason:
            return [self._reference.compute(p) for p in prompts]
        is_checked = len(prompts[-1].segments) in self._checked
        try:
            results = self._shared.compute(prompts, batch[0].shared)
            reason = None if is_checked else self._disagreement(prompts[-1], results[-1])
        except (RuntimeError, *_REQUEST_ERRORS) as error:
            if is_checked or out_of_memory(error):
                raise
            reason = _error_text(error)
        self._checked.add(len(prompts[-1].segments))
        if reason is None:
            return results
        results = [self._reference.compute(p) for p in prompts]  # raises if the request itself is at fault
        log.warning("%s: requests are computed one by one, which is slower: %s", type(self.model).__name__, reason)
        self.sharing_disabled_reason = reason
        self._shared.clear()
        return results

    def _disagreement(self, prompt: SegmentedPrompt, result: PromptResult) -> str | None:
        """Compare the score of the longest label with that of the reference scorer; return how they differ, or None.

        Checked for the first prompt with each number of segments: families differ in positions, masks and caches.
        """
        self.conversation.checked_inputs(prompt.segments)
        lengths = [len(a) for a in prompt.answers]
        if not lengths or not all(map(math.isfinite, result.log_probabilities)):
            return None
        label = lengths.index(max(lengths))
        reference, shared = self._reference.score(prompt, label), result.log_probabilities[label]
        tolerance = AGREEMENT[self.dtype] + (0.02 * abs(reference) if self.dtype != "float32" else 0)
        if abs(reference - shared) <= tolerance:
            return None
        return (
            f"a label has log-probability {reference:.4f} when computed alone, but {shared:.4f} after a shared prefix"
        )

    def _reply(self, prompt: SegmentedPrompt, result: PromptResult, seconds: float) -> Reply:
        scorings, labels = prompt.request.scorings, prompt.request.labels
        lengths = tuple(len(a) for a in prompt.answers)
        response = result.tokens
        self._naive += (result.prompt_tokens + sum(lengths)) * ("likelihood" in scorings)
        self._naive += (result.prompt_tokens + len(response)) if response is not None else 0
        wrong = [(k, v) for k, v in zip(labels, result.log_probabilities, strict=False) if not math.isfinite(v)]
        if wrong:
            return Reply("error", error=f"the log-probability of {wrong[0][0]!r} must be finite, got {wrong[0][1]}")
        return Reply(
            "answered",
            text=None if response is None else self.conversation.decode(response),
            log_probabilities=result.log_probabilities if "likelihood" in scorings else None,
            label_tokens=lengths if "likelihood" in scorings else None,
            usage=Usage(
                input_tokens=result.prompt_tokens,
                cached_tokens=result.cached_tokens,
                output_tokens=None if response is None else len(response),
                seconds=seconds,
            ),
        )


_REQUEST_ERRORS = (ValueError, TypeError, KeyError, IndexError, OSError, VlmAudioError)
"""Errors of a single request: a damaged image, a missing recording, messages that the chat template rejects."""


def _error_text(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0][:300]}"


def _error_reply(error: BaseException) -> Reply:
    return Reply("error", error=_error_text(error))
