"""The key findings of the page: which model is best, whether a test shows it, and which clips it gets wrong.

The sentences repeat the results of tests: of declared contrasts, and of the verdicts on vision-language models. They
compute no further test and conclude nothing from intervals. Without a test they say so.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from vlm_audio_pipeline.evaluation.references import CHANCE
from vlm_audio_pipeline.evaluation.significance import ALPHA, p_text
from vlm_audio_pipeline.reports.page.certainty import certainty_finding, not_shown_to_be_worse
from vlm_audio_pipeline.reports.page.controls import CONTROL_WORDS
from vlm_audio_pipeline.reports.page.failures import failure_finding
from vlm_audio_pipeline.reports.page.runs import PageRun
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.reports.page.wording import (
    KINDS,
    NOT_MODELS,
    SECTION_TITLES,
    KeyFinding,
    correct_of_total,
    interval,
    name_runs,
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
    verdicts: Sequence[dict[str, Any]] = (),
) -> tuple[KeyFinding, ...]:
    """Return the three key findings, or only the first if nothing was run.

    Args:
        results: the study.
        runs: in the order of the leaderboard, with votes.
        contrasts: rows of `contrasts`.
        leakage: summaries, as `leakage_findings` returns them.
        not_run: number of classifiers that were not run.
        verdicts: rows of `verdicts`.
    """
    originals = [run for run in runs if run.control == "none"]
    ranked = [run for run in originals if run.row["rank"] is not None]
    if not originals:
        return (KeyFinding(_QUESTION, Markup("No classifier has results yet.")),)
    models = _models(originals)
    best = models[0] if models else originals[0]
    chance = _ChanceLevel(1 / len(results.classes), contrasts, verdicts)
    return (
        _best_model(originals, ranked, best, runs, not_run, chance),
        certainty_finding(models, best, contrasts, leakage),
        failure_finding(results, runs, originals, best),
    )


def _models(originals: Sequence[PageRun]) -> list[PageRun]:
    """Return the ranked runs of models, best first; all of them if none is ranked."""
    ranked = [run for run in originals if run.row["rank"] is not None]
    models = [run for run in ranked or originals if run.kind not in NOT_MODELS]
    # If scorings of a model have the same rank, use "likelihood", as the contrasts do.
    return sorted(models, key=lambda run: (run.row["rank"] or _UNRANKED, run.scoring != "likelihood"))


def best_run(runs: Sequence[PageRun]) -> int | None:
    """Return the number of the run that the key findings describe; None without a result on original inputs."""
    originals = [run for run in runs if run.control == "none"]
    first = next(iter([*_models(originals), *originals]), None)
    return None if first is None else runs.index(first)


class _ChanceLevel(NamedTuple):
    """The chance level, and the rows of `contrasts` and `verdicts` that compare with it."""

    accuracy: float
    contrasts: Sequence[dict[str, Any]]
    verdicts: Sequence[dict[str, Any]]

    def compare(self, run: PageRun) -> str:
        """Return the result of a test against chance; without a test, where the interval lies, which is no test."""
        level = f"the chance level of {percent(self.accuracy)}"
        if (test := self._find_test(run)) is not None:
            p, difference = test
            if p >= ALPHA:
                return f"No difference from {level} is shown ({p_text(p)})."
            return f"This is {'above' if difference > 0 else 'below'} {level} ({p_text(p)})."
        low, high = run.row.get("accuracy_low"), run.row.get("accuracy_high")
        if low is None or high is None:
            return f"The difference from {level} was not tested."
        position = "above" if low > self.accuracy else "below" if high < self.accuracy else None
        where = f"is {position}" if position else "contains"
        return f"The interval {where} {level}; the difference was not tested."

    def _find_test(self, run: PageRun) -> tuple[float, float] | None:
        """Return the p-value after Holm and the difference from chance: of a declared contrast, else of a verdict."""
        for row in self.contrasts:
            is_same_run = (row["classifier"], row["scoring"], row["control"]) == run.key
            if is_same_run and row["against"] == CHANCE and row["subset"] == "all" and row["p_holm"] is not None:
                return row["p_holm"], row["difference"]
        for row in self.verdicts:
            is_same_run = (row["classifier"], row["scoring"], "none") == run.key
            if is_same_run and row["chance_p"] is not None:
                return row["chance_p"], row["accuracy"] - row["chance_accuracy"]
        return None


def _best_model(
    originals: Sequence[PageRun],
    ranked: Sequence[PageRun],
    best: PageRun,
    runs: Sequence[PageRun],
    not_run: int,
    chance: _ChanceLevel,
) -> KeyFinding:
    accuracy = percent(best.row["accuracy"])
    first = [best, *(run for run in ranked if run.row["rank"] == best.row["rank"] and run is not best)]
    words = "{} have the same accuracy: {}." if len(first) > 1 else "{} has the highest accuracy: {}."
    answer = Markup(words).format(name_runs(first), accuracy)
    training_clips = best.row.get("training_clips")
    details = [
        Markup("{} is {} that receives {}{}: {}, {}. {}").format(
            run_name(best),
            KINDS.get(best.kind, f"a classifier of kind {best.kind}"),
            "audio" if best.takes_audio else "images only",
            f" and {training_clips:,} training clips" if training_clips else "",
            correct_of_total(best.row),
            interval(best.row),
            chance.compare(best),
        )
    ]
    if len(first) > 1:
        details.append(_first_run_of_sections(originals, best))
    details += not_shown_to_be_worse([run for run in ranked if run.kind not in NOT_MODELS], first, chance.contrasts)
    if not ranked:
        details.append(Markup("No classifier has predictions for every clip yet, so there is no ranking."))
    details += _image_models(originals, runs, best, chance)
    for run in originals:
        if run.kind == "annotations":
            details.append(
                Markup("Human annotators, for comparison ({}): {} accuracy, {}, on {:,} of {:,} clips.").format(
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


def _first_run_of_sections(originals: Sequence[PageRun], best: PageRun) -> Markup:
    """Name the sections that show the best run when the page opens; a single classifier has no section Agreement."""
    clips, agreement = (SECTION_TITLES[name] for name in ("clips", "comparison"))
    is_single = len({run.name for run in originals}) == 1
    sections = f"section {clips} begins" if is_single else f"sections {clips} and {agreement} begin"
    return Markup("The {} with {}.").format(sections, run_name(best))


def _most_accurate(runs: Sequence[PageRun]) -> list[PageRun]:
    """Return the first run and those with the same rank; those by likelihood come first, as in the contrasts."""
    tied = [run for run in runs if run is runs[0] or run.row["rank"] == runs[0].row["rank"] is not None]
    return sorted(tied, key=lambda run: run.scoring != "likelihood")


def _image_models(
    originals: Sequence[PageRun], runs: Sequence[PageRun], best: PageRun, chance: _ChanceLevel
) -> list[Markup]:
    """Return sentences about the best models that receive only images, and about their controls."""
    image_runs = [run for run in originals if not run.takes_audio and run.kind not in NOT_MODELS]
    if not image_runs:
        return [Markup("No model in this study receives only images. The results are a reference for such models.")]
    selected = {"models": [best] if best in image_runs else _most_accurate(image_runs)}
    language_models = [run for run in image_runs if run.kind == "language_model"]
    if language_models and selected["models"][0].kind != "language_model":
        selected["language models"] = _most_accurate(language_models)
    details: list[Markup] = []
    for group, (run, *others) in selected.items():
        if run is not best:
            details.append(
                Markup("Of the {} that receive only images, {} {} the most accurate: {}{} {}. {}").format(
                    group,
                    name_runs([run, *others]),
                    "are" if others else "is",
                    percent(run.row["accuracy"]),
                    Markup(". {}:").format(run_name(run)) if others else ",",
                    interval(run.row),
                    chance.compare(run),
                )
            )
        key = (run.classifier, run.scoring)
        controls = [r for r in runs if r.control != "none" and (r.classifier, r.scoring) == key]
        has_verdict = any((row["classifier"], row["scoring"]) == key for row in chance.verdicts)
        if controls and not has_verdict:
            accuracies = ", ".join(
                f"{CONTROL_WORDS.get(r.control, r.control)} {percent(r.row['accuracy'])}" for r in controls
            )
            details.append(
                Markup("Accuracy of {} when its image is replaced (control): {}. With the original image: {}.").format(
                    run_name(run), accuracies, percent(run.row["accuracy"])
                )
            )
    return details
