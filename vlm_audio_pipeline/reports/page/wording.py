"""Format numbers, names and links for the sentences of the page."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

from vlm_audio_pipeline.contracts.number_text import percent_text, rounded_text
from vlm_audio_pipeline.evaluation.result_names import EXAMPLES_KNN
from vlm_audio_pipeline.measures.uncertainty import CLIPS_AND_DRAWS, THESE_EXAMPLES
from vlm_audio_pipeline.reports.page.runs import PageRun

KINDS = {
    "probe": "a linear probe",
    "knn": "a k-nearest-neighbour classifier",
    "zero_shot": "a zero-shot classifier with class names",
    "language_model": "a language model",
    "annotations": "human annotators",
    "baseline": "a reference that does not use the model",
}
"""Kind of a run -> the kind in words."""
NOT_MODELS = ("annotations", "baseline")
"""Kinds of runs whose predictions do not come from a model."""
INTERVAL_SCOPES = {THESE_EXAMPLES: "for these examples", CLIPS_AND_DRAWS: "over draws of examples"}
"""`interval_scope` of a row with examples -> its words."""
SCORINGS_NOTE = (
    "A language model chooses its class by likelihood (the class name that is the most probable response) or by generation (the "
    "class that its text names)."
)
"""What the scorings of language models mean."""
DEFAULT_SCORINGS = ("", "score", "annotation", EXAMPLES_KNN)
"""Scorings that the page does not show: of kinds with only one scoring, and of the k-NN baseline, whose name says it."""
SECTION_TITLES = {
    "one-clip": "One clip",
    "verdicts": "Answer",
    "key-findings": "Findings",
    "leaderboard": "Leaderboard",
    "contrasts": "Comparisons",
    "controls": "Controls",
    "changed-audio": "Changed audio",
    "clips": "Clips",
    "comparison": "Agreement",
    "maps": "Maps",
    "reliability": "Calibration",
    "prompts": "Prompts",
    "published": "Published",
    "quality": "Embeddings",
    "leakage": "Leakage",
    "costs": "Costs",
    "history": "History",
    "provenance": "Provenance",
}
"""Section of the report -> its heading, which is also its name in the menu."""


@dataclass
class KeyFinding:
    """A question about the study with its answer, for the top of the page.

    Attributes:
        question: the heading.
        answer: one sentence.
        details: more sentences that support the answer.
    """

    question: str
    answer: Markup
    details: list[Markup] = field(default_factory=list)


@dataclass
class NamedReason:
    """Why something is missing, and the names of the classifiers that it is missing for."""

    reason: str
    names: list[str]


def group_by_reason(reasons: Iterable[tuple[str, str]]) -> list[NamedReason]:
    """Group pairs of a classifier and the reason why it has no results; each classifier occurs once for a reason.

    >>> group_by_reason([("a", "not run: no key"), ("b", "not run: no key")])
    [NamedReason(reason='no key', names=['a', 'b'])]
    """
    groups: dict[str, NamedReason] = {}
    for name, reason in reasons:
        text = reason.removeprefix("not run: ")
        group = groups.setdefault(text, NamedReason(text, []))
        if name not in group.names:
            group.names.append(name)
    return list(groups.values())


def percent(share: float | None, digits: int = 1) -> str:
    r"""Return a share of 1 as a percentage, with a non-breaking space.

    >>> percent(0.8525)
    '85.3\xa0%'
    """
    return "undefined" if share is None else percent_text(share, digits).replace(" ", "\N{NO-BREAK SPACE}")


def use_non_breaking_spaces(text: str) -> str:
    """Replace the spaces inside p-values, percentages and numbers of points by non-breaking spaces."""
    return re.sub(r"(?<=\bp) ([<=]) (?=\d)|(?<=\d) (?=points|%)", lambda m: f"\xa0{m[1]}\xa0" if m[1] else "\xa0", text)


def group_thousands(value: int | str) -> str:
    """Return a count with separators of thousands; a text unchanged.

    >>> group_thousands(18800)
    '18,800'
    """
    return f"{value:,}" if isinstance(value, int) else value


def interval(row: dict[str, Any]) -> str:
    """Return the confidence interval of a leaderboard row in words."""
    low, high = row.get("accuracy_low"), row.get("accuracy_high")
    if low is None or high is None:
        return "no 95\N{NO-BREAK SPACE}% interval computed"
    scope = interval_scope(row)
    return f"95\N{NO-BREAK SPACE}% interval {rounded_text(100 * low, 1)} to {percent(high)}{scope and f', {scope}'}"


def interval_scope(row: dict[str, Any]) -> str:
    """Return what the interval of a leaderboard row with examples covers, in words; "" without examples."""
    return INTERVAL_SCOPES.get(row.get("interval_scope") or "", "")


def correct_of_total(row: dict[str, Any]) -> str:
    """Return the counts of an accuracy: "30 of 40 predictions correct"."""
    unit = "annotations" if row["scoring"] == "annotation" else "predictions"
    return f"{row['correct']:,} of {row['predictions']:,} {unit} correct"


def clips_link(text: str, run: int, **selection: Any) -> Markup:
    """Return a link that shows a selection of clips in the section "Browse the clips"."""
    data = Markup("").join(Markup(' data-{}="{}"').format(key, value) for key, value in selection.items())
    return Markup('<a href="#clips" class="show" data-run="{}"{}>{}</a>').format(run, data, text)


def run_name(run: PageRun) -> Markup:
    """Return the name of a run, with its scoring if that is not the default."""
    scoring = "" if run.scoring in DEFAULT_SCORINGS else f" ({run.scoring})"
    return Markup("<b>{}</b>{}").format(run.name, scoring)


def name_runs(runs: Sequence[PageRun]) -> Markup:
    """Return the names of several runs; the scorings of one classifier share its name.

    "janus (likelihood and generation), clap and probe".
    """
    scorings: dict[str, list[str]] = {}
    for run in sorted(runs, key=lambda run: run.scoring != "likelihood"):
        scorings.setdefault(run.name, []).append(run.scoring)
    return join_words(
        [
            Markup("<b>{}</b>{}").format(
                name, "" if set(of_name) <= set(DEFAULT_SCORINGS) else f" ({join_words(list(map(escape, of_name)))})"
            )
            for name, of_name in scorings.items()
        ]
    )


def join_words(words: Sequence[Markup]) -> Markup:
    """Return "a, b and c"."""
    *first, last = words
    return Markup(" and ").join([Markup(", ").join(first), last]) if first else last
