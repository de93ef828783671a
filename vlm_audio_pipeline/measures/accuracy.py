"""Measures of predicted labels: accuracy, outcomes, precision, recall and F1.

Every prediction whose request did not fail is in the denominator unless the documentation of the measure states an exception. A prediction without
a label counts as wrong. Annotations are pooled: each is one prediction. A measure that is undefined is null, with a reason.

The formulas of precision, recall and F1 are those of van Rijsbergen, Information Retrieval (1979), chapter 7, and of
scikit-learn's `precision_recall_fscore_support`.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from vlm_audio_pipeline.measures.measure import Measure
from vlm_audio_pipeline.measures.predictions import OUTCOMES, WITHOUT_TUNING, Number, PredictionArrays, share


def accuracy(predictions: PredictionArrays) -> Number:
    """Correct / predictions; the denominator includes unparseable, truncated and refused responses."""
    return share(predictions.correct, predictions.all_rows, "no predictions")


def accuracy_low(predictions: PredictionArrays) -> Number:
    """Lower end of the 95 % interval of the accuracy (`uncertainty.share_interval`)."""
    interval = predictions.accuracy_interval
    if interval is None:
        return Number(None, predictions.all_rows, "no predictions")
    return Number(interval.low, predictions.all_rows)


def accuracy_high(predictions: PredictionArrays) -> Number:
    """Upper end of the 95 % interval of the accuracy (`uncertainty.share_interval`)."""
    interval = predictions.accuracy_interval
    if interval is None:
        return Number(None, predictions.all_rows, "no predictions")
    return Number(interval.high, predictions.all_rows)


def accuracy_answered(predictions: PredictionArrays) -> Number:
    """Correct / answered."""
    return share(predictions.correct, predictions.answered, "no prediction was answered")


def accuracy_fold_mean(predictions: PredictionArrays) -> Number:
    """Mean over folds of the accuracy in each; `accuracy` itself pools the predictions of all folds."""
    folds = [predictions.correct[predictions.fold == fold].mean() for fold in np.unique(predictions.fold)]
    if not folds:
        return Number(None, predictions.all_rows, "no predictions")
    return Number(float(np.mean(folds)), predictions.all_rows)


def outcome_share(predictions: PredictionArrays, outcome: str) -> Number:
    """Predictions with this outcome / predictions."""
    return share(predictions.outcome == outcome, predictions.all_rows, "no predictions")


def precision(predictions: PredictionArrays, label: str) -> Number:
    """TP / (TP + FP): of the predictions of a class, the share that is correct."""
    return share(predictions.correct, predictions.predicted == label, "never predicted")


def recall(predictions: PredictionArrays, label: str) -> Number:
    """TP / (TP + FN): of the clips of a class, the share predicted as this class; a prediction without a label is a FN."""
    return share(predictions.correct, predictions.label == label, "no clips of this class")


def f1(predictions: PredictionArrays, label: str) -> Number:
    """Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN); 0 for a class that is never predicted."""
    is_label, is_predicted = predictions.label == label, predictions.predicted == label
    denominator = int(is_label.sum() + is_predicted.sum())
    included = is_label | is_predicted
    if not denominator:
        return Number(None, included, "no clips of this class, and never predicted")
    return Number(2 * int((is_label & is_predicted).sum()) / denominator, included)


def _mean_over_classes(predictions: PredictionArrays, measure: Callable[[PredictionArrays, str], Number]) -> Number:
    values = [measure(predictions, label).value or 0.0 for label in np.unique(predictions.label)]
    if not values:
        return Number(None, predictions.all_rows, "no predictions")
    return Number(float(np.mean(values)), predictions.all_rows)


def macro_precision(predictions: PredictionArrays) -> Number:
    """Mean of precision over the classes that occur, 0 for a class never predicted (scikit-learn's `zero_division=0`)."""
    return _mean_over_classes(predictions, precision)


def macro_f1(predictions: PredictionArrays) -> Number:
    """Mean of F1 over the classes that occur; scikit-learn's `f1_score(labels=<those>, average="macro")`."""
    return _mean_over_classes(predictions, f1)


def balanced_accuracy(predictions: PredictionArrays) -> Number:
    """Mean of recall over the classes that occur, also called macro recall (Brodersen et al., ICPR 2010)."""
    return _mean_over_classes(predictions, recall)


def top3(predictions: PredictionArrays) -> Number:
    """Share of predictions whose true class has one of the three highest scores.

    Equals `sklearn.metrics.top_k_accuracy_score`, except for ties at the third rank: each of the tied classes then has
    the same chance of being among the three (k-NN gives 0 to many classes; the order of the classes must not decide).
    A prediction without scores counts as a miss. Undefined if no prediction has scores, or for three classes or fewer.
    """
    scored = ~np.isnan(predictions.scores).any(axis=1)
    if len(predictions.classes) <= 3:
        return Number(None, predictions.all_rows, "three classes or fewer")
    if not scored.any():
        return Number(None, predictions.all_rows, "no scores" if len(predictions.label) else "no predictions")
    scores = np.where(scored[:, None], predictions.scores, 0.0)
    true_score = scores[np.arange(len(scores)), predictions.label_index][:, None]
    higher, equal = (scores > true_score).sum(axis=1), (scores == true_score).sum(axis=1)
    return share(np.clip((3 - higher) / equal, 0, 1) * scored, predictions.all_rows, "no predictions")


ACCURACY_MEASURES = (
    Measure(
        name="accuracy",
        formula=accuracy,
        doc="correct / predictions; unparseable, truncated and refused count as wrong, failed requests are left out",
        leaderboard=True,
        displays=("terminal", "page", "export", "plot"),
    ),
    Measure(
        name="accuracy_low",
        formula=accuracy_low,
        doc="lower end of the 95 % interval of `accuracy`",
        order=None,
        leaderboard=True,
        displays=(),
    ),
    Measure(
        name="accuracy_high",
        formula=accuracy_high,
        doc="upper end of the 95 % interval of `accuracy`",
        order=None,
        leaderboard=True,
        displays=(),
    ),
    Measure(
        name="accuracy_answered",
        title="accuracy of predictions with a label",
        formula=accuracy_answered,
        doc="correct / answered",
        leaderboard=True,
    ),
    Measure(
        name="accuracy_fold_mean",
        title="mean of the accuracies of the folds",
        formula=accuracy_fold_mean,
        doc="mean over folds of `accuracy`",
        leaderboard=True,
    ),
    Measure(
        name="accuracy_without_tuning_folds",
        formula=accuracy,
        doc="accuracy over the folds on which no choice was tuned",
        subset=WITHOUT_TUNING,
        leaderboard=True,
        displays=(),
    ),
    Measure(
        name="macro_f1",
        formula=macro_f1,
        doc="mean over classes of F1",
        title="macro F1",
        tex_title="Macro $F_1$",
        leaderboard=True,
        displays=("terminal", "page", "page_details", "export"),
    ),
    Measure(name="macro_precision", formula=macro_precision, doc="mean over classes of precision"),
    Measure(name="balanced_accuracy", formula=balanced_accuracy, doc="mean over classes of recall"),
    Measure(
        name="top3",
        title="true class in the three highest scores",
        formula=top3,
        doc="share of predictions whose true class has one of the three highest scores",
    ),
    *(
        Measure(
            name=f"{outcome}_share",
            formula=partial(outcome_share, outcome=outcome),
            doc=f"share of predictions with outcome {outcome}",
            order="higher" if outcome == "answered" else "lower",
            includes_errors=True,
        )
        for outcome in OUTCOMES
    ),
    Measure(name="precision", formula=precision, doc="TP / (TP + FP) of a class", per_class=True, displays=()),
    Measure(name="recall", formula=recall, doc="TP / (TP + FN) of a class", per_class=True, displays=()),
    Measure(name="f1", formula=f1, doc="2 TP / (2 TP + FP + FN) of a class", per_class=True, displays=()),
)
