"""The key finding "Is it shown to be better?": what the declared contrasts say about the best model and the others.

The sentences repeat the results of tests, compute no further test, and conclude nothing from intervals.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.measures.uncertainty import WILSON, WILSON_OVER_DRAWS
from vlm_audio_pipeline.reports.page.runs import PageRun
from vlm_audio_pipeline.reports.page.wording import KeyFinding, join_words, percent, run_name

INTERVAL_METHODS = {
    WILSON: "Wilson interval with the effective number of clips",
    WILSON_OVER_DRAWS: "Wilson interval with the effective number of clips and draws of examples",
}
"""Method of an interval -> its words."""
_CERTAINTY = "Is it shown to be better than the second-best model?"
_COUNTS = {
    "better": "the first side is better in {}",
    "worse": "the second side is better in {}",
    "equivalent": "the sides are equivalent in {}",
    "cannot tell apart": "no difference is shown in {}",
    "not compared": "{} could not be computed",
}
"""Verdict of a contrast -> words for the number of contrasts with it."""


def certainty_finding(
    models: Sequence[PageRun],
    best: PageRun,
    contrasts: Sequence[dict[str, Any]],
    leakage: Sequence[dict[str, Any]],
) -> KeyFinding:
    """Return whether a declared contrast shows that the best model is better, and what limits this.

    Args:
        models: the ranked models, best first.
        best: the model that the finding is about.
        contrasts: rows of `contrasts`.
        leakage: summaries, as `leakage_findings` returns them.
    """
    others = [run for run in models if run.classifier != best.classifier]
    if others:
        tied = (run for run in others if run.row["rank"] == others[0].row["rank"])
        second = next((run for run in tied if find_contrast(contrasts, best, run)), others[0])
        answer, details = _compare(best, second, contrasts)
    else:
        answer, details = Markup("There is no second model for a comparison."), []
    verdicts = Counter(row["verdict"] for row in contrasts)
    if counts := [Markup(words).format(verdicts[name]) for name, words in _COUNTS.items() if verdicts[name]]:
        details.append(
            Markup('Of the {} declared in advance, {}. <a href="#contrasts">Show all</a>').format(
                f"{len(contrasts)} comparisons" if len(contrasts) > 1 else "one comparison", join_words(counts)
            )
        )
    if method := best.row.get("interval"):
        details.append(
            Markup(
                "Clips of one source recording are alike. The 95\N{NO-BREAK SPACE}% intervals allow for this ({})."
            ).format(INTERVAL_METHODS.get(method, method))
        )
    warnings = [row for row in leakage if row["severity"] in ("leak", "suspect")]
    if warnings:
        details.append(
            Markup(
                'Accuracies may be too high because of leakage: {}{}. <a href="#leakage">Show all checks</a>'
            ).format(warnings[0]["finding"], f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else "")
        )
    if best.row.get("partial"):
        details.append(Markup("The run is partial: {}.").format(best.row["note"]))
    is_tied = any(run.row["rank"] is not None and run.row["rank"] == best.row["rank"] for run in others)
    question = "Is one of them shown to be better than the others?" if is_tied else _CERTAINTY
    return KeyFinding(question, answer, details)


def _compare(best: PageRun, second: PageRun, contrasts: Sequence[dict[str, Any]]) -> tuple[Markup, list[Markup]]:
    """Compare the two best models by the contrast that the study declares; without one, say that there is no test."""
    contrast = find_contrast(contrasts, best, second)
    if contrast is None:
        return _describe_lead(best, second)
    is_first = best.key == (contrast["classifier"], contrast["scoring"], contrast["control"])
    better, worse = ("better", "worse") if is_first else ("worse", "better")
    answers = {
        better: "Yes: {} is better than {}.",
        worse: "No: {} is worse than {} on the clips of the comparison.",
        "equivalent": "No: {} and {} are equivalent within the margin that the study declares.",
        "cannot tell apart": "Not shown: no difference between {} and {} is shown.",
        "not compared": "{} and {} could not be compared.",
    }
    answer = Markup(answers[contrast["verdict"]])
    details = [Markup("{}").format(contrast["statement"])]
    return answer.format(run_name(best), run_name(second)), details


def find_contrast(contrasts: Sequence[dict[str, Any]], a: PageRun, b: PageRun) -> dict[str, Any] | None:
    """Return the declared contrast of two runs, preferably the one over all clips."""

    def compared_runs(row: dict[str, Any]) -> set[tuple[Any, ...]]:
        return {
            (row["classifier"], row["scoring"], row["control"]),
            (row["against"], row["against_scoring"], row["against_control"]),
        }

    pair = {(run.classifier, run.scoring, run.control) for run in (a, b)}
    matching = [row for row in contrasts if compared_runs(row) == pair]
    return min(matching, key=lambda row: row["subset"] != "all", default=None)


def _describe_lead(best: PageRun, second: PageRun) -> tuple[Markup, list[Markup]]:
    """Describe the difference of two runs that no contrast compares. Intervals that overlap or not are no paired test."""
    pair = (run_name(best), run_name(second))
    difference = 100 * (best.row["accuracy"] - second.row["accuracy"])
    if best.row["accuracy"] == second.row["accuracy"]:
        lead = Markup("They have the same accuracy.")
    else:
        lead = Markup("The accuracy of {} is {} percentage points above that of {}.").format(
            pair[0], rounded_text(difference, 1), pair[1]
        )
    advice = Markup("A contrast of the two in the study file would test the difference.")
    return Markup("Not tested: the study declares no comparison of {} and {}.").format(*pair), [lead, advice]


def not_shown_to_be_worse(
    ranked: Sequence[PageRun], first: Sequence[PageRun], contrasts: Sequence[dict[str, Any]]
) -> list[Markup]:
    """List the models of lower accuracy that no declared contrast shows to be worse than one of the first."""
    others = [run for run in ranked if run.classifier not in {r.classifier for r in first}]
    untested, undecided = [], []
    for run in others:
        results = {row["verdict"] for r in first if (row := find_contrast(contrasts, r, run))} - {"not compared"}
        if not results:
            untested.append(run)
        elif not results & {"better", "worse"}:
            undecided.append(run)
    details = []
    if undecided:
        details.append(
            Markup("Less accurate here, but a test shows no difference: {}.").format(_with_accuracy(undecided))
        )
    if untested:
        which = "this model" if len(first) == 1 else "any of these models"
        details.append(
            Markup("Less accurate here, but not tested against {}: {}.").format(which, _with_accuracy(untested))
        )
    return details


def _with_accuracy(runs: Sequence[PageRun]) -> Markup:
    return join_words([Markup("{} ({})").format(run_name(run), percent(run.row["accuracy"])) for run in runs])
