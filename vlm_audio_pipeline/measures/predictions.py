"""Predictions as arrays, from which every measure is computed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.measures.uncertainty import Interval, share_interval

OUTCOMES = ("answered", "unparseable", "refused", "error")
"""What a prediction can end with; only "answered" has a label."""
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
        clip: (n,) str.
        source: (n,) str.
        fold: (n,) int.
        trial: (n,) int.
        confidence: (n,) float64, NaN where there is none.
        scores: (n, classes) float64, NaN in rows without scores.
        tokens: (n,) float64, NaN where unknown.
        seconds: (n,) float64, s, NaN where unknown.
        usd: (n,) float64, USD, NaN where unknown.
        classes: labels of the columns of `scores`.
        scaled: the same n predictions after temperature scaling; None where that was not computed.
        temperatures: fold -> temperature that `scaled` was computed with.
        other_scoring: predictions of the same model and control under its other scoring; None for none.
    """

    label: np.ndarray
    predicted: np.ndarray
    outcome: np.ndarray
    correct: np.ndarray
    clip: np.ndarray
    source: np.ndarray
    fold: np.ndarray
    trial: np.ndarray
    confidence: np.ndarray
    scores: np.ndarray
    tokens: np.ndarray
    seconds: np.ndarray
    usd: np.ndarray
    classes: tuple[str, ...]
    scaled: "PredictionArrays | None" = None
    temperatures: Mapping[int, float] = field(default_factory=dict)
    other_scoring: "PredictionArrays | None" = None

    @classmethod
    def of(cls, predictions: pa.Table, classes: tuple[str, ...]) -> "PredictionArrays":
        """Take the columns from `predictions` rows.

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
            fold=np.array(predictions["fold"].to_pylist(), int),
            trial=np.array(predictions["trial"].to_pylist(), int),
            scores=scores,
            classes=classes,
        )

    def where(self, mask: np.ndarray) -> "PredictionArrays":
        """Keep the rows of a (n,) bool mask, or of (m,) int indices; `other_scoring` stays whole."""
        arrays = {name: value[mask] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return replace(self, **arrays, scaled=None if self.scaled is None else self.scaled.where(mask))

    @property
    def answered(self) -> np.ndarray:
        """Rows with a predicted label, (n,) bool."""
        return self.predicted != ""

    @property
    def all_rows(self) -> np.ndarray:
        """All rows, (n,) bool."""
        return np.ones(len(self.label), bool)

    @property
    def label_index(self) -> np.ndarray:
        """Columns of the true classes in `scores`, (n,) int."""
        position = {label: i for i, label in enumerate(self.classes)}
        return np.array([position[label] for label in self.label], int)

    @cached_property
    def accuracy_interval(self) -> Interval | None:
        """The 95 % interval of the accuracy, clustered by source recording; None without predictions."""
        return share_interval(self.correct, self.source)


@dataclass(frozen=True)
class Number:
    """The value of a measure, or why it has none.

    Attributes:
        value: the number; None where undefined.
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
        reason: why the number is undefined where no row is included.
    """
    n = int(included.sum())
    return Number(float(hits[included].sum()) / n, included) if n else Number(None, included, reason)


def by_scoring_and_control(predictions: pa.Table) -> Iterator[tuple[str, str, pa.Table]]:
    """Yield (scoring, control, rows) for each combination that occurs, sorted."""
    pairs = set(zip(predictions["scoring"].to_pylist(), predictions["control"].to_pylist(), strict=True))
    for scoring, control in sorted(pairs):
        mask = pc.and_(pc.equal(predictions["scoring"], scoring), pc.equal(predictions["control"], control))
        yield scoring, control, predictions.filter(mask)


def subsets(predictions: PredictionArrays, tuning_folds: tuple[int, ...]) -> Iterator[tuple[str, PredictionArrays]]:
    """Yield the subsets of clips that measures are computed on: all, each fold, and all but the tuning folds if any."""
    yield ALL_CLIPS, predictions
    for fold in np.unique(predictions.fold):
        yield f"fold {fold}", predictions.where(predictions.fold == fold)
    if tuning_folds:
        yield WITHOUT_TUNING, predictions.where(~np.isin(predictions.fold, tuning_folds))


def refuse_unknown_labels(predictions: pa.Table, classes: tuple[str, ...]) -> None:
    """Refuse predictions that were made when the study had other classes.

    Raises:
        VlmAudioError: naming the labels.
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
