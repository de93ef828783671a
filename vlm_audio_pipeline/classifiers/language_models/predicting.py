"""Turn stored responses into predictions: normalise, calibrate, parse. Sends no request.

Belongs here: scores and the row of each response. Does not belong here: parsing text (`parsing`), requests (`asking`).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.classifiers.language_models.first_token import best_label
from vlm_audio_pipeline.classifiers.language_models.parsing import parse_response
from vlm_audio_pipeline.classifiers.prediction_rows import softmax
from vlm_audio_pipeline.contracts.errors import VlmAudioError

Normalise = Literal["none", "length"]
"""none: the log-probability of the whole label; length: divided by its tokens, so that long labels are not at a disadvantage."""

Calibrate = Literal["contextual", "temperature"]
"""contextual: divide by the probabilities for the blank image; temperature: scale by the temperature fitted on the other folds."""

_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.01, 100.0


def predict_from_responses(
    responses: pa.Table,
    clips: pa.Table,
    classes: Sequence[str],
    *,
    normalise: Normalise = "none",
    calibrate: Collection[Calibrate] = (),
    other_responses: pa.Table | None = None,
    synonyms: Mapping[str, Sequence[str]] | None = None,
    **constants: Any,
) -> pa.Table:
    """Return one row of `predictions` for every response, also for refusals and errors.

    Likelihood: scores are the softmax over classes of the summed log-probabilities, after normalisation and calibration. The
    class with the highest score is predicted; a tie goes to the class that comes first in `classes`. The confidence is the
    highest score. A response with undefined scores (NaN, or no blank-image response to calibrate with) is an error.
    First token: the class whose first token is the most likely is predicted; there are no scores and no confidence. If a
    first token that several classes share is at least as likely, the response is unparseable.
    Generation: the text is parsed; there are no scores and no confidence. A text that was cut off is answered only if it
    contains an explicit answer (a class name alone, JSON, "Answer: ..."); otherwise it is truncated.
    A response with the outcome "refused" or "error" keeps it.

    Args:
        responses: `responses` rows of a fold, of all scorings, controls and trials.
        clips: `clips` rows of the fold; to fit a temperature, also of the other folds.
        classes: the labels of the study.
        normalise: see `Normalise`.
        calibrate: see `Calibrate`; contextual calibration comes first.
        other_responses: `responses` rows of the other folds, on which the temperature is fitted.
        synonyms: the synonyms of the study.
        constants: columns with one value for all rows: `kind`, `rendering`, `prompt`, `shots`, ...

    Returns:
        Rows of `predictions` in the order of `responses`.

    Raises:
        VlmAudioError: if a response is about an unknown clip or lacks the log-probability of a class, or if calibration
            has no responses to blank images or of other folds.
    """
    rows = responses.to_pylist()
    clips_by_id = {row["clip"]: row for row in clips.select(["clip", "label", "source"]).to_pylist()}
    if unknown := sorted({row["clip"] for row in rows} - clips_by_id.keys()):
        raise VlmAudioError(
            f"some responses are about clips that are not in the study: {unknown[:5]}; compute the responses again"
        )
    logits = _logits(rows, classes, normalise, "contextual" in calibrate)
    before = _logits(rows, classes, normalise, contextual=False) if "contextual" in calibrate else None
    if "temperature" in calibrate and np.isfinite(logits).all(axis=1).any():
        other_rows = [] if other_responses is None else other_responses.to_pylist()
        other_logits = _logits(other_rows, classes, normalise, "contextual" in calibrate)
        usable = [
            i for i, row in enumerate(other_rows) if row["control"] == "none" and np.isfinite(other_logits[i]).all()
        ]
        if not usable:
            raise VlmAudioError(
                "the temperature is fitted on responses of other folds, but there are none; run more folds first"
            )
        truth = np.array([classes.index(clips_by_id[other_rows[i]["clip"]]["label"]) for i in usable])
        logits = logits / fit_temperature(other_logits[usable], truth)
    predictions = []
    for i, (row, scores) in enumerate(zip(rows, _scores(logits), strict=True)):
        clip = clips_by_id[row["clip"]]
        outcome, predicted = _outcome_and_label(row, scores, classes, synonyms)
        if outcome != "answered":
            scores = None
        predictions.append(
            {
                **{name: row[name] for name in _COPIED_COLUMNS},
                "source": clip["source"],
                "label": clip["label"],
                "predicted": predicted,
                "outcome": outcome,
                "correct": predicted == clip["label"],
                "label_before_calibration": None if before is None else _likeliest(before[i], classes),
                "scores": None if scores is None else list(zip(classes, scores.tolist(), strict=True)),
                "confidence": None if scores is None else float(scores.max()),
                "tokens": None if row["input_tokens"] is None else row["input_tokens"] + (row["output_tokens"] or 0),
            }
        )
    schema = pa.schema([*(responses.schema.field(name) for name in _COPIED_COLUMNS), *_COMPUTED_FIELDS])
    table = pa.Table.from_pylist(predictions, schema)
    for name, value in constants.items():
        table = table.append_column(name, pa.array([value] * table.num_rows))
    return table


_COPIED_COLUMNS = ("scoring", "control", "trial", "clip", "text", "model", "revision", "seconds", "usd", "answered_at")
_COMPUTED_FIELDS = (
    *(pa.field(name, pa.string()) for name in ("source", "label", "predicted", "outcome")),
    pa.field("correct", pa.bool_()),
    pa.field("label_before_calibration", pa.string()),
    pa.field("scores", pa.map_(pa.string(), pa.float64())),
    pa.field("confidence", pa.float64()),
    pa.field("tokens", pa.int64()),
)


def _outcome_and_label(
    row: dict[str, Any],
    scores: np.ndarray | None,
    classes: Sequence[str],
    synonyms: Mapping[str, Sequence[str]] | None,
) -> tuple[str, str | None]:
    """Return the outcome and the predicted class."""
    if row["outcome"] not in ("answered", "truncated"):
        return row["outcome"], None
    if row["scoring"] == "likelihood":
        return ("error", None) if scores is None else ("answered", classes[int(scores.argmax())])
    if row["scoring"] == "first_token":
        values = dict(row["first_token_probabilities"] or ())
        best = best_label([values.get(label) for label in classes], row["first_token_shared"])
        return ("unparseable", None) if best is None else ("answered", classes[best])
    parsed = parse_response(row["text"], classes, synonyms)
    if row["outcome"] == "truncated" and parsed.rule not in ("whole", "json", "marker"):
        return "truncated", None
    return parsed.outcome, parsed.label


def _likeliest(logits: np.ndarray, classes: Sequence[str]) -> str | None:
    """Return the class with the highest logit; None if logits are undefined."""
    return None if np.isnan(logits).any() else classes[int(logits.argmax())]


def _scores(logits: np.ndarray) -> list[np.ndarray | None]:
    """Return the softmax of every row; None if it is undefined."""
    defined = ~np.isnan(logits).any(axis=1) & np.isfinite(logits.max(axis=1, initial=-np.inf))
    scores = iter(softmax(logits[defined]))
    return [next(scores) if is_defined else None for is_defined in defined]


def _logits(
    rows: Sequence[dict[str, Any]], classes: Sequence[str], normalise: Normalise, contextual: bool
) -> np.ndarray:
    """Return (rows, classes) float64 logits of the likelihood responses; nan for every other row.

    Contextual calibration divides by the probabilities of the same prompt with the blank image instead of the clip's
    (T. Z. Zhao et al., Calibrate Before Use, https://arxiv.org/abs/2102.09690, section 5: W = diag(p_cf)^-1, b = 0), here as
    a difference of logits, which the softmax normalises. The scores of the blank image itself become uniform.
    """
    logits = np.full((len(rows), len(classes)), np.nan)
    for i, row in enumerate(rows):
        if row["scoring"] == "likelihood" and row["outcome"] == "answered":
            logits[i] = _class_values(row, "log_probabilities", classes)
            if normalise == "length":
                logits[i] /= _class_values(row, "label_tokens", classes)
    if not contextual or np.isnan(logits).all():
        return logits
    blank = {(row["trial"], row["clip"]): logits[i] for i, row in enumerate(rows) if row["control"] == "blank"}
    if not blank:
        raise VlmAudioError(
            "contextual calibration needs responses to the blank image, got none; add `controls: [blank]`"
        )
    missing = np.full(len(classes), np.nan)
    context = np.array([blank.get((row["trial"], row["clip"]), missing) for row in rows])
    return logits - np.where(np.isfinite(context), context, np.nan)


def _class_values(row: dict[str, Any], column: str, classes: Sequence[str]) -> list[float]:
    values = dict(row[column] or ())
    if missing := [label for label in classes if label not in values]:
        raise VlmAudioError(
            f"a response to '{row['clip']}' scored by likelihood has no {column} of the classes {missing[:5]}; compute the "
            "responses again"
        )
    return [float(values[label]) for label in classes]


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Fit the temperature that calibrates scores.

    Minimises the negative log-likelihood of the true classes under softmax(logits / T) (C. Guo et al., On Calibration of
    Modern Neural Networks, https://arxiv.org/abs/1706.04599, section 4.2), which has one minimum over T, by Brent's bounded
    search over log T. It changes no predicted class.

    Args:
        logits: (responses, classes) float64, finite.
        truth: (responses,) int, indices of the true classes.

    Returns:
        T, from 0.01 to 100.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def loss(log_t: float) -> float:
        return float(-log_softmax(logits / np.exp(log_t), axis=1)[np.arange(len(truth)), truth].mean())

    bounds = (np.log(_MIN_TEMPERATURE), np.log(_MAX_TEMPERATURE))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x))
