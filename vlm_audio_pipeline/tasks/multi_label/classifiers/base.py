"""The registry of classifiers of the task, the truth of their clips, and the rows of their predictions."""

from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.classifiers.base import ClassifierSpec
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.registry import Registry

MULTI_LABEL_CLASSIFIERS: Registry[ClassifierSpec] = Registry(
    "multi-label classifier", "vlm_audio_pipeline.tasks.multi_label.classifiers"
)

CLIP_LABELS = "clips:clip_labels"
"""Key of the table `clip_labels` among the inputs of a stage that reads `clips`."""


def truth_matrix(clips: pa.Table, clip_labels: pa.Table, classes: tuple[str, ...]) -> np.ndarray:
    """Return which clips have which classes, (clips, classes) bool, in the order of `clips` and `classes`.

    Args:
        clips: `clips` rows.
        clip_labels: `clip_labels` rows; those of other clips are ignored.
        classes: every class of the study.
    """
    row = {clip: i for i, clip in enumerate(clips["clip"].to_pylist())}
    column = {label: i for i, label in enumerate(classes)}
    truth = np.zeros((len(row), len(column)), bool)
    for clip, label in zip(clip_labels["clip"].to_pylist(), clip_labels["label"].to_pylist(), strict=True):
        if clip in row:
            truth[row[clip], column[label]] = True
    return truth


def require_both_truths(truth: np.ndarray, classes: tuple[str, ...], classifier: str, fold: int | None) -> None:
    """Check that every class has training clips with it and without it: neither a score nor a threshold is defined otherwise.

    Raises:
        VlmAudioError: with the names of the classes.
    """
    for missing, word in ((~truth.any(axis=0), "with"), (truth.all(axis=0), "without")):
        if missing.any():
            names = [classes[i] for i in np.flatnonzero(missing)]
            raise VlmAudioError(
                f"classifier '{classifier}' needs training clips with and without every class, got none {word} {names} in the "
                f"folds other than {fold}; distribute these classes over more folds, or remove them from `classes`"
            )


def label_predictions(
    queries: pa.Table,
    truth: np.ndarray,
    classes: tuple[str, ...],
    scores: np.ndarray,
    thresholds: np.ndarray,
    **constants: Any,
) -> pa.Table:
    """Turn scores into rows of `multi_label_predictions`: a class is predicted if its score reaches its threshold.

    Args:
        queries: n rows of `clips`.
        truth: (n, classes) bool.
        classes: labels of the columns.
        scores: (n, classes) float, finite.
        thresholds: (classes,) float.
        constants: columns with one value for all rows: `kind`, `encoder`, `model`, `training_clips`, ...

    Returns:
        n * classes rows with scoring "score", control "none" and trial 0 unless `constants` has other values.

    Raises:
        ValueError: if a shape is wrong, or a score is not finite.
    """
    shape = (queries.num_rows, len(classes))
    if scores.shape != shape or truth.shape != shape:
        raise ValueError(f"scores and truths must be (clips, classes) = {shape}, got {scores.shape} and {truth.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    n, k = shape
    repeated = pa.array(np.repeat(np.arange(n), k))
    columns = {
        "clip": queries["clip"].take(repeated),
        "source": queries["source"].take(repeated),
        "label": pa.array(list(classes) * n, pa.string()),
        "truth": pa.array(truth.ravel()),
        "score": pa.array(scores.ravel().astype(float)),
        "threshold": pa.array(np.tile(thresholds.astype(float), n)),
        "predicted": pa.array((scores >= thresholds).ravel()),
        "outcome": pa.array(["answered"] * (n * k), pa.string()),
    }
    for name, value in {"scoring": "score", "control": "none", "trial": 0, **constants}.items():
        columns[name] = pa.array([value] * (n * k))
    return pa.table(columns)
