"""Zero-shot: score each class by the cosine of the clip's embedding and its text's, with a threshold fitted on other folds.

The texts of the classes and their vectors are those of `classifiers.zero_shot`. A cosine has no natural threshold, so the one with the
highest F1 on the clips of the other folds is used; the scores themselves use no label.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
from pydantic import field_validator

from vlm_audio_pipeline.classifiers.base import NO_ENCODERS
from vlm_audio_pipeline.classifiers.prediction_rows import align_vectors, model_columns
from vlm_audio_pipeline.classifiers.zero_shot import ZeroShot
from vlm_audio_pipeline.contracts.stages import Stage, StageContext
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.encoders.vectors import unit_vectors
from vlm_audio_pipeline.tasks.multi_label.classifiers.base import (
    CLIP_LABELS,
    MULTI_LABEL_CLASSIFIERS,
    label_predictions,
    require_both_truths,
    truth_matrix,
)
from vlm_audio_pipeline.tasks.multi_label.measures.decisions import best_threshold


@MULTI_LABEL_CLASSIFIERS.register("zero_shot")
class ZeroShotScores(ZeroShot):
    """Scores each class by the similarity of its text to the clip; for encoders with a text encoder (CLAP, CLIP, SigLIP)."""

    @field_validator("temperature")
    @classmethod
    def _refuse_temperature(cls, temperature: float | None) -> None:
        if temperature is not None:
            raise ValueError(
                f"must be null in the task multi_label, whose scores are cosines, got {temperature}; remove it"
            )

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Return one stage: cosines of clip and text vectors, with thresholds of the other folds.

        Raises:
            BadStudy: if the encoder has no text encoder, or if there are controls but it does not take images.
        """
        encoder = self.encoder_spec(name, encoders)
        [stage] = super().stages(name, folds, encoders)
        of_all_folds = ("clips", f"embeddings/{self.encoder}")  # the others are of this fold, or have no folds
        inputs = tuple(replace(i, folds="all") if i.key in of_all_folds else i for i in stage.inputs)
        return [
            replace(
                stage,
                tables=("multi_label_predictions",),
                version=1,
                inputs=inputs,
                run=partial(self._score, encoder=encoder, folds=folds),
                description=f"Cosines of vectors of '{self.encoder}' with those of the classes' texts, and thresholds chosen on "
                "other folds.",
            )
        ]

    def _score(self, context: StageContext, encoder: EncoderSpec, folds: tuple[int, ...]) -> dict[str, pa.Table]:
        clips, embeddings = context.inputs["clips"], context.inputs[f"embeddings/{self.encoder}"]
        labels = context.inputs[CLIP_LABELS]
        queries = self.queries(clips, int(context.fold or 0), folds)
        texts, _ = self.class_vectors_and_scale(encoder, context.classes, context.result_store, context.engine)
        is_other = clips["fold"].to_numpy() != context.fold
        truth = truth_matrix(clips, labels, context.classes)[is_other]
        require_both_truths(truth, context.classes, context.name, context.fold)
        vectors = align_vectors(clips, embeddings, self.encoder)[is_other]
        cosines = unit_vectors(vectors.astype(np.float64)) @ texts.T
        thresholds = np.array([best_threshold(truth[:, i], cosines[:, i]) for i in range(truth.shape[1])])
        query_truth = truth_matrix(queries, labels, context.classes)
        constants = {"kind": self.kind, "encoder": self.encoder, "training_clips": 0, **model_columns(embeddings)}
        rows = []
        for control, x in self.query_vectors(context, queries):
            scores = unit_vectors(x.astype(np.float64)) @ texts.T
            rows.append(
                label_predictions(
                    queries, query_truth, context.classes, scores, thresholds, control=control, **constants
                )
            )
        return {"multi_label_predictions": pa.concat_tables(rows)}
