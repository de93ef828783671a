"""The loop that all three trainings share: AdamW, a warm start, a cosine to the end, and a line now and then.

What belongs here: what does not depend on the model. What does not: losses and batches.
"""

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Say = Callable[[str], None]
"""Told a line about how the training goes."""


def fit(
    model: Any, loss: Callable[[int], "torch.Tensor"], steps: int, rate: float, say: Say, *, also: tuple[Any, ...] = ()
) -> None:
    """Train a model.

    Args:
        model: what learns; left in evaluation mode.
        loss: step -> scalar loss of a new batch.
        steps: how many.
        rate: highest learning rate, reached after 4 % of the steps.
        say: told the mean loss ten times.
        also: modules that learn with it and are thrown away.
    """
    import torch

    learning = [p for module in (model, *also) for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=rate, weight_decay=0.02, betas=(0.9, 0.98))
    warm = max(1, steps // 25)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min(1.0, (s + 1) / warm) * max(0.02, 0.5 * (1 + math.cos(math.pi * s / steps)))
    )
    model.train()
    began, total, every = time.perf_counter(), 0.0, max(1, steps // 10)
    for step in range(steps):
        value = loss(step)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        schedule.step()
        total += value.item()
        if (step + 1) % every == 0:
            say(f"step {step + 1} of {steps}: loss {total / every:.3f}, {time.perf_counter() - began:.0f} s")
            total = 0.0
    model.eval()
