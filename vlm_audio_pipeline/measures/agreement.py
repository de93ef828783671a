"""Measures of agreement of predictions with each other: between trials, and between the two scorings of one model."""

import numpy as np

from vlm_audio_pipeline.measures.measure import Measure
from vlm_audio_pipeline.measures.predictions import Number, PredictionArrays
from vlm_audio_pipeline.measures.uncertainty import SAMPLED_STRATEGY

OTHER_SCORING = {"likelihood": "generation", "generation": "likelihood"}
"""The two scorings under which one language model classifies the same clips."""


def fleiss_kappa(counts: np.ndarray) -> float | None:
    """Return Fleiss' kappa: agreement beyond chance, 1 if all agree, 0 if they agree as often as by chance.

    Fleiss, Measuring Nominal Scale Agreement Among Many Raters, Psychological Bulletin 76 (1971), equations 1 to 7.

    Args:
        counts: (subjects, categories) int, how many raters put a subject into a category; each row sums to the same
            number of raters, 2 or more.

    Returns:
        None if only one category occurs: the agreement by chance is then 1 as well.
    """
    raters = counts.sum(axis=1)[0]
    agreement = ((counts**2).sum(axis=1) - raters) / (raters * (raters - 1))
    by_chance = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return None if by_chance == 1 else (float(agreement.mean()) - by_chance) / (1 - by_chance)


def trials_by_clip(predictions: PredictionArrays) -> tuple[np.ndarray | None, str | None]:
    """Arrange rows by clip and trial.

    Returns:
        (clips, trials) int, indices of rows; or None and the reason: one trial, trials over different clips, or draws of
        examples that are ranks: draw 0 has the best examples of a strategy, draw 1 the next best, so they have no spread.
    """
    clips, clip_of = np.unique(predictions.clip, return_inverse=True)
    trials, trial_of = np.unique(predictions.trial, return_inverse=True)
    if len(trials) < 2:
        return None, "one trial" if len(trials) else "no predictions"
    if predictions.selection not in (None, SAMPLED_STRATEGY) and len(np.unique(predictions.draw)) > 1:
        return None, f"draws of {predictions.selection} examples are ranks, not a sample"
    indices = np.full((len(clips), len(trials)), -1)
    indices[clip_of, trial_of] = np.arange(len(predictions.clip))
    return (None, "trials do not cover the same clips") if (indices < 0).any() else (indices, None)


def trial_sd(predictions: PredictionArrays) -> Number:
    """Compute the standard deviation over trials of their accuracy, with n - 1 in the denominator."""
    indices, reason = trials_by_clip(predictions)
    if indices is None:
        return Number(None, predictions.all_rows, reason)
    return Number(float(predictions.correct[indices].mean(axis=0).std(ddof=1)), predictions.all_rows)


def trial_kappa(predictions: PredictionArrays) -> Number:
    """Fleiss' kappa of the trials: clips are subjects, trials are raters; each outcome without a label is a category."""
    indices, reason = trials_by_clip(predictions)
    if indices is None:
        return Number(None, predictions.all_rows, reason)
    labels = np.where(predictions.answered, predictions.predicted, predictions.outcome)
    categories, category_of = np.unique(labels, return_inverse=True)
    counts = (category_of[indices][:, :, None] == np.arange(len(categories))).sum(axis=1)
    kappa = fleiss_kappa(counts)
    return Number(kappa, predictions.all_rows, None if kappa is not None else "every prediction is the same")


def scorings_agree(predictions: PredictionArrays) -> Number:
    """Share of predictions with the same label under the other scoring, likelihood or generation, of the same model.

    It covers the (clip, trial) pairs that both scorings have. A prediction without a label never agrees.
    """
    other = predictions.other_scoring
    if other is None:
        return Number(None, np.zeros(len(predictions.clip), bool), "only one scoring was run")
    other_labels = dict(zip(zip(other.clip, other.trial, strict=True), other.predicted, strict=True))
    matched = [other_labels.get(key) for key in zip(predictions.clip, predictions.trial, strict=True)]
    has_both = np.array([label is not None for label in matched], bool)
    if not has_both.any():
        return Number(None, has_both, "no clips in common under both scorings")
    is_same = np.array(
        [label == predicted != "" for label, predicted in zip(matched, predictions.predicted, strict=True)], bool
    )
    return Number(float(is_same[has_both].mean()), has_both)


AGREEMENT_MEASURES = (
    Measure(
        name="trial_sd",
        title="standard deviation over trials",
        formula=trial_sd,
        doc="standard deviation over trials of `accuracy`; null for one trial, if the trials cover different clips, or if "
        "draws of examples are ranks (medoid, diverse)",
        order="lower",
        leaderboard=True,
    ),
    Measure(
        name="trial_kappa",
        title="agreement of the trials (Fleiss' kappa)",
        formula=trial_kappa,
        doc="Fleiss' kappa of the trials: 1 for perfect agreement, 0 for agreement by chance",
        unit="no unit",
    ),
    Measure(
        name="scorings_agree",
        title="same label by likelihood and by generation",
        formula=scorings_agree,
        doc="share of predictions with the same label under likelihood and generation",
    ),
)
