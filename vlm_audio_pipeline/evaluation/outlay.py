"""What predictions took: time, tokens and money.

What belongs here: sums and medians over what is on record. What does not: prices, and estimates in advance.
"""

import numpy as np

from vlm_audio_pipeline.evaluation.rows import Number, Rows


def median_seconds(rows: Rows) -> Number:
    """Median time to predict, s, over predictions whose time is on record."""
    known = ~np.isnan(rows.seconds)
    return Number(float(np.median(rows.seconds[known])), known) if known.any() else _unknown(rows, known, "time")


def tokens(rows: Rows) -> Number:
    """Tokens read and written in all, over predictions with tokens on record."""
    known = ~np.isnan(rows.tokens)
    return Number(float(rows.tokens[known].sum()), known) if known.any() else _unknown(rows, known, "number of tokens")


def usd(rows: Rows) -> Number:
    """Cost in all, USD, over predictions with a cost on record."""
    known = ~np.isnan(rows.usd)
    return Number(float(rows.usd[known].sum()), known) if known.any() else _unknown(rows, known, "cost")


def usd_per_correct(rows: Rows) -> Number:
    """Cost of a correct answer, USD: cost in all / correct, over predictions with a cost on record."""
    cost = usd(rows)
    right = int(rows.correct[cost.over].sum())
    if cost.value is None:
        return cost
    return Number(cost.value / right, cost.over) if right else Number(None, cost.over, "nothing was right")


def _unknown(rows: Rows, known: np.ndarray, what: str) -> Number:
    return Number(None, known, f"no {what} on record" if len(rows.label) else "no predictions")


OUTLAY_METRICS = {"median_seconds": median_seconds, "tokens": tokens, "usd": usd, "usd_per_correct": usd_per_correct}
