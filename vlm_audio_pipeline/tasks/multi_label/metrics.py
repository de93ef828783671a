"""The table `multi_label_metrics`: every measure of one classifier's predictions.

Belongs here: the scorings, controls and subsets that measures are computed for. Does not belong here: formulas (`measures`).
"""

import pyarrow as pa

from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.measures.predictions import split_by_scoring_and_control
from vlm_audio_pipeline.tasks.multi_label.measures.declarations import estimates
from vlm_audio_pipeline.tasks.multi_label.prediction_arrays import label_subsets, read_arrays


def label_metrics_table(predictions: pa.Table, classes: tuple[str, ...], tuning_folds: tuple[int, ...]) -> pa.Table:
    """Compute every measure of a classifier, for every scoring, control and subset.

    Args:
        predictions: `multi_label_predictions` rows of one classifier, of any folds.
        classes: every class of the study.
        tuning_folds: folds that choices were tuned on; empty for none.

    Returns:
        `multi_label_metrics` rows without `study` and `classifier`.

    Raises:
        VlmAudioError: for predictions of other classes.
    """
    lines = [
        {
            "scoring": scoring,
            "control": control,
            "subset": subset,
            "metric": name,
            "label": label,
            **vars(estimate),
        }
        for scoring, control, rows in split_by_scoring_and_control(predictions)
        for subset, arrays in label_subsets(read_arrays(rows, classes), tuning_folds)
        for name, label, estimate in estimates(arrays)
    ]
    return build_rows("multi_label_metrics", lines, added_columns=("study", "classifier"))
