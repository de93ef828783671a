"""The result of one prompt, from the shared or the reference computation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PromptResult:
    """The scores and the response of one prompt.

    Attributes:
        log_probabilities: log-probability (natural logarithm) of each label, summed over its tokens.
        tokens: the response with its end token; None if no generation was requested.
        prompt_tokens: tokens of the prompt.
        cached_tokens: number of these tokens that were computed for earlier prompts.
    """

    log_probabilities: tuple[float, ...]
    tokens: tuple[int, ...] | None
    prompt_tokens: int
    cached_tokens: int
