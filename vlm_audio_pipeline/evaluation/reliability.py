"""The reliability diagram as a table: how often predictions of each confidence are right.

What belongs here: counting by bins of confidence. What does not: one number of all bins (`probabilities.ece`).
"""

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.evaluation.probabilities import BINS, bin_of, confident_rows, tempered
from vlm_audio_pipeline.evaluation.rows import Rows, groups
from vlm_audio_pipeline.storage.schemas import TABLES


def reliability_table(predictions: pa.Table, classes: tuple[str, ...]) -> pa.Table:
    """Count predictions by confidence, as predicted and after temperature scaling fitted on the other folds.

    DeGroot and Fienberg, The Comparison and Evaluation of Forecasters, The Statistician 32 (1983).

    Args:
        predictions: `predictions` rows of one classifier, of any folds.
        classes: every label of the study.

    Returns:
        `reliability` rows without `study` and `classifier`: one for each bin that holds predictions. Nothing for a
        variant without confidences; `metrics` says why (ece, ece_temperature).

    Raises:
        VlmAudioError: for predictions with labels outside `classes`.
    """
    lines = []
    for scoring, control, here in groups(predictions):
        rows = Rows.of(here, classes)
        for variant, variant_rows in (("raw", rows), ("temperature", tempered(rows)[0])):
            place = {"scoring": scoring, "control": control, "variant": variant}
            lines += [{**place, **line} for line in _bins(variant_rows)]
    schema = TABLES["reliability"].arrow
    return pa.Table.from_pylist(lines, pa.schema([f for f in schema if f.name not in ("study", "classifier")]))


def _bins(rows: Rows) -> list[dict[str, int | float]]:
    over, _ = confident_rows(rows)
    confidence, correct = rows.confidence[over], rows.correct[over]
    of = bin_of(confidence)
    counts = np.bincount(of, minlength=BINS)
    sums = np.bincount(of, confidence, BINS), np.bincount(of, correct, BINS)
    return [
        {
            "bin": b + 1,
            "count": int(counts[b]),
            "confidence": sums[0][b] / counts[b],
            "accuracy": sums[1][b] / counts[b],
        }
        for b in np.flatnonzero(counts).tolist()
    ]
