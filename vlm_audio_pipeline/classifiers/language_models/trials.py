"""Trials: complete passes over the clips that differ in examples, class order, prompt wording or repeat."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd

from vlm_audio_pipeline.contracts.hashing import fingerprint


@dataclass(frozen=True)
class Trial:
    """One pass over the clips: its number, draw of examples, class order, prompt wording and repeat, each from 0."""

    trial: int
    draw: int
    class_order: int
    wording: int
    repeat: int

    def order_classes(self, classes: Sequence[str], seed: int) -> tuple[str, ...]:
        """Return the classes in the order of this trial: a rotation of a base order.

        Orders are balanced: as many orders as there are classes are the rows of a cyclic Latin square, in which every class is at
        every position once. Order 0 is the order of `classes`, the base of the first square. Each further square has a random base,
        which depends only on the seed. Successive orders rotate by about 0.62 of the classes, so that two or three orders already
        move every class far.

        >>> Trial(0, 0, 0, 0, 0).order_classes(["dog", "rain", "wind"], 7)
        ('dog', 'rain', 'wind')
        >>> Trial(1, 0, 1, 0, 0).order_classes(["dog", "rain", "wind"], 7)
        ('wind', 'dog', 'rain')
        """
        base, n = list(classes), len(classes)
        square, row = divmod(self.class_order, max(n, 1))
        if square:
            random.Random(fingerprint("class order", seed, square)).shuffle(base)
        shift = row * _rotation_step(n) % max(n, 1)
        return (*base[shift:], *base[:shift])


def _rotation_step(n: int) -> int:
    """Return the smallest step from 0.618 n on that has no common divisor with n, so that its multiples reach every rotation."""
    return next(step for step in range(max(1, round(0.618 * n)), 2 * n + 2) if gcd(step, n) == 1)


def trials(draws: int, orders: int, wordings: int, repeats: int) -> tuple[Trial, ...]:
    """Return every combination, numbered from 0; repeats change fastest, draws slowest.

    >>> [(t.trial, t.draw, t.repeat) for t in trials(2, 1, 1, 2)]
    [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)]
    """
    ranges = product(range(draws), range(orders), range(wordings), range(repeats))
    return tuple(Trial(i, *numbers) for i, numbers in enumerate(ranges))
