"""The probe of the task `multi_label`: an independent logistic regression for each class on the vectors of an encoder.

The fitted probe is a table of coefficients and thresholds. Predictions are computed from that table alone.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from vlm_audio_pipeline.classifiers.base import NO_ENCODERS, EncoderClassifier
from vlm_audio_pipeline.classifiers.logistic_regression import Basis, fit_in_basis
from vlm_audio_pipeline.classifiers.prediction_rows import align_vectors, model_columns
from vlm_audio_pipeline.classifiers.probe import DEFAULT_STRENGTHS, Strengths, standardisation
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.evaluation.embedding_intervals import jackknife_error
from vlm_audio_pipeline.tasks.multi_label.classifiers.base import (
    CLIP_LABELS,
    MULTI_LABEL_CLASSIFIERS,
    label_predictions,
    require_both_truths,
    truth_matrix,
)
from vlm_audio_pipeline.tasks.multi_label.measures.decisions import best_threshold
from vlm_audio_pipeline.tasks.multi_label.measures.intervals import selections
from vlm_audio_pipeline.tasks.multi_label.measures.ranking import average_precision


@MULTI_LABEL_CLASSIFIERS.register("probe")
class SigmoidProbe(EncoderClassifier):
    """Independent logistic regression for each class on standardised vectors, fitted on the other folds."""

    setting: ClassVar[str] = "linear probe"
    c: float | None = Field(None, gt=0)
    """Inverse regularisation strength of all classes; by default chosen by cross-validation inside the training folds."""
    c_grid: Strengths = DEFAULT_STRENGTHS
    """Values from which `c` is chosen: the smallest whose mean average precision is within one standard error of the best."""

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Return two stages: fit the probe on the other folds, and apply it to this fold."""
        ignored_parameters = {"sample", "controls", "perturb", *(("c_grid",) if self.c else ())}
        fit_parameters = {k: v for k, v in self.fingerprint_fields().items() if k not in ignored_parameters}
        return [
            Stage(
                asset="probes",
                tables=("multi_label_probes",),
                version=1,
                parameters=fit_parameters,
                inputs=(Input("clips", folds="others"), Input("embeddings", self.encoder, folds="others")),
                run=self._fit,
                description=f"Logistic regressions on vectors of '{self.encoder}', one for each class, fitted on the other folds.",
                folds=self.folds,
            ),
            Stage(
                asset="predictions",
                tables=("multi_label_predictions",),
                version=1,
                parameters={
                    "sample": self.sample and self.sample.model_dump(mode="json"),
                    **self.sampled_folds(folds),
                    "controls": list(self.controls),
                    **self.perturbation_parameters(),
                    "encoder": self.encoder,
                },
                inputs=(
                    Input("clips"),
                    Input("embeddings", self.encoder),
                    Input("probes", name),
                    *self.controlled_inputs(name, encoders),
                ),
                run=partial(self._predict, folds=folds),
                description=f"Logistic regressions on vectors of '{self.encoder}'; scores are probabilities of each class.",
                folds=self.folds,
            ),
        ]

    def _fit(self, context: StageContext) -> dict[str, pa.Table]:
        clips = context.inputs["clips"]
        classes = tuple(sorted(context.classes))  # the order of the table's key
        x = align_vectors(clips, context.inputs[f"embeddings/{self.encoder}"], self.encoder).astype(np.float64)
        truth = truth_matrix(clips, context.inputs[CLIP_LABELS], classes)
        require_both_truths(truth, classes, context.name, context.fold)
        fold, source = clips["fold"].to_numpy(), np.array(clips["source"].to_pylist(), dtype=str)
        import scipy.optimize  # noqa: F401  # a library loaded later would not obey the limit
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):  # the matrices are small, so more threads only wait for each other
            grid = self.c_grid if self.c is None else (self.c,)
            scores = inner_scores(x, truth, fold, source, grid)
            chosen, inner_cmap = choose_c(truth, scores, source)
            mean, scale = standardisation(x)
            [(weights, intercepts)] = fit_classes((x - mean) / scale, truth, (grid[chosen],))
        k, d = weights.shape
        thresholds = [_threshold(truth[:, i], scores[chosen, :, i], label) for i, label in enumerate(classes)]
        constants = {"c": grid[chosen], "inner_cmap": inner_cmap, "training_clips": len(x)}
        return {
            "multi_label_probes": pa.table(
                {
                    "label": np.repeat(classes, d + 1),
                    "dimension": np.tile(np.arange(-1, d), k),
                    "coefficient": np.hstack([intercepts[:, None], weights]).ravel(),
                    "mean": np.tile(np.concatenate([[0.0], mean]), k),
                    "scale": np.tile(np.concatenate([[1.0], scale]), k),
                    "threshold": np.repeat(thresholds, d + 1),
                    "positives": np.repeat(truth.sum(axis=0), d + 1),
                    **{name: pa.array([value] * (k * (d + 1))) for name, value in constants.items()},
                }
            )
        }

    def _predict(self, context: StageContext, folds: tuple[int, ...]) -> dict[str, pa.Table]:
        probe = context.inputs[f"probes/{context.name}"]
        queries = self.queries(context.inputs["clips"], int(context.fold or 0), folds)
        truth = truth_matrix(queries, context.inputs[CLIP_LABELS], context.classes)
        constants: dict[str, Any] = {
            "kind": self.kind,
            "encoder": self.encoder,
            **model_columns(context.inputs[f"embeddings/{self.encoder}"]),
            "training_clips": probe["training_clips"][0].as_py(),
        }
        rows = []
        for control, x in self.query_vectors(context, queries):
            scores, thresholds = probabilities(probe, x, context.classes)
            rows.append(
                label_predictions(queries, truth, context.classes, scores, thresholds, control=control, **constants)
            )
        return {"multi_label_predictions": pa.concat_tables(rows)}


def fit_classes(
    z: np.ndarray, truth: np.ndarray, strengths: tuple[float, ...]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Fit an L2-regularised logistic regression for each class, for each regularisation strength.

    The vectors are decomposed once for all classes.

    Args:
        z: (clips, dimensions) float64, standardised.
        truth: (clips, classes) bool; every class has clips with it and without it.
        strengths: inverse regularisation strengths, ascending.

    Yields:
        weights (classes, dimensions) and intercepts (classes,), float64: logit = weights @ z + intercept.
    """
    basis = Basis.from_vectors(z)
    fits_of_classes = [list(fit_in_basis(basis, column.astype(int), strengths)) for column in truth.T]
    for i in range(len(strengths)):
        # Two classes, without and with, have rows -w/2 and w/2.
        yield (
            np.array([fits[i][0][1] - fits[i][0][0] for fits in fits_of_classes]),
            np.array([fits[i][1][1] - fits[i][1][0] for fits in fits_of_classes]),
        )


def inner_scores(
    x: np.ndarray, truth: np.ndarray, fold: np.ndarray, source: np.ndarray, grid: tuple[float, ...]
) -> np.ndarray:
    """Return the probabilities of the training clips by probes that were fitted without them, inside the training folds.

    With three or more training folds, each is the inner test fold once. Otherwise the source recordings are distributed over five
    splits. No source recording is on both sides of a split. Means and deviations are computed inside each split, too.

    Args:
        x: (clips, dimensions) float64.
        truth: (clips, classes) bool.
        fold: (clips,) int, folds of the dataset.
        source: (clips,) str, source recordings.
        grid: strengths, ascending.

    Returns:
        (strengths, clips, classes) float64; NaN where the other clips of a split have a class always or never.
    """
    scores = np.full((len(grid), *truth.shape), np.nan)
    for test in _inner_splits(fold, source):
        training = ~test & ~np.isin(source, source[test])
        share = truth[training].mean(axis=0) if training.any() else np.zeros(truth.shape[1])
        is_fitted = (share > 0) & (share < 1)
        if not test.any() or not is_fitted.any():
            continue
        mean, scale = standardisation(x[training])
        z = (x[test] - mean) / scale
        fits = fit_classes((x[training] - mean) / scale, truth[np.ix_(training, is_fitted)], grid)
        for i, (weights, intercepts) in enumerate(fits):
            scores[i][np.ix_(test, is_fitted)] = sigmoid(z @ weights.T + intercepts)
    return scores


def choose_c(truth: np.ndarray, scores: np.ndarray, source: np.ndarray) -> tuple[int, float]:
    """Choose the regularisation strength: the smallest whose cmAP is at most one standard error below the highest.

    cmAP is the mean over the classes of the average precision.

    The standard error is that of the highest cmAP by the jackknife over source recordings (the one-standard-error rule of the
    single-label probe).

    Args:
        truth: (clips, classes) bool.
        scores: (strengths, clips, classes) float64, NaN where there is none.
        source: (clips,) str, source recordings.

    Returns:
        The index of the strength, and its cmAP.

    Raises:
        VlmAudioError: if no class has scores.
    """
    kept = selections(source)
    precision = np.full((len(scores), truth.shape[1], kept.shape[1]), np.nan)
    for label in range(truth.shape[1]):
        rows = ~np.isnan(scores[0, :, label])
        if truth[rows, label].any():
            for i in range(len(scores)):
                precision[i, label] = average_precision(truth[rows, label], scores[i, rows, label], kept[rows])
    if np.isnan(precision[:, :, 0]).all():
        raise VlmAudioError(
            "the probe cannot be fitted if the training clips cannot be split by source recording, got "
            f"{len(np.unique(source))} source recordings; add recordings, or use fewer classes"
        )
    cmap = np.nanmean(precision, axis=1)
    best = int(cmap[:, 0].argmax())
    error = jackknife_error(cmap[best, 1:])
    minimum = cmap[best, 0] - (0.0 if np.isnan(error) else error)
    chosen = int(np.argmax(cmap[:, 0] >= minimum))
    return chosen, float(cmap[chosen, 0])


def _threshold(truth: np.ndarray, score: np.ndarray, label: str) -> float:
    rows = ~np.isnan(score)
    if not truth[rows].any():
        raise VlmAudioError(
            f"no threshold can be chosen for class '{label}': all its training clips are of one fold or one source recording, so "
            "none is left to test in the training folds; add recordings of it, or remove it from `classes`"
        )
    return best_threshold(truth[rows], score[rows])


def _inner_splits(fold: np.ndarray, source: np.ndarray) -> list[np.ndarray]:
    """Return the inner test clips of each split, (clips,) bool."""
    folds = np.unique(fold)
    if len(folds) >= 3:
        return [fold == f for f in folds]
    sources, index = np.unique(source, return_inverse=True)
    splits = min(5, len(sources))
    group = np.random.default_rng(0).permutation(len(sources)) % splits
    return [group[index] == number for number in range(splits)] if splits > 1 else []


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Turn logits into probabilities, without overflow."""
    exponential = np.exp(-np.abs(logits))
    probability: np.ndarray = np.where(logits >= 0, 1.0, exponential) / (1 + exponential)
    return probability


def probabilities(probe: pa.Table, x: np.ndarray, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Apply a `multi_label_probes` table: sigmoids of linear maps of the standardised vectors.

    Args:
        probe: rows of one classifier and fold.
        x: (clips, dimensions) float.
        classes: classes in the order of the columns.

    Returns:
        (clips, classes) float64 probabilities, and the (classes,) float64 thresholds.

    Raises:
        VlmAudioError: if the dimensions or the classes differ from those of the fit.
    """
    probe = probe.sort_by([("label", "ascending"), ("dimension", "ascending")])
    labels = probe["label"].unique().to_pylist()
    coefficient, mean, scale, threshold = (
        probe[name].to_numpy().reshape(len(labels), -1) for name in ("coefficient", "mean", "scale", "threshold")
    )
    if sorted(classes) != labels or (len(x) and x.shape[1] != coefficient.shape[1] - 1):
        raise VlmAudioError(
            f"vectors and classes must be those of the fit ({coefficient.shape[1] - 1} dimensions, "
            f"{labels}), got {x.shape[1]} and {list(classes)}; fit the probe again"
        )
    order = [labels.index(label) for label in classes]
    thresholds = threshold[order, 0]
    if not len(x):
        return np.zeros((0, len(classes))), thresholds
    logits = ((x - mean[0, 1:]) / scale[0, 1:]) @ coefficient[:, 1:].T + coefficient[:, 0]
    return sigmoid(logits[:, order]), thresholds
