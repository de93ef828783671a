"""Predictions -> numbers, one small function a metric, each with its formula.

What belongs here: counts and ratios over `predictions` rows. What does not: uncertainty of these numbers, and pictures
of them. Every prediction asked for is in the denominator unless the metric's name says otherwise: one that was not
answered counts as wrong. Human judgements are pooled: each is one prediction. What is undefined is null with a reason.

The formulas of precision, recall and F1 are those of van Rijsbergen, Information Retrieval (1979), chapter 7, and of
scikit-learn's `precision_recall_fscore_support`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.schemas import TABLES

WITHOUT_TUNING = "without tuning folds"


@dataclass(frozen=True)
class Rows:
    """Predictions of one (scoring, control), as arrays of one length n.

    Attributes:
        label: (n,) str, true classes.
        predicted: (n,) str, predicted classes; "" where nothing was answered.
        correct: (n,) bool, predicted = label.
        clip: (n,) str.
        fold: (n,) int.
        scores: (n, classes) float64, NaN in rows without scores.
        classes: labels of the columns of `scores`.
    """

    label: np.ndarray
    predicted: np.ndarray
    correct: np.ndarray
    clip: np.ndarray
    fold: np.ndarray
    scores: np.ndarray
    classes: tuple[str, ...]

    @classmethod
    def of(cls, predictions: pa.Table, classes: tuple[str, ...]) -> "Rows":
        """Take the columns needed from `predictions` rows.

        Raises:
            VlmAudioError: for labels outside `classes`.
        """
        _refuse_unknown_labels(predictions, classes)
        n = predictions.num_rows
        answered = pc.equal(predictions["outcome"], "answered")
        scores = np.full((n, len(classes)), np.nan)
        if predictions["scores"].null_count < n:
            maps = predictions["scores"].combine_chunks()
            for i, name in enumerate(classes):
                scores[:, i] = pc.map_lookup(maps, name, "first").to_numpy(zero_copy_only=False)
        return cls(
            label=_texts(predictions["label"]),
            predicted=_texts(pc.if_else(answered, pc.fill_null(predictions["predicted"], ""), "")),
            correct=np.array(predictions["correct"].to_pylist(), bool),
            clip=_texts(predictions["clip"]),
            fold=np.array(predictions["fold"].to_pylist(), int),
            scores=scores,
            classes=classes,
        )

    def where(self, mask: np.ndarray) -> "Rows":
        """Keep the rows of a (n,) bool mask."""
        columns = ("label", "predicted", "correct", "clip", "fold", "scores")
        return replace(self, **{name: getattr(self, name)[mask] for name in columns})

    @property
    def answered(self) -> np.ndarray:
        """Rows with an answer, (n,) bool."""
        return self.predicted != ""


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


def _refuse_unknown_labels(predictions: pa.Table, classes: tuple[str, ...]) -> None:
    """Refuse predictions made when the study had other classes."""
    answers = predictions.filter(pc.equal(predictions["outcome"], "answered"))["predicted"]
    unknown = sorted({*predictions["label"].to_pylist(), *answers.to_pylist()} - set(classes))
    if unknown:
        raise VlmAudioError(
            f"labels of predictions must be classes of the study ({', '.join(classes)}), got {', '.join(unknown)}; "
            "run the study again"
        )


def _texts(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist(), dtype=str)


def _all(rows: Rows) -> np.ndarray:
    return np.ones(len(rows.label), bool)


def _share(hits: np.ndarray, over: np.ndarray, reason: str) -> Number:
    n = int(over.sum())
    return Number(float(hits[over].sum()) / n, over) if n else Number(None, over, reason)


def accuracy(rows: Rows) -> Number:
    """Correct / predictions; unparseable, refused and failed ones are in the denominator."""
    return _share(rows.correct, _all(rows), "no predictions")


def accuracy_answered(rows: Rows) -> Number:
    """Correct / answered."""
    return _share(rows.correct, rows.answered, "nothing was answered")


def answered_share(rows: Rows) -> Number:
    """Answered / predictions."""
    return _share(rows.answered, _all(rows), "no predictions")


def precision(rows: Rows, label: str) -> Number:
    """Of what was called `label`, the share that is: TP / (TP + FP)."""
    return _share(rows.correct, rows.predicted == label, "never predicted")


def recall(rows: Rows, label: str) -> Number:
    """Of what is `label`, the share that was called so: TP / (TP + FN); unanswered ones are FN."""
    return _share(rows.correct, rows.label == label, "no clips of this class")


def f1(rows: Rows, label: str) -> Number:
    """Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN); 0 for a class never predicted."""
    is_label, called = rows.label == label, rows.predicted == label
    both = int(is_label.sum() + called.sum())
    over = is_label | called
    if not both:
        return Number(None, over, "no clips of this class, and never predicted")
    return Number(2 * int((is_label & called).sum()) / both, over)


def _mean_over_classes(rows: Rows, metric: Callable[[Rows, str], Number]) -> Number:
    values = [metric(rows, label).value for label in np.unique(rows.label)]
    numbers = [v for v in values if v is not None]
    return Number(float(np.mean(numbers)), _all(rows)) if numbers else Number(None, _all(rows), "no predictions")


def macro_f1(rows: Rows) -> Number:
    """Mean of F1 over the classes that occur; scikit-learn's `f1_score(labels=<those>, average="macro")`."""
    return _mean_over_classes(rows, f1)


def balanced_accuracy(rows: Rows) -> Number:
    """Mean of recall over the classes that occur (Brodersen et al., ICPR 2010; scikit-learn's of the same name)."""
    return _mean_over_classes(rows, recall)


def top3(rows: Rows) -> Number:
    """Share of predictions whose true class has one of the three highest scores.

    `sklearn.metrics.top_k_accuracy_score`, except for ties across the third place, where each of the tied classes has
    the same chance of being among the three (k-NN gives most classes 0: the order of the classes must not decide).
    Predictions without scores are misses; where none has scores, or there are three classes or fewer, it is undefined.
    """
    scored = ~np.isnan(rows.scores).any(axis=1)
    if len(rows.classes) <= 3:
        return Number(None, _all(rows), "three classes or fewer")
    if not scored.any():
        return Number(None, _all(rows), "no scores" if len(rows.label) else "no predictions")
    position = {label: i for i, label in enumerate(rows.classes)}
    scores = np.where(scored[:, None], rows.scores, 0.0)
    own = scores[np.arange(len(scores)), [position[label] for label in rows.label]][:, None]
    above, equal = (scores > own).sum(axis=1), (scores == own).sum(axis=1)
    return _share(np.clip((3 - above) / equal, 0, 1) * scored, _all(rows), "no predictions")


METRICS: dict[str, Callable[[Rows], Number]] = {
    "accuracy": accuracy,
    "accuracy_answered": accuracy_answered,
    "answered_share": answered_share,
    "macro_f1": macro_f1,
    "balanced_accuracy": balanced_accuracy,
    "top3": top3,
}
CLASS_METRICS: dict[str, Callable[[Rows, str], Number]] = {"precision": precision, "recall": recall, "f1": f1}


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


def metrics_table(predictions: pa.Table, classes: tuple[str, ...], tuning_folds: tuple[int, ...]) -> pa.Table:
    """Compute every metric of a classifier, for every scoring, control and subset.

    Args:
        predictions: `predictions` rows of one classifier, of any folds.
        classes: every label of the study.
        tuning_folds: folds that choices were tuned on; empty for none.

    Returns:
        `metrics` rows without `study` and `classifier`.

    Raises:
        VlmAudioError: for predictions with labels outside `classes`.
    """
    lines: list[dict[str, str | int | float | None]] = []
    for scoring, control, here in groups(predictions):
        for subset, rows in subsets(Rows.of(here, classes), tuning_folds):
            numbers = [(name, "", metric(rows)) for name, metric in METRICS.items()]
            numbers += [(name, label, m(rows, label)) for name, m in CLASS_METRICS.items() for label in classes]
            lines += [
                {
                    "scoring": scoring,
                    "control": control,
                    "subset": subset,
                    "metric": name,
                    "label": label,
                    "value": number.value,
                    "reason": number.reason,
                    "predictions": int(number.over.sum()),
                    "clips": len(set(rows.clip[number.over])),
                }
                for name, label, number in numbers
            ]
    return _table("metrics", lines)


def confusion_table(predictions: pa.Table, classes: tuple[str, ...]) -> pa.Table:
    """Count how often each true class was given each label or outcome.

    Args:
        predictions: `predictions` rows of one classifier, of any folds.
        classes: every label of the study.

    Returns:
        `confusion` rows without `study` and `classifier`: one for every pair of classes, zeros included, and for
        outcomes such as "(unparseable)" that occur.

    Raises:
        VlmAudioError: for predictions with labels outside `classes`.
    """
    _refuse_unknown_labels(predictions, classes)
    lines: list[dict[str, str | int | float | None]] = []
    for scoring, control, here in groups(predictions):
        counts = {(label, given): 0 for label in classes for given in classes}
        columns = (here[name].to_pylist() for name in ("label", "predicted", "outcome"))
        for label, predicted, outcome in zip(*columns, strict=True):
            given = predicted if outcome == "answered" else f"({outcome})"
            counts[label, given] = counts.get((label, given), 0) + 1
        lines += [
            {"scoring": scoring, "control": control, "label": label, "predicted": given, "count": count}
            for (label, given), count in counts.items()
        ]
    return _table("confusion", lines)


def _table(name: str, lines: list[dict[str, str | int | float | None]]) -> pa.Table:
    schema = TABLES[name].arrow
    filled = {"study", "classifier"}
    return pa.Table.from_pylist(lines, pa.schema([field for field in schema if field.name not in filled]))
