import html
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.contrast_results import ContrastData, contrasts_table
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.evaluation.leaderboard import LeaderboardEntry, leaderboard_table
from vlm_audio_pipeline.reports.page.key_findings import key_findings
from vlm_audio_pipeline.reports.page.runs import PageRun
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.reports.page.wording import interval, percent
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.schemas import TABLES

CLASSES = ("dog", "rain", "sea", "saw")


class FourClips(StudyResults):
    """A study of four clips, one of each class."""

    clips = [{"clip": f"c{i}", "label": label} for i, label in enumerate(CLASSES)]  # type: ignore[assignment]  # noqa: RUF012
    classes = CLASSES  # type: ignore[assignment]
    class_number = {label: i for i, label in enumerate(CLASSES)}  # type: ignore[assignment]  # noqa: RUF012


@pytest.fixture
def study(tmp_path):
    return FourClips(DataFolder(tmp_path), "s", {}, None, "")


def run(name, votes, low=None, high=None, *, kind="probe", control="none", takes_audio=True, rank=1, **row):
    """Return a run that predicted `votes` for the four clips, with the interval (low, high)."""
    correct = sum(vote == clip for clip, vote in enumerate(votes))
    row = {
        "rank": rank,
        "scoring": "score",
        "accuracy": correct / 4,
        "accuracy_low": low,
        "accuracy_high": high,
        "correct": correct,
        "predictions": 4,
        "clips": 4,
        "dataset_clips": 4,
        "training_clips": None,
        "partial": False,
        "note": "",
        "interval": None,
    } | row
    return PageRun(name, kind, row["scoring"], control, (1,), None, takes_audio, row, dict(enumerate(votes)))


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
        "detectable_difference": None,
        "clips": 4,
        "sources": 4,
    } | more


def findings(study, *runs, contrasts=(), leakage=(), not_run=0, verdicts=()):
    """Return the three key findings as plain text: the answer, then the details."""

    def plain(markup):
        return html.unescape(re.sub(r"<[^>]+>", "", str(markup))).replace("\xa0", " ")

    answers = key_findings(study, runs, contrasts, leakage, not_run, verdicts)
    return [" | ".join(map(plain, (a.answer, *a.details))) for a in answers]


def test_numbers_and_units_are_not_separated_by_a_line_break():
    assert percent(None) == "undefined"
    assert interval({"accuracy_low": 0.807, "accuracy_high": 0.889}) == "95\xa0% interval 80.7 to 88.9\xa0%"
    assert interval({}) == "no 95\xa0% interval computed"


def test_an_interval_with_examples_says_what_it_covers():
    limits = {"accuracy_low": 0.5, "accuracy_high": 0.75}
    for scope, words in (
        ("clips, for these examples", "for these examples"),
        ("clips and draws of examples", "over draws of examples"),
    ):
        assert interval(limits | {"interval_scope": scope}).endswith(f" 50.0 to 75.0\xa0%, {words}")
    assert interval(limits | {"interval_scope": "clips"}).endswith("75.0\xa0%")


def test_without_results_there_is_one_finding():
    (only,) = key_findings(None, [], [])  # type: ignore[arg-type]
    assert str(only.answer) == "No classifier has results yet."


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (0.3, 0.9, "The interval is above the chance level of 25.0 %; the difference was not tested."),
        (0.2, 0.9, "The interval contains the chance level of 25.0 %; the difference was not tested."),
        (0.25, 0.9, "The interval contains the chance level of 25.0 %; the difference was not tested."),
        (0.0, 0.2, "The interval is below the chance level of 25.0 %; the difference was not tested."),
        (None, None, "The difference from the chance level of 25.0 % was not tested."),
    ],
)
def test_without_a_test_against_chance_the_position_of_the_interval_is_stated(study, low, high, sentence):
    best_model, *_ = findings(study, run("best", [0, 1, 2, 0], low, high))
    assert "best has the highest accuracy: 75.0 %." in best_model and sentence in best_model


@pytest.mark.parametrize(
    ("p", "difference", "sentence"),
    [
        (0.0002, 0.5, "This is above the chance level of 25.0 % (p < 0.001)."),
        (0.049, -0.2, "This is below the chance level of 25.0 % (p = 0.049)."),
        (0.05, 0.5, "No difference from the chance level of 25.0 % is shown (p = 0.050)."),
    ],
)
def test_a_test_against_chance_decides_whatever_the_interval_is(study, p, difference, sentence):
    for low, high in ((0.3, 0.9), (0.2, 0.9), (0.0, 0.2)):
        best = run("best", [0, 1, 2, 0], low, high)
        declared = contrast(best, run("chance", []), "", p_holm=p, difference=difference)
        assert sentence in findings(study, best, contrasts=[declared])[0]
        verdict = {"classifier": "best", "scoring": "score", "chance_p": p, "accuracy": 0.75}
        verdict["chance_accuracy"] = 0.75 - difference
        assert sentence in findings(study, best, verdicts=[verdict])[0]
        other_rows = [{**verdict, "classifier": "second"}, {**verdict, "chance_p": None}]
        assert "was not tested" in findings(study, best, verdicts=other_rows)[0]


def test_models_of_equal_accuracy_are_both_named(study):
    best_model, *_ = findings(
        study, run("one", [0, 1, 2, 0]), run("two", [0, 1, 0, 3]), run("three", [0, 0, 0, 0], rank=3)
    )
    assert best_model.startswith("one and two have the same accuracy: 75.0 %.")
    assert "The sections Clips and Agreement begin with one." in best_model
    scorings = [run("vlm", [0, 1, 2, 0], kind="language_model", scoring=name) for name in ("likelihood", "generation")]
    assert "The section Clips begins with vlm (likelihood)." in findings(study, *scorings)[0]  # no other classifier


def test_every_model_that_is_not_shown_to_be_worse_is_listed(study):
    first = run("first", [0, 1, 2, 0], kind="language_model", scoring="likelihood")
    same = run("first", [0, 1, 2, 0], kind="language_model", scoring="generation")
    other = run("other", [0, 1, 0, 3])
    worse, alike, untested = (run(name, [0, 1, 0, 0], rank=4) for name in ("worse", "alike", "untested"))
    contrasts = [contrast(first, worse, "better"), contrast(alike, other, "cannot tell apart")]
    best_model, certainty, _ = findings(study, first, same, other, worse, alike, untested, contrasts=contrasts)
    assert best_model.startswith("first (likelihood and generation) and other have the same accuracy: 75.0 %.")
    assert "Less accurate here, but a test shows no difference: alike (50.0 %)." in best_model
    assert "Less accurate here, but not tested against any of these models: untested (50.0 %)." in best_model
    assert "worse (50.0 %)" not in best_model
    assert "the first side is better in 1 and no difference is shown in 1." in certainty


def test_a_declared_contrast_decides(study):
    one, two = run("one", [0, 1, 2, 3], 0.9, 1.0), run("two", [0, 1, 0, 0], 0.1, 0.3, rank=2)
    for declared, answer in (
        (contrast(one, two, "cannot tell apart"), "Not shown: no difference between one and two is shown."),
        (contrast(two, one, "cannot tell apart"), "Not shown: no difference between one and two is shown."),
        (contrast(one, two, "better"), "Yes: one is better than two."),
        (contrast(two, one, "worse"), "Yes: one is better than two."),
        # on the clips that both have, the order can be another one than on all clips
        (contrast(one, two, "worse"), "No: one is worse than two on the clips of the comparison."),
        (contrast(two, one, "better"), "No: one is worse than two on the clips of the comparison."),
        (contrast(one, two, "not compared"), "one and two could not be compared."),
        (contrast(one, two, "equivalent"), "No: one and two are equivalent within the margin that the study declares."),
    ):
        _, certainty, _ = findings(study, one, two, contrasts=[declared])
        assert certainty.startswith(answer) and declared["statement"] in certainty


@pytest.mark.parametrize("first", [(0.8, 1.0), (0.6, 1.0), (None, None)])
def test_without_a_contrast_nothing_is_concluded_from_intervals(study, first):
    one, two = run("one", [0, 1, 2, 3], *first), run("two", [0, 1, 0, 0], 0.3, 0.7, rank=2)
    _, certainty, _ = findings(study, one, two)
    assert certainty.startswith("Not tested: the study declares no comparison of one and two.")
    assert "The accuracy of one is 50.0 percentage points above that of two." in certainty  # 4 of 4 against 2 of 4


def test_equal_accuracy_is_no_lead(study):
    one, two = run("one", [0, 1, 2, 0], 0.5, 1.0), run("two", [0, 1, 0, 3], 0.5, 1.0)
    _, certainty, _ = findings(study, one, two)
    assert "They have the same accuracy." in certainty and "above" not in certainty


def test_of_equally_accurate_models_the_one_with_a_contrast_is_compared(study):
    one, two, three = (run(name, [0, 1, 2, 0], rank=1) for name in ("one", "two", "three"))
    declared = contrast(one, three, "cannot tell apart")
    assert findings(study, one, two, three, contrasts=[declared])[1].startswith(
        "Not shown: no difference between one and three"
    )


DECISIVE, UNDECIDED = r"p < 0\.001|p = 0\.0[0-4]", r"not shown|No difference|cannot be told apart|not tested|Not tested"


@pytest.mark.parametrize("seed", range(8))
def test_undecided_words_never_stand_beside_a_small_p_value(study, seed):
    """Random predictions of five models, every contrast declared or not: each sentence and its p-value agree."""
    random = np.random.default_rng(seed)
    clips = [Clip(f"c{i:03}", CLASSES[i % 4], 1 + i % 2, f"s{i}", "f") for i in range(60)]
    tables = {n: random_predictions(clips, random.choice([0.25, 0.4, 0.6, 0.62, 0.9]), random) for n in "abcde"}
    sides = [("a", ("b", "c", "chance")), ("b", ("c", "d", "chance")), ("d", ("e", "majority"))]
    contrasts = [Contrast(classifier=x, against=y) for x, y in sides if random.random() < 0.7]
    data = ContrastData(
        predictions=tables, not_run_reason=lambda name: "no reason", clips=clips, classes=CLASSES, tuning_folds=()
    )
    entries = [LeaderboardEntry(name, "probe", table, (1, 2)) for name, table in tables.items()]
    facts = {"rejected_clips": 0, "classes": CLASSES, "tuning_folds": (), "limited": False}
    board = leaderboard_table(entries, clips=clips, **facts).to_pylist()
    runs = [
        PageRun(row["classifier"], "probe", "score", "none", (1, 2), None, True, row)
        for row in board
        if row["kind"] != "reference"
    ]
    rows = contrasts_table(contrasts, data).to_pylist()
    best_model, certainty, *_ = findings(study, *runs, contrasts=rows)
    sentences = [part for finding in (best_model, certainty) for part in finding.split(" | ")]
    answer, *details = certainty.split(" | ")
    for sentence in [*sentences, *(row["statement"] for row in rows)]:
        assert not (re.search(DECISIVE, sentence) and re.search(UNDECIDED, sentence)), sentence
    if re.search(UNDECIDED, answer):
        assert not any(re.search(DECISIVE, detail) for detail in details), certainty


def random_predictions(clips, share, random):
    """Return predictions that are correct with a probability."""
    correct = random.random(len(clips)) < share
    labels = [c.label for c in clips]
    following = dict(zip(CLASSES, CLASSES[1:] + CLASSES[:1], strict=True))
    return TABLES["predictions"].conform(
        pa.table(
            {
                "clip": [c.id for c in clips],
                "label": labels,
                "source": [c.source for c in clips],
                "fold": [c.fold for c in clips],
                "predicted": [k if right else following[k] for k, right in zip(labels, correct, strict=True)],
                "correct": correct.tolist(),
                **{name: [value] * len(clips) for name, value in CONSTANTS.items()},
            }
        ),
        study="s",
        classifier="x",
    )


CONSTANTS = {"kind": "probe", "scoring": "score", "control": "none", "trial": 0, "outcome": "answered"}


def test_contrasts_of_controls_are_not_those_of_the_original(study):
    one, two = run("one", [0, 1, 2, 3]), run("two", [0, 1, 0, 0], rank=2)
    blank = run("two", [0, 0, 0, 0], control="blank", rank=None)
    _, certainty, _ = findings(study, one, two, contrasts=[contrast(one, blank, "better")])
    assert certainty.startswith("Not tested")


def test_image_models_are_compared_with_chance_and_their_control(study):
    ear = run("ear", [0, 1, 2, 3], 0.8, 1.0)
    eye = run("eye", [0, 1, 0, 0], 0.2, 0.8, kind="language_model", takes_audio=False, rank=2)
    blank = run("eye", [0, 0, 0, 0], control="blank", takes_audio=False, kind="language_model", rank=None)
    best_model, _, _ = findings(study, ear, eye, blank)
    assert "Of the models that receive only images, eye is the most accurate: 50.0 %" in best_model
    assert "The interval contains the chance level of 25.0 %" in best_model
    assert (
        "Accuracy of eye when its image is replaced (control): blank images 25.0 %. With the original image: 50.0 %."
        in best_model
    )
    assert "No model in this study receives only images." in findings(study, ear)[0]


def test_the_best_language_model_is_named_below_a_better_image_model(study):
    probe = run("probe", [0, 1, 2, 3], 0.8, 1.0, takes_audio=False)
    janus = run("janus", [0, 1, 0, 0], 0.2, 0.8, kind="language_model", takes_audio=False, rank=2)
    best_model, _, _ = findings(study, probe, janus)
    assert best_model.startswith("probe has the highest accuracy") and "receives images only" in best_model
    assert "Of the language models that receive only images, janus is the most accurate: 50.0 %" in best_model


def test_language_models_of_equal_accuracy_are_all_named(study):
    # 2 of 4 correct by both scorings and by the other model, 1 of 4 by the last one
    probe = run("probe", [0, 1, 2, 3], takes_audio=False)
    lines = [
        ("janus", "generation", [0, 1, 0, 0]),
        ("janus", "likelihood", [0, 1, 3, 0]),
        ("qwen", "likelihood", [0, 0, 2, 0]),
    ]
    tied = [
        run(name, votes, 0.2, 0.8, kind="language_model", takes_audio=False, scoring=scoring, rank=2)
        for name, scoring, votes in lines
    ]
    worse = run("idefics", [0, 0, 0, 0], kind="language_model", takes_audio=False, scoring="likelihood", rank=5)
    best_model, _, _ = findings(study, probe, *tied, worse)
    assert (
        "Of the language models that receive only images, janus (likelihood and generation) and qwen (likelihood) are the most "
        "accurate: 50.0 %. janus (likelihood): 95 % "
    ) in best_model
    assert "Of the models" not in best_model  # the best of all models receives images only


def test_annotators_are_named_but_not_ranked(study):
    annotators = run("annotators", [0, 1, 2, 3], kind="annotations", scoring="annotation", rank=None)
    best_model, certainty, _ = findings(study, run("ear", [0, 1, 2, 0]), annotators, not_run=2)
    assert best_model.startswith("ear has the highest accuracy")
    assert (
        "Human annotators, for comparison (annotators): 100.0 % accuracy, 4 of 4 annotations correct, on 4 of 4 clips."
        in best_model
    )
    assert "2 classifiers were not run" in best_model
    assert certainty.startswith("There is no second model for a comparison.")


def test_failures_name_classes_confusions_and_clips_that_all_models_get_wrong(study):
    one, two = run("one", [0, 1, 0, 0]), run("two", [0, 2, 0, 3], rank=1)
    annotators = run("annotators", [0, 1, 2, -4], kind="annotations", rank=None)
    *_, failures = findings(study, one, two, annotators)
    assert "one gets 2 of 4 clips wrong, most often in the class sea." in failures
    assert "Classes with the lowest accuracy: sea (0 of 1 correct), saw (0 of 1 correct)." in failures
    assert "Most frequent confusion: sea classified as dog, once." in failures
    assert (
        "All 2 classifiers get 1 clip wrong. | Annotators labelled 1 of these clips; the majority label is correct for 1."
        in failures
    )


def test_a_model_without_errors(study):
    *_, failures = findings(study, run("one", [0, 1, 2, 3]))
    assert failures == "None: one classifies all 4 clips correctly."


def test_a_model_with_a_constant_prediction_is_reported(study):
    one = run("one", [0, 1, 2, 0])
    *_, failures = findings(
        study, one, run("constant", [0, 0, 0, 3], rank=2), run("unparseable", [-2, -2, -2, 3], rank=3)
    )
    # the clips are dog, rain, sea and saw: of the 3 that are no dog, rain and sea are predicted as dog
    assert "constant predicts “dog” for 3 of 4 clips, and for 2 of 3 clips of other classes." in failures
    assert "unparseable gives no valid label for 3 of 4 clips." in failures
    assert "one predicts" not in failures  # 2 of 4 is not more than half


def test_a_frequent_class_is_no_constant_prediction(tmp_path):
    class MostlyDogs(FourClips):
        clips = [{"clip": f"c{i}", "label": label} for i, label in enumerate(("dog", "dog", "dog", "rain"))]  # type: ignore[assignment]  # noqa: RUF012

    study = MostlyDogs(DataFolder(tmp_path), "s", {}, None, "")
    *_, failures = findings(study, run("nearly", [0, 0, 0, 2], correct=3, accuracy=0.75))
    assert "gets 1 of 4 clips wrong" in failures and "nearly predicts" not in failures


def test_models_without_common_clips_share_no_errors(study):
    one, two = run("one", [0, 2, 0, 0]), run("two", [0, 1, 3, 2], rank=2)
    one, two = (replace(r, votes={c: r.votes[c] for c in clips}) for r, clips in ((one, (0, 1)), (two, (2, 3))))
    *_, failures = findings(study, one, two)
    assert "models get" not in failures and "at least one of the" not in failures


def test_the_k_nn_baseline_is_no_model(study):
    janus = run("janus", [0, 1, 0, 0], kind="language_model", takes_audio=False)
    same = run("janus", [0, 1, 3, 0], kind="language_model", takes_audio=False, scoring="generation", rank=2)
    vote = run("janus", [0, 1, 2, 3], kind="baseline", scoring="examples_knn", takes_audio=False, rank=None)
    probe = run("probe", [0, 0, 0, 0], rank=3)
    best_model, certainty, failures = findings(study, janus, same, probe, vote)
    assert best_model.startswith("janus has the highest accuracy") and "k-NN" not in best_model + certainty
    assert certainty.startswith(
        "Not tested: the study declares no comparison of janus and probe"
    )  # and not janus with itself
    assert "All 2 classifiers get 2 clips wrong." in failures  # two classifiers, one of them with two scorings


def test_leakage_is_part_of_the_certainty(study):
    clean = {"severity": "clean", "finding": "0 pairs"}
    assert "too high" not in findings(study, run("one", [0, 1, 2, 0]), leakage=[clean])[1]
    bad = {"severity": "suspect", "finding": "4 pairs of clips"}
    _, certainty, _ = findings(study, run("one", [0, 1, 2, 0]), leakage=[bad, bad, clean])
    assert "Accuracies may be too high because of leakage: 4 pairs of clips (and 1 more)." in certainty
