"""k nearest neighbours: what the geometry of an encoder's vectors says without learning anything.

What belongs here: distances to labelled clips of the other folds, and votes. The matched baseline of a few-shot model
is a k-NN over the very examples it was shown.
"""

from collections.abc import Mapping
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from vlm_audio_pipeline.classifiers.base import (
    CLASSIFIERS,
    NO_ENCODERS,
    OnEncoder,
    aligned,
    model_of,
    scored_predictions,
)
from vlm_audio_pipeline.classifiers.probe import standardisation
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.encoders.base import EncoderSpec

_TIE = 1e-9  # lifts one of several equally voted classes; far below a vote, far above rounding


@CLASSIFIERS.register("knn")
class NearestNeighbours(OnEncoder):
    """The class most of the k nearest clips of other folds have."""

    k: int = Field(5, ge=1)
    """Neighbours that vote; all training clips where there are fewer."""
    metric: Literal["cosine", "euclidean"] = "cosine"
    """How distance is measured."""
    standardise: bool = True
    """Bring every dimension to mean 0 and standard deviation 1 over the other folds first."""

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Give the one stage: votes of the other folds' clips."""
        asked = {"asked": sorted(self.folds or folds)} if self.sample else {}
        return [
            Stage(
                asset="predictions",
                tables=("predictions",),
                version=1,
                parameters={**self.identity(), **asked},
                inputs=(
                    Input("clips", folds="all"),
                    Input("embeddings", self.encoder, folds="all"),
                    *self.controlled_inputs(name, encoders),
                ),
                run=partial(self._predict, folds=folds),
                description=f"Labels of the {self.k} nearest clips of other folds ({self.metric}) by vectors of "
                f"'{self.encoder}'; scores are shares of the votes.",
                folds=self.folds,
            )
        ]

    def _predict(self, context: StageContext, folds: tuple[int, ...]) -> dict[str, pa.Table]:
        clips, embeddings = context.inputs["clips"], context.inputs[f"embeddings/{self.encoder}"]
        queries = self.queries(clips, int(context.fold or 0), folds)
        train = clips["fold"].to_numpy() != context.fold
        if not train.any():
            raise VlmAudioError(
                f"classifier '{context.name}' must have labelled clips in folds other than {context.fold}, got none; "
                "give the dataset two or more folds"
            )
        known = aligned(clips, embeddings, self.encoder).astype(np.float64)[train]
        mean, scale = standardisation(known) if self.standardise else (0.0, 1.0)
        sources = np.array(clips["source"].to_pylist(), dtype=object)[train]
        siblings = np.array(queries["source"].to_pylist(), dtype=object)[:, None] == sources[None, :]
        labels = [context.classes.index(label) for label in clips["label"].filter(pa.array(train)).to_pylist()]
        made = []
        for control, x in self.queried(context, queries):
            far = distances((x.astype(np.float64) - mean) / scale, (known - mean) / scale, self.metric)
            far[siblings] = np.inf  # never a sibling of the query
            scores = votes(far, np.array(labels, int), self.k, len(context.classes))
            constants = {"kind": self.kind, "encoder": self.encoder, "training_clips": len(known)}
            made.append(
                scored_predictions(
                    queries, context.classes, scores, control=control, **constants, **model_of(embeddings)
                )
            )
        return {"predictions": pa.concat_tables(made)}


def distances(x: np.ndarray, y: np.ndarray, metric: Literal["cosine", "euclidean"]) -> np.ndarray:
    """Give the distance of every row of x to every row of y.

    Euclidean: sqrt(sum (x - y)^2). Cosine: 1 - x.y / (|x| |y|); a vector of zeros has no direction and is at distance 1
    from everything (as scikit-learn's `cosine_distances` has it).

    Args:
        x: (n, dimensions) float64.
        y: (m, dimensions) float64.
        metric: which distance.

    Returns:
        (n, m) float64, 0 or more.
    """
    if metric == "euclidean":
        from scipy.spatial.distance import cdist

        return cdist(x, y)
    lengths = [np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y)]
    x, y = (v / np.where(n > 0, n, 1.0) for v, n in zip((x, y), lengths, strict=True))
    return np.clip(1 - x @ y.T, 0, 2)


def votes(distance: np.ndarray, labels: np.ndarray, k: int, classes: int) -> np.ndarray:
    """Give each class its share of the k nearest neighbours (Cover & Hart, IEEE Trans. Inf. Theory 13(1), 1967).

    Equally distant neighbours come in the order of their rows. Of equally voted classes the one with the nearest
    neighbour wins: its vote is raised by 1e-9 and the shares are divided by their sum, so that the highest score is the
    predicted class.

    Args:
        distance: (queries, neighbours) float; infinite where a neighbour may not vote.
        labels: (neighbours,) int, class indices.
        k: voters; fewer where fewer may vote.
        classes: number of classes.

    Returns:
        (queries, classes) float64, rows summing to 1.

    Raises:
        VlmAudioError: for a query nobody may vote on.
    """
    shares = np.zeros((len(distance), classes))
    for share, row, order in zip(shares, distance, np.argsort(distance, axis=1, kind="stable")[:, :k], strict=True):
        voters = labels[order[np.isfinite(row[order])]]
        if not len(voters):
            raise VlmAudioError(
                "every clip must have a labelled clip of another fold and source, got one without; check the folds"
            )
        share += np.bincount(voters, minlength=classes)
        tied = share == share.max()
        share[next(v for v in voters if tied[v])] += _TIE
        share /= share.sum()
    return shares
