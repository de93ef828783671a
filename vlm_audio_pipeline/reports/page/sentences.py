"""The answers at the top of the page, in words: which model hears, how sure that is, on which clips it fails.

What belongs here: sentences made from tables, claiming no more than these hold. What does not: any test or interval of
their own: what was not tested is said not to be.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from vlm_audio_pipeline.reports.page.failures import where_it_fails
from vlm_audio_pipeline.reports.page.known import Known
from vlm_audio_pipeline.reports.page.runs import Run
from vlm_audio_pipeline.reports.page.wording import KINDS, NO_MODEL, Answer, asked, interval, named, percent


def answers(
    known: Known,
    runs: Sequence[Run],
    contrasts: Sequence[dict[str, Any]] = (),
    leakage: Sequence[dict[str, Any]] = (),
    not_run: int = 0,
) -> tuple[Answer, ...]:
    """Answer the three questions.

    Args:
        known: the study.
        runs: in the order of the leaderboard, votes filled in.
        contrasts: rows of `contrasts`.
        leakage: summaries, as `sections.findings` gives them.
        not_run: classifiers that were not run.
    """
    real = [run for run in runs if run.control == "none"]
    ranked = [run for run in real if run.row["rank"] is not None]
    if not real:
        nothing = Markup("Nothing was run yet, so nothing can be said.")
        return (Answer("Which model hears?", nothing),)
    models = [run for run in ranked or real if run.kind not in NO_MODEL]
    # of equally good scorings likelihood speaks for a model, as in contrasts
    models.sort(key=lambda run: (run.row["rank"] or 10**9, run.scoring != "likelihood"))
    best = models[0] if models else real[0]
    return (
        _which(known, real, ranked, best, runs, not_run),
        _how_sure(models, best, contrasts, leakage),
        where_it_fails(known, runs, real, best),
    )


def _which(
    known: Known, real: Sequence[Run], ranked: Sequence[Run], best: Run, runs: Sequence[Run], not_run: int
) -> Answer:
    chance = 1 / len(known.classes)
    tied = [run for run in ranked if run.row["rank"] == best.row["rank"] and run is not best]
    if tied:
        short = Markup("{} and {} are right equally often: {}.").format(
            named(best), Markup(", ").join(named(run) for run in tied), percent(best.row["accuracy"])
        )
    else:
        short = Markup("{} is right most often: {} of the time.").format(named(best), percent(best.row["accuracy"]))
    given = "the sound itself" if best.hears else "only pictures of the sound"
    learnt = best.row.get("training_clips")
    more = [
        Markup("It is {}, given {}{}: {}, {}. {}").format(
            KINDS.get(best.kind, f"of kind {best.kind}"),
            given,
            f" and {learnt} labelled clips to learn from" if learnt else "",
            asked(best.row),
            interval(best.row),
            _against_guessing(best, chance),
        )
    ]
    if not ranked:
        more.append(Markup("No classifier covers every clip yet, so nothing is ranked."))
    more += _those_that_look(real, runs, best, chance)
    for people in (run for run in real if run.kind == "human"):
        more.append(
            Markup("People, for comparison ({}): {}, {}, on {} of {} clips.").format(
                named(people),
                percent(people.row["accuracy"]),
                asked(people.row),
                people.row["clips"],
                people.row["of_clips"],
            )
        )
    if not_run:
        more.append(
            Markup('{} not run; the <a href="#leaderboard">leaderboard</a> says why.').format(
                "1 classifier was" if not_run == 1 else f"{not_run} classifiers were"
            )
        )
    return Answer("Which model hears?", short, more)


def _against_guessing(run: Run, chance: float) -> str:
    guess = f"guessing, which is right {percent(chance)} of the time"
    low, high = run.row.get("accuracy_low"), run.row.get("accuracy_high")
    if low is None or high is None:
        return f"Whether that differs from {guess}, was not computed."
    if low > chance:
        return f"That is more than {guess}."
    if high < chance:
        return f"That is less than {guess}."
    return f"That cannot be told apart from {guess}."


def _those_that_look(real: Sequence[Run], runs: Sequence[Run], best: Run, chance: float) -> list[Markup]:
    """Say what the models come to that are shown pictures alone, and whether the picture matters to them."""
    looking = [run for run in real if not run.hears and run.kind not in NO_MODEL]
    if not looking:
        return [
            Markup(
                "No model that is shown only pictures was run in this study: these are marks to read such models against."
            )
        ]
    told = looking[:1]
    if looking[0].kind != "language_model":
        told += [run for run in looking if run.kind == "language_model"][:1]
    said = []
    for run in told:
        if run is not best:
            which = (
                "Of those shown only pictures" if run is looking[0] else "Of the language models shown only pictures"
            )
            said.append(
                Markup("{}, {} does best: {}, {}. {}").format(
                    which, named(run), percent(run.row["accuracy"]), interval(run.row), _against_guessing(run, chance)
                )
            )
        same = [r for r in runs if r.control != "none" and (r.classifier, r.scoring) == (run.classifier, run.scoring)]
        if same:
            replaced = ", ".join(f"{r.control.replace('_', ' ')} {percent(r.row['accuracy'])}" for r in same)
            said.append(
                Markup("How often {} is right when its picture is replaced: {}; with the real one {}.").format(
                    named(run), replaced, percent(run.row["accuracy"])
                )
            )
    return said


def _how_sure(
    models: Sequence[Run], best: Run, contrasts: Sequence[dict[str, Any]], leakage: Sequence[dict[str, Any]]
) -> Answer:
    more = []
    others = [run for run in models if run.classifier != best.classifier]
    if not others:
        short = Markup("There is no other model to tell it apart from.")
    else:
        second = others[0]
        tested = _contrast(contrasts, best, second)
        if tested:
            words = {
                "better": "Sure enough to say so: {} and {} differ.",
                "worse": "Sure enough to say so: {} and {} differ.",
                "cannot tell apart": "Not sure: {} and {} cannot be told apart on these clips.",
            }
            short = Markup(words.get(tested["verdict"], "{} and {} could not be compared.")).format(
                named(best), named(second)
            )
            more.append(Markup("{}").format(tested["statement"]))
            if tested.get("detectable") is not None:
                more.append(
                    Markup(
                        "With {} clips of {} recordings, differences below {} points are likely to stay unseen."
                    ).format(tested["clips"], tested["sources"], f"{100 * tested['detectable']:.1f}")
                )
        else:
            short, why = _untested(best, second)
            more.append(why)
    verdicts = Counter(row["verdict"] for row in contrasts)
    if verdicts:
        told = ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items()))
        more.append(
            Markup('Of the comparisons declared in advance: {}. <a href="#contrasts">All of them</a>').format(told)
        )
    method = best.row.get("interval")
    if method:
        more.append(
            Markup(
                "Intervals ({}) take clips cut from one recording as one: they tell less than as many separate ones."
            ).format(method)
        )
    doubts = [row for row in leakage if row["severity"] in ("leak", "suspect")]
    if doubts:
        more.append(
            Markup('Numbers may be too high: {}{}. <a href="#leakage">All that was looked for</a>').format(
                doubts[0]["finding"], f" (and {len(doubts) - 1} more)" if len(doubts) > 1 else ""
            )
        )
    if best.row.get("partial"):
        more.append(Markup("The run is partial: {}.").format(best.row["note"]))
    return Answer("How sure is that?", short, more)


def _contrast(contrasts: Sequence[dict[str, Any]], a: Run, b: Run) -> dict[str, Any] | None:
    """Find the declared comparison of two runs, over all clips before others."""

    def sides(row: dict[str, Any]) -> set[tuple[Any, ...]]:
        return {
            (row["classifier"], row["scoring"], row["control"]),
            (row["against"], row["against_scoring"], row["against_control"]),
        }

    wanted = {(run.classifier, run.scoring, run.control) for run in (a, b)}
    found = [row for row in contrasts if sides(row) == wanted]
    return min(found, key=lambda row: row["subset"] != "all", default=None)


def _untested(best: Run, second: Run) -> tuple[Markup, Markup]:
    """Say what two intervals by themselves allow to be said."""
    pair = (named(best), named(second))
    gap = 100 * (best.row["accuracy"] - second.row["accuracy"])
    even = best.row["accuracy"] == second.row["accuracy"]
    lead = Markup("{} and {} are right equally often").format(*pair)
    if not even:
        lead = Markup("{} is {} points ahead of {}").format(pair[0], f"{gap:.1f}", pair[1])
    low, high = best.row.get("accuracy_low"), second.row.get("accuracy_high")
    if low is None or high is None:
        return (
            Markup("Not known: {} and {} were not compared by a test.").format(*pair),
            Markup("{}, and neither interval was computed.").format(lead),
        )
    if low > high:
        return (
            Markup("Likely so: the intervals of {} and {} do not overlap.").format(*pair),
            Markup("{}. No test of the two was declared; a declared contrast would decide.").format(lead),
        )
    return (
        Markup("Not sure: the intervals of {} and {} overlap.").format(*pair),
        Markup("{}, and no test of the two was declared{}.").format(lead, "" if even else ": their order may be luck"),
    )
