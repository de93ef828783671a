"""A linear probe: what a linear map can read out of an encoder's vectors.

What belongs here: learning the map from the other folds, and applying it. The map is a table of coefficients, so that
predictions are computed from the table alone, without scikit-learn and without unpickling anything.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, Field

from vlm_audio_pipeline.classifiers.base import (
    CLASSIFIERS,
    NO_ENCODERS,
    OnEncoder,
    aligned,
    model_of,
    scored_predictions,
    softmax,
)
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.encoders.base import EncoderSpec

_MAX_ITERATIONS = 5000


def _strictly_positive(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(v <= 0 for v in values):
        raise ValueError(f"c_grid must hold numbers above 0, got {list(values)}; drop the others")
    return tuple(sorted(set(values)))


@CLASSIFIERS.register("probe")
class Probe(OnEncoder):
    """Multinomial logistic regression on standardised vectors, learnt from the other folds."""

    c: float | None = Field(None, gt=0)
    """Inverse regularisation strength; by default chosen by cross-validation inside the training folds."""
    c_grid: Annotated[tuple[float, ...], Field(min_length=1), AfterValidator(_strictly_positive)] = (
        0.001,
        0.01,
        0.1,
        1.0,
        10.0,
        100.0,
    )
    """Strengths to choose from where `c` is not given; of equally good ones the smallest is taken."""

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Give the two stages: learn the map from the other folds, apply it to this one."""
        without_effect = {"sample", "controls", *(("c_grid",) if self.c else ())}
        learnt = {k: v for k, v in self.identity().items() if k not in without_effect}
        asked = {"asked": sorted(self.folds or folds)} if self.sample else {}
        controls = {"controls": list(self.controls)} if self.controls else {}
        return [
            Stage(
                asset="probes",
                tables=("probes",),
                version=1,
                parameters=learnt,
                inputs=(Input("clips", folds="others"), Input("embeddings", self.encoder, folds="others")),
                run=self._learn,
                description=f"Logistic regression on vectors of '{self.encoder}', learnt from the other folds.",
                folds=self.folds,
            ),
            Stage(
                asset="predictions",
                tables=("predictions",),
                version=1,
                parameters={
                    "sample": self.sample and self.sample.model_dump(mode="json"),
                    **asked,
                    **controls,
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

    def _learn(self, context: StageContext) -> dict[str, pa.Table]:
        clips = context.inputs["clips"]
        x = aligned(clips, context.inputs[f"embeddings/{self.encoder}"], self.encoder).astype(np.float64)
        labels = np.array(clips["label"].to_pylist(), dtype=object)
        there = set(labels)
        absent = [label for label in context.classes if label not in there]
        if len(context.classes) < 2:
            raise VlmAudioError(
                f"classifier '{context.name}' must tell at least 2 classes apart, got {list(context.classes)}; "
                "give the dataset more classes"
            )
        if absent:
            raise VlmAudioError(
                f"classifier '{context.name}' must have training clips of every class, got none of {absent} in the "
                f"folds other than {context.fold}; spread them over more folds or leave them out of `classes`"
            )
        y = np.searchsorted(np.sort(context.classes), labels.astype(str))  # classes in the order of the table's key
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):  # the matrices are small: more threads only wait for each other
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
            **model_of(context.inputs[f"embeddings/{self.encoder}"]),
            "training_clips": probe["training_clips"][0].as_py(),
        }
        made = [
            scored_predictions(
                queries, context.classes, probabilities(probe, x, context.classes), control=control, **constants
            )
            for control, x in self.queried(context, queries)
        ]
        return {"predictions": pa.concat_tables(made)}


def standardisation(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give mean and standard deviation of every dimension, as `sklearn.preprocessing.StandardScaler` learns them.

    Args:
        x: (clips, dimensions) float64.

    Returns:
        mean and scale, (dimensions,) float64; a dimension that does not vary has scale 1.
    """
    mean, scale = x.mean(axis=0), x.std(axis=0)
    # rounding leaves a constant dimension a deviation of a few ulps of its mean, which must not be blown up to 1
    constant = scale <= 10 * np.finfo(np.float64).eps * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
    return mean, np.where(constant, 1.0, scale)


def fit(z: np.ndarray, y: np.ndarray, cs: tuple[float, ...]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Learn L2-regularised multinomial logistic regressions, one for each strength.

    Minimises C * (sum of cross-entropies) + |W|^2 / 2 (Hastie, Tibshirani & Friedman, The Elements of Statistical
    Learning, 2nd edition, sections 4.4 and 18.4; scikit-learn's `LogisticRegression`). With more dimensions than clips
    the solution lies in the span of the clips, so it is found in that smaller space and turned back: the same map,
    hundreds of times faster for vectors of thousands of dimensions.

    Args:
        z: (clips, dimensions) float64, standardised.
        y: (clips,) int, class indices; at least two of them.
        cs: inverse regularisation strengths, ascending; each starts from the solution before.

    Yields:
        weights (classes, dimensions) and intercepts (classes,), float64, rows in the order of the sorted indices in y.
    """
    from sklearn.linear_model import LogisticRegression

    basis = np.linalg.qr(z.T)[0] if z.shape[1] > z.shape[0] else None  # (dimensions, clips), orthonormal columns
    inside = z if basis is None else z @ basis
    model = LogisticRegression(C=1.0, max_iter=_MAX_ITERATIONS, warm_start=True)
    for c in cs:
        model.set_params(C=c).fit(inside, y)
        weights, intercepts = model.coef_, model.intercept_
        if len(weights) == 1:  # two classes: sigmoid(a) = softmax(-a/2, a/2)
            weights, intercepts = np.vstack([-weights, weights]) / 2, np.concatenate([-intercepts, intercepts]) / 2
        yield (weights if basis is None else weights @ basis.T), intercepts.copy()


def choose_c(
    x: np.ndarray, y: np.ndarray, fold: np.ndarray, source: np.ndarray, grid: tuple[float, ...]
) -> tuple[float, float]:
    """Choose the regularisation strength by cross-validation inside the training folds.

    One official fold is left out at a time where there are three or more; otherwise the clips are split into groups of
    whole sources, stratified by class. Means and deviations are learnt inside too (Cawley & Talbot, JMLR 11, 2010).

    Args:
        x: (clips, dimensions) float64.
        y: (clips,) int.
        fold: (clips,) int, official folds.
        source: (clips,) str, recordings the clips were cut from.
        grid: strengths, ascending.

    Returns:
        the strength with the highest accuracy over all inner test clips (the smallest of equally good ones), and that
        accuracy.

    Raises:
        VlmAudioError: where the training clips cannot be split so that two classes remain on the learning side.
    """
    right = np.zeros(len(grid), int)
    tested = 0
    for test in _inner_splits(y, fold, source):
        known = np.unique(y[~test])
        if not test.any() or len(known) < 2:
            continue
        mean, scale = standardisation(x[~test])
        z = (x[test] - mean) / scale
        tested += len(z)
        for i, (weights, intercepts) in enumerate(fit((x[~test] - mean) / scale, y[~test], grid)):
            right[i] += np.sum(known[(z @ weights.T + intercepts).argmax(axis=1)] == y[test])
    if not tested:
        raise VlmAudioError(
            "c must be given where the training clips cannot be split into two or more groups of whole sources, got "
            f"{len(np.unique(source))} sources in {len(np.unique(fold))} training folds; set `c: 0.1` for this probe"
        )
    best = int(right.argmax())  # the first of equal ones, and the grid ascends
    return grid[best], right[best] / tested


def _inner_splits(y: np.ndarray, fold: np.ndarray, source: np.ndarray) -> list[np.ndarray]:
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
        classes: the order of the columns.

    Returns:
        (clips, classes) float64, rows summing to 1.

    Raises:
        VlmAudioError: when the vectors' length or the classes are not those the probe was learnt with.
    """
    probe = probe.sort_by([("label", "ascending"), ("dimension", "ascending")])
    labels = probe["label"].unique().to_pylist()
    coefficient, mean, scale = (
        probe[name].to_numpy().reshape(len(labels), -1) for name in ("coefficient", "mean", "scale")
    )
    if sorted(classes) != sorted(labels) or (len(x) and x.shape[1] != coefficient.shape[1] - 1):
        raise VlmAudioError(
            f"vectors and classes must be those the probe was learnt with ({coefficient.shape[1] - 1} dimensions, "
            f"{labels}), got {x.shape[1]} and {list(classes)}; learn the probe again"
        )
    if not len(x):
        return np.zeros((0, len(classes)))
    logits = ((x - mean[0, 1:]) / scale[0, 1:]) @ coefficient[:, 1:].T + coefficient[:, 0]
    return softmax(logits)[:, [labels.index(label) for label in classes]]
