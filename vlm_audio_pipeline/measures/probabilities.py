"""Measures of scores as probabilities: log loss, Brier score and calibration error, before and after temperature scaling.

Belongs here: formulas over `scores` and `confidence`. Does not belong here: fitting the temperature
(`evaluation.temperature_scaling`).
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from vlm_audio_pipeline.measures.measure import Measure
from vlm_audio_pipeline.measures.predictions import Number, PredictionArrays

BINS = 10
_EDGES = np.linspace(0, 1, BINS + 1)


def probability_rows(predictions: PredictionArrays) -> tuple[np.ndarray, str | None]:
    """Return which rows have scores that are probabilities.

    Returns:
        (n,) bool, and the reason if it is False everywhere: no scores, a negative score, or scores that do not sum to 1.
    """
    scored = ~np.isnan(predictions.scores).any(axis=1)
    if not scored.any():
        return scored, "no scores" if len(predictions.label) else "no predictions"
    scores = predictions.scores[scored]
    if (scores < 0).any() or (np.abs(scores.sum(axis=1) - 1) > 1e-6).any():
        return np.zeros_like(scored), "scores are not probabilities"
    return scored, None


def log_loss(predictions: PredictionArrays) -> Number:
    """Mean of -ln(score of the true class), over predictions with scores.

    Good, Rational Decisions (1952). Infinite, and thus undefined, if a true class has probability 0. scikit-learn's
    `log_loss` replaces 0 by a small number, and the result depends on that number.
    """
    included, reason = probability_rows(predictions)
    if reason:
        return Number(None, included, reason)
    true_scores = predictions.scores[np.arange(len(included)), predictions.label_index][included]
    if (true_scores == 0).any():
        return Number(None, included, f"infinite: {int((true_scores == 0).sum())} true classes have probability 0")
    return Number(float(-np.log(true_scores).mean()), included)


def brier(predictions: PredictionArrays) -> Number:
    """Mean over predictions of the sum over classes of (score - truth)^2, from 0 to 2.

    Brier, Verification of Forecasts Expressed in Terms of Probability, Monthly Weather Review 78 (1950), equation 2.
    """
    included, reason = probability_rows(predictions)
    if reason:
        return Number(None, included, reason)
    truth = np.eye(len(predictions.classes))[predictions.label_index[included]]
    return Number(float(((predictions.scores[included] - truth) ** 2).sum(axis=1).mean()), included)


def confidence_rows(predictions: PredictionArrays) -> tuple[np.ndarray, str | None]:
    """Return which rows have a confidence from 0 to 1: (n,) bool, and the reason if it is False everywhere."""
    recorded = ~np.isnan(predictions.confidence)
    if not recorded.any():
        return recorded, "no confidence" if len(predictions.label) else "no predictions"
    confidence = predictions.confidence[recorded]
    if (confidence < 0).any() or (confidence > 1 + 1e-9).any():
        return np.zeros_like(recorded), "confidence is not from 0 to 1"
    return recorded, None


def confidence_bin(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence, (n,) int from 0: ten bins of equal width, each including its upper edge.

    Rounded to nine decimals first: k-NN breaks ties by raising a vote of 0.2 to 0.2000000002.
    """
    return np.searchsorted(_EDGES[1:-1], np.round(confidence, 9), side="left")


def ece(predictions: PredictionArrays) -> Number:
    """Compute the expected calibration error: sum over bins of share of predictions * |accuracy - mean confidence|.

    Ten bins of equal width of the predicted label's confidence (Guo et al., On Calibration of Modern Neural Networks,
    ICML 2017, equation 3), over predictions with a confidence.
    """
    included, reason = confidence_rows(predictions)
    if reason:
        return Number(None, included, reason)
    confidence = predictions.confidence[included]
    gaps = np.bincount(confidence_bin(confidence), predictions.correct[included] - confidence)
    return Number(float(np.abs(gaps).sum() / included.sum()), included)


def _after_scaling(predictions: PredictionArrays, measure: Callable[[PredictionArrays], Number]) -> Number:
    """Compute a measure on the temperature-scaled predictions."""
    number = measure(predictions if predictions.scaled is None else predictions.scaled)
    if not (set(predictions.fold.tolist()) & set(predictions.temperatures)):
        return Number(None, number.included, _not_scaled_reason(predictions))
    return number


def temperature(predictions: PredictionArrays) -> Number:
    """Temperature that scores were scaled with; defined for a single fold, as each fold has its own."""
    folds = np.unique(predictions.fold).tolist()
    value = predictions.temperatures.get(folds[0]) if len(folds) == 1 else None
    scaled = bool(set(folds) & set(predictions.temperatures))
    reason = "each fold has its own" if scaled and len(folds) > 1 else _not_scaled_reason(predictions)
    return Number(value, predictions.all_rows, None if value else reason)


def _not_scaled_reason(predictions: PredictionArrays) -> str:
    """Return the reason why the scores of these predictions were not scaled."""
    _, reason = probability_rows(predictions)
    return reason or "no temperature: there are no other folds, or a true class in them has probability 0"


_SCORE_MEASURES = (
    (log_loss, "log loss", "mean of -ln(score of the true class)", "nats"),
    (brier, "Brier score", "mean of the sum over classes of (score - truth)^2, 0 to 2", "no unit"),
    (ece, "calibration error (ECE)", "expected calibration error over ten bins of equal width", "share of 1"),
)
PROBABILITY_MEASURES = (
    *(
        Measure(name=f.__name__, title=title, formula=f, doc=doc, unit=unit, order="lower")
        for f, title, doc, unit in _SCORE_MEASURES
    ),
    *(
        Measure(
            name=f"{f.__name__}_temperature",
            title=f"{title} after temperature scaling",
            formula=partial(_after_scaling, measure=f),
            doc=f"`{f.__name__}` after temperature scaling fitted on the other folds",
            unit=unit,
            order="lower",
        )
        for f, title, _, unit in _SCORE_MEASURES
    ),
    Measure(
        name="temperature",
        formula=temperature,
        doc="temperature that scales the scores of one fold, fitted on the other folds",
        unit="no unit",
        order=None,
    ),
)
