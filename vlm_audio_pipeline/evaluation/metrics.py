"""Predictions -> numbers, one small function a metric, each with its formula.

What belongs here: what is right and what is confused, and the table of all metrics. What does not: how metrics of
probabilities, agreement, outlay and uncertainty are computed (files of these names). Every prediction asked for is in the denominator unless the metric's name says otherwise: one that was not
answered counts as wrong. Human judgements are pooled: each is one prediction. What is undefined is null with a reason.

The formulas of precision, recall and F1 are those of van Rijsbergen, Information Retrieval (1979), chapter 7, and of
scikit-learn's `precision_recall_fscore_support`.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.evaluation.agreement import OTHER_SCORING, scorings_agree, trial_kappa, trial_sd
from vlm_audio_pipeline.evaluation.outlay import OUTLAY_METRICS
from vlm_audio_pipeline.evaluation.probabilities import PROBABILITY_METRICS, no_temperature, tempered
from vlm_audio_pipeline.evaluation.rows import Number, Rows, groups, refuse_unknown_labels, share, subsets
from vlm_audio_pipeline.evaluation.uncertainty import share_interval
from vlm_audio_pipeline.storage.checks import OUTCOMES
from vlm_audio_pipeline.storage.schemas import TABLES


def accuracy(rows: Rows) -> Number:
    """Correct / predictions; unparseable, refused and failed ones are in the denominator."""
    return share(rows.correct, rows.everything, "no predictions")


def accuracy_answered(rows: Rows) -> Number:
    """Correct / answered."""
    return share(rows.correct, rows.answered, "nothing was answered")


def accuracy_fold_mean(rows: Rows) -> Number:
    """Mean over folds of the accuracy in each; `accuracy` itself pools the predictions of all folds."""
    folds = [rows.correct[rows.fold == fold].mean() for fold in np.unique(rows.fold)]
    return Number(float(np.mean(folds)), rows.everything) if folds else Number(None, rows.everything, "no predictions")


def outcome_share(rows: Rows, outcome: str) -> Number:
    """Predictions with this outcome / predictions."""
    return share(rows.outcome == outcome, rows.everything, "no predictions")


def precision(rows: Rows, label: str) -> Number:
    """Of what was called `label`, the share that is: TP / (TP + FP)."""
    return share(rows.correct, rows.predicted == label, "never predicted")


def recall(rows: Rows, label: str) -> Number:
    """Of what is `label`, the share that was called so: TP / (TP + FN); unanswered ones are FN."""
    return share(rows.correct, rows.label == label, "no clips of this class")


def f1(rows: Rows, label: str) -> Number:
    """Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN); 0 for a class never predicted."""
    is_label, called = rows.label == label, rows.predicted == label
    both = int(is_label.sum() + called.sum())
    over = is_label | called
    if not both:
        return Number(None, over, "no clips of this class, and never predicted")
    return Number(2 * int((is_label & called).sum()) / both, over)


def _mean_over_classes(rows: Rows, metric: Callable[[Rows, str], Number]) -> Number:
    values = [metric(rows, label).value or 0.0 for label in np.unique(rows.label)]
    return (
        Number(float(np.mean(values)), rows.everything) if values else Number(None, rows.everything, "no predictions")
    )


def macro_precision(rows: Rows) -> Number:
    """Mean of precision over the classes that occur, 0 for one never predicted (scikit-learn's `zero_division=0`)."""
    return _mean_over_classes(rows, precision)


def macro_f1(rows: Rows) -> Number:
    """Mean of F1 over the classes that occur; scikit-learn's `f1_score(labels=<those>, average="macro")`."""
    return _mean_over_classes(rows, f1)


def balanced_accuracy(rows: Rows) -> Number:
    """Mean of recall over the classes that occur, which is macro recall (Brodersen et al., ICPR 2010; scikit-learn's)."""
    return _mean_over_classes(rows, recall)


def top3(rows: Rows) -> Number:
    """Share of predictions whose true class has one of the three highest scores.

    `sklearn.metrics.top_k_accuracy_score`, except for ties across the third place, where each of the tied classes has
    the same chance of being among the three (k-NN gives most classes 0: the order of the classes must not decide).
    Predictions without scores are misses; where none has scores, or there are three classes or fewer, it is undefined.
    """
    scored = ~np.isnan(rows.scores).any(axis=1)
    if len(rows.classes) <= 3:
        return Number(None, rows.everything, "three classes or fewer")
    if not scored.any():
        return Number(None, rows.everything, "no scores" if len(rows.label) else "no predictions")
    scores = np.where(scored[:, None], rows.scores, 0.0)
    own = scores[np.arange(len(scores)), rows.label_index][:, None]
    above, equal = (scores > own).sum(axis=1), (scores == own).sum(axis=1)
    return share(np.clip((3 - above) / equal, 0, 1) * scored, rows.everything, "no predictions")


METRICS: dict[str, Callable[[Rows], Number]] = {
    "accuracy": accuracy,
    "accuracy_answered": accuracy_answered,
    "accuracy_fold_mean": accuracy_fold_mean,
    **{f"{outcome}_share": partial(outcome_share, outcome=outcome) for outcome in OUTCOMES},
    "macro_precision": macro_precision,
    "macro_f1": macro_f1,
    "balanced_accuracy": balanced_accuracy,
    "top3": top3,
    **PROBABILITY_METRICS,
    "trial_sd": trial_sd,
    "trial_kappa": trial_kappa,
    **OUTLAY_METRICS,
}
CLASS_METRICS: dict[str, Callable[[Rows, str], Number]] = {"precision": precision, "recall": recall, "f1": f1}


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
    by_way = {(scoring, control): Rows.of(here, classes) for scoring, control, here in groups(predictions)}
    for (scoring, control), whole in by_way.items():
        others = by_way.get((OTHER_SCORING.get(scoring, ""), control))
        scaled, temperatures = tempered(whole)
        for (subset, rows), (_, warm) in zip(subsets(whole, tuning_folds), subsets(scaled, tuning_folds), strict=True):
            numbers = {(name, ""): metric(rows) for name, metric in METRICS.items()}
            numbers |= {(name, label): m(rows, label) for name, m in CLASS_METRICS.items() for label in classes}
            numbers |= {(name, ""): number for name, number in _interval(rows).items()}
            numbers |= {(name, ""): number for name, number in _warm(rows, warm, temperatures).items()}
            numbers["scorings_agree", ""] = scorings_agree(rows, others)
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
                    "clips": len(set(rows.clip[number.over].tolist())),
                }
                for (name, label), number in numbers.items()
            ]
    return _table("metrics", lines)


def _interval(rows: Rows) -> dict[str, Number]:
    """Give the ends of the 95 % interval of the accuracy."""
    interval = share_interval(rows.correct, rows.source)
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    reason = "no predictions" if interval is None else None
    return {
        "accuracy_low": Number(low, rows.everything, reason),
        "accuracy_high": Number(high, rows.everything, reason),
    }


def _warm(rows: Rows, scaled: Rows, temperatures: dict[int, float]) -> dict[str, Number]:
    """Give the metrics of probabilities after temperature scaling, and the temperature of a single fold."""
    numbers = {f"{name}_temperature": metric(scaled) for name, metric in PROBABILITY_METRICS.items()}
    folds = np.unique(rows.fold).tolist()
    temperature = temperatures.get(folds[0]) if len(folds) == 1 else None
    reason = "each fold has its own" if len(folds) > 1 and temperatures else no_temperature(rows)
    numbers["temperature"] = Number(temperature, rows.everything, None if temperature else reason)
    if not (set(folds) & set(temperatures)):
        return {name: Number(None, number.over, no_temperature(rows)) for name, number in numbers.items()}
    return numbers


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
    refuse_unknown_labels(predictions, classes)
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
