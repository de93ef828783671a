"""Whether scores can be believed as probabilities: log loss, Brier score, calibration error, temperature scaling.

What belongs here: numbers over `scores` and `confidence`, as predicted and after temperature scaling. What does not:
other ways to calibrate (what a language model is asked is calibrated where its answers are turned into predictions).
"""

from dataclasses import replace

import numpy as np

from vlm_audio_pipeline.classifiers.base import softmax
from vlm_audio_pipeline.classifiers.language_models.predicting import temperature
from vlm_audio_pipeline.evaluation.rows import Number, Rows

BINS = 10
_EDGES = np.linspace(0, 1, BINS + 1)


def probability_rows(rows: Rows) -> tuple[np.ndarray, str | None]:
    """Tell which rows have probabilities for scores.

    Returns:
        (n,) bool; and why there are none: no scores at all, or some that are negative or do not sum to 1.
    """
    scored = ~np.isnan(rows.scores).any(axis=1)
    if not scored.any():
        return scored, "no scores" if len(rows.label) else "no predictions"
    here = rows.scores[scored]
    if (here < 0).any() or (np.abs(here.sum(axis=1) - 1) > 1e-6).any():
        return np.zeros_like(scored), "scores are not probabilities"
    return scored, None


def log_loss(rows: Rows) -> Number:
    """Mean of -ln(score of the true class), over predictions with scores.

    Good, Rational Decisions (1952). Infinite, and thus undefined, where a true class has probability 0; scikit-learn's
    `log_loss` puts a small number there, and the result would depend on how small.
    """
    over, reason = probability_rows(rows)
    if reason:
        return Number(None, over, reason)
    own = rows.scores[np.arange(len(over)), rows.label_index][over]
    if (own == 0).any():
        return Number(None, over, f"infinite: {int((own == 0).sum())} true classes were given probability 0")
    return Number(float(-np.log(own).mean()), over)


def brier(rows: Rows) -> Number:
    """Mean over predictions of the sum over classes of (score - truth)^2, from 0 to 2.

    Brier, Verification of Forecasts Expressed in Terms of Probability, Monthly Weather Review 78 (1950), equation 2.
    """
    over, reason = probability_rows(rows)
    if reason:
        return Number(None, over, reason)
    truth = np.eye(len(rows.classes))[rows.label_index[over]]
    return Number(float(((rows.scores[over] - truth) ** 2).sum(axis=1).mean()), over)


def confident_rows(rows: Rows) -> tuple[np.ndarray, str | None]:
    """Tell which rows have a confidence from 0 to 1: (n,) bool, and why none where that is so."""
    known = ~np.isnan(rows.confidence)
    if not known.any():
        return known, "no confidence" if len(rows.label) else "no predictions"
    here = rows.confidence[known]
    if (here < 0).any() or (here > 1 + 1e-9).any():
        return np.zeros_like(known), "confidence is not from 0 to 1"
    return known, None


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """Give the bin of each confidence, (n,) int from 0: ten of equal width, each with its upper edge.

    To nine decimals: k-NN settles ties by raising a vote of 0.2 to 0.2000000002.
    """
    return np.searchsorted(_EDGES[1:-1], np.round(confidence, 9), side="left")


def ece(rows: Rows) -> Number:
    """Give the expected calibration error: sum over bins of share of predictions * |accuracy - mean confidence|.

    Ten bins of equal width of the predicted label's confidence (Guo et al., On Calibration of Modern Neural Networks,
    ICML 2017, equation 3), over predictions with a confidence.
    """
    over, reason = confident_rows(rows)
    if reason:
        return Number(None, over, reason)
    gaps = np.bincount(bin_of(rows.confidence[over]), rows.correct[over] - rows.confidence[over])
    return Number(float(np.abs(gaps).sum() / over.sum()), over)


def tempered(rows: Rows) -> tuple[Rows, dict[int, float]]:
    """Scale the scores of each fold by the temperature fitted on all other folds: p^(1/T), brought to sum 1.

    Guo et al. (ICML 2017), section 4.2: a single number, so that no prediction changes.

    Args:
        rows: predictions of every fold that exists.

    Returns:
        The rows with scaled scores, and the largest of these as confidence; NaN where no temperature could be fitted:
        without other folds, or where these give a true class probability 0, which no temperature mends. And the
        temperatures by fold.
    """
    known, _ = probability_rows(rows)
    truth = rows.label_index
    own = np.where(known, rows.scores[np.arange(len(truth)), truth], 0.0)
    with np.errstate(divide="ignore"):
        logits = np.log(np.where(known[:, None], rows.scores, np.nan))
    scores, temperatures = np.full_like(rows.scores, np.nan), {}
    for fold in np.unique(rows.fold):
        others, here = known & (rows.fold != fold), known & (rows.fold == fold)
        if not others.any() or (own[others] == 0).any() or not here.any():
            continue
        temperatures[int(fold)] = fitted = temperature(logits[others], truth[others])
        scores[here] = softmax(logits[here] / fitted)
    return replace(rows, scores=scores, confidence=scores.max(axis=1)), temperatures


def no_temperature(rows: Rows) -> str:
    """Say why the scores of these rows, as predicted, were not scaled."""
    _, reason = probability_rows(rows)
    return reason or "no temperature: there are no other folds, or these give true classes probability 0"


PROBABILITY_METRICS = {"log_loss": log_loss, "brier": brier, "ece": ece}
"""Metrics that are given for scores as predicted, and again after temperature scaling."""
