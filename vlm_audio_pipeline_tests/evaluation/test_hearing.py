from math import comb
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.completeness import ExpectedRun
from vlm_audio_pipeline.evaluation.hearing import (
    CAN,
    CANNOT,
    MARGIN,
    UNDECIDED,
    HearingModel,
    HearingStudy,
    collect_evidence,
    constant_answer,
)
from vlm_audio_pipeline.evaluation.hearing_statements import verdicts_table
from vlm_audio_pipeline.evaluation.significance import p_text
from vlm_audio_pipeline.measures.uncertainty import wilson_interval
from vlm_audio_pipeline.storage.schemas import TABLES

CLASSES = tuple("abcdefghij")
CLIPS = [Clip(f"c{i:03}", CLASSES[i % 10], 1 + i // 80, f"s{i}", "f") for i in range(400)]
FIVE_FOLDS = ExpectedRun(dict.fromkeys(range(1, 6), 80))
ONE_FOLD = ExpectedRun({1: 80})
CHANCE = [i for i in range(400) if i % 10 == 0]
"""The clips of one class: a model that always predicts this class is correct on them, 40 of 400."""


def predictions(correct, clips=CLIPS, *, outcome="answered", **constants) -> pa.Table:
    """Build predictions that are correct on the clips with these numbers; the others are the next class."""
    numbers = set(correct)
    rows = [(clip, int(clip.id[1:]) in numbers) for clip in clips]
    following = dict(zip(CLASSES, CLASSES[1:] + CLASSES[:1], strict=True))
    columns = {
        "clip": [c.id for c, _ in rows],
        "label": [c.label for c, _ in rows],
        "source": [c.source for c, _ in rows],
        "fold": [c.fold for c, _ in rows],
        "predicted": [None if outcome != "answered" else c.label if k else following[c.label] for c, k in rows],
        "correct": [k and outcome == "answered" for _, k in rows],
    }
    values = {"scoring": "likelihood", "control": "none", "trial": 0, "outcome": outcome, "kind": "x", **constants}
    table = pa.table(columns)
    for name, value in values.items():
        table = table.append_column(name, pa.repeat(pa.scalar(value), table.num_rows))
    return TABLES["predictions"].conform(table, study="s", classifier="m")


def model(*tables, name="vlm", **values):
    rows = pa.concat_tables(tables) if tables else None
    return HearingModel(name, rows, FIVE_FOLDS, "weights missing", **values)


def decide(*models, audio=(), baselines=None, **study):
    data = HearingStudy(CLIPS, CLASSES, baselines or {}, tuple(audio), **study)
    rows = TABLES["verdicts"].conform(verdicts_table(models, data), study="s").to_pylist()
    return sorted(rows, key=lambda row: row["position"])


def first(n):
    return range(n)


def test_better_than_chance_and_than_blank_images():
    (row,) = decide(model(predictions(first(200)), predictions(CHANCE, control="blank")))
    assert (row["answer"], row["accuracy"], row["chance_accuracy"], row["blank_accuracy"]) == (CAN, 0.5, 0.1, 0.1)
    assert row["chance_p"] < 0.001 and row["blank_p"] < 0.001 and row["holm_over"] == 2
    # of the 400 differences from blank, half of the 360 others are 1, so that the difference is 0.4
    assert row["blank_low"] < 0.4 < row["blank_high"]
    assert row["statement"] == (
        "vlm (by likelihood: the class name that is the most probable response) can hear what it sees: 200 of 400 clips correct "
        "(50.0 %, 95 % interval 45.1 to 54.9 %), better than the chance level (10.0 %, p < 0.001) and better than with blank "
        "images (10.0 %, p < 0.001)."
    )
    assert row["time_order"] is None and "there is no control with time-shuffled images" in row["reason"]


def test_one_answer_for_all_blank_images_explains_their_accuracy():
    """40 of the 400 clips are of the answered class, so 10 % of the answers are correct whatever the model."""
    half = predictions(first(200))
    blank = predictions(CHANCE, control="blank")

    def statement_with(labels):
        column = pa.array(labels, blank.schema.field("predicted").type)
        return decide(model(half, blank.set_column(blank.schema.get_field_index("predicted"), "predicted", column)))[0][
            "statement"
        ]

    assert "same answer" not in statement_with(blank["predicted"].to_pylist())
    assert statement_with(["a"] * 400).endswith(
        "All blank images get the same answer, so its accuracy on them, 10.0 %, is the share of clips whose class is that answer."
    )
    by_fold = [CLASSES[fold] for fold in blank["fold"].to_pylist()]
    assert ". All blank images of a fold get the same answer" in statement_with(by_fold)
    assert constant_answer(blank.slice(0, 0)) == ""
    two_trials = [  # in the second trial, each fold gets another answer
        blank.set_column(i, "trial", pa.array([trial] * blank.num_rows, pa.int64())).set_column(
            j, "predicted", pa.array([CLASSES[fold + trial] for fold in blank["fold"].to_pylist()])
        )
        for i, j in [(blank.schema.get_field_index("trial"), blank.schema.get_field_index("predicted"))]
        for trial in (0, 1)
    ]
    assert constant_answer(two_trials[1]) == "fold"
    assert constant_answer(pa.concat_tables(two_trials, promote_options="permissive")) == "trial"
    assert "same answer" not in statement_with([None] * 400)


def test_a_demonstration_says_first_that_it_is_no_finding():
    tables = (predictions(first(200)), predictions(CHANCE, control="blank"))
    caution = "Demonstration, not a finding: the sounds are synthetic."
    (row,) = decide(model(*tables, caution=caution))
    assert row["statement"].startswith(f"{caution} vlm (by likelihood") and row["caution"] == caution
    (row,) = decide(model(*tables))
    assert row["caution"] is None and row["statement"].startswith("vlm")


def test_the_mean_of_several_trials_is_no_count():
    tables = [predictions(first(200), trial=t) for t in (0, 1)]
    expected = ExpectedRun(dict.fromkeys(range(1, 6), 160))
    blank = [predictions(CHANCE, control="blank", trial=t) for t in (0, 1)]
    (row,) = decide(HearingModel("vlm", pa.concat_tables([*tables, *blank]), expected, ""))
    assert "sees: 50.0 % correct on average over 400 clips (95 % interval 45.1 to 54.9 %), better" in row["statement"]


def test_a_model_that_always_predicts_one_class_cannot():
    (row,) = decide(model(predictions(CHANCE)))
    assert (row["answer"], row["accuracy"]) == (CANNOT, 0.1)
    # 40 of 400: Wilson's interval for 400 independent clips ends at 0.133, 3.3 points above chance
    assert row["chance_high"] == pytest.approx(0.033, abs=0.006)
    assert (
        "cannot hear what it sees: 40 of 400 clips correct (10.0 %, 95 % interval 7.4 to 13.3 %). It is at most 3."
        in row["statement"]
    )
    assert (
        "points above the chance level of 10.0 % (upper end of the 95 % interval), and less than 5 points count as no "
        "difference." in row["statement"]
    )


def test_too_few_clips_cannot_decide_that_it_cannot():
    one_fold = CLIPS[:80]
    classifier = HearingModel("vlm", predictions(CHANCE, one_fold), ONE_FOLD, "")
    (row,) = decide(classifier)
    # 8 of 80: Wilson's interval for 80 clips ends at 0.185, 8.5 points above chance
    assert (row["answer"], row["clips"]) == (UNDECIDED, 80)
    assert (
        "not shown to be better than the chance level" in row["statement"]
        and "It is run on 80 of 400 clips" in row["statement"]
    )


def test_a_model_that_is_as_accurate_on_blank_images_fails_its_control():
    half = predictions(first(200))
    (row,) = decide(model(half, predictions([*first(199), 399], control="blank")))  # differ on two clips
    assert row["answer"] == CANNOT and "does not come from the image" in row["statement"]
    assert "with blank images it is 50.0 %. It is at most" in row["statement"]
    (row,) = decide(model(half, predictions([*first(170), *range(200, 240)], control="blank")))
    # 30 clips are lost and 40 are won: the difference is -10 of 400, its standard error sqrt(70) / 400 = 2.1 points
    assert row["answer"] == CANNOT
    (row,) = decide(model(half, predictions([*first(130), *range(200, 260)], control="blank")))
    # 70 lost, 60 won: +10 of 400, standard error sqrt(130) / 400 = 2.9 points, so that the interval reaches 8
    assert row["answer"] == UNDECIDED and "more clips are needed" in row["statement"]


def test_without_a_complete_blank_control_it_cannot_be_decided():
    half = predictions(first(200))
    (row,) = decide(model(half))
    assert (
        row["answer"] == UNDECIDED
        and "whether the accuracy comes from the image: there is no control with blank images." in row["statement"]
    )
    (row,) = decide(model(half, predictions(CHANCE, CLIPS[:100], control="blank")))
    assert row["answer"] == UNDECIDED and row["blank_p"] is None
    assert (
        "the control with blank images is incomplete: vlm has no predictions of folds 3, 4, 5 yet" in row["statement"]
    )


@pytest.mark.parametrize(
    ("classifier", "study", "reason"),
    [
        (model(), {}, "not run: weights missing"),
        (model(predictions(first(80), CLIPS[:80])), {}, "vlm has no predictions of folds 2, 3, 4, 5 yet"),
        (model(predictions(first(200))), {"limited": True}, "the run is limited to a part of the clips"),
        (model(predictions(first(200), CLIPS[::2])), {}, "200 of 400 predictions of vlm are missing"),
        (model(predictions((), outcome="error")), {}, "400 of 400 predictions of vlm are errors"),
        (model(predictions(first(200), control="blank")), {}, "no predictions on its original images"),
    ],
    ids=["not run", "one fold", "limited", "every second clip", "errors", "only a control"],
)
def test_a_partial_run_has_no_verdict_and_no_number(classifier, study, reason):
    (row,) = decide(classifier, **study)
    assert row["answer"] == UNDECIDED and reason in row["statement"] and reason in row["reason"]
    assert all(value is None for name, value in row.items() if name.endswith(("_p", "accuracy", "_low", "_high")))


@pytest.mark.parametrize(
    ("shuffled", "expected", "sentence"),
    [
        (
            first(60),
            "yes",
            "It needs the order in time, or a time-shuffled image is too unusual for it: with time-shuffled images (columns in random order), 15.0 % are correct (p < 0.001).",
        ),
        (
            [*first(199), 399],
            "no",
            "It does not need the order in time: with time-shuffled images (columns in random order), 50.0 % are correct.",
        ),
        (
            [*first(140), *range(200, 250)],
            UNDECIDED,
            "It cannot be decided whether it needs the order in time: with time-shuffled images (columns in random order), 47.5 %",
        ),
    ],
)
def test_the_order_in_time_is_reported_apart(shuffled, expected, sentence):
    tables = (predictions(first(200)), predictions(CHANCE, control="blank"))
    (row,) = decide(model(*tables, predictions(shuffled, control="time_shuffled")))
    assert (row["answer"], row["time_order"]) == (CAN, expected) and sentence in row["statement"]


def test_the_audio_baseline_is_the_first_that_covers_the_clips():
    baselines = {
        "clap": predictions(first(400), CLIPS[:300], scoring="score"),
        "probe": predictions(first(380), scoring="score"),
        "pixel_probe": predictions(first(260), scoring="score"),
    }
    tables = (predictions(first(200)), predictions(CHANCE, control="blank"))
    (row,) = decide(model(*tables, pixels="pixel_probe"), audio=["absent", "clap", "probe"], baselines=baselines)
    assert (row["audio_classifier"], row["audio_accuracy"], row["pixels_accuracy"]) == ("probe", 0.95, 0.65)
    assert "It is worse than probe, which receives the audio (95.0 %, p < 0.001)." in row["statement"]
    assert "It is worse than pixel_probe, a linear probe on the pixels of the same images" in row["statement"]
    baselines["probe"] = predictions([*first(199), 399], scoring="score")
    (row,) = decide(model(*tables), audio=["clap", "probe"], baselines=baselines)
    assert (
        "It is not shown to be better or worse than probe, which receives the audio (50.0 %, p = 1.000)."
        in row["statement"]
    )
    assert row["pixels_classifier"] is None and "no probe on the pixels" in row["reason"]


def test_other_baselines_do_not_change_the_p_values_that_decide():
    tables = (predictions(range(52)), predictions(CHANCE, control="blank"))
    baselines = {"probe": predictions(first(380), scoring="score")}
    (alone,), (beside,) = decide(model(*tables)), decide(model(*tables), audio=["probe"], baselines=baselines)
    assert alone["chance_p"] == beside["chance_p"] and alone["blank_p"] == beside["blank_p"]
    several = decide(*(model(*tables, name=f"m{i}") for i in range(4)))
    # the same tests of four models: Holm multiplies the smallest p-value by 8 instead of 2
    assert {row["holm_over"] for row in several} == {8}
    smallest = min(alone["chance_p"], alone["blank_p"])
    assert min(several[0]["chance_p"], several[0]["blank_p"]) == pytest.approx(min(1, 4 * smallest))


@pytest.mark.parametrize("outcome", ["unparseable", "truncated", "refused"])
def test_limits_of_an_answer_are_part_of_it(outcome):
    without_label = predictions(first(0), CLIPS[300:], outcome=outcome)
    tables = (predictions(first(200), CLIPS[:300]), without_label, predictions(CHANCE, control="blank"))
    (row,) = decide(model(*tables, shots=1), tuning_folds=(1,))
    assert "25.0 % of its responses have no label and count as wrong." in row["statement"]
    assert "This holds for the examples in its prompt" in row["statement"]
    assert "Choices were tuned on fold 1, which is included." in row["statement"]


def test_each_scoring_has_a_row_and_the_baseline_on_examples_has_none():
    tables = [predictions(first(200), scoring=s) for s in ("likelihood", "generation", "examples_knn")]
    assert [row["scoring"] for row in decide(model(*tables))] == ["likelihood", "generation"]


def test_no_undecided_sentence_has_a_p_value_below_0_05():
    """Random results: an undecided sentence has no p-value that decides, and each p-value fits the words beside it."""
    random = np.random.default_rng(4)
    answers = []
    for _ in range(30):
        size = int(random.choice([40, 80, 400]))
        clips = CLIPS[:size]

        def table(clips=clips, **constants):
            share = random.choice([0.0, 0.08, 0.1, 0.14, 0.2, 0.35])
            return predictions(np.flatnonzero(random.random(400) < share), clips, **constants)

        tables = [table(), *(table(control=c) for c in ("blank", "time_shuffled") if random.random() < 0.8)]
        expected = FIVE_FOLDS if size == 400 else ExpectedRun({1: size})
        classifier = HearingModel("vlm", pa.concat_tables(tables), expected, "")
        study = HearingStudy(CLIPS, CLASSES, {"audio": table(CLIPS, scoring="score")}, ("audio",))
        (row,) = verdicts_table([classifier], study).to_pylist()
        (evidence,) = collect_evidence([classifier], study)
        answers.append(row["answer"])
        for sentence in row["statement"].split(". "):
            ps = [float(part.split()[1].rstrip(").;,")) for part in sentence.split("p ")[1:] if part[0] in "<="]
            if "cannot be decided" in sentence or "not shown" in sentence or "No difference" in sentence:
                assert all(p >= 0.05 for p in ps), sentence
            else:
                assert all(p < 0.05 for p in ps), sentence
        assert evidence.answer == row["answer"]
    assert {*answers} == {CAN, CANNOT, UNDECIDED}


@pytest.mark.parametrize(("clips", "share"), [(400, 86), (80, 18)])
def test_the_documentation_says_how_often_a_model_that_guesses_gets_it_cannot(clips, share):
    numbers = [k for k in range(clips + 1) if wilson_interval(k / clips, clips)[1] - 0.1 < MARGIN]
    probability = sum(comb(clips, k) * 0.1**k * 0.9 ** (clips - k) for k in numbers)  # k correct guesses, ten classes
    assert round(100 * probability) == share
    assert (
        f"{share} %" in (Path(__file__).parents[2] / "docs/statistics.md").read_text().split("models that\n  guess")[1]
    )


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.00099, "p < 0.001"), (0.001, "p = 0.001"), (0.0496, "p = 0.0496"), (0.0501, "p = 0.050"), (1.0, "p = 1.000")],
)
def test_a_p_value_shows_on_which_side_of_0_05_it_is(p, text):
    assert p_text(p) == text
