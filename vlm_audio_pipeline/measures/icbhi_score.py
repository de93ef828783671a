"""The score of the ICBHI 2017 challenge: the mean of sensitivity and specificity over respiratory cycles.

Reference: B. M. Rocha et al., An open access database for the evaluation of respiratory sound classification algorithms, Physiological
Measurement 40, 2019, https://doi.org/10.1088/1361-6579/ab03ea, section 2.5. In this challenge, sensitivity counts a cycle with crackles,
wheezes or both only if its own class is predicted.
"""

from collections.abc import Sequence
from typing import NamedTuple

NORMAL = "normal_breathing"


class IcbhiScore(NamedTuple):
    """The score and its parts.

    Attributes:
        score: (sensitivity + specificity) / 2; None if one of them is undefined.
        sensitivity: cycles of other classes than normal with the right class / cycles of other classes; None without such cycles.
        specificity: normal cycles that are predicted to be normal / normal cycles; None without normal cycles.
        reason: why the score is undefined, or None.
    """

    score: float | None
    sensitivity: float | None
    specificity: float | None
    reason: str | None


def icbhi_score(labels: Sequence[str], predicted: Sequence[str], normal: str = NORMAL) -> IcbhiScore:
    """Return the score of predictions.

    Args:
        labels: (n,) true classes.
        predicted: (n,) predicted classes; "" where there is no answer, which is wrong.
        normal: the class of cycles in which nothing is heard.

    Raises:
        ValueError: for sequences of different lengths.
    """
    pairs = list(zip(labels, predicted, strict=True))
    healthy = [answer == label for label, answer in pairs if label == normal]
    abnormal = [answer == label for label, answer in pairs if label != normal]
    sensitivity = sum(abnormal) / len(abnormal) if abnormal else None
    specificity = sum(healthy) / len(healthy) if healthy else None
    if sensitivity is None or specificity is None:
        reason = (
            "no cycles"
            if not pairs
            else f"no cycle of the class {normal}"
            if not healthy
            else f"every cycle is of the class {normal}"
        )
        return IcbhiScore(None, sensitivity, specificity, reason)
    return IcbhiScore((sensitivity + specificity) / 2, sensitivity, specificity, None)
