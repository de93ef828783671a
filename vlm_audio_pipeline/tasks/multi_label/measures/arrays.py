"""Multi-label predictions as arrays: passes over clips by classes."""

from collections import Counter
from dataclasses import dataclass, fields, replace

import numpy as np


@dataclass(frozen=True)
class LabelArrays:
    """Predictions of one scoring and control: n passes over clips (clips x trials), k classes.

    Attributes:
        truth: (n, k) bool, whether the clip has the class.
        score: (n, k) float64, a higher one for a more certain class; NaN without a score.
        predicted: (n, k) bool, whether the class was predicted; False without a decision.
        outcome: (n, k) str; only "answered" has a score or a decision.
        is_decided: (n, k) bool, whether there is a decision.
        clip: (n,) str.
        source: (n,) str, source recordings.
        fold: (n,) int.
        classes: labels of the columns.
    """

    truth: np.ndarray
    score: np.ndarray
    predicted: np.ndarray
    outcome: np.ndarray
    is_decided: np.ndarray
    clip: np.ndarray
    source: np.ndarray
    fold: np.ndarray
    classes: tuple[str, ...]

    def select(self, rows: np.ndarray) -> "LabelArrays":
        """Select rows by a (n,) bool mask."""
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "classes"}
        return replace(self, **arrays)

    @property
    def is_error(self) -> np.ndarray:
        """Cells whose request failed, (n, k) bool: a failure is not a wrong answer."""
        is_error: np.ndarray = self.outcome == "error"
        return is_error

    @property
    def without_errors(self) -> "LabelArrays":
        """The passes without a failed request."""
        has_error: np.ndarray = np.asarray(self.is_error.any(axis=1))
        return self.select(~has_error)


def missing_score_reason(score: np.ndarray, outcome: np.ndarray) -> str | None:
    """Return why scores are not complete, or None: a prediction without a score has no place in an order.

    Args:
        score: float, NaN without a score; without failed requests.
        outcome: str, of the same shape.
    """
    is_missing = np.isnan(score)
    if not is_missing.any():
        return None
    if is_missing.all() and (outcome == "answered").all():
        return "no scores: the classifier decides without a score"
    counts = Counter(outcome[is_missing].tolist())
    described = ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
    return f"{int(is_missing.sum())} of {is_missing.size} predictions have no score ({described})"
