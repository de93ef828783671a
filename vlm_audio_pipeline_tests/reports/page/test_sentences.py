import html
import re
from dataclasses import replace

import pytest

from vlm_audio_pipeline.reports.page.known import Known
from vlm_audio_pipeline.reports.page.runs import Run
from vlm_audio_pipeline.reports.page.sentences import answers
from vlm_audio_pipeline.reports.page.wording import interval, percent
from vlm_audio_pipeline.storage.layout import Layout

CLASSES = ("dog", "rain", "sea", "saw")


class FourClips(Known):
    """A study of four clips, one a class."""

    clips = [{"clip": f"c{i}", "label": label} for i, label in enumerate(CLASSES)]  # type: ignore[assignment]  # noqa: RUF012
    classes = CLASSES  # type: ignore[assignment]
    class_number = {label: i for i, label in enumerate(CLASSES)}  # type: ignore[assignment]  # noqa: RUF012


@pytest.fixture
def study(tmp_path):
    return FourClips(Layout(tmp_path), "s", {}, None, "")


def run(name, votes, low=None, high=None, *, kind="probe", control="none", hears=True, rank=1, **row):
    """A run that gave `votes` to the four clips, with an interval if wanted."""
    right = sum(vote == clip for clip, vote in enumerate(votes))
    row = {
        "rank": rank,
        "scoring": "score",
        "accuracy": right / 4,
        "accuracy_low": low,
        "accuracy_high": high,
        "correct": right,
        "predictions": 4,
        "clips": 4,
        "of_clips": 4,
        "training_clips": None,
        "partial": False,
        "note": "",
        "interval": None,
    } | row
    return Run(name, kind, row["scoring"], control, (1,), None, hears, row, dict(enumerate(votes)))


def contrast(a, b, verdict, **more):
    return {
        "classifier": a.classifier,
        "scoring": a.scoring,
        "control": a.control,
        "against": b.classifier,
        "against_scoring": b.scoring,
        "against_control": b.control,
        "subset": "all",
        "verdict": verdict,
        "statement": f"{a.classifier} and {b.classifier}: {verdict}.",
        "detectable": None,
        "clips": 4,
        "sources": 4,
    } | more


def said(study, *runs, contrasts=(), leakage=(), not_run=0):
    """The three answers as plain text: the line, then what it rests on."""

    def plain(markup):
        return html.unescape(re.sub(r"<[^>]+>", "", str(markup))).replace("\xa0", " ")

    return [" | ".join(map(plain, (a.short, *a.more))) for a in answers(study, runs, contrasts, leakage, not_run)]


def test_numbers_are_written_so_that_no_line_break_parts_them():
    assert percent(None) == "undefined"
    assert interval({"accuracy_low": 0.807, "accuracy_high": 0.889}) == "95\xa0% interval 80.7 to 88.9\xa0%"
    assert interval({}) == "no interval computed"


def test_nothing_run_says_nothing():
    (only,) = answers(None, [], [])  # type: ignore[arg-type]
    assert str(only.short) == "Nothing was run yet, so nothing can be said."


@pytest.mark.parametrize(
    "low, high, told",
    [
        (0.3, 0.9, "That is more than guessing, which is right 25.0 % of the time."),
        (0.2, 0.9, "That cannot be told apart from guessing, which is right 25.0 % of the time."),
        (0.25, 0.9, "That cannot be told apart from guessing, which is right 25.0 % of the time."),
        (0.0, 0.2, "That is less than guessing, which is right 25.0 % of the time."),
        (None, None, "Whether that differs from guessing, which is right 25.0 % of the time, was not computed."),
    ],
)
def test_guessing_is_beaten_only_where_the_interval_says_so(study, low, high, told):
    which, *_ = said(study, run("best", [0, 1, 2, 0], low, high))
    assert "best is right most often: 75.0 % of the time." in which and told in which


def test_equal_leaders_are_both_named(study):
    which, *_ = said(study, run("one", [0, 1, 2, 0]), run("two", [0, 1, 0, 3]), run("three", [0, 0, 0, 0], rank=3))
    assert which.startswith("one and two are right equally often: 75.0 %.")


def test_a_test_that_was_declared_decides(study):
    one, two = run("one", [0, 1, 2, 3], 0.9, 1.0), run("two", [0, 1, 0, 0], 0.1, 0.3, rank=2)
    for declared in (contrast(one, two, "cannot tell apart", detectable=0.3), contrast(two, one, "cannot tell apart")):
        _, sure, _ = said(study, one, two, contrasts=[declared])
        assert sure.startswith("Not sure: one and two cannot be told apart on these clips.")
        assert declared["statement"] in sure
        assert ("differences below 30.0 points" in sure) == (declared["detectable"] is not None)
    _, sure, _ = said(study, one, two, contrasts=[contrast(one, two, "better")])
    assert sure.startswith("Sure enough to say so: one and two differ.")
    _, sure, _ = said(study, one, two, contrasts=[contrast(one, two, "not compared")])
    assert sure.startswith("one and two could not be compared.")


@pytest.mark.parametrize(
    "first, second, told",
    [
        ((0.8, 1.0), (0.3, 0.7), "Likely so: the intervals of one and two do not overlap."),
        ((0.6, 1.0), (0.3, 0.7), "Not sure: the intervals of one and two overlap."),
        ((None, None), (0.3, 0.7), "Not known: one and two were not compared by a test."),
    ],
)
def test_without_a_test_intervals_say_what_they_can(study, first, second, told):
    one, two = run("one", [0, 1, 2, 3], *first), run("two", [0, 1, 0, 0], *second, rank=2)
    _, sure, _ = said(study, one, two)
    assert sure.startswith(told)
    assert "one is 50.0 points ahead of two" in sure  # 4 of 4 against 2 of 4


def test_nobody_is_ahead_by_nothing(study):
    one, two = run("one", [0, 1, 2, 0], 0.5, 1.0), run("two", [0, 1, 0, 3], 0.5, 1.0)
    _, sure, _ = said(study, one, two)
    assert "one and two are right equally often, and no test of the two was declared." in sure
    assert "ahead" not in sure and "order" not in sure


def test_contrasts_of_controls_do_not_stand_for_those_of_the_real_thing(study):
    one, two = run("one", [0, 1, 2, 3]), run("two", [0, 1, 0, 0], rank=2)
    blank = run("two", [0, 0, 0, 0], control="blank", rank=None)
    _, sure, _ = said(study, one, two, contrasts=[contrast(one, blank, "better")])
    assert sure.startswith("Not known")


def test_models_that_look_are_set_beside_guessing_and_their_control(study):
    ear = run("ear", [0, 1, 2, 3], 0.8, 1.0)
    eye = run("eye", [0, 1, 0, 0], 0.2, 0.8, kind="language_model", hears=False, rank=2)
    blank = run("eye", [0, 0, 0, 0], control="blank", hears=False, kind="language_model", rank=None)
    which, _, _ = said(study, ear, eye, blank)
    assert "Of those shown only pictures, eye does best: 50.0 %" in which
    assert "That cannot be told apart from guessing" in which
    assert "How often eye is right when its picture is replaced: blank 25.0 %; with the real one 50.0 %." in which
    assert "No model that is shown only pictures was run" in said(study, ear)[0]


def test_the_best_language_model_is_named_where_another_kind_looks_better(study):
    probe = run("probe", [0, 1, 2, 3], 0.8, 1.0, hears=False)
    janus = run("janus", [0, 1, 0, 0], 0.2, 0.8, kind="language_model", hears=False, rank=2)
    which, _, _ = said(study, probe, janus)
    assert which.startswith("probe is right most often") and "given only pictures of the sound" in which
    assert "Of the language models shown only pictures, janus does best: 50.0 %" in which


def test_people_do_not_lead_and_are_named(study):
    people = run("listeners", [0, 1, 2, 3], kind="human", scoring="judgement", rank=None)
    which, sure, _ = said(study, run("ear", [0, 1, 2, 0]), people, not_run=2)
    assert which.startswith("ear is right most often")
    assert "People, for comparison (listeners): 100.0 %, 4 of 4 judgements, on 4 of 4 clips." in which
    assert "2 classifiers were not run" in which
    assert sure.startswith("There is no other model to tell it apart from.")


def test_where_it_fails_names_classes_mistakes_and_what_all_miss(study):
    one, two = run("one", [0, 1, 0, 0]), run("two", [0, 2, 0, 3], rank=1)
    people = run("listeners", [0, 1, 2, -4], kind="human", rank=None)
    *_, fails = said(study, one, two, people)
    assert "one is wrong on 2 of 4 clips, most often on sea." in fails
    assert "Hardest for it: sea (0 of 1 right), saw (0 of 1 right)." in fails
    assert "Its commonest mistake: sea taken for dog, once." in fails
    assert (
        "1 clip is missed by every one of the 2 models. | People judged 1 of these; most of them were right on 1."
        in fails
    )


def test_a_model_that_never_fails_is_said_not_to(study):
    *_, fails = said(study, run("one", [0, 1, 2, 3]))
    assert fails == "On none: one is right on every one of its 4 clips."


def test_a_model_that_says_one_thing_is_found_out(study):
    one = run("one", [0, 1, 2, 0])
    *_, fails = said(study, one, run("parrot", [0, 0, 0, 3], rank=2), run("mute", [-2, -2, -2, 3], rank=3))
    assert "parrot says “dog” of 3 of 4 clips, whatever they are." in fails
    assert "mute gives no usable answer on 3 of 4 clips." in fails
    assert "one says" not in fails  # 2 of 4 is not more than half


def test_a_class_that_is_common_is_not_all_that_is_said(tmp_path):
    class MostlyDogs(FourClips):
        clips = [{"clip": f"c{i}", "label": label} for i, label in enumerate(("dog", "dog", "dog", "rain"))]  # type: ignore[assignment]  # noqa: RUF012

    study = MostlyDogs(Layout(tmp_path), "s", {}, None, "")
    *_, fails = said(study, run("nearly", [0, 0, 0, 2], correct=3, accuracy=0.75))
    assert "wrong on 1 of 4 clips" in fails and "whatever they are" not in fails


def test_models_asked_about_other_clips_have_missed_none_together(study):
    one, two = run("one", [0, 2, 0, 0]), run("two", [0, 1, 3, 2], rank=2)
    one, two = (replace(r, votes={c: r.votes[c] for c in clips}) for r, clips in ((one, (0, 1)), (two, (2, 3))))
    *_, fails = said(study, one, two)
    assert "missed by" not in fails


def test_a_vote_of_the_examples_shown_is_no_model(study):
    janus = run("janus", [0, 1, 0, 0], kind="language_model", hears=False)
    same = run("janus", [0, 1, 3, 0], kind="language_model", hears=False, scoring="generation", rank=2)
    vote = run("janus", [0, 1, 2, 3], kind="baseline", scoring="examples_knn", hears=False, rank=None)
    probe = run("probe", [0, 0, 0, 0], rank=3)
    which, sure, fails = said(study, janus, same, probe, vote)
    assert which.startswith("janus is right most often") and "vote" not in which + sure
    assert sure.startswith("Not known: janus and probe were not compared")  # and not janus with itself
    assert "2 clips are missed by every one of the 2 models." in fails  # two classifiers, one of them asked in two ways


def test_what_may_have_leaked_is_said_where_it_is_asked_how_sure_that_is(study):
    clean = {"severity": "clean", "finding": "0 pairs"}
    assert "too high" not in said(study, run("one", [0, 1, 2, 0]), leakage=[clean])[1]
    bad = {"severity": "suspect", "finding": "4 pairs of clips"}
    _, sure, _ = said(study, run("one", [0, 1, 2, 0]), leakage=[bad, bad, clean])
    assert "Numbers may be too high: 4 pairs of clips (and 1 more)." in sure
