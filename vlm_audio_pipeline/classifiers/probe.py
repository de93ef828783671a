"""A linear probe: multinomial logistic regression on the vectors of an encoder.

The fitted probe is a table of coefficients. Predictions are computed from that table alone, without scikit-learn and
without pickle files.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, Field

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, NO_ENCODERS, EncoderClassifier
from vlm_audio_pipeline.classifiers.logistic_regression import fit
from vlm_audio_pipeline.classifiers.prediction_rows import align_vectors, model_columns, scored_predictions, softmax
from vlm_audio_pipeline.classifiers.shown_labels import add_shown_labels
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.measures.uncertainty import sum_by_source


def _check_positive(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(v <= 0 for v in values):
        raise ValueError(f"c_grid must contain only numbers above 0, got {list(values)}; remove the others")
    return tuple(sorted(set(values)))


Strengths = Annotated[tuple[float, ...], Field(min_length=1), AfterValidator(_check_positive)]
"""Inverse regularisation strengths from which a probe chooses, ascending."""
DEFAULT_STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)


@CLASSIFIERS.register("probe")
class Probe(EncoderClassifier):
    """Multinomial logistic regression on standardised vectors, fitted on the other folds."""

    setting: ClassVar[str] = "linear probe"
    c: float | None = Field(None, gt=0)
    """Inverse regularisation strength; by default chosen by cross-validation inside the training folds."""
    c_grid: Strengths = DEFAULT_STRENGTHS
    """Values from which `c` is chosen if it is not set: the smallest whose accuracy is within one standard error of the best."""

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Return two stages: fit the probe on the other folds, and apply it to this fold."""
        ignored_parameters = {"sample", "controls", "perturb", *(("c_grid",) if self.c else ())}
        fit_parameters = {k: v for k, v in self.fingerprint_fields().items() if k not in ignored_parameters}
        controls = {"controls": list(self.controls)} if self.controls else {}
        return [
            Stage(
                asset="probes",
                tables=("probes",),
                version=2,
                parameters=fit_parameters,
                inputs=(Input("clips", folds="others"), Input("embeddings", self.encoder, folds="others")),
                run=self._fit,
                description=f"Logistic regression on vectors of '{self.encoder}', fitted on the other folds.",
                folds=self.folds,
            ),
            Stage(
                asset="predictions",
                tables=("predictions",),
                version=3,
                parameters={
                    "sample": self.sample and self.sample.model_dump(mode="json"),
                    **self.sampled_folds(folds),
                    **controls,
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
                description=f"Logistic regression on vectors of '{self.encoder}'; scores are probabilities.",
                folds=self.folds,
            ),
        ]

    def _fit(self, context: StageContext) -> dict[str, pa.Table]:
        clips = context.inputs["clips"]
        x = align_vectors(clips, context.inputs[f"embeddings/{self.encoder}"], self.encoder).astype(np.float64)
        labels = np.array(clips["label"].to_pylist(), dtype=object)
        missing = [label for label in context.classes if label not in set(labels)]
        if len(context.classes) < 2:
            raise VlmAudioError(
                f"classifier '{context.name}' needs at least 2 classes, got {list(context.classes)}; "
                "give the dataset more classes"
            )
        if missing:
            raise VlmAudioError(
                f"classifier '{context.name}' needs training clips of every class, got none of {missing} in the "
                f"folds other than {context.fold}; distribute these classes over more folds, or remove them from `classes`"
            )
        y = np.searchsorted(np.sort(context.classes), labels.astype(str))  # classes in the order of the table's key
        import scipy.optimize  # noqa: F401  # a library loaded later would not obey the limit
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):  # the matrices are small, so more threads only wait for each other
            if self.c is None:
                fold, source = clips["fold"].to_numpy(), np.array(clips["source"].to_pylist(), dtype=str)
                c, inner_accuracy = choose_c(x, y, fold, source, self.c_grid)
            else:
                c, inner_accuracy = self.c, None
            mean, scale = standardisation(x)
            [(weights, intercepts)] = fit((x - mean) / scale, y, (c,))
        k, d = weights.shape
        return {
            "probes": pa.table(
                {
                    "label": np.repeat(np.sort(context.classes), d + 1),
                    "dimension": np.tile(np.arange(-1, d), k),
                    "coefficient": np.hstack([intercepts[:, None], weights]).ravel(),
                    "mean": np.tile(np.concatenate([[0.0], mean]), k),
                    "scale": np.tile(np.concatenate([[1.0], scale]), k),
                    "c": pa.repeat(pa.scalar(c, pa.float64()), k * (d + 1)),
                    "inner_accuracy": pa.repeat(pa.scalar(inner_accuracy, pa.float64()), k * (d + 1)),
                    "training_clips": pa.repeat(len(x), k * (d + 1)),
                }
            )
        }

    def _predict(self, context: StageContext, folds: tuple[int, ...]) -> dict[str, pa.Table]:
        probe = context.inputs[f"probes/{context.name}"]
        queries = self.queries(context.inputs["clips"], int(context.fold or 0), folds)
        constants: dict[str, Any] = {
            "kind": self.kind,
            "encoder": self.encoder,
            **model_columns(context.inputs[f"embeddings/{self.encoder}"]),
            "training_clips": probe["training_clips"][0].as_py(),
        }
        predictions = [
            scored_predictions(
                queries, context.classes, probabilities(probe, x, context.classes), control=control, **constants
            )
            for control, x in self.query_vectors(context, queries)
        ]
        return {"predictions": add_shown_labels(pa.concat_tables(predictions), context.inputs["clips"])}


def standardisation(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of every dimension, as `sklearn.preprocessing.StandardScaler` does.

    Args:
        x: (clips, dimensions) float64.

    Returns:
        mean and scale, (dimensions,) float64; a dimension that does not vary has scale 1.
    """
    mean, scale = x.mean(axis=0), x.std(axis=0)
    # Rounding errors give a constant dimension a deviation of a few ulps of its mean; do not scale that up to 1.
    is_constant = scale <= 10 * np.finfo(np.float64).eps * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
    return mean, np.where(is_constant, 1.0, scale)


def choose_c(
    x: np.ndarray, y: np.ndarray, fold: np.ndarray, source: np.ndarray, grid: tuple[float, ...]
) -> tuple[float, float]:
    """Choose the regularisation strength by cross-validation inside the training folds.

    With three or more training folds, each is the inner test fold once. Otherwise the clips are split by source recording,
    stratified by class. No source recording is on both sides of a split. Means and deviations are computed inside each split too (Cawley & Talbot, JMLR 11, 2010).

    Args:
        x: (clips, dimensions) float64.
        y: (clips,) int.
        fold: (clips,) int, folds of the dataset.
        source: (clips,) str, source recordings.
        grid: strengths, ascending.

    Returns:
        The smallest strength whose accuracy over all inner test clips is at most one standard error below the highest, and
        that strength's accuracy. The standard error is that of the highest accuracy, clustered by source recording
        (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3: the one-standard-error rule; Hastie,
        Tibshirani & Friedman, section 7.10).

    Raises:
        VlmAudioError: if no split leaves two classes for training.
    """
    correct, is_tested = np.zeros((len(y), len(grid)), bool), np.zeros(len(y), bool)
    for test in _inner_splits(y, fold, source):
        training = ~test & ~np.isin(source, source[test])
        labels = np.unique(y[training])
        if not test.any() or len(labels) < 2:
            continue
        mean, scale = standardisation(x[training])
        z = (x[test] - mean) / scale
        is_tested |= test
        for i, (weights, intercepts) in enumerate(fit((x[training] - mean) / scale, y[training], grid)):
            correct[test, i] = labels[(z @ weights.T + intercepts).argmax(axis=1)] == y[test]
    if not is_tested.any():
        raise VlmAudioError(
            "c must be set if the training clips cannot be split by source recording, got "
            f"{len(np.unique(source))} source recordings in {len(np.unique(fold))} training folds; set `c: 0.1` for this probe"
        )
    accuracies = correct[is_tested].mean(axis=0)
    best = int(accuracies.argmax())
    minimum = accuracies[best] - standard_error(correct[is_tested, best], source[is_tested])
    chosen = int(np.argmax(accuracies >= minimum))  # the first, which is the smallest strength
    return grid[chosen], float(accuracies[chosen])


def standard_error(correct: np.ndarray, source: np.ndarray) -> float:
    """Return the standard error of an accuracy, clustered by source recording.

    sqrt(G / (G - 1) * sum over source recordings of (sum of (correct - accuracy))^2) / n, for G source recordings and n clips (Miller, Adding Error
    Bars to Evals, arXiv 2411.00640, equation 4, with the factor for few clusters).

    Args:
        correct: (clips,) bool.
        source: (clips,) str.

    Returns:
        The standard error; 0 for one source recording, for which it is undefined, so that only equal accuracies are as good.
    """
    sums, counts = sum_by_source(correct, source)
    g = len(sums)
    if g < 2:
        return 0.0
    return float(np.sqrt(g / (g - 1) * np.square(sums - counts * correct.mean()).sum()) / len(correct))


def _inner_splits(y: np.ndarray, fold: np.ndarray, source: np.ndarray) -> list[np.ndarray]:
    """Return the inner test clips of each split, (clips,) bool."""
    folds = np.unique(fold)
    if len(folds) >= 3:
        return [fold == f for f in folds]
    from sklearn.model_selection import StratifiedGroupKFold

    splits = min(5, *(len(np.unique(source[y == label])) for label in np.unique(y)))
    if splits < 2:
        return []
    inner = StratifiedGroupKFold(splits).split(y, y, source)
    return [np.isin(np.arange(len(y)), test) for _, test in inner]


def probabilities(probe: pa.Table, x: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Apply a `probes` table: softmax of a linear map of the standardised vectors.

    Args:
        probe: `probes` rows of one classifier and fold.
        x: (clips, dimensions) float.
        classes: classes in the order of the columns.

    Returns:
        (clips, classes) float64, rows summing to 1.

    Raises:
        VlmAudioError: if the dimensions or the classes differ from those of the fit.
    """
    probe = probe.sort_by([("label", "ascending"), ("dimension", "ascending")])
    labels = probe["label"].unique().to_pylist()
    coefficient, mean, scale = (
        probe[name].to_numpy().reshape(len(labels), -1) for name in ("coefficient", "mean", "scale")
    )
    if sorted(classes) != sorted(labels) or (len(x) and x.shape[1] != coefficient.shape[1] - 1):
        raise VlmAudioError(
            f"vectors and classes must be those of the fit ({coefficient.shape[1] - 1} dimensions, "
            f"{labels}), got {x.shape[1]} and {list(classes)}; fit the probe again"
        )
    if not len(x):
        return np.zeros((0, len(classes)))
    logits = ((x - mean[0, 1:]) / scale[0, 1:]) @ coefficient[:, 1:].T + coefficient[:, 0]
    return softmax(logits)[:, [labels.index(label) for label in classes]]
