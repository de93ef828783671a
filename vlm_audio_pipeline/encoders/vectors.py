"""Vectors as bytes of the result store, as the matrix of an `embeddings` table, and scaled to length 1."""

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import VlmAudioError


def pack_vector(vector: np.ndarray) -> bytes:
    """Convert a vector to the bytes that the result store keeps: little-endian float32.

    Raises:
        VlmAudioError: for a vector that is not one-dimensional and finite; such a vector must never be stored.
    """
    vector = np.asarray(vector, dtype="<f4")
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise VlmAudioError(
            f"a vector must be one-dimensional and finite, got shape {vector.shape} with "
            f"{int((~np.isfinite(vector)).sum())} values that are not finite; try `dtype: float32`"
        )
    return vector.tobytes()


def unit_vectors(x: np.ndarray) -> np.ndarray:
    """Scale the rows of (n, dimensions) to length 1; a row of zeros stays zero."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(lengths > 0, lengths, 1.0)


def vector_matrix(embeddings: pa.Table) -> np.ndarray:
    """Return the vectors of an `embeddings` table as (clips, dimensions) float32, in the order of its rows.

    Raises:
        VlmAudioError: if the vectors differ in length.
    """
    lengths = set(embeddings["dimensions"].to_pylist())
    if len(lengths) > 1:
        raise VlmAudioError(
            f"vectors of an encoder must have the same length, got {sorted(lengths)}; delete its partition file and run again"
        )
    values: np.ndarray = embeddings["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(embeddings.num_rows, lengths.pop() if lengths else 0)
