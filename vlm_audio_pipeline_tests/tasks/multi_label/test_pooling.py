"""Results of whole recordings: pooling by hand, and runs that are not finished."""

from dataclasses import replace

import numpy as np
import pytest

from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.evaluation.completeness import ExpectedRun
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.loading import parse_study
from vlm_audio_pipeline.tasks.multi_label.pooling import pool, recordings_table
from vlm_audio_pipeline_tests.tasks.multi_label.classifiers.label_runner import labelled_clips
from vlm_audio_pipeline_tests.tasks.multi_label.measures.label_arrays import label_arrays
from vlm_audio_pipeline_tests.tasks.multi_label.test_leaderboard import predictions

# Recordings x (segments 0 and 2) and y (segment 1), classes a and b.
TRUTH = [[1, 0], [0, 0], [0, 1]]
SCORE = [[0.2, 0.4], [0.7, 0.1], [0.6, 0.2]]
SEGMENTS = label_arrays(TRUTH, SCORE, source=["x", "y", "x"])  # predicted from 0.5 on: x has a, y has a


def test_max_mean_and_any_by_hand():
    of_max, of_mean, of_any = (pool(SEGMENTS, pooling) for pooling in ("max", "mean", "any"))
    for pooled in (of_max, of_mean, of_any):
        assert pooled.clip.tolist() == pooled.source.tolist() == ["x", "y"]
        assert pooled.truth.tolist() == [[True, True], [False, False]]
    assert of_max.score.tolist() == [[0.6, 0.4], [0.7, 0.1]]
    assert of_mean.score == pytest.approx(np.array([[0.4, 0.3], [0.7, 0.1]]))
    assert np.isnan(of_any.score).all()
    assert of_max.predicted.tolist() == of_any.predicted.tolist() == [[True, False], [True, False]]
    assert of_max.is_decided.all() and of_any.is_decided.all() and not of_mean.is_decided.any()


def test_a_segment_without_an_answer_leaves_its_recording_without_one():
    outcome = [["answered", "unparseable"], ["answered", "answered"], ["error", "answered"]]
    pooled = pool(label_arrays(TRUTH, SCORE, outcome=outcome, source=["x", "y", "x"]), "max")
    assert pooled.outcome.tolist() == [["error", "unparseable"], ["answered", "answered"]]
    assert np.isnan(pooled.score[0]).all() and not pooled.is_decided[0].any()
    assert pooled.score[1].tolist() == [0.7, 0.1]


def test_passes_over_the_clips_are_pooled_apart():
    twice = {name: np.concatenate([getattr(SEGMENTS, name)] * 2) for name in vars(SEGMENTS) if name != "classes"}
    twice["score"][3:] = 0.9
    pooled = pool(replace(SEGMENTS, **twice), "max")
    assert pooled.clip.tolist() == ["x", "x", "y", "y"]
    assert pooled.score[:, 0].tolist() == [0.6, 0.9, 0.7, 0.9]


DATASET, LABELS, _ = labelled_clips()  # 60 clips of 30 recordings, 3 folds


def rows_of(table, **options):
    arguments = {
        "classifier": "p",
        "kind": "probe",
        "expected": ExpectedRun({1: 60, 2: 60, 3: 60}),
        "clips": DATASET.clips,
        "classes": DATASET.classes,
        "limited": False,
        **options,
    }
    rows = recordings_table(table, ("max", "mean"), **arguments)
    return TABLES["multi_label_recordings"].conform(rows, study="s", classifier="p").to_pylist()


def test_perfect_scores_are_perfect_for_recordings_and_a_mean_has_no_decisions():
    of_max, of_mean = rows_of(predictions(DATASET, LABELS.astype(float)))
    # A recording has two clips: its mean is 1/2 or more with the class and 0 without it.
    assert (of_max["cmap"], of_mean["cmap"], of_max["f1_macro"], of_max["exact_match"]) == (1, 1, 1, 1)
    assert (of_mean["f1_macro"], of_mean["exact_match"]) == (None, None)
    assert "f1_macro undefined" in of_mean["note"] and "undefined" not in of_max["note"]
    with_class = {(clip.source, name) for clip in DATASET.clips for name in clip.labels}
    assert (of_max["recordings"], of_max["clips"], of_max["positives"]) == (30, 60, len(with_class))
    assert of_max["cmap_low"] < 1


def test_a_run_that_is_not_finished_has_no_measures():
    part = rows_of(predictions(DATASET, LABELS.astype(float), folds=(1, 3)))
    assert {r["cmap"] for r in part} == {r["f1_macro"] for r in part} == {None}
    assert {r["note"] for r in part} == {"not finished: p has no predictions of fold 2 yet"}
    two_folds = rows_of(predictions(DATASET, LABELS.astype(float), folds=(1, 3)), expected=ExpectedRun({1: 60, 3: 60}))
    assert {r["note"] for r in two_folds} == {"not finished: 20 of 60 clips are not predicted"}
    assert rows_of(predictions(DATASET, LABELS.astype(float)), limited=True)[0]["cmap"] is None


STUDY = "name: s\ntask: TASK\ndataset: {kind: soundscape}\nencoders: {e: {kind: features}}\nclassifiers: {p: {kind: probe, encoder: e}}\n"


def test_the_key_of_the_study(tmp_path):
    study = STUDY.replace("TASK", "multi_label")
    assert parse_study(study + "pooling: mean\n", tmp_path / "s.yaml").pooling == ("mean",)
    assert parse_study(study + "pooling: [any, max]\n", tmp_path / "s.yaml").pooling == ("max", "any")
    with pytest.raises(BadStudy, match="pooling: must be one or several of max, mean, any, got 'sum'"):
        parse_study(study + "pooling: [sum]\n", tmp_path / "s.yaml")
    with pytest.raises(BadStudy, match="pooling: is not available in the task single_label; remove it"):
        parse_study(STUDY.replace("TASK", "single_label") + "pooling: max\n", tmp_path / "s.yaml")
