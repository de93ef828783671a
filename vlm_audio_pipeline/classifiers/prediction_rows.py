"""Rows of the table `predictions`, and the vectors and scores from which they are computed."""

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
        encoder: name of the encoder, for the error message.

    Returns:
        (clips, dimensions) float32.

    Raises:
        VlmAudioError: if the two tables contain different clips.
    """
    ids, embedding_ids = clips["clip"].to_pylist(), embeddings["clip"].to_pylist()
    if ids != embedding_ids:
        missing, unknown = sorted(set(ids) - set(embedding_ids)), sorted(set(embedding_ids) - set(ids))
        raise VlmAudioError(
            f"the embeddings of '{encoder}' and the clips table contain different clips: {len(missing)} clips without a "
            f"vector {missing[:5]}, {len(unknown)} vectors without a clip {unknown[:5]}; compute the embeddings again"
        )
    return vector_matrix(embeddings)


def model_columns(embeddings: pa.Table) -> dict[str, str | None]:
    """Return the model and revision of the vectors, as columns of `predictions`; nulls if the table is empty."""
    return {name: embeddings[name][0].as_py() if embeddings.num_rows else None for name in ("model", "revision")}


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn (n, classes) logits into probabilities, float64; rows sum to 1."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True)) if logits.size else logits
    probabilities: np.ndarray = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def scored_predictions(queries: pa.Table, classes: tuple[str, ...], scores: np.ndarray, **constants: Any) -> pa.Table:
    """Turn scores into rows of `predictions`: the class with the highest score is predicted.

    A tie goes to the class that comes first in `classes`.

    Args:
        queries: n rows of `clips`.
        classes: labels of the columns of `scores`.
        scores: (n, classes) float, finite, each row summing to 1.
        constants: columns with one value for all rows: `kind`, `encoder`, `model`, `training_clips`, ...

    Returns:
        n rows with scoring "score", control "none" and trial 0 unless `constants` has other values.

    Raises:
        ValueError: if the shape of the scores is wrong, or a score is not finite.
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
