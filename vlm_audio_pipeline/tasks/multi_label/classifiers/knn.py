"""k-nearest neighbours: the score of a class is the share of the nearest clips of other folds that have it."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.classifiers.base import NO_ENCODERS
from vlm_audio_pipeline.classifiers.knn import Neighbours, distance_blocks
from vlm_audio_pipeline.classifiers.prediction_rows import align_vectors, model_columns
from vlm_audio_pipeline.classifiers.probe import standardisation
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.tasks.multi_label.classifiers.base import (
    CLIP_LABELS,
    MULTI_LABEL_CLASSIFIERS,
    label_predictions,
    require_both_truths,
    truth_matrix,
)
from vlm_audio_pipeline.tasks.multi_label.measures.decisions import best_threshold


@MULTI_LABEL_CLASSIFIERS.register("knn")
class NearestNeighbourShares(Neighbours):
    """Scores each class by the share of the k nearest clips of the other folds that have it. Clips of the same recording do not count."""

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Return one stage: shares among the clips of the other folds."""
        return [
            Stage(
                asset="predictions",
                tables=("multi_label_predictions",),
                version=2,
                parameters={**self.fingerprint_fields(), **self.sampled_folds(folds)},
                inputs=(
                    Input("clips", folds="all"),
                    Input("embeddings", self.encoder, folds="all"),
                    *self.controlled_inputs(name, encoders),
                ),
                run=partial(self._predict, folds=folds),
                description=f"Share of the {self.k} nearest clips of other folds ({self.metric}) by vectors of '{self.encoder}' that "
                "have each class.",
                folds=self.folds,
            )
        ]

    def _predict(self, context: StageContext, folds: tuple[int, ...]) -> dict[str, pa.Table]:
        clips, embeddings = context.inputs["clips"], context.inputs[f"embeddings/{self.encoder}"]
        queries = self.queries(clips, int(context.fold or 0), folds)
        is_training = clips["fold"].to_numpy() != context.fold
        truth = truth_matrix(clips, context.inputs[CLIP_LABELS], context.classes)[is_training]
        require_both_truths(truth, context.classes, context.name, context.fold)
        vectors = align_vectors(clips, embeddings, self.encoder).astype(np.float64)[is_training]
        mean, scale = standardisation(vectors) if self.standardise else (0.0, 1.0)
        training = (vectors - mean) / scale
        source = np.array(clips["source"].to_pylist(), dtype=str)[is_training]
        inner = self._shares(training, source, training, source, truth)
        thresholds = np.array([best_threshold(truth[:, i], inner[:, i]) for i in range(truth.shape[1])])
        query_source = np.array(queries["source"].to_pylist(), dtype=str)
        query_truth = truth_matrix(queries, context.inputs[CLIP_LABELS], context.classes)
        constants = {"kind": self.kind, "encoder": self.encoder, "training_clips": len(training)}
        rows = []
        for control, x in self.query_vectors(context, queries):
            scores = self._shares((x.astype(np.float64) - mean) / scale, query_source, training, source, truth)
            rows.append(
                label_predictions(
                    queries,
                    query_truth,
                    context.classes,
                    scores,
                    thresholds,
                    control=control,
                    **constants,
                    **model_columns(embeddings),
                )
            )
        return {"multi_label_predictions": pa.concat_tables(rows)}

    def _shares(
        self, x: np.ndarray, x_source: np.ndarray, training: np.ndarray, source: np.ndarray, truth: np.ndarray
    ) -> np.ndarray:
        """Return the share of neighbours with each class; clips of the same source recording are no neighbours."""
        shares = np.zeros((len(x), truth.shape[1]))
        for rows, distance in distance_blocks(x, x_source, training, source, self.metric):
            shares[rows] = neighbour_shares(distance, truth, self.k)
        return shares


def neighbour_shares(distance: np.ndarray, truth: np.ndarray, k: int) -> np.ndarray:
    """Return the share of the k nearest neighbours that have each class.

    Neighbours at equal distance keep the order of their rows.

    Args:
        distance: (queries, neighbours) float; infinite where a neighbour does not count.
        truth: (neighbours, classes) bool.
        k: maximum number of neighbours.

    Returns:
        (queries, classes) float64, 0 to 1.

    Raises:
        VlmAudioError: for a query without a neighbour that counts.
    """
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :k]
    counts = np.isfinite(np.take_along_axis(distance, nearest, axis=1))
    if not counts.any(axis=1).all():
        raise VlmAudioError(
            "every clip needs a training clip of another fold and source recording, but a clip has none; check the folds"
        )
    hits = np.zeros((len(distance), truth.shape[1]))
    for neighbour, is_counted in zip(nearest.T, counts.T, strict=True):  # at once, they would take k times the memory
        hits += truth[neighbour] & is_counted[:, None]
    shares: np.ndarray = hits / counts.sum(axis=1)[:, None]
    return shares
