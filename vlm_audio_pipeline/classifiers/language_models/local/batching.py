"""Choose the requests that are computed together in one row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vlm_audio_pipeline.classifiers.language_models.local.segments import Segment, SegmentedPrompt, common_length
from vlm_audio_pipeline.classifiers.language_models.messages import ReplyCallback

MAX_ROW_TOKENS = 4096
"""Tokens of a row with several requests, at most: attention grows with the length of the row."""


@dataclass(frozen=True)
class PendingRequest:
    """A request that waits for its reply.

    Attributes:
        index: position among the requests.
        prompt: its prompt.
        lengths: tokens of each segment.
        on_reply: callback for the reply.
        shared: segments that the row shares.
    """

    index: int
    prompt: SegmentedPrompt
    lengths: tuple[int, ...]
    on_reply: ReplyCallback
    shared: int = 0

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Segments of the prompt."""
        return self.prompt.segments

    def tokens_after(self, shared: int) -> int:
        """Count the tokens after the first `shared` segments."""
        return sum(self.lengths[shared:])


def next_batch(
    pending: Sequence[PendingRequest], cached_segments: tuple[Segment, ...], max_requests: int
) -> list[PendingRequest]:
    """Return the requests of the next row: those that share as many segments as the first two do.

    If the first request shares more with the cache, that counts: the last request of a fold must not evict its own examples.
    """
    first, *others = pending[:max_requests]
    shared = common_length(first.segments, cached_segments)
    if len(pending) > 1:
        shared = max(shared, common_length(first.segments, pending[1].segments))
    shared = min(shared, len(first.segments) - 1)  # the last segment is always computed, because its logits are needed
    free = MAX_ROW_TOKENS - first.tokens_after(shared)
    batch = [replace(first, shared=shared)]
    for other in others:
        free -= other.tokens_after(shared)
        is_shared = len(other.segments) > shared and common_length(first.segments, other.segments) >= shared
        if free < 0 or not is_shared or not shared:  # tokens that mark the beginning of a prompt occur once per row
            break
        batch.append(replace(other, shared=shared))
    return batch
