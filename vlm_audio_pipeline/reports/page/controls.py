"""The section of the controls: their accuracies beside the original, and the sentences about them."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from vlm_audio_pipeline.evaluation.significance import ALPHA, p_text
from vlm_audio_pipeline.reports.page.runs import PageRun
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.reports.page.verdicts import count_corrected_tests
from vlm_audio_pipeline.reports.page.wording import percent

CONTROL_WORDS = {
    "blank": "blank images",
    "time_shuffled": "time-shuffled images",
    "other_clip": "images of other clips",
    "no_image": "no image",
}
"""Control -> what replaces the image, in words."""


def control_groups(
    results: StudyResults,
    runs: Sequence[PageRun],
    contrasts: Sequence[dict[str, Any]],
    verdicts: Sequence[dict[str, Any]],
    changes: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Return the controls of each classifier and scoring beside the original.

    Args:
        results: the study.
        runs: all runs, in the order in which the page numbers them, with votes.
        contrasts: rows of `contrasts`.
        verdicts: rows of `verdicts`.
        changes: classifier -> names of its changes of the audio, which are no controls.

    Returns:
        For each, the most accurate first: `name`, `scoring`, `original` (its leaderboard row, or None) and `controls`, each with `run` (its number on the
        page), `row`, `words` and `sentences`: the test against the original or why there is none, and whether all answers are the same.
    """
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for i, run in enumerate(runs):
        if run.control == "none" or run.control in changes.get(run.classifier, ()):
            continue
        key = (run.classifier, run.scoring)
        original = next((r for r in runs if r.control == "none" and (r.classifier, r.scoring) == key), None)
        group = groups.setdefault(
            key, {"name": run.classifier, "scoring": run.scoring, "original": original and original.row, "controls": []}
        )
        sentences = [_test(run, original, contrasts, verdicts), _same_answer(results, run)]
        group["controls"].append(
            {
                "run": i,
                "row": run.row,
                "words": CONTROL_WORDS.get(run.control, run.control),
                "sentences": list(filter(None, sentences)),
            }
        )
    return sorted(groups.values(), key=lambda g: -(g["original"] or {"accuracy": 0})["accuracy"])


def _test(
    run: PageRun,
    original: PageRun | None,
    contrasts: Sequence[dict[str, Any]],
    verdicts: Sequence[dict[str, Any]],
) -> str:
    """Return the result of the test of a control against the original: of a declared contrast, else of a verdict."""
    words = CONTROL_WORDS.get(run.control, f"the control {run.control}")
    for row in contrasts:
        is_same_run = {row["classifier"], row["against"]} == {run.classifier} and row["scoring"] == run.scoring
        if is_same_run and {row["control"], row["against_control"]} == {"none", run.control}:
            is_original_first = row["control"] == "none"
            better, worse = ("better", "worse") if is_original_first else ("worse", "better")
            if row["verdict"] not in (better, worse, "cannot tell apart"):
                return str(row["statement"])
            difference = {better: 1, worse: -1}.get(row["verdict"], 0)
            return _difference_sentence(words, difference, row["p_holm"], row["holm_over"], "Comparisons")
    for row in verdicts:
        p = row.get(f"{run.control}_p")
        if (row["classifier"], row["scoring"]) == (run.classifier, run.scoring) and p is not None:
            difference = 0 if p >= ALPHA else row["accuracy"] - row[f"{run.control}_accuracy"]
            tests = count_corrected_tests(verdicts, run.control)
            return _difference_sentence(words, difference, p, tests, "Answer")
    if original is None:
        return f"No test of the original against {words}: there is no result for the original."
    return f"No test of the original against {words}: the study declares no such comparison."


def _difference_sentence(words: str, difference: float, p: float, tests: int, section: str) -> str:
    """Return the result of a test of the original against a control; a difference of 0 is one that is not shown."""
    origin = f"corrected for {tests} tests of" if tests > 1 else "tested for"
    result = f"({p_text(p)}, {origin} the section {section})"
    if not difference:
        return f"No difference between the original images and {words} is shown {result}."
    return f"With the original images it is {'more' if difference > 0 else 'less'} accurate than with {words} {result}."


def _same_answer(results: StudyResults, run: PageRun) -> str | None:
    """Return the sentence that explains the accuracy of a control, if all clips, or those of each fold, get one answer."""
    folds = {results.clip_number[row["clip"]]: row["fold"] for row in results.clips}
    answers: dict[int, Counter[int]] = {}
    for clip, answer in run.votes.items():
        answers.setdefault(folds[clip], Counter())[answer] += 1
    labels = {label for counts in answers.values() for label in counts}
    if not labels or min(labels) < 0 or any(len(counts) > 1 for counts in answers.values()):
        return None
    accuracy = percent(run.row["accuracy"])
    words = CONTROL_WORDS.get(run.control, f"the control {run.control}")
    if len(labels) == 1:
        return f"With {words}, all clips get the answer {results.classes[min(labels)]}, so {accuracy} is the share of clips of this class."
    return f"With {words}, all clips of a fold get the same answer, so {accuracy} is the share of clips of one class in each fold."
