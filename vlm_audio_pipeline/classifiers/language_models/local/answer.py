"""What a local model made of one prompt, whichever way it was computed.

What belongs here: the result of both ways. What does not: either way.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What the model said to one prompt.

    Attributes:
        log_probabilities: of each label's answer, summed over its tokens, natural logarithm.
        tokens: generated, the end token included; None where nothing was to be generated.
        prompt_tokens: tokens of the prompt.
        cached_tokens: of these, computed for earlier prompts.
    """

    log_probabilities: tuple[float, ...]
    tokens: tuple[int, ...] | None
    prompt_tokens: int
    cached_tokens: int
