"""Predictions from raw answers: pure, quick, and all that may be changed without asking a model again.

What belongs here: normalising, calibrating, and the row every answer becomes. What does not: reading texts (`parsing`), and
asking (`asking`).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.classifiers.base import softmax
from vlm_audio_pipeline.classifiers.language_models.parsing import parse
from vlm_audio_pipeline.contracts.errors import VlmAudioError

Normalise = Literal["none", "length"]
"""none: the log-probability of a whole answer; length: divided by its tokens, or long names would lose to short ones."""

Calibrate = Literal["contextual", "temperature"]
"""contextual: what the model says of the blank picture is divided out; temperature: scores as sharp as other folds bear out."""

_COLDEST, _HOTTEST = 0.01, 100.0


def predictions_of(
    answers: pa.Table,
    clips: pa.Table,
    classes: Sequence[str],
    *,
    normalise: Normalise = "none",
    calibrate: Collection[Calibrate] = (),
    other_answers: pa.Table | None = None,
    synonyms: Mapping[str, Sequence[str]] | None = None,
    **constants: Any,
) -> pa.Table:
    """Turn answers into rows of `predictions`, one for every answer, whatever became of it.

    Likelihood: scores are the softmax over classes of their summed log-probabilities, after normalising and calibrating; the
    class with the highest is predicted, a tie goes to the class that comes first in `classes`; the confidence is its score.
    An answer whose scores are undefined (not a number, or nothing to calibrate it with) is an error.
    Generation: the text is parsed; there are no scores and no confidence.
    A row whose outcome is "refused" or "error" stays what it is.

    Args:
        answers: `answers` rows of a fold, of all scorings, controls and trials.
        clips: `clips` rows: of the fold, and where a temperature is fitted of the other folds too.
        classes: the labels of the study.
        normalise: see `Normalise`.
        calibrate: see `Calibrate`; contextual comes before temperature.
        other_answers: `answers` rows of the other folds, to fit the temperature on.
        synonyms: the study's own.
        constants: columns with one value for all rows: `kind`, `rendering`, `prompt`, `shots`, ...

    Returns:
        rows of `predictions` in the order of `answers`.

    Raises:
        VlmAudioError: for an answer about an unknown clip or without a log-probability for every class, and where there
            is nothing to calibrate with: no answers to blank pictures, none of other folds.
    """
    rows, known = (
        answers.to_pylist(),
        {row["clip"]: row for row in clips.select(["clip", "label", "source"]).to_pylist()},
    )
    if strange := sorted({row["clip"] for row in rows} - known.keys()):
        raise VlmAudioError(f"answers must be about clips of the study, got {strange[:5]}; make the answers again")
    logits = _logits(rows, classes, normalise, "contextual" in calibrate)
    if "temperature" in calibrate and np.isfinite(logits).all(axis=1).any():
        other = [] if other_answers is None else other_answers.to_pylist()
        others = _logits(other, classes, normalise, "contextual" in calibrate)
        plain = [i for i, row in enumerate(other) if row["control"] == "none" and np.isfinite(others[i]).all()]
        if not plain:
            raise VlmAudioError(
                "a temperature must be fitted on answers of other folds, got none; run more folds first"
            )
        truth = np.array([classes.index(known[other[i]["clip"]]["label"]) for i in plain])
        logits = logits / temperature(others[plain], truth)
    made = []
    for row, scores in zip(rows, _scores(logits), strict=True):
        clip = known[row["clip"]]
        outcome, predicted = _judged(row, scores, classes, synonyms)
        if outcome != "answered":
            scores = None
        made.append(
            {
                **{name: row[name] for name in _KEPT},
                "source": clip["source"],
                "label": clip["label"],
                "predicted": predicted,
                "outcome": outcome,
                "correct": predicted == clip["label"],
                "scores": None if scores is None else list(zip(classes, scores.tolist(), strict=True)),
                "confidence": None if scores is None else float(scores.max()),
                "tokens": None if row["input_tokens"] is None else row["input_tokens"] + (row["output_tokens"] or 0),
            }
        )
    table = pa.Table.from_pylist(made, pa.schema([*(answers.schema.field(name) for name in _KEPT), *_MADE]))
    for name, value in constants.items():
        table = table.append_column(name, pa.array([value] * table.num_rows))
    return table


_KEPT = ("scoring", "control", "trial", "clip", "text", "model", "revision", "seconds", "usd", "answered_at")
_MADE = (
    *(pa.field(name, pa.string()) for name in ("source", "label", "predicted", "outcome")),
    pa.field("correct", pa.bool_()),
    pa.field("scores", pa.map_(pa.string(), pa.float64())),
    pa.field("confidence", pa.float64()),
    pa.field("tokens", pa.int64()),
)


def _judged(
    row: dict[str, Any],
    scores: np.ndarray | None,
    classes: Sequence[str],
    synonyms: Mapping[str, Sequence[str]] | None,
) -> tuple[str, str | None]:
    """Give the outcome and the class predicted."""
    if row["outcome"] != "answered":
        return row["outcome"], None
    if row["scoring"] == "likelihood":
        return ("error", None) if scores is None else ("answered", classes[int(scores.argmax())])
    parsed = parse(row["text"], classes, synonyms)
    return parsed.outcome, parsed.label


def _scores(logits: np.ndarray) -> list[np.ndarray | None]:
    """Give the softmax of every row; None where it is undefined."""
    defined = ~np.isnan(logits).any(axis=1) & np.isfinite(logits.max(axis=1, initial=-np.inf))
    made = iter(softmax(logits[defined]))
    return [next(made) if is_defined else None for is_defined in defined]


def _logits(
    rows: Sequence[dict[str, Any]], classes: Sequence[str], normalise: Normalise, contextual: bool
) -> np.ndarray:
    """Give (rows, classes) float64 logits of the likelihood answers; nan for every other row.

    Contextual calibration divides by the probabilities the same prompt gives with the blank picture instead of the clip's
    (T. Z. Zhao et al., Calibrate Before Use, https://arxiv.org/abs/2102.09690, section 5: W = diag(p_cf)^-1, b = 0), which
    here is a difference of logits, brought to a sum of 1 by the softmax. A blank answer itself becomes uniform.
    """
    logits = np.full((len(rows), len(classes)), np.nan)
    for i, row in enumerate(rows):
        if row["scoring"] == "likelihood" and row["outcome"] == "answered":
            logits[i] = _by_class(row, "log_probabilities", classes)
            if normalise == "length":
                logits[i] /= _by_class(row, "label_tokens", classes)
    if not contextual or np.isnan(logits).all():
        return logits
    blank = {(row["trial"], row["clip"]): logits[i] for i, row in enumerate(rows) if row["control"] == "blank"}
    if not blank:
        raise VlmAudioError(
            "contextual calibration must have answers to the blank picture, got none; add `controls: [blank]`"
        )
    unknown = np.full(len(classes), np.nan)
    context = np.array([blank.get((row["trial"], row["clip"]), unknown) for row in rows])
    return logits - np.where(np.isfinite(context), context, np.nan)


def _by_class(row: dict[str, Any], column: str, classes: Sequence[str]) -> list[float]:
    values = dict(row[column] or ())
    if missing := [label for label in classes if label not in values]:
        raise VlmAudioError(
            f"an answer scored by likelihood must have {column} of every class, got none of {missing[:5]} for "
            f"'{row['clip']}'; make the answers again"
        )
    return [float(values[label]) for label in classes]


def temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Fit the temperature that makes scores say how often they are right.

    Minimises the negative log-likelihood of the true classes under softmax(logits / T) (C. Guo et al., On Calibration of
    Modern Neural Networks, https://arxiv.org/abs/1706.04599, section 4.2), which has one minimum over T; by Brent's bounded
    search over log T. No prediction changes.

    Args:
        logits: (answers, classes) float64, finite.
        truth: (answers,) int, indices of the true classes.

    Returns:
        T, from 0.01 to 100.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def loss(log_t: float) -> float:
        return float(-log_softmax(logits / np.exp(log_t), axis=1)[np.arange(len(truth)), truth].mean())

    bounds = (np.log(_COLDEST), np.log(_HOTTEST))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))
