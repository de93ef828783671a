"""On which clips a model fails, in words, each with a link to these clips.

What belongs here: sentences about single clips and classes, counted from votes. What does not: accuracies.
"""

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from vlm_audio_pipeline.reports.page.known import Known
from vlm_audio_pipeline.reports.page.runs import UNDECIDED, Run
from vlm_audio_pipeline.reports.page.wording import NO_MODEL, Answer, named, show

SAME_ANSWER = 0.5
"""A run that gives one label to more than this share of clips is said to."""


def where_it_fails(known: Known, runs: Sequence[Run], real: Sequence[Run], best: Run) -> Answer:
    """Say which classes and clips the best model has wrong, what all models miss, and who says one thing always.

    Args:
        known: the study.
        runs: all runs, in the order in which the page numbers them.
        real: those on real input.
        best: the one asked about.
    """
    number = runs.index(best)
    labels = [known.class_number[row["label"]] for row in known.clips]
    wrong = [clip for clip, given in best.votes.items() if given != labels[clip]]
    asked_of = Counter(labels[clip] for clip in best.votes)
    failed = Counter(labels[clip] for clip in wrong)
    if not wrong:
        short = Markup("On none: {} is right on every one of its {} clips.").format(named(best), len(best.votes))
        return Answer("On which clips does it fail?", short)
    worst = sorted(failed, key=lambda c: (-failed[c] / asked_of[c], c))[:3]
    link = show(f"{len(wrong)} of {len(best.votes)} clips", number, only="wrong")
    name = known.classes[worst[0]]
    short = Markup("{} is wrong on {}, most often on {}.").format(named(best), link, Markup("<b>{}</b>").format(name))
    more = [
        Markup("Hardest for it: {}.").format(
            Markup(", ").join(
                Markup("{} ({} of {} right)").format(
                    show(known.classes[c], number, label=c), asked_of[c] - failed[c], asked_of[c]
                )
                for c in worst
            )
        )
    ]
    taken = Counter((labels[clip], best.votes[clip]) for clip in wrong if best.votes[clip] >= 0)
    if taken:
        (true, given), times = taken.most_common(1)[0]
        link = show(f"{known.classes[true]} taken for {known.classes[given]}", number, label=true, predicted=given)
        more.append(Markup("Its commonest mistake: {}, {}.").format(link, _times(times)))
    more += _missed_by_all(runs, real, labels, number)
    more += _one_answer(known, runs, real, labels)
    return Answer("On which clips does it fail?", short, more)


def _missed_by_all(runs: Sequence[Run], real: Sequence[Run], labels: list[int], number: int) -> list[Markup]:
    models = [run for run in real if run.kind not in NO_MODEL]
    count = len({run.classifier for run in models})
    if count < 2:
        return []
    shared = set.intersection(*(set(run.votes) for run in models))
    if not shared:
        return []
    missed = [clip for clip in shared if all(run.votes[clip] != labels[clip] for run in models)]
    if not missed:
        return [Markup("No clip is missed by all {} models.").format(count)]
    clip = "1 clip is" if len(missed) == 1 else f"{len(missed)} clips are"
    said = [Markup("{} by every one of the {} models.").format(show(f"{clip} missed", number, only="hard"), count)]
    people = next((run for run in real if run.kind == "human"), None)
    if people:
        heard = [c for c in missed if people.votes.get(c) == labels[c]]
        judged = [c for c in missed if c in people.votes]
        said.append(Markup("People judged {} of these; most of them were right on {}.").format(len(judged), len(heard)))
    return said


def _one_answer(known: Known, runs: Sequence[Run], real: Sequence[Run], labels: list[int]) -> list[Markup]:
    """Name models that say the same whatever they are given: of clips of other classes, too."""
    said = []
    for run in real:
        counts = Counter(run.votes.values())
        if not counts or len(known.classes) < 3:
            continue
        given, times = counts.most_common(1)[0]
        others = [vote for clip, vote in run.votes.items() if labels[clip] != given]
        if given >= 0 and times > SAME_ANSWER * len(run.votes) and others.count(given) > SAME_ANSWER * len(others):
            link = show(f"{times} of {len(run.votes)} clips", runs.index(run), predicted=given)
            said.append(Markup("{} says “{}” of {}, whatever they are.").format(named(run), known.classes[given], link))
        elif given < 0 and given != UNDECIDED and times > SAME_ANSWER * len(run.votes):
            link = show(f"{times} of {len(run.votes)} clips", runs.index(run), predicted=given)
            said.append(Markup("{} gives no usable answer on {}.").format(named(run), link))
    return said


def _times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n} times")
