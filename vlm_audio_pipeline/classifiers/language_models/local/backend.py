"""A language model that runs on this machine: rows of requests, replies, and the check of shared prefixes."""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.local.batching import (
    PendingRequest,
    chunk_prefix,
    chunk_size,
    next_batch,
    row_size,
)
from vlm_audio_pipeline.classifiers.language_models.local.conversation import Conversation, TemplateError
from vlm_audio_pipeline.classifiers.language_models.local.forward import Forward
from vlm_audio_pipeline.classifiers.language_models.local.kv_cache import can_share_prefix
from vlm_audio_pipeline.classifiers.language_models.local.loading import (
    Quantization,
    load_model,
    load_processor,
)
from vlm_audio_pipeline.classifiers.language_models.local.prompt_pieces import PromptPieces
from vlm_audio_pipeline.classifiers.language_models.local.prompt_result import PromptResult
from vlm_audio_pipeline.classifiers.language_models.local.reference_scorer import ReferenceScorer
from vlm_audio_pipeline.classifiers.language_models.local.shared_prefix import SharedPrefix
from vlm_audio_pipeline.classifiers.language_models.messages import (
    Backend,
    MediaType,
    Reply,
    ReplyCallback,
    Request,
    Usage,
)
from vlm_audio_pipeline.classifiers.language_models.reasoning import split_reasoning
from vlm_audio_pipeline.contracts.chunks import cut_chunks
from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.encoders.torch_batches import (
    AdaptiveBatcher,
    Device,
    Dtype,
    is_out_of_memory,
    resolve_device,
    resolve_dtype,
)
from vlm_audio_pipeline.encoders.weights import Weights

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
"""Maximum difference of a log-probability between shared and reference computation; bfloat16 adds 2 % of the log-probability."""

log = logging.getLogger(__name__)


class LocalBackend(Backend):
    """A loaded language model of transformers.

    Args:
        weights: files of the model.
        input: "image" or "audio".
        device: where to compute.
        dtype: number format; auto is bfloat16 on a GPU.
        batch_size: maximum requests per row; None: 8 on a GPU, 1 on a CPU, where larger rows are no faster.
        quantization: "4bit" for weights in 4 bits.
        share: whether requests share prefixes; False: each request is computed alone.

    Attributes:
        device: "cpu" or "cuda".
        dtype: "float32" or "bfloat16".
        sharing_disabled_reason: why requests are computed one by one; None while they share prefixes.
        is_closed: whether its memory was freed; it cannot be used any more.

    Raises:
        NotAvailable: if weights, device or packages are missing.
        WrongWeights: if the weights belong to another kind of model.
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
        self._name = weights.model
        self.is_closed = False
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype, self.device, bf16_safe=True)
        self.model: Any = load_model(weights, input, self.device, self.dtype, quantization)
        self.config: Any = self.model.config.get_text_config(decoder=True)
        self.conversation = Conversation(load_processor(weights, self.config.vocab_size), self.model, input)
        self.sharing_disabled_reason: str | None = None if share else "disabled by `share=False`"
        if share and not can_share_prefix(self.model.config):
            self.sharing_disabled_reason = (
                "the cache of the model does not keep all tokens (sliding window or recurrent state)"
            )
        self._forward = Forward(self.model, self.device)
        self._reference = ReferenceScorer(self._forward, self.conversation)
        self._shared = SharedPrefix(self._forward, self.conversation)
        self._checked_piece_counts: set[int] = set()
        self._tokens_without_sharing = 0
        self._lock = threading.Lock()  # all requests share one cache
        size = row_size(batch_size, self.device)
        self.chunk_size = chunk_size(batch_size, self.device)
        self._batcher: AdaptiveBatcher[PendingRequest, Reply] = AdaptiveBatcher(
            self._run_batch, size, f"a prompt of {weights.model}"
        )

    def token_counts(self) -> dict[str, int]:
        """Return the tokens that the language model computed so far, and those that it would have computed without shared prefixes.

        Without shared prefixes it computes, for the likelihood of a request, its prompt and all its labels; for the generation,
        its prompt again and the response.
        """
        return {"tokens_computed": self._forward.computed, "tokens_naive": self._tokens_without_sharing}

    @property
    def context_length(self) -> int | None:
        """Maximum number of tokens of prompt and response; None if the model's config does not contain it."""
        return getattr(self.config, "max_position_embeddings", None)

    def prompt_tokens(self, request: Request) -> int:
        """Count the tokens of a prompt without running the model."""
        return sum(sum(self.conversation.count_tokens(s)) for s in self.conversation.prompt(request).pieces)

    def render_messages(self, request: Request) -> str:
        """Render a prompt with the chat template, with a placeholder for each image or audio."""
        return self.conversation.prompt_text(request)

    def ask(self, requests: Sequence[Request], on_reply: ReplyCallback) -> None:
        """Compute the replies to requests; consecutive requests of a chunk with a common prefix share a row.

        Raises:
            NotAvailable: if the chat template of the model fails on every one of several requests; a request that fails alone
                gets an error reply.
            VlmAudioError: if a prompt exceeds the context length (before anything is computed), or the memory.
        """
        with self._lock:
            self._ask(requests, on_reply)

    def _ask(self, requests: Sequence[Request], on_reply: ReplyCallback) -> None:
        pending = []
        failed: list[tuple[int, BaseException]] = []
        for i, request in enumerate(requests):
            try:
                prompt = self.conversation.prompt(request)
                counts = [self.conversation.count_tokens(s) for s in prompt.pieces]
            except _REQUEST_ERRORS as error:
                failed.append((i, error))
                continue
            self._check_context_length(prompt, counts)
            pending.append(PendingRequest(i, prompt, tuple(map(sum, counts)), on_reply))
        # One request that fails says nothing about the model.
        if len(failed) == len(requests) > 1 and all(isinstance(error, TemplateError) for _, error in failed):
            raise NotAvailable(
                f"{self._name} cannot be asked, because its chat template fails on every request: {failed[0][1]}; use a model "
                "with another template, or a prompt that the template accepts"
            )
        for i, failure in failed:
            on_reply(i, _error_reply(failure))
        by_index = {p.index: p for p in pending}
        # Cut before failed requests are left out: a failure must not change the neighbours of later requests.
        for chunk in cut_chunks(range(len(requests)), self.chunk_size):
            if valid := [by_index[i] for i in chunk if i in by_index]:
                self._ask_chunk(valid)

    def _ask_chunk(self, pending: list[PendingRequest]) -> None:
        if not self.sharing_disabled_reason:
            self._shared.begin_chunk(chunk_prefix([p.prompt for p in pending]))
        while pending:
            if self.sharing_disabled_reason:
                batch = [pending[0]]
            else:
                batch = next_batch(pending, self._shared.cached_pieces, self._batcher.size)
            self._batcher(batch)
            del pending[: len(batch)]

    def close(self) -> None:
        """Free the memory; a second call does nothing."""
        import gc

        import torch

        self.is_closed = True
        for name in ("model", "conversation", "_forward", "_reference", "_shared"):  # each refers to the weights
            vars(self).pop(name, None)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _check_context_length(self, prompt: PromptPieces, counts: Sequence[tuple[int, int]]) -> None:
        text, media = sum(t for t, _ in counts), Counter(n for _, n in counts if n)
        generated = prompt.request.sampling.max_tokens * ("generation" in prompt.request.scorings)
        response = max([generated, *map(len, prompt.label_sequences)])
        total = text + sum(n * times for n, times in media.items()) + response
        if self.context_length is None or total <= self.context_length:
            return
        noun = "images" if self.conversation.input == "image" else "audio clips"
        sums = " + ".join(
            [*(f"{times} {noun} x {n}" for n, times in media.items()), f"{text} of text", f"{response} of the response"]
        )
        raise VlmAudioError(
            f"a prompt must fit into the model's {self.context_length} tokens, got {sums} = {total}; use fewer examples "
            "(`shots`), or use a model with a longer context"
        )

    def _run_batch(self, batch: list[PendingRequest]) -> list[Reply]:
        """Compute requests in one row and report their replies; each request that fails gets its own error reply."""
        started = time.perf_counter()
        try:
            results = self._compute_results(batch)
        except (RuntimeError, MemoryError, *_REQUEST_ERRORS) as error:
            self._shared.clear()
            if is_out_of_memory(error):
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
        is_checked = len(prompts[-1].pieces) in self._checked_piece_counts
        try:
            results = self._shared.compute(prompts, batch[0].shared)
            reason = None if is_checked else self._disagreement(prompts[-1], results[-1])
        except (RuntimeError, *_REQUEST_ERRORS) as error:
            if is_checked or is_out_of_memory(error):
                raise
            reason = _error_text(error)
        self._checked_piece_counts.add(len(prompts[-1].pieces))
        if reason is None:
            return results
        results = [self._reference.compute(p) for p in prompts]  # raises an exception if the request itself is wrong
        log.warning("%s: requests are computed one by one, which is slower: %s", type(self.model).__name__, reason)
        self.sharing_disabled_reason = reason
        self._shared.clear()
        return results

    def _disagreement(self, prompt: PromptPieces, result: PromptResult) -> str | None:
        """Compare the score of the longest label with that of the reference scorer; return how they differ, or None.

        This is checked once per number of pieces, because model families differ in positions, masks and caches.
        """
        self.conversation.checked_inputs(prompt.pieces)
        lengths = [len(sequence) for sequence in prompt.label_sequences]
        if not lengths or not all(map(math.isfinite, result.log_probabilities)):
            return None
        label = lengths.index(max(lengths))
        reference, shared = self._reference.score(prompt, label), result.log_probabilities[label]
        tolerance = TOLERANCE[self.dtype] + (0.02 * abs(reference) if self.dtype != "float32" else 0)
        if abs(reference - shared) <= tolerance:
            return None
        return (
            f"the log-probability of a label is {reference:.4f} without sharing, but {shared:.4f} after a shared prefix"
        )

    def _reply(self, prompt: PromptPieces, result: PromptResult, seconds: float) -> Reply:
        scorings, labels = prompt.request.scorings, prompt.request.labels
        lengths = tuple(len(sequence) for sequence in prompt.label_sequences)
        response = result.tokens
        self._tokens_without_sharing += (result.prompt_tokens + sum(lengths)) * ("likelihood" in scorings)
        self._tokens_without_sharing += (result.prompt_tokens + len(response)) if response is not None else 0
        invalid = [(k, v) for k, v in zip(labels, result.log_probabilities, strict=False) if not math.isfinite(v)]
        if invalid:
            return Reply("error", error=f"the log-probability of {invalid[0][0]!r} is not finite: {invalid[0][1]}")
        reasoning, text = None, None
        if response is not None:
            reasoning, text = split_reasoning(self.conversation.decode(response))
        is_cut_off = response is not None and len(response) > 0 and response[-1] not in self.conversation.end_tokens
        return Reply(
            "truncated" if is_cut_off else "answered",
            text=text,
            reasoning=reasoning,
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
