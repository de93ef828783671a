"""Predictions as arrays: what every metric is computed from.

What belongs here: taking `predictions` rows apart, and which of them a number is over. What does not: any metric.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.contracts.errors import VlmAudioError

WITHOUT_TUNING = "without tuning folds"


@dataclass(frozen=True)
class Rows:
    """Predictions of one (scoring, control), as arrays of one length n.

    Attributes:
        label: (n,) str, true classes.
        predicted: (n,) str, predicted classes; "" where nothing was answered.
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

    @classmethod
    def of(cls, predictions: pa.Table, classes: tuple[str, ...]) -> "Rows":
        """Take the columns needed from `predictions` rows.

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
                scores[:, i] = _numbers(pc.map_lookup(maps, name, "first"))
        texts = {name: _texts(predictions[name]) for name in ("label", "outcome", "clip", "source")}
        numbers = {name: _numbers(predictions[name]) for name in ("confidence", "tokens", "seconds", "usd")}
        return cls(
            **texts,
            **numbers,
            predicted=_texts(pc.if_else(answered, pc.fill_null(predictions["predicted"], ""), "")),
            correct=np.array(predictions["correct"].to_pylist(), bool),
            fold=np.array(predictions["fold"].to_pylist(), int),
            trial=np.array(predictions["trial"].to_pylist(), int),
            scores=scores,
            classes=classes,
        )

    def where(self, mask: np.ndarray) -> "Rows":
        """Keep the rows of a (n,) bool mask, or of (m,) int indices."""
        columns = (field.name for field in fields(self) if field.name != "classes")
        return replace(self, **{name: getattr(self, name)[mask] for name in columns})

    @property
    def answered(self) -> np.ndarray:
        """Rows with an answer, (n,) bool."""
        return self.predicted != ""

    @property
    def everything(self) -> np.ndarray:
        """All rows, (n,) bool."""
        return np.ones(len(self.label), bool)

    @property
    def label_index(self) -> np.ndarray:
        """Columns of the true classes in `scores`, (n,) int."""
        position = {label: i for i, label in enumerate(self.classes)}
        return np.array([position[label] for label in self.label], int)


@dataclass(frozen=True)
class Number:
    """A metric's value, or why it has none, and the rows it is over.

    Attributes:
        value: the number; None where undefined.
        over: (n,) bool, the rows in its denominator.
        reason: why `value` is None.
    """

    value: float | None
    over: np.ndarray
    reason: str | None = None


def share(hits: np.ndarray, over: np.ndarray, reason: str) -> Number:
    """Give the mean of `hits` over some rows, or the reason where there are none.

    Args:
        hits: (n,) bool or float.
        over: (n,) bool.
        reason: why the number is undefined where `over` is empty.
    """
    n = int(over.sum())
    return Number(float(hits[over].sum()) / n, over) if n else Number(None, over, reason)


def groups(predictions: pa.Table) -> Iterator[tuple[str, str, pa.Table]]:
    """Give (scoring, control, rows) of every way in which a classifier was run, sorted."""
    pairs = set(zip(predictions["scoring"].to_pylist(), predictions["control"].to_pylist(), strict=True))
    for scoring, control in sorted(pairs):
        mask = pc.and_(pc.equal(predictions["scoring"], scoring), pc.equal(predictions["control"], control))
        yield scoring, control, predictions.filter(mask)


def subsets(rows: Rows, tuning_folds: tuple[int, ...]) -> Iterator[tuple[str, Rows]]:
    """Give the clips numbers are over: all, each fold, and, where choices were tuned on some, all other folds."""
    yield "all", rows
    for fold in np.unique(rows.fold):
        yield f"fold {fold}", rows.where(rows.fold == fold)
    if tuning_folds:
        yield WITHOUT_TUNING, rows.where(~np.isin(rows.fold, tuning_folds))


def refuse_unknown_labels(predictions: pa.Table, classes: tuple[str, ...]) -> None:
    """Refuse predictions made when the study had other classes.

    Raises:
        VlmAudioError: naming the labels.
    """
    answers = predictions.filter(pc.equal(predictions["outcome"], "answered"))["predicted"]
    unknown = sorted({*predictions["label"].to_pylist(), *answers.to_pylist()} - set(classes))
    if unknown:
        raise VlmAudioError(
            f"labels of predictions must be classes of the study ({', '.join(classes)}), got {', '.join(unknown)}; "
            "run the study again"
        )


def _texts(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist(), dtype=str)


def _numbers(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    return np.array(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), float)
