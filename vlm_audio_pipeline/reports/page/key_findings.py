"""The key findings at the top of the page: which model is best, how certain that is, and which clips it gets wrong.

The sentences repeat the results of declared tests and computed intervals. They compute no test of their own, and say so
where no test was declared.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from vlm_audio_pipeline.reports.page.failures import failure_finding
from vlm_audio_pipeline.reports.page.runs import PageRun
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.reports.page.wording import (
    KINDS,
    NOT_MODELS,
    KeyFinding,
    correct_of_total,
    interval,
    percent,
    run_name,
)

_QUESTION = "Which model classifies the sounds best?"
_UNRANKED = 10**9


def key_findings(
    results: StudyResults,
    runs: Sequence[PageRun],
    contrasts: Sequence[dict[str, Any]] = (),
    leakage: Sequence[dict[str, Any]] = (),
    not_run: int = 0,
) -> tuple[KeyFinding, ...]:
    """Return the three key findings, or one where nothing was run.

    Args:
        results: the study.
        runs: in the order of the leaderboard, with votes.
        contrasts: rows of `contrasts`.
        leakage: summaries, as `sections.leakage_findings` returns them.
        not_run: number of classifiers that were not run.
    """
    originals = [run for run in runs if run.control == "none"]
    ranked = [run for run in originals if run.row["rank"] is not None]
    if not originals:
        return (KeyFinding(_QUESTION, Markup("No classifier has results yet.")),)
    models = [run for run in ranked or originals if run.kind not in NOT_MODELS]
    # Of equally ranked scorings "likelihood" stands for a model, as in the contrasts.
    models.sort(key=lambda run: (run.row["rank"] or _UNRANKED, run.scoring != "likelihood"))
    best = models[0] if models else originals[0]
    return (
        _best_model(results, originals, ranked, best, runs, not_run),
        _certainty(models, best, contrasts, leakage),
        failure_finding(results, runs, originals, best),
    )


def _best_model(
    results: StudyResults,
    originals: Sequence[PageRun],
    ranked: Sequence[PageRun],
    best: PageRun,
    runs: Sequence[PageRun],
    not_run: int,
) -> KeyFinding:
    chance = 1 / len(results.classes)
    accuracy = percent(best.row["accuracy"])
    tied = [run for run in ranked if run.row["rank"] == best.row["rank"] and run is not best]
    if tied:
        others = Markup(", ").join(run_name(run) for run in tied)
        answer = Markup("{} and {} have the same accuracy: {}.").format(run_name(best), others, accuracy)
    else:
        answer = Markup("{} has the highest accuracy: {}.").format(run_name(best), accuracy)
    training_clips = best.row.get("training_clips")
    details = [
        Markup("It is {} that receives {}{}: {}, {}. {}").format(
            KINDS.get(best.kind, f"a classifier of kind {best.kind}"),
            "audio" if best.takes_audio else "images only",
            f" and {training_clips} training clips" if training_clips else "",
            correct_of_total(best.row),
            interval(best.row),
            _against_chance(best, chance),
        )
    ]
    if not ranked:
        details.append(Markup("No classifier has predictions for every clip yet, so there is no ranking."))
    details += _image_models(originals, runs, best, chance)
    for run in originals:
        if run.kind == "annotations":
            details.append(
                Markup("Human annotators, for comparison ({}): {} accuracy, {}, on {} of {} clips.").format(
                    run_name(run),
                    percent(run.row["accuracy"]),
                    correct_of_total(run.row),
                    run.row["clips"],
                    run.row["dataset_clips"],
                )
            )
    if not_run:
        details.append(
            Markup('{} not run; the <a href="#leaderboard">leaderboard</a> gives the reason.').format(
                "1 classifier was" if not_run == 1 else f"{not_run} classifiers were"
            )
        )
    return KeyFinding(_QUESTION, answer, details)


def _against_chance(run: PageRun, chance: float) -> str:
    low, high = run.row.get("accuracy_low"), run.row.get("accuracy_high")
    level = f"the chance level of {percent(chance)}"
    if low is None or high is None:
        return f"The difference from {level} was not tested."
    if low > chance:
        return f"This is above {level}."
    if high < chance:
        return f"This is below {level}."
    return f"This is not distinguishable from {level}."


def _image_models(originals: Sequence[PageRun], runs: Sequence[PageRun], best: PageRun, chance: float) -> list[Markup]:
    """Return sentences about the best models that receive only images, and about their controls."""
    image_runs = [run for run in originals if not run.takes_audio and run.kind not in NOT_MODELS]
    if not image_runs:
        return [Markup("No model in this study receives only images. The results are a reference for such models.")]
    selected = image_runs[:1]
    if image_runs[0].kind != "language_model":
        selected += [run for run in image_runs if run.kind == "language_model"][:1]
    details: list[Markup] = []
    for run in selected:
        if run is not best:
            group = "models" if run is image_runs[0] else "language models"
            details.append(
                Markup("Of the {} that receive only images, {} is the most accurate: {}, {}. {}").format(
                    group, run_name(run), percent(run.row["accuracy"]), interval(run.row), _against_chance(run, chance)
                )
            )
        key = (run.classifier, run.scoring)
        controls = [r for r in runs if r.control != "none" and (r.classifier, r.scoring) == key]
        if controls:
            accuracies = ", ".join(f"{r.control.replace('_', ' ')} {percent(r.row['accuracy'])}" for r in controls)
            details.append(
                Markup("Accuracy of {} when its image is replaced (control): {}. With the original image: {}.").format(
                    run_name(run), accuracies, percent(run.row["accuracy"])
                )
            )
    return details


def _certainty(
    models: Sequence[PageRun],
    best: PageRun,
    contrasts: Sequence[dict[str, Any]],
    leakage: Sequence[dict[str, Any]],
) -> KeyFinding:
    others = [run for run in models if run.classifier != best.classifier]
    if others:
        answer, details = _compare(best, others[0], contrasts)
    else:
        answer, details = Markup("There is no second model to compare it with."), []
    verdicts = Counter(row["verdict"] for row in contrasts)
    if verdicts:
        counts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items()))
        details.append(
            Markup('Results of the comparisons declared in advance: {}. <a href="#contrasts">Show all</a>').format(
                counts
            )
        )
    if method := best.row.get("interval"):
        details.append(
            Markup(
                "Intervals ({}) treat clips cut from one recording as one cluster, because such clips are not independent."
            ).format(method)
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
    return KeyFinding("How certain is its lead?", answer, details)


def _compare(best: PageRun, second: PageRun, contrasts: Sequence[dict[str, Any]]) -> tuple[Markup, list[Markup]]:
    """Compare the two best models by a declared contrast, or by their intervals where there is none."""
    contrast = _find_contrast(contrasts, best, second)
    if contrast is None:
        return _compare_intervals(best, second)
    answers = {
        "better": "Certain: {} and {} differ significantly.",
        "worse": "Certain: {} and {} differ significantly.",
        "cannot tell apart": "Uncertain: {} and {} do not differ significantly on these clips.",
    }
    answer = Markup(answers.get(contrast["verdict"], "{} and {} could not be compared."))
    details = [Markup("{}").format(contrast["statement"])]
    if contrast["detectable_difference"] is not None:
        details.append(
            Markup(
                "With {} clips from {} recordings, the test is likely to miss differences below {} percentage points."
            ).format(contrast["clips"], contrast["sources"], f"{100 * contrast['detectable_difference']:.1f}")
        )
    return answer.format(run_name(best), run_name(second)), details


def _find_contrast(contrasts: Sequence[dict[str, Any]], a: PageRun, b: PageRun) -> dict[str, Any] | None:
    """Return the declared contrast of two runs, preferably the one over all clips."""

    def sides(row: dict[str, Any]) -> set[tuple[Any, ...]]:
        return {
            (row["classifier"], row["scoring"], row["control"]),
            (row["against"], row["against_scoring"], row["against_control"]),
        }

    pair = {(run.classifier, run.scoring, run.control) for run in (a, b)}
    matching = [row for row in contrasts if sides(row) == pair]
    return min(matching, key=lambda row: row["subset"] != "all", default=None)


def _compare_intervals(best: PageRun, second: PageRun) -> tuple[Markup, list[Markup]]:
    """Compare two runs by their confidence intervals, which are no test."""
    pair = (run_name(best), run_name(second))
    difference = 100 * (best.row["accuracy"] - second.row["accuracy"])
    is_tied = best.row["accuracy"] == second.row["accuracy"]
    if is_tied:
        lead = Markup("{} and {} have the same accuracy").format(*pair)
    else:
        lead = Markup("The accuracy of {} is {} percentage points above that of {}").format(
            pair[0], f"{difference:.1f}", pair[1]
        )
    low, high = best.row.get("accuracy_low"), second.row.get("accuracy_high")
    if low is None or high is None:
        return (
            Markup("Unknown: no test compares {} and {}.").format(*pair),
            [Markup("{}, and their confidence intervals were not computed.").format(lead)],
        )
    no_test = "No contrast of the two was declared, so there is no test."
    if low > high:
        return (
            Markup("Likely: the confidence intervals of {} and {} do not overlap.").format(*pair),
            [Markup("{}. {}").format(lead, no_test)],
        )
    return (
        Markup("Uncertain: the confidence intervals of {} and {} overlap.").format(*pair),
        [Markup("{}. {}{}").format(lead, no_test, "" if is_tied else " The difference may be due to chance.")],
    )
