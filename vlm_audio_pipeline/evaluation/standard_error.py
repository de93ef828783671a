"""The standard error of a mean over clips, clustered by source recording."""

import numpy as np

from vlm_audio_pipeline.measures.uncertainty import sum_by_source


def standard_error(values: np.ndarray, sources: np.ndarray) -> float | None:
    """Return the standard error of the mean, with sources as independent units.

    sqrt(C / (C - 1) * sum over the C sources of (sum of deviations from the mean)^2) / n: Miller, Adding Error Bars to
    Evals, arXiv 2411.00640, equation 4, with the correction for few sources.

    Args:
        values: (n,) float, n > 0.
        sources: (n,) str.

    Returns:
        None for one source.
    """
    deviations, _ = sum_by_source(values - values.mean(), sources)
    count = len(deviations)
    if count < 2:
        return None
    return float(np.sqrt(count / (count - 1) * (deviations**2).sum()) / len(values))
