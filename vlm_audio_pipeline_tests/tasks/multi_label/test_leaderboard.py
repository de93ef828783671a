"""Metrics and leaderboard of a multi-label study: values, ranks, notes and rows that were not run."""

import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.evaluation.leaderboard import LeaderboardEntry
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.tasks.multi_label.classifiers.base import label_predictions
from vlm_audio_pipeline.tasks.multi_label.leaderboard import label_leaderboard_table
from vlm_audio_pipeline.tasks.multi_label.metrics import label_metrics_table
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table
from vlm_audio_pipeline_tests.tasks.multi_label.classifiers.label_runner import CLASSES, labelled_clips


def predictions(data, scores, folds=(1, 2, 3), **constants) -> pa.Table:
    """Return `multi_label_predictions` rows of some folds; a class is predicted from 0.5 on."""
    truth = np.array([[name in c.labels for name in data.classes] for c in data.clips])
    clips, tables = clips_table(data.clips), []
    for fold in folds:
        rows = clips["fold"].to_numpy() == fold
        table = label_predictions(
            clips.filter(pa.array(rows)),
            truth[rows],
            data.classes,
            scores[rows],
            np.full(3, 0.5),
            kind="probe",
            **constants,
        )
        tables.append(TABLES["multi_label_predictions"].conform(table, study="s", classifier="p", fold=fold))
    return pa.concat_tables(tables)


@pytest.fixture(scope="module")
def data_and_truth():
    data, truth, _ = labelled_clips()
    return data, truth.astype(float)


def board(data, tables: dict[str, pa.Table | None], **options) -> dict[str, dict]:
    entries = [LeaderboardEntry(n, "probe", t, (1, 2, 3), None, len(data.clips)) for n, t in tables.items()]
    arguments = {"clips": data.clips, "rejected_clips": 0, "classes": data.classes, "limited": False, **options}
    rows = TABLES["multi_label_leaderboard"].conform(label_leaderboard_table(entries, **arguments), study="s")
    return {row["classifier"]: row for row in rows.to_pylist()}


def test_ranks_are_by_cmap_beside_a_constant_score(data_and_truth):
    data, truth = data_and_truth
    noise = np.random.default_rng(0).standard_normal(truth.shape)
    rows = board(
        data,
        {
            "good": predictions(data, truth + noise),
            "perfect": predictions(data, truth),
            "same": predictions(data, truth),
        },
    )
    assert {name: row["rank"] for name, row in rows.items()} == {"perfect": 1, "same": 1, "good": 3, "constant": None}
    assert rows["constant"]["cmap"] == pytest.approx(truth.mean(axis=0).mean())  # the mean share of positives
    assert rows["constant"]["auroc_macro"] == 0.5
    assert (rows["perfect"]["cmap"], rows["perfect"]["exact_match"], rows["perfect"]["positives"]) == (
        1,
        1,
        truth.sum(),
    )
    assert rows["good"]["cmap_low"] < rows["good"]["cmap"] < rows["good"]["cmap_high"]


def test_incomplete_rows_have_no_rank_and_say_why(data_and_truth):
    data, truth = data_and_truth
    part = predictions(data, truth, folds=(1, 3))
    failed = predictions(data, truth)
    is_failed = np.arange(failed.num_rows) < 2
    for name, value in (("outcome", "error"), ("score", None), ("threshold", None), ("predicted", None)):
        index = failed.schema.get_field_index(name)
        values = [value if bad else old for bad, old in zip(is_failed, failed[name].to_pylist(), strict=True)]
        failed = failed.set_column(index, failed.schema.field(name), pa.array(values, failed.schema.field(name).type))
    rows = board(data, {"part": part, "failed": failed, "absent": None})
    assert [rows[n]["rank"] for n in ("part", "failed", "absent")] == [None] * 3
    assert "folds 1,3 of 1,2,3" in rows["part"]["note"]
    assert "2 requests failed: run the study again" in rows["failed"]["note"]
    assert rows["absent"]["note"].startswith("not run: ")
    assert rows["absent"]["cmap"] is None
    assert all(rows[n]["partial"] for n in ("part", "failed", "absent"))


def test_a_row_without_an_interval_says_why(data_and_truth):
    data, truth = data_and_truth
    rows = predictions(data, truth)
    index = rows.schema.get_field_index("source")
    one_source = rows.set_column(index, rows.schema.field(index), pa.array(["s"] * rows.num_rows, pa.string()))
    row = board(data, {"p": one_source})["p"]
    assert (row["cmap"], row["cmap_low"]) == (1, None)
    assert row["note"].endswith("no interval: fewer than 10 source recordings")


def test_a_limited_run_is_not_ranked(data_and_truth):
    data, truth = data_and_truth
    [row] = [r for n, r in board(data, {"p": predictions(data, truth)}, limited=True).items() if n == "p"]
    assert row["rank"] is None
    assert "limited run" in row["note"]


def test_without_a_usable_clip_no_row_has_a_value(data_and_truth):
    data, _ = data_and_truth
    rows = board(data, {"absent": None}, clips=[], rejected_clips=len(data.clips))
    assert {name: (row["rank"], row["cmap"], row["exact_match"]) for name, row in rows.items()} == {
        "constant": (None, None, None),
        "absent": (None, None, None),
    }
    assert (rows["constant"]["clips"], rows["constant"]["predictions"], rows["constant"]["folds"]) == (0, 0, "")
    assert rows["constant"]["note"].endswith("cmap undefined: no clip has any of the classes")
    assert rows["constant"]["rejected_clips"] == len(data.clips)


def test_metrics_have_a_row_for_every_class_and_subset(data_and_truth):
    data, truth = data_and_truth
    rows = label_metrics_table(predictions(data, truth), data.classes, (2,)).to_pylist()
    assert {r["subset"] for r in rows} == {"all", "fold 1", "fold 2", "fold 3", "without tuning folds"}
    of_all = {(r["metric"], r["label"]): r for r in rows if r["subset"] == "all"}
    assert {label for metric, label in of_all if metric == "ap"} == set(CLASSES)
    for label, count in zip(data.classes, truth.sum(axis=0), strict=True):
        assert (of_all["ap", label]["positives"], of_all["ap", label]["negatives"]) == (count, len(truth) - count)
    without = next(r for r in rows if r["subset"] == "without tuning folds" and r["metric"] == "exact_match")
    assert without["clips"] == 40


def test_predictions_of_other_classes_are_refused(data_and_truth):
    data, truth = data_and_truth
    with pytest.raises(VlmAudioError, match="every clip must have a prediction for each of the classes"):
        label_metrics_table(predictions(data, truth), ("a", "b"), ())
