from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from statsmodels.stats.weightstats import DescrStatsW

from vlm_audio_pipeline.classifiers.protocol import Protocol
from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.evaluation.equivalence import equivalent_to
from vlm_audio_pipeline.evaluation.published import Reproduction, StudyDataset, published_table
from vlm_audio_pipeline.evaluation.published_results import published_results
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table, esc10_dataset, needs_esc10, predict_all_folds

CLAP = Reproduction(
    "can-vlms-hear/laion/clap-htsat-unfused",
    Protocol(
        setting="zero-shot",
        input="audio",
        model="laion/clap-htsat-unfused",
        prompt="This is a sound of {label}.",
        label_form="raw",
        trials=1,
        audio="peak-normalised",
    ),
)
GPT = Reproduction(
    "dixit2024/GPT-4o",
    Protocol("few-shot", "spectrogram image", "gpt-4o-2024-08-06", "paper", "raw", 1, rendering="r"),
    renderings={"r": Recipe(preset="paper")},
)
GPT_ZERO_SHOT = replace(GPT, protocol=replace(GPT.protocol, setting="zero-shot", shots=0))
LISTENERS = Reproduction("piczak2015/human listeners", Protocol("annotation", model="panel.csv"))


def predictions(hits_by_fold: dict[int, list[int]], **constants):
    """Build predictions from fold -> hits (1 for correct), a clip each; two clips share a source."""
    rows = [(fold, i, bool(hit)) for fold, hits in hits_by_fold.items() for i, hit in enumerate(hits)]
    columns = {
        "fold": [f for f, _, _ in rows],
        "clip": [f"{f}-{i}" for f, i, _ in rows],
        "source": [f"{f}-{i // 2}" for f, i, _ in rows],
        "label": ["dog"] * len(rows),
        "predicted": ["dog" if hit else "rain" for *_, hit in rows],
        "correct": [hit for *_, hit in rows],
        "outcome": ["answered"] * len(rows),
    }
    for name, value in {"kind": "k", "scoring": "score", "control": "none", "trial": 0, **constants}.items():
        columns[name] = [value] * len(rows)
    return TABLES["predictions"].conform(pa.table(columns), study="s", classifier="c")


def published(reproduction, rows=None, dataset="ESC-10", files="wav"):
    table = published_table({"c": reproduction}, {"c": rows}, StudyDataset(dataset, files))
    return TABLES["published"].conform(table, study="s").to_pylist()


def repeated_results(reproduction, rows=None, dataset="ESC-10", files="wav"):
    return [r for r in published(reproduction, rows, dataset, files) if r["classifier"]]


def half_correct(folds, clips):
    """Return hits with one of two clips correct in every source, `clips` clips a fold."""
    return {fold: [1, 0] * (clips // 2) for fold in folds}


def hits_with_wrong(wrong):
    """Return hits of 5 folds of 80 clips; the wrong clips come from different sources."""
    hits = [1] * 400
    for i in range(wrong):
        hits[i * 10] = 0
    return {fold: hits[(fold - 1) * 80 : fold * 80] for fold in range(1, 6)}


@pytest.mark.parametrize(
    ("wrong", "in_interval", "relation"), [(3, True, "contains"), (40, False, "lies below")]
)  # published: 0.9925, 3 wrong of 400
def test_with_the_same_protocol_the_interval_is_compared_with_the_published_number(wrong, in_interval, relation):
    [row] = repeated_results(CLAP, predictions(hits_with_wrong(wrong)))
    assert (row["measured"], row["measured_over"], row["measured_clips"]) == (1 - wrong / 400, "all", 400)
    assert row["measured_low"] < row["measured"] < row["measured_high"]
    assert row["difference"] == pytest.approx((3 - wrong) / 400)
    assert (row["published_in_interval"], row["differences"], row["not_stated"]) == (in_interval, "", "")
    assert f"from the published 0.993; the interval {relation} it" in row["verdict"], row["verdict"]
    # no margin, so nothing is called reproduced
    assert (row["reproduced"], row["p_equivalence"], row["margin"]) == (None, None, None)
    assert row["reason"] == "the study declares no margin, so 'reproduced' is not tested"
    assert "reproduced" not in row["verdict"]


@pytest.mark.parametrize(
    ("wrong", "margin", "model", "reproduced", "words"),
    [
        (3, 0.02, "laion/clap-htsat-unfused", "yes", "reproduced within 0.02"),
        (3, 0.02, "laion/larger_clap_general", "accuracy only", "agree within 0.02, but the protocols differ"),
        (3, 0.001, "laion/clap-htsat-unfused", "undecided", "cannot decide whether the accuracies agree within 0.001"),
        (40, 0.02, "laion/clap-htsat-unfused", "no", "not reproduced: the accuracies differ by more than 0.02"),
    ],
)
def test_reproduced_needs_a_margin_a_test_and_equal_protocols(wrong, margin, model, reproduced, words):
    reproduction = replace(CLAP, margin=margin, protocol=replace(CLAP.protocol, model=model))
    [row] = repeated_results(reproduction, predictions(hits_with_wrong(wrong)))
    assert (row["reproduced"], row["margin"], row["reason"]) == (reproduced, margin, None)
    assert words in row["verdict"]
    assert (row["p_equivalence"] < 0.05) == (reproduced in ("yes", "accuracy only"))


def test_the_equivalence_test_equals_that_of_statsmodels():
    correct = np.array([1.0] * 55 + [0.0] * 45)
    sources = np.array([str(i) for i in range(100)])
    p, *_ = DescrStatsW(correct - 0.5).ttost_mean(-0.15, 0.15)
    assert equivalent_to(correct, sources, 0.5, 0.15) == pytest.approx(p)
    # copies of clips add no information: 4 equal clips of each source
    assert equivalent_to(np.repeat(correct, 4), np.repeat(sources, 4), 0.5, 0.15) == pytest.approx(p)


def test_the_equivalence_test_of_few_errors_and_of_one_source():
    # all 40 right, published 0.99: the observed spread is 0, so that of a share 0.05 is used:
    # t = (0.05 - 0.01) / sqrt(0.05 * 0.95 / 40) = 1.161 with 39 degrees of freedom, p = 0.126
    right, sources = np.ones(40), np.array([str(i) for i in range(40)])
    assert equivalent_to(right, sources, 0.99, 0.05) == pytest.approx(0.126, abs=5e-4)
    assert equivalent_to(right, np.array(["a"] * 40), 0.99, 0.05) == 1.0


def test_a_published_result_of_one_fold_is_compared_with_that_fold():
    table = predictions({1: [1] * 60 + [0] * 20, **{fold: [0] * 80 for fold in (2, 3, 4, 5)}}, scoring="generation")
    rows = {r["split"]: r for r in repeated_results(GPT, table)}
    assert set(rows) == {"5-fold", "fold 1"}, "zero-shot ablations are another setting"
    assert (rows["fold 1"]["measured"], rows["fold 1"]["measured_over"]) == (0.75, "fold 1")
    assert (rows["fold 1"]["measured_clips"], rows["fold 1"]["published_in_interval"]) == (80, True)  # published 0.7375
    assert (rows["5-fold"]["measured"], rows["5-fold"]["published_in_interval"]) == (60 / 400, False)  # published 0.59
    assert {r["differences"] for r in rows.values()} == {""}
    assert "shots: here 1" in rows["5-fold"]["not_stated"].splitlines()


def test_a_measurement_with_examples_says_that_it_holds_for_these_examples():
    table = predictions({1: [1, 0] * 40}, scoring="generation", shots=1, selection="medoid", draw=0)
    fold_1 = next(row for row in repeated_results(GPT, table) if row["split"] == "fold 1")
    assert ", for these examples)" in fold_1["verdict"]


def test_part_of_the_clips_gets_no_verdict():
    [row] = repeated_results(
        replace(GPT_ZERO_SHOT, margin=0.9), predictions(half_correct([1], 8), scoring="generation")
    )
    assert row["differences"] == "clips: published 80 (fold 1), here 8 (fold 1)"
    assert (row["measured"], row["measured_clips"]) == (0.5, 8)
    assert (row["published_in_interval"], row["reproduced"], row["difference"]) == (None, None, None)
    assert row["reason"] == "only 8 of 80 clips are predicted"
    assert row["verdict"].endswith("published 0.275; no verdict: only 8 of 80 clips are predicted")
    [row] = repeated_results(CLAP, predictions(half_correct([1, 3], 80)))
    assert row["differences"] == "clips: published 400 (all clips), here 160 (folds 1, 3)"


def test_a_fold_that_was_not_predicted_has_no_number():
    [row] = repeated_results(GPT_ZERO_SHOT, predictions(half_correct([2], 8), scoring="generation"))
    assert (row["measured"], row["published_in_interval"]) == (None, None)
    assert (row["reason"], row["verdict"]) == ("fold 1 was not predicted", "not measured: fold 1 was not predicted")


def test_failed_requests_get_no_verdict():
    table = predictions(hits_with_wrong(3), outcome="answered")
    outcomes = ["error" if not hit else "answered" for hit in table["correct"].to_pylist()]
    table = table.set_column(table.schema.get_field_index("outcome"), "outcome", pa.array(outcomes))
    [row] = repeated_results(replace(CLAP, margin=0.02), table)
    assert (row["published_in_interval"], row["reason"]) == (None, "3 of 400 predictions are errors")


def test_a_result_on_another_dataset_gets_no_verdict():
    row, _ = repeated_results(GPT, predictions(half_correct(range(1, 6), 80), scoring="generation"), "synthetic")
    assert (row["dataset"], row["published_in_interval"]) == ("ESC-10", None)
    assert row["differences"] == "dataset: published ESC-10, here synthetic"
    assert row["reason"] == "the published result is on ESC-10, this one on synthetic"
    rows = repeated_results(LISTENERS, predictions(half_correct([1], 8), scoring="annotation"), "ESC-50")
    assert [(r["dataset"], r["published"]) for r in rows] == [("ESC-50", 0.813)]


def test_another_number_of_folds_is_a_difference():
    table = predictions(half_correct(range(1, 11), 40), scoring="generation")
    assert repeated_results(GPT, table)[0]["differences"] == "folds: published 5-fold, here 10-fold"


def test_another_copy_of_the_dataset_is_a_difference():
    [row] = repeated_results(CLAP, predictions(hits_with_wrong(3)), files="ogg")
    assert row["differences"] == "audio files: published wav, here ogg"


def test_controls_and_baselines_are_left_out_and_scorings_are_separate():
    tables = [
        predictions(half_correct([1], 8), scoring=s, control=c)
        for s in ("generation", "likelihood", "examples_knn")
        for c in ("none", "blank")
    ]
    rows = repeated_results(GPT_ZERO_SHOT, pa.concat_tables(tables))
    assert [(r["scoring"], r["measured_clips"]) for r in rows] == [("generation", 8), ("likelihood", 8)]
    assert ["scoring: published generation, here likelihood" in r["differences"] for r in rows] == [False, True]


def test_the_snapshot_that_an_endpoint_used_is_compared():
    alias = replace(GPT, protocol=replace(GPT.protocol, model="gpt-4o"))
    table = predictions({1: [1] * 80}, scoring="generation", model="gpt-4o", revision="gpt-4o-2024-11-20")
    row = repeated_results(alias, table)[0]
    assert "here gpt-4o-2024-11-20, a snapshot that is newer than the publication" in row["differences"]


def test_annotators_of_images_read_and_others_have_no_recorded_input():
    experts = replace(LISTENERS, reproduces="dixit2024/human experts", renderings={"r": Recipe(preset="paper")})
    [row] = repeated_results(experts, predictions(half_correct([1], 80), scoring="annotation", rendering="r"))
    assert row["differences"] == "annotators: published experts (no names), here panel.csv"
    assert row["not_stated"].startswith("rendering: here stft, log frequency")
    [row] = repeated_results(experts, predictions(half_correct([1], 80), scoring="annotation"))
    assert "setting: published reading, here annotation" in row["differences"]


def test_a_classifier_that_was_not_run_has_the_differences_of_its_settings():
    rows = published(GPT_ZERO_SHOT)
    [row] = [r for r in rows if r["classifier"]]
    assert (row["variant"], row["published"], row["measured"]) == ("default rendering", 0.275, None)
    assert row["verdict"] == "not measured: no predictions with the current settings yet"
    assert "snapshot of the model: here gpt-4o-2024-08-06" in row["not_stated"].splitlines()
    others = [r for r in rows if not r["classifier"]]
    assert {r["dataset"] for r in others} == {"ESC-10"} and {r["measured"] for r in others} == {None}
    assert {r["verdict"] for r in others} == {"not repeated in this study"}
    assert len(rows) == len([r for r in published_results() if r.dataset == "ESC-10"])
    assert all(r["title"] and r["url"].startswith("https://") for r in rows)


def test_a_study_that_repeats_nothing_has_no_rows():
    assert published_table({}, {}, StudyDataset("ESC-10")).num_rows == 0


def test_an_unknown_name_in_reproduces_is_refused():
    with pytest.raises(BadStudy, match=r"classifiers.c.reproduces: .* got 'dixit2024/GPT4o'"):
        published(replace(GPT, reproduces="dixit2024/GPT4o"))


@needs_esc10
def test_the_annotations_of_esc10_reproduce_the_published_result():
    from vlm_audio_pipeline.classifiers.annotations import AnnotationsClassifier

    data = esc10_dataset()
    spec = AnnotationsClassifier(source="esc10_annotators", reproduces="piczak2015/human listeners", margin=0.02)
    annotations = predict_all_folds(spec, "annotators", data, {"clips": clips_table(data.clips)})
    [row] = repeated_results(Reproduction(spec.reproduces, spec.protocol(), spec.margin), annotations)
    assert (row["measured"], row["published"]) == (pytest.approx(4487 / 4687), 0.9573)
    assert (row["measured_clips"], row["published_in_interval"]) == (321, True)
    assert (row["differences"], row["not_stated"], row["reproduced"]) == ("", "", "yes")


def test_responses_of_two_models_have_no_number_unless_the_study_accepts_both():
    ids = ("gpt-4o-2024-08-06", "gpt-4o-2024-11-20")
    rows = pa.concat_tables(
        predictions(half_correct([fold], 80), revision=name) for fold, name in zip((1, 2), ids, strict=True)
    )
    mixed = repeated_results(replace(GPT, accepted_models=()), rows)
    assert mixed and all(
        (row["measured"], row["measured_low"], row["difference"], row["reproduced"]) == (None,) * 4 for row in mixed
    )
    assert all(
        row["verdict"].startswith("not comparable: all responses of a classifier must be of one") for row in mixed
    )
    assert repeated_results(replace(GPT, accepted_models=ids), rows)[0]["measured"] == 0.5
