"""The reliability diagram as a table: accuracy by bins of confidence.

The measure `ece` summarises all bins in one number.
"""

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.evaluation.temperature_scaling import apply_temperature
from vlm_audio_pipeline.measures.predictions import PredictionArrays, split_by_scoring_and_control
from vlm_audio_pipeline.measures.probabilities import BINS, confidence_bin, confidence_rows


def reliability_table(predictions: pa.Table, classes: tuple[str, ...]) -> pa.Table:
    """Compute the accuracy by bins of confidence, as predicted and after temperature scaling fitted on the other folds.

    DeGroot and Fienberg, The Comparison and Evaluation of Forecasters, The Statistician 32 (1983).

    Args:
        predictions: `predictions` rows of one classifier, of any folds.
        classes: every label of the study.

    Returns:
        `reliability` rows without `study` and `classifier`: one for each bin that holds predictions. A variant without
        confidences has no rows; `metrics` has the reason (ece, ece_temperature).

    Raises:
        VlmAudioError: for predictions with labels outside `classes`.
    """
    lines = []
    for scoring, control, rows in split_by_scoring_and_control(predictions):
        raw = PredictionArrays.from_table(rows, classes)
        for variant, arrays in (("raw", raw), ("temperature", apply_temperature(raw).scaled)):
            assert arrays is not None
            lines += [
                {"scoring": scoring, "control": control, "variant": variant, **line} for line in _bin_lines(arrays)
            ]
    return build_rows("reliability", lines, added_columns=("study", "classifier"))


def _bin_lines(predictions: PredictionArrays) -> list[dict[str, int | float]]:
    included, _ = confidence_rows(predictions)
    confidence, correct = predictions.confidence[included], predictions.correct[included]
    bins = confidence_bin(confidence)
    counts = np.bincount(bins, minlength=BINS)
    confidence_sums, correct_sums = np.bincount(bins, confidence, BINS), np.bincount(bins, correct, BINS)
    return [
        {
            "bin": b + 1,
            "count": int(counts[b]),
            "confidence": confidence_sums[b] / counts[b],
            "accuracy": correct_sums[b] / counts[b],
        }
        for b in np.flatnonzero(counts).tolist()
    ]
