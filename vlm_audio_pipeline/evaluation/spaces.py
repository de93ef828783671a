"""The clips of a study as points of an encoder's space.

What belongs here: bringing vectors and what is known of their clips into one order, and the one geometry they are looked
at in. What does not: any number about them.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.classifiers.probe import standardisation
from vlm_audio_pipeline.encoders.base import matrix


@dataclass(frozen=True)
class Space:
    """The clips of a study as points, n of them, in one order.

    Attributes:
        clip: (n,) str.
        label: (n,) str, true classes.
        source: (n,) str, recordings the clips were cut from.
        fold: (n,) int.
        x: (n, dimensions) float64; as the encoder gave them.
        model: model id.
    """

    clip: np.ndarray
    label: np.ndarray
    source: np.ndarray
    fold: np.ndarray
    x: np.ndarray
    model: str | None = None

    @classmethod
    def of(cls, clips: pa.Table, embeddings: pa.Table) -> "Space":
        """Take the clips that have a vector, of the folds that exist, in the order of their ids.

        Args:
            clips: `clips` rows.
            embeddings: `embeddings` rows of one encoder.

        Raises:
            VlmAudioError: when vectors differ in length.
        """
        embeddings = embeddings.sort_by("clip")
        embeddings = embeddings.filter(pc.is_in(embeddings["clip"], value_set=clips["clip"].combine_chunks()))
        at = {c: i for i, c in enumerate(clips["clip"].to_pylist())}
        rows = clips.take(pa.array([at[c] for c in embeddings["clip"].to_pylist()], pa.int64()))
        label, source, clip = (np.array(rows[name].to_pylist(), dtype=str) for name in ("label", "source", "clip"))
        model = next((m for m in embeddings["model"].to_pylist() if m), None)
        x = matrix(embeddings).astype(np.float64)
        return cls(clip, label, source, rows["fold"].to_numpy(), x, model)

    @property
    def standardised(self) -> np.ndarray:
        """Every dimension at mean 0 and standard deviation 1 over the clips (0 where constant), (n, dimensions)."""
        mean, scale = standardisation(self.x)
        return (self.x - mean) / scale

    @property
    def unit(self) -> np.ndarray:
        """`standardised`, each row brought to length 1 (rows of zeros stay), (n, dimensions)."""
        x = self.standardised
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        return x / np.where(lengths > 0, lengths, 1)
