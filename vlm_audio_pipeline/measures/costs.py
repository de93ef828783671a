"""Measures of the time, tokens and money that predictions cost."""

import numpy as np

from vlm_audio_pipeline.measures.measure import Measure
from vlm_audio_pipeline.measures.predictions import Number, PredictionArrays


def median_seconds(predictions: PredictionArrays) -> Number:
    """Median time to predict, s, over predictions with a recorded time."""
    recorded = ~np.isnan(predictions.seconds)
    if not recorded.any():
        return _not_recorded(predictions, recorded, "time")
    return Number(float(np.median(predictions.seconds[recorded])), recorded)


def tokens(predictions: PredictionArrays) -> Number:
    """Sum of input and output tokens, over predictions with recorded tokens."""
    recorded = ~np.isnan(predictions.tokens)
    if not recorded.any():
        return _not_recorded(predictions, recorded, "number of tokens")
    return Number(float(predictions.tokens[recorded].sum()), recorded)


def usd(predictions: PredictionArrays) -> Number:
    """Total cost, USD, over predictions with a recorded cost."""
    recorded = ~np.isnan(predictions.usd)
    if not recorded.any():
        return _not_recorded(predictions, recorded, "cost")
    return Number(float(predictions.usd[recorded].sum()), recorded)


def usd_per_correct(predictions: PredictionArrays) -> Number:
    """Total cost / correct predictions, USD, over predictions with a recorded cost."""
    cost = usd(predictions)
    if cost.value is None:
        return cost
    correct = int(predictions.correct[cost.included].sum())
    if not correct:
        return Number(None, cost.included, "no prediction is correct")
    return Number(cost.value / correct, cost.included)


def _not_recorded(predictions: PredictionArrays, recorded: np.ndarray, quantity: str) -> Number:
    return Number(None, recorded, f"no recorded {quantity}" if len(predictions.label) else "no predictions")


COST_MEASURES = (
    Measure(
        name="median_seconds",
        formula=median_seconds,
        doc="median time to predict; null if no time was recorded",
        unit="s",
        order="lower",
        leaderboard=True,
        displays=(),
        includes_errors=True,
        in_data_version=False,
    ),
    Measure(
        name="tokens",
        formula=tokens,
        doc="total of input and output tokens",
        unit="tokens",
        order="lower",
        leaderboard=True,
        displays=(),
        decimals=0,
        integer=True,
        includes_errors=True,
        in_data_version=False,
    ),
    Measure(
        name="usd",
        formula=usd,
        doc="total cost; null if no cost was recorded",
        unit="USD",
        order="lower",
        title="USD",
        decimals=2,
        leaderboard=True,
        displays=("terminal",),
        includes_errors=True,
        in_data_version=False,
    ),
    Measure(
        name="usd_per_correct",
        formula=usd_per_correct,
        doc="total cost / correct predictions",
        unit="USD",
        order="lower",
        decimals=5,
        leaderboard=True,
        displays=(),
        includes_errors=True,
        in_data_version=False,
    ),
)
