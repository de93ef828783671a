import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.completeness import ExpectedRun
from vlm_audio_pipeline.evaluation.contrast_results import ContrastData, contrasts_table
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.evaluation.leaderboard import LeaderboardEntry, leaderboard_table
from vlm_audio_pipeline.evaluation.metrics import metrics_table
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.measures.prediction_tables import CLASSES, predictions_table

N = 60
CLIPS = [Clip(f"clip {i}", CLASSES[i % 4], 1 + i % 2, f"s{i}", "f") for i in range(N)]


def predict_correctly(correct, **constants) -> pa.Table:
    """Build predictions of CLIPS of which the first `correct` ones are correct."""
    rows = [(c.fold, c.label, c.label if i < correct else CLASSES[(i + 1) % 4], None) for i, c in enumerate(CLIPS)]
    table = predictions_table(rows, **constants)
    sources = pa.array([f"s{name.split()[1]}" for name in table["clip"].to_pylist()])
    index = table.schema.get_field_index("source")
    return table.set_column(index, table.schema.field(index), sources)


DATA = ContrastData(
    predictions={
        "janus": pa.concat_tables(
            [
                predict_correctly(40, scoring="likelihood"),
                predict_correctly(15, scoring="likelihood", control="blank"),
                predict_correctly(38, scoring="generation"),
                predict_correctly(10, scoring="examples_knn"),
            ]
        ),
        "clap": predict_correctly(42),
        "annotators": pa.concat_tables(
            [predict_correctly(60, scoring="annotation"), predict_correctly(50, scoring="annotation", trial=1)]
        ),
    },
    not_run_reason=lambda name: f"weights of {name} missing",
    clips=CLIPS,
    classes=CLASSES,
    tuning_folds=(1,),
)


def contrast_rows(*contrasts):
    table = contrasts_table([Contrast(**c) for c in contrasts], DATA)
    rows = TABLES["contrasts"].conform(table, study="s").to_pylist()
    assert [r["position"] for r in rows] == list(range(len(rows)))
    return rows


def test_contrasts_of_a_study():
    against = ("chance", "janus@blank", "clap", "majority", "annotators")
    chance, blank, clap, majority, annotators = contrast_rows({"classifier": "janus", "against": against})
    assert {r["scoring"] for r in (chance, blank, clap)} == {"likelihood"}, "the default where there are several"
    assert (clap["against_scoring"], chance["against_scoring"], blank["against_control"]) == ("score", None, "blank")
    assert [r["verdict"] for r in (chance, blank, clap)] == ["better", "better", "cannot tell apart"]
    # 15 clips a class: in one fold 15 of two classes, in the other of the other two: majority is never correct
    assert (majority["against_accuracy"], majority["verdict"]) == (0.0, "better")
    assert (annotators["against_accuracy"], annotators["against_scoring"]) == (pytest.approx(55 / 60), "annotation")
    assert (blank["correct_only_classifier"], blank["correct_only_against"], blank["p_mcnemar"]) == (
        25,
        0,
        pytest.approx(2 / 2**25),
    )
    assert (
        chance["p_mcnemar"] is None
        and chance["reason"] == "McNemar's test needs one prediction for each clip on both sides"
    )
    assert (clap["clips"], clap["sources"], clap["holm_over"]) == (60, 60, 5)
    # 40 correct, and 42 that include them: two clips of 60 differ, so 2 of 4 choices of signs are as far
    assert (clap["p"], clap["p_mcnemar"], clap["difference"]) == (0.5, 0.5, pytest.approx(-2 / 60))


def test_holm_corrects_over_all_comparisons_that_could_be_made():
    rows = contrast_rows(
        {"classifier": "janus", "against": ("clap", "absent", "chance")},
        {"classifier": "janus", "against": ("clap",)},
        {"classifier": "clap", "against": ("janus@blank",)},
    )
    assert [(r["classifier"], r["against"]) for r in rows] == [
        ("janus", "clap"),
        ("janus", "absent"),
        ("janus", "chance"),
        ("clap", "janus"),
    ], "declared twice, computed once"
    clap, absent, chance, blank = rows
    assert {r["holm_over"] for r in rows} == {3} and absent["p_holm"] is None
    small, middle = sorted((chance["p"], blank["p"]))
    assert sorted((chance["p_holm"], blank["p_holm"])) == pytest.approx([3 * small, max(3 * small, 2 * middle)])
    assert clap["p_holm"] == clap["p"] == 0.5


@pytest.mark.parametrize(
    ("side", "name", "reason"),
    [
        ("absent", "absent", "absent was not run: weights of absent missing"),
        ("clap@blank", "clap @ blank", "clap has no predictions under control blank, only under none"),
        ("clap:generation", "clap (generation)", "clap has no scoring generation, only score"),
        ("janus:generation@blank", "janus @ blank (generation)", "janus has no scoring generation, only likelihood"),
    ],
)
def test_a_missing_side_is_a_row_with_a_reason(side, name, reason):
    janus = "janus (likelihood)"
    for classifier, against, names in (("janus", side, (janus, name)), (side, "janus", (name, janus))):
        [row] = contrast_rows({"classifier": classifier, "against": (against,)})
        assert (row["verdict"], row["reason"], row["clips"], row["difference"]) == ("not compared", reason, 0, None)
        assert row["statement"] == f"{names[0]} was not compared with {names[1]}: {reason}."


def test_a_scoring_may_be_named_in_a_contrast():
    [row] = contrast_rows({"classifier": "janus:generation", "against": ("janus:examples_knn",)})
    assert (row["scoring"], row["against_scoring"], row["difference"]) == (
        "generation",
        "examples_knn",
        pytest.approx(28 / 60),
    )
    by_generation = contrast_rows(
        {"classifier": "janus", "against": ("clap", "janus:likelihood"), "scoring": "generation"}
    )
    assert [(r["scoring"], r["against_scoring"]) for r in by_generation] == [
        ("generation", "score"),
        ("generation", "likelihood"),
    ]


def test_a_contrast_without_tuning_folds_uses_the_other_folds():
    [row] = contrast_rows({"classifier": "janus", "against": ("clap",), "folds": "without_tuning"})
    assert (row["subset"], row["clips"], row["classifier_clips"]) == ("without tuning folds", 30, 30)
    assert row["accuracy"] == pytest.approx(20 / 30)  # every second clip is of fold 2


def test_statements_of_better_worse_and_undecided_contrasts():
    better, apart = contrast_rows({"classifier": "janus", "against": ("janus@blank", "clap")})
    low, high = 100 * better["low"], 100 * better["high"]
    assert better["statement"] == (
        "janus (likelihood) is correct more often than janus @ blank (likelihood): 66.7 % against 25.0 % of 60 clips, a difference of +41.7 points "
        f"(95 % interval {low:+.1f} to {high:+.1f}, not corrected; p < 0.001, corrected for 2 tests)."
    )
    assert 28 < low < 32 and 51 < high < 56  # 41.7 -+ 1.96 sqrt(0.417 * 0.583 / 60) = 29.2 to 54.1
    assert apart["statement"].startswith(
        "janus (likelihood) and clap cannot be told apart: 66.7 % against 70.0 % of 60 clips, a difference of -3.3 points"
    )
    # differences -1 twice and 0: z(1 - 0.05 / 4) + z(0.8) = 3.083 times sqrt((2/60 - (2/60)^2) / 59) = 7.2 points
    assert apart["statement"].endswith(
        "A study of this size finds a true difference of 7.2 points with a probability of about 80 %."
    )
    [worse] = contrast_rows({"classifier": "janus@blank", "against": ("janus",)})
    assert (
        worse["statement"].startswith("janus @ blank (likelihood) is correct less often than janus (")
        and worse["verdict"] == "worse"
    )


def test_a_contrast_with_examples_says_that_it_holds_for_these_examples():
    few = predict_correctly(40, selection="random", draw=0)
    data = ContrastData(
        predictions={"few": few, "zero": predict_correctly(15)},
        not_run_reason=str,
        clips=CLIPS,
        classes=CLASSES,
        tuning_folds=(),
    )
    [row] = contrasts_table([Contrast(classifier="few", against=("zero",))], data).to_pylist()
    assert row["interval_scope"] == "clips, for these examples"
    assert row["statement"].endswith("; p < 0.001; for these examples).")
    [row] = contrasts_table([Contrast(classifier="zero", against=("chance",))], data).to_pylist()
    assert row["interval_scope"] == "clips" and "examples" not in row["statement"]


def test_sides_that_never_differ_cannot_be_distinguished():
    data = ContrastData(
        predictions={"a": predict_correctly(30), "b": predict_correctly(30)},
        not_run_reason=str,
        clips=CLIPS,
        classes=CLASSES,
        tuning_folds=(),
    )
    [row] = contrasts_table([Contrast(classifier="a", against=("b",))], data).to_pylist()
    assert (row["difference"], row["p"], row["detectable_difference"], row["verdict"]) == (
        0,
        1,
        None,
        "cannot tell apart",
    )
    assert row["low"] < 0 < row["high"] and "all clips have the same difference" in row["reason"]


def test_no_contrasts_give_an_empty_table():
    assert contrast_rows() == []


def test_a_side_is_not_compared_with_itself():
    """The loader produces such contrasts from a pattern that stands for several names."""
    group = Contrast(classifier="janus", against=("clap",)).model_copy(update={"against": ("clap", "janus")})
    rows = contrasts_table([group], DATA).to_pylist()
    assert [(r["against"], r["holm_over"]) for r in rows] == [("clap", 1)]


def test_a_side_is_not_compared_with_another_spelling_of_itself():
    """`janus` stands for janus:likelihood@none, and Holm must not count a comparison of a side with itself."""
    for first, second in (("janus", "janus:likelihood"), ("janus:likelihood", "janus@none")):
        rows = contrast_rows({"classifier": first, "against": ("clap", second)})
        assert [(r["against"], r["holm_over"]) for r in rows] == [("clap", 1)]
    twice = contrast_rows({"classifier": "janus", "against": ("clap", "clap:score")})
    assert [r["holm_over"] for r in twice] == [1]
    with pytest.raises(ValidationError, match="each side must be named once"):
        Contrast(classifier="janus", against=("janus@none",))


def test_summaries_of_many_classifiers_take_seconds():
    """22 classifiers of 400 clips of 304 recordings, in two scorings each."""
    rng = np.random.default_rng(0)
    sources = np.concatenate([np.arange(304), rng.integers(0, 304, 96)])
    clips = [Clip(f"clip {i}", CLASSES[i % 4], 1 + i % 5, f"s{sources[i]}", "f") for i in range(400)]
    names = {c.id: c.source for c in clips}
    tables_by_seed = []
    for _ in range(4):
        p = rng.dirichlet(np.full(4, 0.5), 400)
        rows = [(c.fold, c.label, CLASSES[s.argmax()], s.tolist()) for c, s in zip(clips, p, strict=True)]
        scorings = [predictions_table(rows, scoring=scoring) for scoring in ("likelihood", "generation")]
        table = pa.concat_tables(scorings)
        index = table.schema.get_field_index("source")
        clip_sources = pa.array([names[name] for name in table["clip"].to_pylist()])
        tables_by_seed.append(table.set_column(index, table.schema.field(index), clip_sources))
    tables = {f"c{k}": tables_by_seed[k % 4] for k in range(22)}
    contrasts = [Contrast(classifier=f"c{k}", against=("chance", "c0:generation")) for k in range(22)]
    seconds = []
    for compute in (
        lambda: leaderboard_table(
            [LeaderboardEntry(n, "language_model", t, (1, 2, 3, 4, 5)) for n, t in tables.items()],
            clips=clips,
            rejected_clips=0,
            classes=CLASSES,
            tuning_folds=(1,),
            limited=False,
        ),
        lambda: contrasts_table(
            contrasts,
            ContrastData(predictions=tables, not_run_reason=str, clips=clips, classes=CLASSES, tuning_folds=(1,)),
        ),
        lambda: [metrics_table(t, CLASSES, (1,)) for t in tables_by_seed],
    ):
        start = time.process_time()
        compute()
        seconds.append(time.process_time() - start)
    print("leaderboard of 44 rows {:.2f} s, 44 contrasts {:.2f} s, metrics of 4 classifiers {:.2f} s".format(*seconds))  # noqa: T201
    assert sum(seconds) < 30  # a machine ten times slower passes


def compare_with(contrast, **changes):
    return TABLES["contrasts"].conform(contrasts_table([contrast], replace(DATA, **changes)), study="s").to_pylist()


COMPLETE = {
    "janus": ExpectedRun({1: 30, 2: 30}),
    "clap": ExpectedRun({1: 30, 2: 30}),
    "annotators": ExpectedRun({1: None, 2: None}),
}


def test_complete_runs_get_a_verdict():
    contrast = Contrast(classifier="janus", against=("chance", "clap", "annotators"))
    rows = compare_with(contrast, expected=COMPLETE)
    assert [r["verdict"] for r in rows] == ["better", "cannot tell apart", "worse"]


def test_part_of_the_clips_gives_no_verdict_and_no_number():
    contrast = Contrast(classifier="janus", against=("clap", "chance"))
    predictions = {**DATA.predictions, "clap": DATA.predictions["clap"].slice(0, 50)}
    clap, chance = compare_with(contrast, expected=COMPLETE, predictions=predictions)
    assert (clap["verdict"], clap["reason"]) == ("not compared", "10 of 60 predictions of clap are missing")
    numbers = ("accuracy", "difference", "low", "p", "p_holm", "p_mcnemar", "detectable_difference")
    assert [clap[name] for name in numbers] == [None] * 7
    assert (clap["classifier_clips"], clap["against_clips"], clap["holm_over"]) == (60, 50, 1)
    assert chance["verdict"] == "better", "the other contrast is complete"
    limited = compare_with(contrast, expected=COMPLETE, limited=True)
    assert [(r["verdict"], r["reason"], r["holm_over"]) for r in limited] == [
        ("not compared", "the run is limited to a part of the clips", 0)
    ] * 2


def test_folds_that_the_contrast_leaves_out_may_be_missing():
    in_fold_2 = [i for i, fold in enumerate(DATA.predictions["clap"]["fold"].to_pylist()) if fold == 2]
    predictions = {**DATA.predictions, "clap": DATA.predictions["clap"].take(in_fold_2)}
    for folds, verdict in (("all", "not compared"), ("without_tuning", "cannot tell apart")):
        contrast = Contrast(classifier="janus", against=("clap",), folds=folds)
        [row] = compare_with(contrast, expected=COMPLETE, predictions=predictions)
        assert row["verdict"] == verdict


def test_a_margin_adds_a_test_of_equivalence():
    # 40 and 42 of 60 correct: difference 2 points of 60 clips with standard error 0.0234
    clap, chance = compare_with(Contrast(classifier="janus", against=("clap", "chance"), margin=0.15))
    assert (clap["verdict"], clap["margin"], clap["holm_over"]) == ("equivalent", 0.15, 4)
    # smallest standard error sqrt(0.15 * 0.85 / 60) = 0.0461; t = (0.15 - 0.0333) / 0.0461 = 2.53 with 59 degrees of freedom
    assert clap["p_equivalence"] == pytest.approx(0.0070, abs=0.0003)
    assert clap["p_equivalence_holm"] == pytest.approx(3 * clap["p_equivalence"])
    assert clap["statement"].startswith(
        "janus (likelihood) is equivalent to clap (less than 15 points apart): 66.7 % against 70.0 %"
    )
    assert clap["statement"].endswith(f"Equivalence within 15 points: p = {clap['p_equivalence_holm']:.3f}.")
    assert (chance["verdict"], chance["p_equivalence"] > 0.9) == ("better", True)
    [narrow] = compare_with(Contrast(classifier="janus", against=("clap",), margin=0.03))
    assert narrow["verdict"] == "cannot tell apart" and narrow["p_equivalence"] > 0.5


def test_the_detectable_difference_accounts_for_the_number_of_tests():
    one = contrast_rows({"classifier": "janus", "against": ("clap",)})[0]
    four = contrast_rows({"classifier": "janus", "against": ("clap", "chance", "majority", "janus@blank")})[0]
    # 3.3393 and 2.8016 standard errors
    assert four["detectable_difference"] / one["detectable_difference"] == pytest.approx(3.3393 / 2.8016, rel=1e-3)
