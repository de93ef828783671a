"""The answer at the top of the page: whether each vision-language model of the study can hear what it sees.

Belongs here: the heading and the cells of the table of verdicts. Does not belong here: the answers (`evaluation.hearing`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlm_audio_pipeline.contracts.number_text import percent_text
from vlm_audio_pipeline.evaluation.hearing import CAN, CANNOT, DECISIVE, NOT_DECISIVE, UNDECIDED
from vlm_audio_pipeline.evaluation.hearing_statements import SCORING_WORDS
from vlm_audio_pipeline.evaluation.significance import ALPHA, p_text
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.reports.page.wording import NamedReason, group_by_reason, use_non_breaking_spaces

MAX_NAMED_MODELS = 3
"""Number of models that the heading names; of more models it gives counts."""

_COLUMNS = {
    "blank": "blank image",
    "time_shuffled": "time-shuffled image",
    "chance": "chance level",
    "audio": "audio baseline",
    "pixels": "probe on the pixels",
}


@dataclass(frozen=True)
class VerdictView:
    """The verdicts of a study as the page shows them.

    Attributes:
        correction: for how many tests the p-values are corrected, as a sentence.
        question: the heading's question.
        answers: its answers: of each model, or counts of many models.
        statements: rows of `verdicts`, one for each model with a complete run and each answer: scorings with the same answer
            share a row.
        without_run: the models without a complete run, by the reason.
        columns: the references that any model was compared with: name in `verdicts` -> heading.
        rows: the rows of `verdicts` with an accuracy, each with `cells`: name of a reference -> `Cell`, or None if it was not
            compared.
    """

    correction: str
    question: str
    answers: list["HeadingAnswer"]
    statements: list[dict[str, Any]]
    without_run: list[NamedReason]
    columns: dict[str, str]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class HeadingAnswer:
    """One sentence of the heading, and the answer that it gives; "" if the scorings of a model differ."""

    sentence: str
    answer: str


@dataclass(frozen=True)
class Cell:
    """One comparison: `finding` says whether the model on its images is better, worse, or neither is shown."""

    accuracy: float
    classifier: str | None
    finding: str
    p: str


def verdict_view(verdicts: Sequence[dict[str, Any]]) -> VerdictView | None:
    """Return the verdicts as the page shows them, or None for a study without vision-language models.

    Args:
        verdicts: rows of `verdicts`, in any order.
    """
    if not verdicts:
        return None
    ordered = sorted(verdicts, key=lambda row: row["position"])
    models: dict[str, list[dict[str, Any]]] = {}
    for row in ordered:
        models.setdefault(row["classifier"], []).append(row)
    statements = []
    complete = [row for row in ordered if row["accuracy"] is not None]
    for rows in models.values():
        first_of_answer: dict[str, dict[str, Any]] = {}
        for row in (row for row in rows if row["accuracy"] is not None):
            if (first := first_of_answer.get(row["answer"])) is None:
                first_of_answer[row["answer"]] = row | {"statement": _statement(row)}
            else:
                first["statement"] += f" {_same_answer(row)}"
        statements += list(first_of_answer.values())
    question, answers = _heading(models)
    columns = {name: title for name, title in _COLUMNS.items() if any(row[f"{name}_p"] is not None for row in ordered)}
    lines = [{**row, "cells": {name: _cell(row, name) for name in columns}} for row in complete]
    without_run = group_by_reason((row["classifier"], row["reason"]) for row in ordered if row["accuracy"] is None)
    return VerdictView(_correction(verdicts), question, answers, statements, without_run, columns, lines)


def count_corrected_tests(verdicts: Sequence[dict[str, Any]], reference: str) -> int:
    """Return for how many tests the p-value of a comparison with a reference is corrected.

    Tests against chance and blank images, which decide the answers, are corrected together, and so are all others.

    Args:
        verdicts: all rows of `verdicts` of a study.
        reference: "chance", "blank", "time_shuffled", "audio" or "pixels".
    """
    names = DECISIVE if reference in DECISIVE else NOT_DECISIVE
    return sum(row[f"{name}_p"] is not None for row in verdicts for name in names)


def _correction(verdicts: Sequence[dict[str, Any]]) -> str:
    decisive, others = (count_corrected_tests(verdicts, names[0]) for names in (DECISIVE, NOT_DECISIVE))
    words = [f"those of the chance level and of blank images for {decisive} test{'s' * (decisive != 1)}"]
    if others:
        words.append(f"all others for {others} test{'s' * (others != 1)}")
    return f"The p-values are corrected for the number of tests (Holm): {', '.join(words)}."


def _statement(row: dict[str, Any]) -> str:
    """Return the statement without its caution, which the page shows at its top and beside the answer."""
    text = row["statement"].removeprefix(f"{row.get('caution') or ''} ").lstrip()
    for scoring in ("likelihood", "generation"):  # `wording.SCORINGS_NOTE` explains them above the answers
        text = text.replace(f"(by {scoring}: {SCORING_WORDS[scoring]})", f"(by {scoring})")
    return use_non_breaking_spaces(text)


def _same_answer(row: dict[str, Any]) -> str:
    words = row["scoring"].replace("_", " ")
    return use_non_breaking_spaces(f"By {words} the answer is the same: {percent_text(row['accuracy'])} correct.")


def page_caution(results: StudyResults, verdicts: Sequence[dict[str, Any]]) -> str:
    """Return why results of a study are no finding about real models or recordings, or "" if they are."""
    cautions = dict.fromkeys(row["caution"] for row in verdicts if row.get("caution"))
    if not cautions and results.card is not None and results.card.is_demonstration:
        return "Demonstration, not a finding: the sounds are synthetic."
    return " ".join(cautions)


def reason_without_verdicts(spec: dict[str, Any]) -> str:
    """Return why a study has no verdicts: it has no vision-language model, or they were not computed.

    Args:
        spec: the study file as it was run, with every default filled in.
    """
    classifiers = spec.get("classifiers", {}).values()
    if any(c.get("kind") == "language_model" and c.get("rendering") for c in classifiers):
        return "The verdicts on the vision-language models of this study were not computed; run the study again."
    return (
        "This study has no vision-language model, so it does not answer whether one can hear what it sees. "
        "It ranks other classifiers."
    )


def _heading(models: dict[str, list[dict[str, Any]]]) -> tuple[str, list[HeadingAnswer]]:
    """Return the question and its answers: with the names of a few models, or counts of many."""
    answers = {name: _answer_of_model(rows) for name, rows in models.items()}
    if len(answers) == 1:
        ((name, answer),) = answers.items()
        text = "This cannot be decided." if answer == UNDECIDED else f"{answer[0].upper()}{answer[1:]}."
        return f"Can {name} hear what it sees?", [HeadingAnswer(text, _single_answer(answer))]
    question = "Can vision-language models hear what they see?"
    if len(answers) <= MAX_NAMED_MODELS:
        return question, [HeadingAnswer(f"{n}: {a}.", _single_answer(a)) for n, a in answers.items()]
    counts = Counter(_single_answer(answer) or "it depends on the scoring" for answer in answers.values())
    ordered = sorted(counts.items(), key=lambda item: ([CAN, UNDECIDED, CANNOT, item[0]].index(item[0]), item[0]))
    return question, [HeadingAnswer(f"{n} of {len(answers)} models: {a}.", _single_answer(a)) for a, n in ordered]


def _single_answer(answer: str) -> str:
    """Return the answer of a model, or "" if its scorings differ."""
    return answer if answer in (CAN, CANNOT, UNDECIDED) else ""


def _answer_of_model(rows: Sequence[dict[str, Any]]) -> str:
    """Return the answer of a model; if its scorings differ, each answer with its scorings."""
    scorings: dict[str, list[str]] = {}
    for row in rows:
        scorings.setdefault(row["answer"], []).append(row["scoring"])
    if len(scorings) == 1:
        return next(iter(scorings))
    return ", ".join(f"{answer} (by {' and '.join(names)})" for answer, names in scorings.items())


def _cell(row: dict[str, Any], name: str) -> Cell | None:
    p = row[f"{name}_p"]
    if p is None:
        return None
    accuracy = row[f"{name}_accuracy"]
    finding = "no difference shown" if p >= ALPHA else "model better" if row["accuracy"] > accuracy else "model worse"
    return Cell(accuracy, row.get(f"{name}_classifier"), finding, use_non_breaking_spaces(p_text(p)))
