"""Predictions as arrays, from which every measure is computed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.measures.uncertainty import Interval, share_interval

OUTCOMES = ("answered", "unparseable", "truncated", "refused", "error")
"""Every possible outcome of a prediction; only "answered" has a label."""
ALL_CLIPS = "all"
WITHOUT_TUNING = "without tuning folds"


@dataclass(frozen=True)
class PredictionArrays:
    """Predictions of one (scoring, control), as arrays of one length n.

    Attributes:
        label: (n,) str, true classes.
        predicted: (n,) str, predicted classes; "" where the outcome is not "answered".
        outcome: (n,) str.
        correct: (n,) bool, predicted = label.
        shown_label: (n,) str, class that a changed input shows; "" where it shows the clip's own class or none.
        label_before_calibration: (n,) str, class without contextual calibration; "" in rows without it.
        clip: (n,) str.
        source: (n,) str.
        fold: (n,) int.
        trial: (n,) int.
        draw: (n,) int, draw of examples; -1 without examples.
        confidence: (n,) float64, NaN in rows without confidence.
        scores: (n, classes) float64, NaN in rows without scores.
        tokens: (n,) float64, NaN if not recorded.
        seconds: (n,) float64, s, NaN if not recorded.
        usd: (n,) float64, USD, NaN if not recorded.
        classes: labels of the columns of `scores`.
        scaled: the same n predictions after temperature scaling; None if they were not computed.
        temperatures: fold -> temperature used for `scaled`.
        selection: strategy that selected the examples; None without examples.
        other_scoring: predictions of the same model and control under its other scoring, or None.
    """

    label: np.ndarray
    predicted: np.ndarray
    outcome: np.ndarray
    correct: np.ndarray
    shown_label: np.ndarray
    label_before_calibration: np.ndarray
    clip: np.ndarray
    source: np.ndarray
    fold: np.ndarray
    trial: np.ndarray
    draw: np.ndarray
    confidence: np.ndarray
    scores: np.ndarray
    tokens: np.ndarray
    seconds: np.ndarray
    usd: np.ndarray
    classes: tuple[str, ...]
    selection: str | None = None
    scaled: "PredictionArrays | None" = None
    temperatures: Mapping[int, float] = field(default_factory=dict)
    other_scoring: "PredictionArrays | None" = None

    @classmethod
    def from_table(cls, predictions: pa.Table, classes: tuple[str, ...]) -> "PredictionArrays":
        """Convert `predictions` rows to arrays.

        Raises:
            VlmAudioError: for labels outside `classes`.
        """
        refuse_unknown_labels(predictions, classes)
        n = predictions.num_rows
        answered = pc.equal(predictions["outcome"], "answered")
        scores = np.full((n, len(classes)), np.nan)
        if predictions["scores"].null_count < n:
            maps = predictions["scores"].combine_chunks()
            for i, name in enumerate(classes):
                scores[:, i] = _float_array(pc.map_lookup(maps, name, "first"))
        return cls(
            label=_text_array(predictions["label"]),
            outcome=_text_array(predictions["outcome"]),
            clip=_text_array(predictions["clip"]),
            source=_text_array(predictions["source"]),
            confidence=_float_array(predictions["confidence"]),
            tokens=_float_array(predictions["tokens"]),
            seconds=_float_array(predictions["seconds"]),
            usd=_float_array(predictions["usd"]),
            predicted=_text_array(pc.if_else(answered, pc.fill_null(predictions["predicted"], ""), "")),
            correct=np.array(predictions["correct"].to_pylist(), bool),
            shown_label=_text_array(pc.fill_null(predictions["shown_label"], "")),
            label_before_calibration=_text_array(pc.fill_null(predictions["label_before_calibration"], "")),
            fold=np.array(predictions["fold"].to_pylist(), int),
            trial=np.array(predictions["trial"].to_pylist(), int),
            draw=np.array(pc.fill_null(predictions["draw"], -1).to_pylist(), int),
            scores=scores,
            classes=classes,
            selection=selection_strategy(predictions),
        )

    def select(self, mask: np.ndarray) -> "PredictionArrays":
        """Select rows by a (n,) bool mask or (m,) int indices; `other_scoring` keeps all its rows."""
        arrays = {name: value[mask] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, **arrays, scaled=None if self.scaled is None else self.scaled.select(mask))

    @property
    def answered(self) -> np.ndarray:
        """Rows with a predicted label, (n,) bool."""
        answered: np.ndarray = self.predicted != ""
        return answered

    @property
    def all_rows(self) -> np.ndarray:
        """All rows, (n,) bool."""
        return np.ones(len(self.label), bool)

    @cached_property
    def without_errors(self) -> "PredictionArrays":
        """The rows whose request did not fail: a failure is not a wrong answer of the model."""
        failed = self.outcome == "error"
        return self.select(~failed) if failed.any() else self

    @property
    def label_index(self) -> np.ndarray:
        """Columns of the true classes in `scores`, (n,) int."""
        position = {label: i for i, label in enumerate(self.classes)}
        return np.array([position[label] for label in self.label], int)

    @cached_property
    def accuracy_interval(self) -> Interval | None:
        """The 95 % interval of the accuracy, clustered by source recording; None without predictions."""
        return share_interval(self.correct, self.source, self.draw, self.selection)


@dataclass(frozen=True)
class Number:
    """The value of a measure, or the reason why it is undefined.

    Attributes:
        value: the number; None if undefined.
        included: (n,) bool, the rows in its denominator.
        reason: why `value` is None.
    """

    value: float | None
    included: np.ndarray
    reason: str | None = None


def share(hits: np.ndarray, included: np.ndarray, reason: str) -> Number:
    """Return the mean of `hits` over the included rows.

    Args:
        hits: (n,) bool or float.
        included: (n,) bool.
        reason: the reason to return if no row is included.
    """
    n = int(included.sum())
    return Number(float(hits[included].sum()) / n, included) if n else Number(None, included, reason)


def selection_strategy(predictions: pa.Table) -> str | None:
    """Return the strategy that selected the examples of `predictions` rows of one classifier; None without examples."""
    return next((name for name in predictions["selection"].unique().to_pylist() if name is not None), None)


def accuracy_interval(predictions: pa.Table) -> Interval | None:
    """Compute the interval of the accuracy of `predictions` rows of one (scoring, control); None without rows.

    Args:
        predictions: rows without failed requests.
    """
    return share_interval(
        np.array(predictions["correct"].to_pylist(), bool),
        _text_array(predictions["source"]),
        np.array(pc.fill_null(predictions["draw"], -1).to_pylist(), int),
        selection_strategy(predictions),
    )


def split_by_scoring_and_control(predictions: pa.Table) -> Iterator[tuple[str, str, pa.Table]]:
    """Yield (scoring, control, rows) for each combination that occurs, sorted."""
    pairs = set(zip(predictions["scoring"].to_pylist(), predictions["control"].to_pylist(), strict=True))
    for scoring, control in sorted(pairs):
        mask = pc.and_(pc.equal(predictions["scoring"], scoring), pc.equal(predictions["control"], control))
        yield scoring, control, predictions.filter(mask)


def subsets(predictions: PredictionArrays, tuning_folds: tuple[int, ...]) -> Iterator[tuple[str, PredictionArrays]]:
    """Yield the subsets of clips that measures are computed on: all clips, each fold, and all clips outside tuning folds.

    The last subset is yielded only when there are tuning folds.
    """
    yield ALL_CLIPS, predictions
    for fold in np.unique(predictions.fold):
        yield f"fold {fold}", predictions.select(predictions.fold == fold)
    if tuning_folds:
        yield WITHOUT_TUNING, predictions.select(~np.isin(predictions.fold, tuning_folds))


def refuse_unknown_labels(predictions: pa.Table, classes: tuple[str, ...]) -> None:
    """Refuse predictions that were computed when the study had other classes.

    Raises:
        VlmAudioError: with the names of the labels.
    """
    predicted = predictions.filter(pc.equal(predictions["outcome"], "answered"))["predicted"]
    unknown = sorted({*predictions["label"].to_pylist(), *predicted.to_pylist()} - set(classes))
    if unknown:
        raise VlmAudioError(
            f"labels of predictions must be classes of the study ({', '.join(classes)}), got {', '.join(unknown)}; "
            "run the study again"
        )


def _text_array(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist(), dtype=str)


def _float_array(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    return np.array(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), float)
