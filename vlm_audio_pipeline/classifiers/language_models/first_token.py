"""Probabilities of the first token of a response, for servers that return only the most likely tokens (`top_logprobs`).

They are not likelihoods of classes: a class has the probability of one token that its name begins with, and classes whose names
begin with the same token cannot be told apart. Such a class has no probability, and neither has a class whose first token is not
among the most likely ones: it is null with a reason, never 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_SPACE_MARKS = "\u2581\u0120 \t\n"
"""White space, and the marks that tokenizers write for it (SentencePiece, byte-level BPE)."""


@dataclass(frozen=True)
class FirstTokens:
    """What the most likely first tokens of a response say about the labels.

    Attributes:
        probabilities: probability of the first token of each label; None if it is not known.
        reasons: why a probability is not known; None where it is known.
        shared: highest probability of a token with which several labels begin; None if there is none.
    """

    probabilities: tuple[float | None, ...]
    reasons: tuple[str | None, ...]
    shared: float | None = None

    @property
    def best(self) -> int | None:
        """Index of the label whose first token is the most likely; None if several labels begin with a token at least as likely."""
        return best_label(self.probabilities, self.shared)


def best_label(probabilities: Sequence[float | None], shared: float | None) -> int | None:
    """Return the index of the most likely label; None if there is none, or a shared first token is at least as likely.

    >>> best_label([0.2, None, 0.1], None), best_label([0.2, None, None], 0.7), best_label([None], None)
    (0, None, None)
    """
    candidates = [(value, -i) for i, value in enumerate(probabilities) if value is not None]
    if not candidates or (shared is not None and shared >= max(candidates)[0]):
        return None
    return -max(candidates)[1]


def first_tokens(candidates: Sequence[tuple[str, float]], labels: Sequence[str]) -> FirstTokens:
    """Assign the most likely first tokens of a response to labels.

    A token belongs to a label that begins with its text. Letter case and white space before it are ignored, and the
    probabilities of spellings (`dog`, ` Dog`) are added. The first token of a label is the most likely that belongs to it.

    Args:
        candidates: (text, log-probability) of the most likely first tokens.
        labels: the labels.

    >>> first_tokens([(" sea", -0.5), ("dog", -1.5), ("Dog", -3.0)], ["dog", "rain", "sea_lion", "sea_waves"]).best
    >>> first_tokens([("dog", -0.5)], ["dog", "rain"]).reasons
    (None, 'not among the 1 most likely first tokens')
    """
    mass: dict[str, float] = {}
    for text, log_probability in candidates:
        start = text.lstrip(_SPACE_MARKS).casefold()
        if start and log_probability > -math.inf:
            mass[start] = mass.get(start, 0.0) + math.exp(log_probability)
    names = [label.casefold() for label in labels]
    begins = {start: [i for i, name in enumerate(names) if name.startswith(start)] for start in mass}
    probabilities: list[float | None] = []
    reasons: list[str | None] = []
    for i in range(len(labels)):
        own = [start for start in mass if i in begins[start]]
        first = max(own, key=lambda start: mass[start], default=None)
        others = [] if first is None else [labels[k] for k in begins[first] if k != i]
        probabilities.append(None if first is None or others else min(mass[first], 1.0))
        if first is None:
            reasons.append(f"not among the {len(candidates)} most likely first tokens")
        else:
            reasons.append(f"begins with the same token '{first}' as {', '.join(others)}" if others else None)
    shared = [mass[start] for start, owners in begins.items() if len(owners) > 1]
    return FirstTokens(tuple(probabilities), tuple(reasons), min(max(shared), 1.0) if shared else None)


def no_first_tokens(labels: Sequence[str], reason: str) -> FirstTokens:
    """Return the first tokens of a response about which nothing is known, for one reason."""
    return FirstTokens((None,) * len(labels), (reason,) * len(labels))
