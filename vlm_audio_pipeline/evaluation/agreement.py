"""Whether a classifier says the same twice: between trials, and between its two scorings.

What belongs here: agreement of predictions with each other, whatever is right. What does not: agreement with the truth.
"""

import numpy as np

from vlm_audio_pipeline.evaluation.rows import Number, Rows

OTHER_SCORING = {"likelihood": "generation", "generation": "likelihood"}
"""The two ways in which one language model is asked about the same clips."""


def fleiss_kappa(counts: np.ndarray) -> float | None:
    """Give Fleiss' kappa: agreement beyond chance, 1 where all agree, 0 where no more than by chance.

    Fleiss, Measuring Nominal Scale Agreement Among Many Raters, Psychological Bulletin 76 (1971), equations 1 to 7.

    Args:
        counts: (subjects, categories) int, how many raters put a subject into a category; each row sums to the same
            number of raters, 2 or more.

    Returns:
        None where one category alone was ever used: agreement by chance is then 1 as well.
    """
    raters = counts.sum(axis=1)[0]
    agreeing = ((counts**2).sum(axis=1) - raters) / (raters * (raters - 1))
    by_chance = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return None if by_chance == 1 else (float(agreeing.mean()) - by_chance) / (1 - by_chance)


def trials_by_clip(rows: Rows) -> tuple[np.ndarray | None, str | None]:
    """Arrange rows by clip and trial.

    Returns:
        (clips, trials) int, indices of rows; or None and why not: one trial, or trials that hold other clips.
    """
    clips, clip_of = np.unique(rows.clip, return_inverse=True)
    trials, trial_of = np.unique(rows.trial, return_inverse=True)
    if len(trials) < 2:
        return None, "one trial" if len(trials) else "no predictions"
    places = np.full((len(clips), len(trials)), -1)
    places[clip_of, trial_of] = np.arange(len(rows.clip))
    return (None, "trials do not hold the same clips") if (places < 0).any() else (places, None)


def trial_sd(rows: Rows) -> Number:
    """Give the standard deviation (n - 1 in the denominator) over trials of the accuracy of each."""
    places, reason = trials_by_clip(rows)
    if places is None:
        return Number(None, rows.everything, reason)
    return Number(float(rows.correct[places].mean(axis=0).std(ddof=1)), rows.everything)


def trial_kappa(rows: Rows) -> Number:
    """Fleiss' kappa of the trials: clips are subjects, trials raters; what is no answer is a category an outcome."""
    places, reason = trials_by_clip(rows)
    if places is None:
        return Number(None, rows.everything, reason)
    said = np.where(rows.answered, rows.predicted, rows.outcome)
    categories, category_of = np.unique(said, return_inverse=True)
    counts = (category_of[places][:, :, None] == np.arange(len(categories))).sum(axis=1)
    kappa = fleiss_kappa(counts)
    return Number(kappa, rows.everything, None if kappa is not None else "every prediction is the same")


def scorings_agree(rows: Rows, others: Rows | None) -> Number:
    """Share of predictions with the same label under the other scoring, likelihood and generation of one model.

    Args:
        rows: predictions under one scoring.
        others: those under the other, of the same control; None where there are none.

    Returns:
        Over predictions of clips and trials that both have; one that was not answered agrees with nothing.
    """
    none = np.zeros(len(rows.clip), bool)
    if others is None:
        return Number(None, none, "asked in one way only")
    said = dict(zip(zip(others.clip, others.trial, strict=True), others.predicted, strict=True))
    theirs = [said.get(key) for key in zip(rows.clip, rows.trial, strict=True)]
    both = np.array([other is not None for other in theirs], bool)
    same = np.array([other == own != "" for other, own in zip(theirs, rows.predicted, strict=True)], bool)
    return Number(float(same[both].mean()), both) if both.any() else Number(None, both, "no clips asked in both ways")
