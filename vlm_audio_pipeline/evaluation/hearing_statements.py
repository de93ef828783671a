"""The verdicts on vision-language models as sentences, and the table `verdicts`.

An undecided sentence gives only the p-value of the test that did not decide, so that "cannot be decided" never stands beside
the p-value of a test that did.

Belongs here: wording. Does not belong here: the rule (`hearing`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.number_text import percent_text, rounded_text
from vlm_audio_pipeline.evaluation.hearing import (
    CAN,
    DECISIVE,
    MARGIN,
    NOT_DECISIVE,
    UNDECIDED,
    CorrectedComparison,
    Evidence,
    HearingModel,
    HearingStudy,
    collect_evidence,
    comparison_columns,
)
from vlm_audio_pipeline.evaluation.significance import p_text
from vlm_audio_pipeline.evaluation.tables import build_rows

_BELOW_MARGIN = f"and less than {100 * MARGIN:.0f} points count as no difference"
_ABOVE_MARGIN = f"so a difference of {100 * MARGIN:.0f} points or more is possible; more clips are needed"
SCORING_WORDS = {
    "likelihood": "the class name that is the most probable response",
    "generation": "the class that its text names",
    "first_token": "the class name whose first token is the most probable",
}
"""Scoring of a language model -> how it chooses a class, in words."""
_MIN_WITHOUT_LABEL = 0.05  # share of predictions without a label from which a sentence mentions them


def verdicts_table(models: Sequence[HearingModel], study: HearingStudy) -> pa.Table:
    """Decide for every vision-language model of a study whether it can hear what it sees.

    Args:
        models: the vision-language models, in the order of the study file.
        study: the data that they are compared with.

    Returns:
        `verdicts` rows without `study`, one for each model and scoring.
    """
    collected = collect_evidence(models, study)
    holm_over = sum(name in evidence.comparisons for evidence in collected for name in DECISIVE)
    return build_rows("verdicts", [_line(i, e, study, holm_over) for i, e in enumerate(collected)])


def _line(position: int, evidence: Evidence, study: HearingStudy, holm_over: int) -> dict[str, Any]:
    side, rows = evidence.side, evidence.model.predictions
    columns: dict[str, Any] = {}
    for name in (*DECISIVE, *NOT_DECISIVE):
        columns |= comparison_columns(name, evidence)
    return {
        "position": position,
        "classifier": evidence.model.classifier,
        "scoring": evidence.scoring,
        "answer": evidence.answer,
        "statement": statement(evidence, study),
        "caution": evidence.model.caution or None,
        "time_order": evidence.time_order,
        "accuracy": None if side is None else float(side.accuracy.mean()),
        **columns,
        "audio_classifier": evidence.baselines.get("audio"),
        "pixels_classifier": evidence.baselines.get("pixels"),
        "clips": 0 if rows is None else len(set(rows["clip"].to_pylist())),
        "dataset_clips": len(study.clips),
        "sources": 0 if side is None else len(np.unique(side.sources)),
        "holm_over": holm_over,
        "reason": "; ".join([evidence.incomplete] if evidence.incomplete else evidence.missing.values()) or None,
    }


def statement(evidence: Evidence, study: HearingStudy) -> str:
    """Return the verdict as sentences that can be read alone: accuracies in percent, differences in points, p-values after Holm."""
    name = evidence.model.classifier
    if evidence.scoring in SCORING_WORDS:
        name += f" (by {evidence.scoring.replace('_', ' ')}: {SCORING_WORDS[evidence.scoring]})"
    return " ".join(filter(None, [evidence.model.caution, *_sentences(name, evidence, study)]))


def _sentences(name: str, evidence: Evidence, study: HearingStudy) -> list[str]:
    if evidence.side is None:
        return [f"It cannot be decided whether {name} can hear what it sees: {evidence.incomplete}."]
    if evidence.answer == UNDECIDED:
        return [_undecided_sentence(name, evidence), *_blank_answer(evidence), *_limits(evidence, study)]
    first = (_positive_sentence if evidence.answer == CAN else _negative_sentence)(name, evidence)
    examples = ["This holds for the examples in its prompt; other examples may give another result."]
    sentences = [first, *_blank_answer(evidence), *_time_order(evidence), *_baselines(evidence)]
    return [*sentences, *(examples if evidence.model.shots else []), *_limits(evidence, study)]


def _positive_sentence(name: str, evidence: Evidence) -> str:
    chance, blank = evidence.corrected["chance"], evidence.corrected["blank"]
    return (
        f"{name} can hear what it sees: {_accuracy(evidence)}, better than the chance level ({_comparison_text(chance)}) and "
        f"better than with blank images ({_comparison_text(blank)})."
    )


def _negative_sentence(name: str, evidence: Evidence) -> str:
    chance = evidence.corrected["chance"]
    if chance.is_better:
        blank = evidence.corrected["blank"]
        return (
            f"{name} cannot hear what it sees: {_accuracy(evidence)}, better than the chance level ({_comparison_text(chance)}), "
            "but its accuracy does not come from the image: with blank images it is "
            f"{percent_text(blank.numbers.against_accuracy)}. {_upper_end('It is', 'above its accuracy on blank images', blank)}, "
            f"{_BELOW_MARGIN}."
        )
    worse = f", worse than the chance level ({_comparison_text(chance)})" if chance.is_worse else ""
    level = "" if worse else f" of {percent_text(chance.numbers.against_accuracy)}"
    return (
        f"{name} cannot hear what it sees: {_accuracy(evidence)}{worse}. "
        f"{_upper_end('It is', f'above the chance level{level}', chance)}, {_BELOW_MARGIN}."
    )


def _undecided_sentence(name: str, evidence: Evidence) -> str:
    chance, blank = evidence.corrected["chance"], evidence.corrected.get("blank")
    lead = f"It cannot be decided whether {name} can hear what it sees: {_accuracy(evidence)}"
    level = percent_text(chance.numbers.against_accuracy)
    if chance.is_better and blank is None:
        return (
            f"{lead}, better than the chance level ({level}), but it is not known whether the accuracy comes from the image: "
            f"{evidence.missing['blank']}."
        )
    if chance.is_better and blank is not None:
        return (
            f"{lead}, better than the chance level ({level}), but not shown to be better than with blank images "
            f"({_comparison_text(blank)}). {_upper_end('It is', 'above its accuracy on blank images', blank)}, {_ABOVE_MARGIN}."
        )
    return (
        f"{lead}, not shown to be better than the chance level ({_comparison_text(chance)}). "
        f"{_upper_end('It is', 'above the chance level', chance)}, {_ABOVE_MARGIN}."
    )


_BLANK_ANSWERS = {
    "all": ("All blank images get", "the share of clips whose class is that answer"),
    "fold": ("All blank images of a fold get", "the share of clips of one class in each fold"),
    "trial": ("In each trial, all blank images of a fold get", "the share of clips of one class in each fold"),
}
"""Result of `constant_answer` -> the images that get one answer, and what their accuracy then is."""


def _blank_answer(evidence: Evidence) -> list[str]:
    """Return the sentence that explains the accuracy on blank images, if all of them, or those of each fold, get one answer."""
    blank = evidence.corrected.get("blank")
    if blank is None or not evidence.blank_answer:
        return []
    scope, classes = _BLANK_ANSWERS[evidence.blank_answer]
    accuracy = percent_text(blank.numbers.against_accuracy)
    return [f"{scope} the same answer, so its accuracy on them, {accuracy}, is {classes}."]


def _time_order(evidence: Evidence) -> list[str]:
    shuffled = evidence.corrected.get("time_shuffled")
    if evidence.time_order is None or shuffled is None:
        return []
    accuracy = f"with time-shuffled images (columns in random order), {percent_text(shuffled.numbers.against_accuracy)} are correct"
    if evidence.time_order == "yes":
        return [
            f"It needs the order in time, or a time-shuffled image is too unusual for it: {accuracy} ({p_text(shuffled.p)})."
        ]
    if evidence.time_order == "no":
        end = _upper_end("The order adds", "to this accuracy", shuffled)
        return [f"It does not need the order in time: {accuracy}. {end}, {_BELOW_MARGIN}."]
    return [f"It cannot be decided whether it needs the order in time: {accuracy} ({p_text(shuffled.p)})."]


def _baselines(evidence: Evidence) -> list[str]:
    sentences = []
    for kind, title in (
        ("audio", "{}, which receives the audio"),
        ("pixels", "{}, a linear probe on the pixels of the same images"),
    ):
        if kind in evidence.corrected:
            compared, name = evidence.corrected[kind], title.format(evidence.baselines[kind])
            verb = "is worse than" if compared.is_worse else "is better than" if compared.is_better else None
            sentences.append(
                f"It {verb} {name} ({_comparison_text(compared)})."
                if verb
                else f"It is not shown to be better or worse than {name} ({_comparison_text(compared)})."
            )
    return sentences


def _limits(evidence: Evidence, study: HearingStudy) -> list[str]:
    assert evidence.side is not None
    sentences = []
    if evidence.without_label >= _MIN_WITHOUT_LABEL:
        sentences.append(f"{percent_text(evidence.without_label)} of its responses have no label and count as wrong.")
    if len(evidence.side.clips) < len(study.clips):
        sentences.append(
            f"It is run on {len(evidence.side.clips):,} of {len(study.clips):,} clips, as the study declares."
        )
    if tuned := sorted(set(study.tuning_folds) & set(evidence.side.folds.tolist())):
        sentences.append(f"Choices were tuned on fold {', '.join(map(str, tuned))}, which is included.")
    return sentences


def _accuracy(evidence: Evidence) -> str:
    """Return "196 of 200 clips correct (98.0 %, 95 % interval 95.0 to 99.2 %)"; without the count if clips have several trials."""
    side, interval = evidence.side, evidence.interval
    assert side is not None and interval is not None
    accuracy, clips = float(side.accuracy.mean()), f"{len(side.clips):,} clips"
    low, high = rounded_text(100 * interval.low, 1), percent_text(interval.high)
    if side.has_one_prediction_per_clip:
        return f"{round(side.accuracy.sum()):,} of {clips} correct ({percent_text(accuracy)}, 95 % interval {low} to {high})"
    return f"{percent_text(accuracy)} correct on average over {clips} (95 % interval {low} to {high})"


def _comparison_text(comparison: CorrectedComparison) -> str:
    return f"{percent_text(comparison.numbers.against_accuracy)}, {p_text(comparison.p)}"


def _upper_end(lead: str, reference: str, comparison: CorrectedComparison) -> str:
    """Return "It is at most 3.6 points above the chance level (upper end of the 95 % interval)"."""
    points = rounded_text(max(0.0, 100 * comparison.numbers.interval.high), 1)
    return f"{lead} at most {points} points {reference} (upper end of the 95 % interval)"
