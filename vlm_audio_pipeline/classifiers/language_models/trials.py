"""Trials: how often a classifier passes over its clips, and what differs between passes.

What belongs here: draws of examples, orders of classes, wordings of the prompt and repetitions, counted as one dimension.
What does not: choosing examples, and what the spread between trials says (`evaluation`).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from vlm_audio_pipeline.contracts.hashing import fingerprint


@dataclass(frozen=True)
class Trial:
    """One pass: its number, and which draw of examples, order of classes, wording and repetition it takes, each from 0."""

    trial: int
    draw: int
    class_order: int
    wording: int
    repeat: int

    def ordered(self, classes: Sequence[str], seed: int) -> tuple[str, ...]:
        """Give the classes in this trial's order: 0 is the one given, every other a permutation fixed by seed and number.

        >>> Trial(0, 0, 0, 0, 0).ordered(["dog", "rain"], 7)
        ('dog', 'rain')
        """
        order = list(classes)
        if self.class_order:
            random.Random(fingerprint("class order", seed, self.class_order)).shuffle(order)
        return tuple(order)


def trials(draws: int, orders: int, wordings: int, repeats: int) -> tuple[Trial, ...]:
    """Give every combination, numbered from 0; repetitions change fastest, draws slowest.

    >>> [(t.trial, t.draw, t.repeat) for t in trials(2, 1, 1, 2)]
    [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)]
    """
    ranges = product(range(draws), range(orders), range(wordings), range(repeats))
    return tuple(Trial(i, *which) for i, which in enumerate(ranges))
