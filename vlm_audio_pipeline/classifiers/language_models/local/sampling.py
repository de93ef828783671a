"""Which token comes next.

What belongs here: greedy choice and seeded nucleus sampling. What does not: computing logits.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from vlm_audio_pipeline.classifiers.language_models.messages import Sampling

if TYPE_CHECKING:
    import torch


def chooser(sampling: Sampling) -> Callable[["torch.Tensor"], int]:
    """Give a function that chooses the tokens of one answer, one after the other.

    At temperature 0 that is the likeliest token. Above, it is drawn from the smallest set of tokens whose probabilities sum
    to `top_p` (nucleus sampling, Holtzman et al. 2020, https://arxiv.org/abs/1904.09751). Draws depend on the seed and
    on nothing else: neither on the device nor on what else is in the batch.

    Returns:
        Logits of the next token, (vocabulary,) -> token.
    """
    import torch

    if sampling.temperature <= 0:
        return lambda logits: int(logits.argmax())
    generator = torch.Generator().manual_seed(sampling.seed)

    def draw(logits: torch.Tensor) -> int:
        scaled = logits.double().cpu() / sampling.temperature
        probabilities, tokens = torch.softmax(scaled, -1).sort(descending=True, stable=True)
        before = probabilities.cumsum(-1) - probabilities
        probabilities[1:][before[1:] >= sampling.top_p] = 0
        return int(tokens[torch.multinomial(probabilities, 1, generator=generator)])

    return draw
