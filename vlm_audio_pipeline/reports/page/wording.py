"""Words, numbers and links that all sentences of the page are made of.

What belongs here: how one thing is written. What does not: what is said (`sentences`, `failures`).
"""

from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from vlm_audio_pipeline.reports.page.runs import Run

KINDS = {
    "probe": "a linear probe",
    "knn": "a vote of nearest neighbours",
    "zero_shot": "zero-shot matching with class names",
    "language_model": "a language model",
    "human": "people",
    "baseline": "a vote of the examples it was shown",
}
NO_MODEL = ("human", "baseline")
"""Kinds of runs that no model made."""


@dataclass
class Answer:
    """A question a reader has, with its answer.

    Attributes:
        question: as a heading.
        short: the answer, in a line.
        more: what it rests on, a sentence or two each.
    """

    question: str
    short: Markup
    more: list[Markup] = field(default_factory=list)


def percent(share: float | None, digits: int = 1) -> str:
    r"""Write a share of 1 as a percentage, which no line break parts.

    >>> percent(0.8525)
    '85.2\xa0%'
    """
    return "undefined" if share is None else f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def interval(row: dict[str, Any]) -> str:
    """Write the interval of a row of the leaderboard, or say that there is none."""
    low, high = row.get("accuracy_low"), row.get("accuracy_high")
    if low is None or high is None:
        return "no interval computed"
    return f"95\N{NO-BREAK SPACE}% interval {100 * low:.1f} to {percent(high)}"


def asked(row: dict[str, Any]) -> str:
    """Write what an accuracy is over."""
    things = "judgements" if row["scoring"] == "judgement" else "predictions"
    return f"{row['correct']} of {row['predictions']} {things}"


def show(text: str, run: int, **picked: Any) -> Markup:
    """Write a link that shows clips in the part of the page where they are looked at."""
    data = Markup("").join(Markup(' data-{}="{}"').format(key, value) for key, value in picked.items())
    return Markup('<a href="#clips" class="show" data-run="{}"{}>{}</a>').format(run, data, text)


def named(run: Run) -> Markup:
    """Write a run's name, its scoring too where that is not the plain one."""
    scoring = "" if run.scoring in ("score", "judgement") else f" ({run.scoring})"
    return Markup("<b>{}</b>{}").format(run.name, scoring)
