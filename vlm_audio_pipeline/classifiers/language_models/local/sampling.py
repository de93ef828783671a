"""Choose the next token: greedy, or by seeded nucleus sampling."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from vlm_audio_pipeline.classifiers.language_models.messages import Sampling

if TYPE_CHECKING:
    import torch


def token_chooser(sampling: Sampling) -> Callable[["torch.Tensor"], int]:
    """Return a function that chooses the tokens of one response, one after the other.

    At temperature 0 it chooses the most likely token. Above 0 it draws from the smallest set of tokens whose probabilities
    sum to `top_p` (nucleus sampling, Holtzman et al. 2020, https://arxiv.org/abs/1904.09751). Draws depend only on the seed
    and the logits, not on the device or the other requests of the row.

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
        sum_before = probabilities.cumsum(-1) - probabilities
        probabilities[1:][sum_before[1:] >= sampling.top_p] = 0
        return int(tokens[torch.multinomial(probabilities, 1, generator=generator)])

    return draw
