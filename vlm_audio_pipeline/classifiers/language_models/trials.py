"""Trials: complete passes over the clips that differ in examples, class order, prompt wording or repeat."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from vlm_audio_pipeline.contracts.hashing import fingerprint


@dataclass(frozen=True)
class Trial:
    """One pass over the clips: its number, draw of examples, class order, prompt wording and repeat, each from 0."""

    trial: int
    draw: int
    class_order: int
    wording: int
    repeat: int

    def ordered(self, classes: Sequence[str], seed: int) -> tuple[str, ...]:
        """Return the classes in the order of this trial: 0 keeps the order, others are permutations fixed by seed and number.

        >>> Trial(0, 0, 0, 0, 0).ordered(["dog", "rain"], 7)
        ('dog', 'rain')
        """
        order = list(classes)
        if self.class_order:
            random.Random(fingerprint("class order", seed, self.class_order)).shuffle(order)
        return tuple(order)


def trials(draws: int, orders: int, wordings: int, repeats: int) -> tuple[Trial, ...]:
    """Return every combination, numbered from 0; repeats change fastest, draws slowest.

    >>> [(t.trial, t.draw, t.repeat) for t in trials(2, 1, 1, 2)]
    [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)]
    """
    ranges = product(range(draws), range(orders), range(wordings), range(repeats))
    return tuple(Trial(i, *numbers) for i, numbers in enumerate(ranges))
