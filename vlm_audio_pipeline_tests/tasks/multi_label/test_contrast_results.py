"""The table of contrasts of a multi-label study: values, verdicts, Holm, and comparisons that are not made."""

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.evaluation.completeness import ExpectedRun
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.tasks.multi_label.contrast_results import LabelContrastData, label_contrasts_table
from vlm_audio_pipeline.tasks.multi_label.contrasts import LabelContrast
from vlm_audio_pipeline_tests.tasks.multi_label.classifiers.label_runner import labelled_clips
from vlm_audio_pipeline_tests.tasks.multi_label.test_leaderboard import predictions

DATASET, TRUTH, _ = labelled_clips()  # 3 folds of 20 clips, 3 classes, 30 recordings
NOISE = np.random.default_rng(0).standard_normal(TRUTH.shape)
COMPLETE = ExpectedRun({1: 60, 2: 60, 3: 60})


def rows_of(*contrasts, limited=False, **tables):
    tables = {"good": predictions(DATASET, TRUTH + NOISE / 4), "bad": predictions(DATASET, NOISE), **tables}
    data = LabelContrastData(
        predictions=tables,
        not_run_reason=lambda name: f"weights of {name} missing",
        classes=DATASET.classes,
        tuning_folds=(2,),
        expected=dict.fromkeys(tables, COMPLETE),
        limited=limited,
    )
    table = label_contrasts_table([LabelContrast(**c) for c in contrasts], data)
    return TABLES["multi_label_contrasts"].conform(table, study="s").to_pylist()


def test_values_verdicts_and_holm():
    chance, bad, f1 = rows_of(
        {"classifier": "good", "against": ("chance", "bad")},
        {"classifier": "bad", "against": ("good",), "measure": "f1_macro", "folds": "without_tuning"},
    )
    assert TRUTH.mean() < chance["against_value"] < TRUTH.mean() + 0.1  # a little above the share of positives
    assert (chance["verdict"], bad["verdict"], f1["verdict"]) == ("better", "better", "worse")
    assert (bad["scoring"], bad["against_scoring"], chance["against_scoring"]) == ("score", "score", None)
    assert [r["holm_over"] for r in (chance, bad, f1)] == [3, 3, 3]
    assert all(r["p"] <= r["p_holm"] <= 3 * r["p"] for r in (chance, bad, f1))
    assert chance["p"] == 1 / 2001  # none of 2,000 drawings is as far from their mean
    assert (f1["subset"], f1["clips"], bad["clips"], bad["sources"]) == ("without tuning folds", 40, 60, 30)
    assert chance["statement"].startswith("good has a higher cmAP than chance: ")
    assert "corrected for 3 tests" in chance["statement"]


def test_a_margin_tests_equivalence():
    [row] = rows_of({"classifier": "good", "against": ("other",), "margin": 0.3}, other=predictions(DATASET, TRUTH))
    assert (row["verdict"], row["holm_over"]) == ("equivalent", 2)
    assert "Equivalence within 0.3: p" in row["statement"]


def test_what_is_not_finished_is_not_compared():
    failed = predictions(DATASET, TRUTH)
    index = failed.schema.get_field_index("outcome")
    outcomes = ["error", *failed["outcome"].to_pylist()[1:]]
    failed = failed.set_column(index, failed.schema.field(index), pa.array(outcomes))
    part, errors, absent, control = rows_of(
        {"classifier": "good", "against": ("part", "failed", "absent", "bad@blank")},
        part=predictions(DATASET, TRUTH, folds=(1, 3)),
        failed=failed,
    )
    rows = (part, errors, absent, control)
    assert {r["verdict"] for r in rows} == {"not compared"}
    assert {r["value"] for r in rows} == {r["p_holm"] for r in rows} == {None}
    assert part["reason"] == "part has no predictions of fold 2 yet"
    assert errors["reason"] == "1 of 180 predictions of failed are errors; run the study again"
    assert absent["reason"] == "absent was not run: weights of absent missing"
    assert control["reason"] == "bad has no predictions under control blank, only under none"
    [row] = rows_of({"classifier": "good", "against": ("bad",)}, limited=True)
    assert row["reason"] == "the run is limited to a part of the clips"


def test_equal_comparisons_count_once_and_measures_are_different_comparisons():
    again = {"classifier": "good", "against": ("bad", "good:score")}  # a side is not compared with itself
    rows = rows_of(again, again, again | {"measure": "lwlrap"})
    assert [(r["against"], r["measure"]) for r in rows] == [("bad", "cmap"), ("bad", "lwlrap")]


def test_mistakes_in_a_contrast():
    with pytest.raises(ValidationError, match="got 'chance@blank'"):
        LabelContrast(classifier="good", against=("chance@blank",))
    with pytest.raises(ValidationError, match="must name a classifier, got 'chance'"):
        LabelContrast(classifier="chance", against=("good",))
    with pytest.raises(ValidationError, match="measure"):
        LabelContrast(classifier="good", against=("bad",), measure="accuracy")
