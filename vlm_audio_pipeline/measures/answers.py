"""Measures of the answers: how they are distributed over the classes, and what they depend on."""

import numpy as np

from vlm_audio_pipeline.measures.measure import Measure
from vlm_audio_pipeline.measures.predictions import Number, PredictionArrays, share


def _reason(predictions: PredictionArrays, reason: str) -> str:
    return reason if len(predictions.label) else "no predictions"


def label_entropy(predictions: PredictionArrays) -> Number:
    """Entropy of the predicted labels / ln(number of classes), over predictions with a label.

    0: every label is the same; 1: every class is predicted equally often (Shannon, A Mathematical Theory of Communication,
    1948, section 6; the normalised form is Pielou's evenness, Journal of Theoretical Biology 13, 1966).
    """
    answered = predictions.answered
    if not answered.any():
        return Number(None, answered, _reason(predictions, "no prediction was answered"))
    if len(predictions.classes) < 2:
        return Number(None, answered, "one class")
    shares = np.unique(predictions.predicted[answered], return_counts=True)[1] / answered.sum()
    entropy = float((shares * np.log(1 / shares)).sum())
    return Number(entropy / float(np.log(len(predictions.classes))), answered)


def top_label_share(predictions: PredictionArrays) -> Number:
    """Predictions with the most frequent label / predictions with a label."""
    answered = predictions.answered
    if not answered.any():
        return Number(None, answered, _reason(predictions, "no prediction was answered"))
    counts = np.unique(predictions.predicted[answered], return_counts=True)[1]
    return Number(float(counts.max() / answered.sum()), answered)


def follow_rate(predictions: PredictionArrays) -> Number:
    """Share of predictions that name the class that the changed input shows.

    The changed input is the image or audio of another clip (control other_clip), or examples with permuted labels.
    A prediction without a label does not follow.
    """
    changed = predictions.shown_label != ""
    follows = predictions.answered & (predictions.predicted == predictions.shown_label)
    return share(follows, changed, _reason(predictions, "the input shows the clip's own class, or no class"))


def accuracy_before_calibration(predictions: PredictionArrays) -> Number:
    """Share of predictions whose class would be correct without contextual calibration."""
    calibrated = predictions.label_before_calibration != ""
    correct = predictions.label_before_calibration == predictions.label
    return share(correct, calibrated, _reason(predictions, "no contextual calibration"))


ANSWER_MEASURES = (
    Measure(
        name="label_entropy",
        title="entropy of the predicted labels",
        formula=label_entropy,
        doc="entropy of the predicted labels, divided by that of equally frequent classes: 0 if all labels are the same",
        unit="0 to 1",
        order=None,
    ),
    Measure(
        name="top_label_share",
        title="share of the most frequent label",
        formula=top_label_share,
        doc="predictions with the most frequent label / predictions with a label",
        order=None,
    ),
    Measure(
        name="follow_rate",
        title="follows the other clip or the permuted label",
        formula=follow_rate,
        doc="share of predictions that name the class of the other clip (control other_clip) or the permuted label",
    ),
    Measure(
        name="accuracy_before_calibration",
        formula=accuracy_before_calibration,
        doc="accuracy of the same responses without contextual calibration",
    ),
)
