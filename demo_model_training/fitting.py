"""The training loop that all three models share: AdamW with warm-up and cosine decay."""

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Log = Callable[[str], None]
"""Called with a line about the progress of the training."""


def fit(
    model: Any,
    loss: Callable[[int], "torch.Tensor"],
    steps: int,
    learning_rate: float,
    log: Log,
    *,
    heads: tuple[Any, ...] = (),
) -> None:
    """Train a model.

    Args:
        model: the model; left in evaluation mode.
        loss: step -> scalar loss of a new batch.
        steps: number of steps.
        learning_rate: highest learning rate, reached after 4 % of the steps.
        log: called with the mean loss, ten times.
        heads: modules that are trained with the model and not saved.
    """
    import torch

    parameters = [p for module in (model, *heads) for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.02, betas=(0.9, 0.98))
    warm_up = max(1, steps // 25)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min(1.0, (s + 1) / warm_up) * max(0.02, 0.5 * (1 + math.cos(math.pi * s / steps)))
    )
    model.train()
    start, total, interval = time.perf_counter(), 0.0, max(1, steps // 10)
    for step in range(steps):
        value = loss(step)
        optimiser.zero_grad()
        value.backward()  # torch has no types here
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        total += value.item()
        if (step + 1) % interval == 0:
            log(f"step {step + 1} of {steps}: loss {total / interval:.3f}, {time.perf_counter() - start:.0f} s")
            total = 0.0
    model.eval()
