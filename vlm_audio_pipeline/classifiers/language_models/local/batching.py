"""Choose the requests that are computed together in one row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vlm_audio_pipeline.classifiers.language_models.local.prompt_pieces import PromptPiece, PromptPieces, common_length
from vlm_audio_pipeline.classifiers.language_models.messages import ReplyCallback

CHUNK_REQUESTS = 8
"""Requests of a chunk, if a row has no more. What is computed together decides the last digits of a result, so requests are always
computed in the same chunks, on any number of workers and after any interruption."""
MAX_ROW_TOKENS = 4096
"""Maximum tokens of a row with several requests: the cost of attention grows with the length of the row."""


@dataclass(frozen=True)
class PendingRequest:
    """A request that waits for its reply.

    Attributes:
        index: position among the requests.
        prompt: prompt of the request.
        lengths: tokens of each piece.
        on_reply: callback for the reply.
        shared: number of pieces that the requests of the row share.
    """

    index: int
    prompt: PromptPieces
    lengths: tuple[int, ...]
    on_reply: ReplyCallback
    shared: int = 0

    @property
    def pieces(self) -> tuple[PromptPiece, ...]:
        """Pieces of the prompt."""
        return self.prompt.pieces

    def tokens_after(self, shared: int) -> int:
        """Count the tokens after the first `shared` pieces."""
        return sum(self.lengths[shared:])


def row_size(batch_size: int | None, device: str) -> int:
    """Return the maximum number of requests of a row: by default 8 on a GPU and 1 on a CPU, where larger rows are no faster."""
    return batch_size or (8 if device == "cuda" else 1)


def chunk_size(batch_size: int | None, device: str) -> int:
    """Return the number of requests of a chunk."""
    return max(CHUNK_REQUESTS, row_size(batch_size, device))


def chunk_prefix(prompts: Sequence[PromptPieces]) -> tuple[PromptPiece, ...]:
    """Return the pieces that all prompts share; at least the last piece of each prompt is left out."""
    first, *others = prompts
    shared = min([len(p.pieces) - 1 for p in prompts] + [common_length(first.pieces, p.pieces) for p in others])
    return first.pieces[: max(shared, 0)]


def next_batch(
    pending: Sequence[PendingRequest], cached_pieces: tuple[PromptPiece, ...], max_requests: int
) -> list[PendingRequest]:
    """Return the requests of the next row: all that share as many pieces as the first two requests do.

    If the first request shares more pieces with the cache, that number is used instead. Otherwise the last request of a fold
    would evict its own examples.
    """
    first, *others = pending[:max_requests]
    shared = common_length(first.pieces, cached_pieces)
    if len(pending) > 1:
        shared = max(shared, common_length(first.pieces, pending[1].pieces))
    shared = min(shared, len(first.pieces) - 1)  # the last piece is always computed, because its logits are needed
    free_tokens = MAX_ROW_TOKENS - first.tokens_after(shared)
    batch = [replace(first, shared=shared)]
    for other in others:
        free_tokens -= other.tokens_after(shared)
        is_shared = len(other.pieces) > shared and common_length(first.pieces, other.pieces) >= shared
        # Without shared pieces the row has one request: tokens that mark the beginning of a prompt occur once per row.
        if free_tokens < 0 or not is_shared or not shared:
            break
        batch.append(replace(other, shared=shared))
    return batch
