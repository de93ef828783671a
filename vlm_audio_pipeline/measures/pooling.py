"""Pool the values of segments to one value for each recording."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Pooling = Literal["max", "mean", "any"]


def pool_segments(
    values: npt.NDArray[np.float64] | npt.NDArray[np.bool_], recordings: Sequence[str], pooling: Pooling
) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Return one row for each recording.

    Args:
        values: (segments, classes): scores, with NaN where there is none; or decisions or labels, for "any".
        recordings: (segments,) recording of each segment.
        pooling: "max": the highest score of a class; "mean": the mean score; "any": 1 where a segment has the class, else 0.

    Returns:
        The recordings, sorted, and the pooled values, (recordings, classes) float64. A segment without a score is left out; a recording
        without any score of a class has NaN.

    Raises:
        ValueError: for arrays that do not fit, and for "any" with values that are not decisions.
    """
    if values.ndim != 2 or len(values) != len(recordings):
        raise ValueError(f"values must be (segments, classes) for {len(recordings)} segments, got {values.shape}")
    if pooling == "any" and values.dtype != np.bool_:
        raise ValueError(
            f"pooling 'any' needs decisions (bool), got {values.dtype}; choose a threshold first, or use 'max'"
        )
    names, positions = np.unique(np.asarray(recordings, dtype=object).astype(str), return_inverse=True)
    pooled = np.full((len(names), values.shape[1]), np.nan)
    scores = values.astype(np.float64)
    for row in range(len(names)):
        of_recording = scores[positions == row]
        has_score = ~np.isnan(of_recording)
        filled = np.where(has_score, of_recording, 0.0 if pooling == "mean" else -np.inf)
        with np.errstate(invalid="ignore"):
            combined = filled.sum(axis=0) / has_score.sum(axis=0) if pooling == "mean" else filled.max(axis=0)
        pooled[row] = np.where(has_score.any(axis=0), combined, np.nan)
    return [str(name) for name in names], pooled
