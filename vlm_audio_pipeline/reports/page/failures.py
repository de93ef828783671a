"""The key finding "Which clips does the best model get wrong?": counts of clips and classes, each with a link to the clips."""

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from vlm_audio_pipeline.reports.page.runs import NO_MAJORITY, PageRun
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.reports.page.wording import NOT_MODELS, KeyFinding, clips_link, run_name

CONSTANT_SHARE = 0.5
"""A run that predicts one label for more than this share of the clips is reported."""
_QUESTION = "Which clips does the best model get wrong?"


def failure_finding(
    results: StudyResults, runs: Sequence[PageRun], originals: Sequence[PageRun], best: PageRun
) -> KeyFinding:
    """Return the clips and classes that the best model gets wrong, those that all models get wrong, and constant models.

    Args:
        results: the study.
        runs: all runs, in the order in which the page numbers them.
        originals: the runs on original images and audio.
        best: the run that the finding is about.
    """
    number = runs.index(best)
    labels = [results.class_number[row["label"]] for row in results.clips]
    wrong = [clip for clip, predicted in best.votes.items() if predicted != labels[clip]]
    if not wrong:
        return KeyFinding(
            _QUESTION, Markup("None: {} classifies all {:,} clips correctly.").format(run_name(best), len(best.votes))
        )
    totals = Counter(labels[clip] for clip in best.votes)
    errors = Counter(labels[clip] for clip in wrong)
    worst = sorted(errors, key=lambda c: (-errors[c] / totals[c], c))[:3]
    link = clips_link(f"{len(wrong):,} of {len(best.votes):,} clips", number, only="wrong")
    name = Markup("<b>{}</b>").format(results.classes[worst[0]])
    answer = Markup("{} gets {} wrong, most often in the class {}.").format(run_name(best), link, name)
    hardest = Markup(", ").join(
        Markup("{} ({:,} of {:,} correct)").format(
            clips_link(results.classes[c], number, label=c), totals[c] - errors[c], totals[c]
        )
        for c in worst
    )
    details = [Markup("Classes with the lowest accuracy: {}.").format(hardest)]
    confused = Counter((labels[clip], best.votes[clip]) for clip in wrong if best.votes[clip] >= 0)
    if confused:
        (true, predicted), count = confused.most_common(1)[0]
        text = f"{results.classes[true]} classified as {results.classes[predicted]}"
        link = clips_link(text, number, label=true, predicted=predicted)
        details.append(Markup("Most frequent confusion: {}, {}.").format(link, _times(count)))
    details += _hard_clips_details(originals, labels, number)
    details += _constant_models(results, runs, originals, labels)
    return KeyFinding(_QUESTION, answer, details)


def _hard_clips_details(originals: Sequence[PageRun], labels: Sequence[int], number: int) -> list[Markup]:
    models = [run for run in originals if run.kind not in NOT_MODELS]
    count = len({run.classifier for run in models})
    if count < 2:
        return []
    shared = set.intersection(*(set(run.votes) for run in models))
    if not shared:
        return []
    hard_clips = [clip for clip in shared if all(run.votes[clip] != labels[clip] for run in models)]
    if not hard_clips:
        return [Markup("Every clip is classified correctly by at least one of the {} classifiers.").format(count)]
    link = clips_link("1 clip" if len(hard_clips) == 1 else f"{len(hard_clips):,} clips", number, only="hard")
    details = [Markup("All {} classifiers get {} wrong.").format(count, link)]
    annotators = next((run for run in originals if run.kind == "annotations"), None)
    if annotators:
        annotated = [c for c in hard_clips if c in annotators.votes]
        correct = [c for c in hard_clips if annotators.votes.get(c) == labels[c]]
        details.append(
            Markup("Annotators labelled {:,} of these clips; the majority label is correct for {:,}.").format(
                len(annotated), len(correct)
            )
        )
    return details


def _constant_models(
    results: StudyResults, runs: Sequence[PageRun], originals: Sequence[PageRun], labels: Sequence[int]
) -> list[Markup]:
    """Return a sentence for each run that predicts one label for most clips of other classes, or no label for most clips."""
    details: list[Markup] = []
    for run in originals:
        counts = Counter(run.votes.values())
        if not counts or len(results.classes) < 3:
            continue
        label, count = counts.most_common(1)[0]
        link = clips_link(f"{count:,} of {len(run.votes):,} clips", runs.index(run), predicted=label)
        if count <= CONSTANT_SHARE * len(run.votes) or label == NO_MAJORITY:
            continue
        others = [vote for clip, vote in run.votes.items() if labels[clip] != label]
        if label < 0:
            details.append(Markup("{} gives no valid label for {}.").format(run_name(run), link))
        elif others.count(label) > CONSTANT_SHARE * len(others):
            details.append(
                Markup("{} predicts “{}” for {}, and for {:,} of {:,} clips of other classes.").format(
                    run_name(run), results.classes[label], link, others.count(label), len(others)
                )
            )
    return details


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")
