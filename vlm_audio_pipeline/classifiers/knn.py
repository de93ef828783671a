"""k nearest neighbours (k-NN): predict the most frequent class among the k training clips with the nearest vectors."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, NO_ENCODERS, EncoderClassifier
from vlm_audio_pipeline.classifiers.prediction_rows import align_vectors, model_columns, scored_predictions
from vlm_audio_pipeline.classifiers.probe import standardisation
from vlm_audio_pipeline.classifiers.shown_labels import add_shown_labels
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.encoders.vectors import unit_vectors

BLOCK_PAIRS = 2**22
"""Queries times training clips that are compared at a time; a pair takes about 30 bytes."""
_TIE_BONUS = 1e-9  # far below one vote, far above rounding errors; see `votes`


class Neighbours(EncoderClassifier):
    """The fields of a classifier that compares a clip with the nearest clips of the other folds."""

    setting: ClassVar[str] = "k-NN"
    k: int = Field(5, ge=1)
    """Number of neighbours; all training clips that count if there are fewer."""
    metric: Literal["cosine", "euclidean"] = "cosine"
    """Distance between two vectors."""
    standardise: bool = True
    """First scale every dimension to mean 0 and standard deviation 1 over the other folds."""


@CLASSIFIERS.register("knn")
class NearestNeighbours(Neighbours):
    """Predicts the most frequent class among the k nearest clips of the other folds."""

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Return one stage: votes of the clips of the other folds."""
        return [
            Stage(
                asset="predictions",
                tables=("predictions",),
                version=3,
                parameters={**self.fingerprint_fields(), **self.sampled_folds(folds)},
                inputs=(
                    Input("clips", folds="all"),
                    Input("embeddings", self.encoder, folds="all"),
                    *self.controlled_inputs(name, encoders),
                ),
                run=partial(self._predict, folds=folds),
                description=f"Labels of the {self.k} nearest clips of other folds ({self.metric}) by vectors of "
                f"'{self.encoder}'; scores are fractions of the votes.",
                folds=self.folds,
            )
        ]

    def _predict(self, context: StageContext, folds: tuple[int, ...]) -> dict[str, pa.Table]:
        clips, embeddings = context.inputs["clips"], context.inputs[f"embeddings/{self.encoder}"]
        queries = self.queries(clips, int(context.fold or 0), folds)
        is_training = clips["fold"].to_numpy() != context.fold
        if not is_training.any():
            raise VlmAudioError(
                f"classifier '{context.name}' needs training clips in folds other than {context.fold}, got none; "
                "give the dataset two or more folds"
            )
        training = align_vectors(clips, embeddings, self.encoder).astype(np.float64)[is_training]
        mean, scale = standardisation(training) if self.standardise else (0.0, 1.0)
        sources = np.array(clips["source"].to_pylist(), dtype=object)[is_training]
        query_sources = np.array(queries["source"].to_pylist(), dtype=object)
        labels = [context.classes.index(label) for label in clips["label"].filter(pa.array(is_training)).to_pylist()]
        constants = {
            "kind": self.kind,
            "encoder": self.encoder,
            "training_clips": len(training),
            **model_columns(embeddings),
        }
        voters = np.array(labels, int)
        standardised = (training - mean) / scale
        predictions = []
        for control, x in self.query_vectors(context, queries):
            scores = np.zeros((len(x), len(context.classes)))
            x = (x.astype(np.float64) - mean) / scale
            for rows, distance in distance_blocks(x, query_sources, standardised, sources, self.metric):
                scores[rows] = votes(distance, voters, self.k, len(context.classes))
            predictions.append(scored_predictions(queries, context.classes, scores, control=control, **constants))
        clips_of_fold = clips.filter(pa.array(~is_training))
        return {"predictions": add_shown_labels(pa.concat_tables(predictions), clips_of_fold)}


def distance_blocks(
    x: np.ndarray,
    x_sources: np.ndarray,
    training: np.ndarray,
    sources: np.ndarray,
    metric: Literal["cosine", "euclidean"],
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the distances of consecutive queries to the training clips, in blocks whose memory does not grow with the number of clips.

    Args:
        x: (n, dimensions) float64, queries.
        x_sources: (n,) str, source recordings of the queries.
        training: (m, dimensions) float64, m at least 1.
        sources: (m,) str, source recordings of the training clips.
        metric: name of the distance.

    Yields:
        The rows of the block in x, and (rows, m) float64 distances; infinite for a clip of the query's own source recording.
    """
    step = max(1, BLOCK_PAIRS // len(training))
    for first in range(0, len(x), step):
        rows = slice(first, first + step)
        distance = distances(x[rows], training, metric)
        distance[x_sources[rows, None] == sources[None, :]] = np.inf
        yield rows, distance


def distances(x: np.ndarray, y: np.ndarray, metric: Literal["cosine", "euclidean"]) -> np.ndarray:
    """Return the distance of every row of x to every row of y.

    Euclidean: sqrt(sum (x - y)^2). Cosine: 1 - x.y / (|x| |y|); a vector of zeros has no direction and has distance
    1 to every vector (as in scikit-learn's `cosine_distances`).

    Args:
        x: (n, dimensions) float64.
        y: (m, dimensions) float64.
        metric: name of the distance.

    Returns:
        (n, m) float64, 0 or more.
    """
    if metric == "euclidean":
        from scipy.spatial.distance import cdist

        euclidean: np.ndarray = cdist(x, y)
        return euclidean
    cosine: np.ndarray = np.clip(1 - unit_vectors(x) @ unit_vectors(y).T, 0, 2)
    return cosine


def votes(distance: np.ndarray, labels: np.ndarray, k: int, classes: int) -> np.ndarray:
    """Return the fraction of votes of the k nearest neighbours for each class (Cover & Hart, IEEE Trans. Inf. Theory 13(1), 1967).

    Neighbours at equal distance keep the order of their rows. Of classes with equal votes, the one with the nearest
    neighbour wins: 1e-9 is added to its votes before the division by the sum, so that the predicted class has the highest
    score.

    Args:
        distance: (queries, neighbours) float; infinite where a neighbour may not vote.
        labels: (neighbours,) int, class indices.
        k: maximum number of neighbours that vote.
        classes: number of classes.

    Returns:
        (queries, classes) float64, rows summing to 1.

    Raises:
        VlmAudioError: for a query without a neighbour that may vote.
    """
    fractions = np.zeros((len(distance), classes))
    for fraction, row, order in zip(
        fractions, distance, np.argsort(distance, axis=1, kind="stable")[:, :k], strict=True
    ):
        voters = labels[order[np.isfinite(row[order])]]
        if not len(voters):
            raise VlmAudioError(
                "every clip needs a training clip of another fold and source recording, but a clip has none; check the folds"
            )
        fraction += np.bincount(voters, minlength=classes)
        tied = fraction == fraction.max()
        fraction[next(v for v in voters if tied[v])] += _TIE_BONUS
        fraction /= fraction.sum()
    return fractions
