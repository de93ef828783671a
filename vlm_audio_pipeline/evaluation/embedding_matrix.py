"""The embeddings of a study's clips as one matrix, with their labels, sources and folds."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.classifiers.probe import standardisation
from vlm_audio_pipeline.encoders.vectors import vector_matrix
from vlm_audio_pipeline.evaluation.clip_sample import sample_note, sample_positions


@dataclass(frozen=True)
class EmbeddingMatrix:
    """The embeddings of n clips; all arrays have the same order.

    Attributes:
        clip: (n,) str.
        label: (n,) str, true classes.
        source: (n,) str, source recordings.
        fold: (n,) int.
        x: (n, dimensions) float64, as the encoder returned them.
        model: model id.
        sampled_from: number of clips that have an embedding, if the matrix is a sample of them; None if it has all of them.
    """

    clip: np.ndarray
    label: np.ndarray
    source: np.ndarray
    fold: np.ndarray
    x: np.ndarray
    model: str | None = None
    sampled_from: int | None = None

    @classmethod
    def from_tables(cls, clips: pa.Table, embeddings: pa.Table, max_clips: int | None = None) -> "EmbeddingMatrix":
        """Build the matrix of the clips that have an embedding, in the order of their ids.

        Args:
            clips: `clips` rows.
            embeddings: `embeddings` rows of one encoder.
            max_clips: largest number of clips; above it, a sample (`clip_sample`). None: all clips.

        Raises:
            VlmAudioError: when the vectors differ in length.
        """
        embeddings = embeddings.sort_by("clip")
        embeddings = embeddings.filter(pc.is_in(embeddings["clip"], value_set=clips["clip"].combine_chunks()))
        position = {clip: i for i, clip in enumerate(clips["clip"].to_pylist())}
        rows = clips.take(pa.array([position[clip] for clip in embeddings["clip"].to_pylist()], pa.int64()))
        sampled_from = None
        if max_clips is not None and rows.num_rows > max_clips:
            sampled_from = rows.num_rows
            chosen = sample_positions(rows["clip"].to_pylist(), rows["source"].to_pylist(), max_clips)
            rows, embeddings = rows.take(chosen), embeddings.take(chosen)
        label, source, clip = (np.array(rows[name].to_pylist(), dtype=str) for name in ("label", "source", "clip"))
        model = next((m for m in embeddings["model"].to_pylist() if m), None)
        x = vector_matrix(embeddings).astype(np.float64)
        return cls(clip, label, source, rows["fold"].to_numpy(), x, model, sampled_from)

    @property
    def all_clips(self) -> int:
        """Number of clips that have an embedding; more than n if the matrix is a sample."""
        return len(self.clip) if self.sampled_from is None else self.sampled_from

    @property
    def sample_note(self) -> str:
        """The words that follow a description if the matrix is a sample of the clips; otherwise an empty text."""
        return sample_note(len(self.clip), self.all_clips)

    @property
    def standardised_vectors(self) -> np.ndarray:
        """Each dimension at mean 0 and standard deviation 1 over the clips (0 where constant), (n, dimensions)."""
        mean, scale = standardisation(self.x)
        standardised: np.ndarray = (self.x - mean) / scale
        return standardised

    @property
    def unit(self) -> np.ndarray:
        """`standardised`, with each row scaled to length 1 (rows of zeros stay), (n, dimensions)."""
        x = self.standardised_vectors
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        return x / np.where(lengths > 0, lengths, 1)
