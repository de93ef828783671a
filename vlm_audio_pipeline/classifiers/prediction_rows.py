"""Rows of the table `predictions`, and the vectors and scores they are computed from."""

from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.encoders.vectors import vector_matrix


def align_vectors(clips: pa.Table, embeddings: pa.Table, encoder: str) -> np.ndarray:
    """Return the vectors of clips, in the order of the clips.

    Args:
        clips: `clips` rows.
        embeddings: `embeddings` rows of the same clips in the same order (both tables are sorted by clip).
        encoder: its name, for the message.

    Returns:
        (clips, dimensions) float32.

    Raises:
        VlmAudioError: when the two tables contain different clips.
    """
    a, b = clips["clip"].to_pylist(), embeddings["clip"].to_pylist()
    if a != b:
        missing, unknown = sorted(set(a) - set(b)), sorted(set(b) - set(a))
        raise VlmAudioError(
            f"embeddings of '{encoder}' must contain the same clips as the clips table, got {len(missing)} clips without "
            f"a vector {missing[:5]} and {len(unknown)} vectors without a clip {unknown[:5]}; compute the embeddings again"
        )
    return vector_matrix(embeddings)


def model_columns(embeddings: pa.Table) -> dict[str, str | None]:
    """Return the model and revision of the vectors, as columns of `predictions`; nulls where there are no vectors."""
    return {name: embeddings[name][0].as_py() if embeddings.num_rows else None for name in ("model", "revision")}


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn (n, classes) logits into probabilities, float64; rows sum to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True)) if logits.size else logits
    return powers / powers.sum(axis=1, keepdims=True)


def scored_predictions(queries: pa.Table, classes: tuple[str, ...], scores: np.ndarray, **constants: Any) -> pa.Table:
    """Turn scores into rows of `predictions`: the class with the highest score is predicted.

    A tie goes to the class that comes first in `classes`.

    Args:
        queries: `clips` rows, n of them.
        classes: labels of the columns of `scores`.
        scores: (n, classes) float, finite, each row summing to 1.
        constants: columns with one value for all rows: `kind`, `encoder`, `model`, `training_clips`, ...

    Returns:
        n rows with scoring "score", control "none" and trial 0 unless `constants` has other values.

    Raises:
        ValueError: when the shape of the scores does not fit, or a score is not finite.
    """
    n = queries.num_rows
    if scores.shape != (n, len(classes)):
        raise ValueError(f"scores must be (clips, classes) = ({n}, {len(classes)}), got {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    best = scores.argmax(axis=1) if n else np.zeros(0, int)
    labels = queries["label"].to_pylist()
    predicted = [classes[i] for i in best]
    columns = {
        "clip": queries["clip"],
        "source": queries["source"],
        "label": queries["label"],
        "predicted": pa.array(predicted, pa.string()),
        "outcome": pa.array(["answered"] * n, pa.string()),
        "correct": pa.array([p == t for p, t in zip(predicted, labels, strict=True)], pa.bool_()),
        "scores": pa.array(
            [list(zip(classes, row.tolist(), strict=True)) for row in scores], pa.map_(pa.string(), pa.float64())
        ),
        "confidence": pa.array(scores.max(axis=1) if n else [], pa.float64()),
    }
    for name, value in {"scoring": "score", "control": "none", "trial": 0, **constants}.items():
        columns[name] = pa.array([value] * n)
    return pa.table(columns)
