import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.classifiers.language_models.trials import trials
from vlm_audio_pipeline.evaluation.trial_variance import TrialDesign, variance_components_table
from vlm_audio_pipeline.storage.schemas import TABLES


def predictions(correct_of, counts=(3, 2, 1, 2), clips=12):
    """Return predictions of every clip in every trial: `correct_of(clip, trial)`."""
    lines = [
        {"scoring": "generation", "control": "none", "trial": t.trial, "clip": f"c{i:02}", "source": f"s{i:02}"}
        | {"correct": bool(correct_of(i, t))}
        for t in trials(*counts)
        for i in range(clips)
    ]
    return pa.Table.from_pylist(lines)


def components(table, design):
    rows = variance_components_table({"m": table}, {"m": design})
    return {r["component"]: r for r in TABLES["variance_components"].conform(rows, study="s").to_pylist()}


def test_each_factor_of_the_trials_is_found():
    # only the second draw fails: everything is between draws, half of whose variance (n - 1) is 1/3
    rows = components(predictions(lambda i, t: t.draw != 1), TrialDesign(3, 2, 1, 2))
    assert rows["draw"]["variance"] == pytest.approx(1 / 3) and rows["draw"]["levels"] == 3
    assert rows["draw"]["variance_of_mean"] == pytest.approx(1 / 9)
    assert all(rows[name]["variance"] == pytest.approx(0, abs=1e-12) for name in ("clip", "class_order", "repeat"))
    assert rows["wording"]["variance"] is None and rows["wording"]["reason"] == "one wording"
    # only the second class order fails
    rows = components(predictions(lambda i, t: t.class_order), TrialDesign(3, 2, 1, 2))
    assert rows["class_order"]["variance"] == pytest.approx(1 / 2) and rows["draw"]["variance"] == pytest.approx(0)
    # only repeats differ: 1 of 2 is correct, the variance within a pair is 1/2
    rows = components(predictions(lambda i, t: t.repeat), TrialDesign(3, 2, 1, 2))
    assert rows["repeat"]["variance"] == pytest.approx(1 / 2) and rows["clip"]["sd"] == 0
    assert set(rows) == {"clip", "draw", "class_order", "wording", "repeat", "clip x draw", "clip x class_order"} | {
        "draw x class_order",
        "clip x draw x class_order",
    }


def test_draws_that_are_ranks_have_no_spread():
    random = np.random.default_rng(0)
    design = TrialDesign(3, 2, 1, 2, ranked_draws="medoid")
    rows = components(predictions(lambda i, t: random.random() < 0.5), design)
    assert rows["draw"]["sd"] is None and "ranks" in rows["draw"]["reason"] and rows["clip x draw"]["low"] is None
    assert rows["class_order"]["sd"] is not None


@pytest.mark.parametrize(
    ("table", "design", "reason"),
    [
        (predictions(lambda i, t: 1, (1, 1, 1, 1)), TrialDesign(1, 1, 1, 1), "one trial"),
        (predictions(lambda i, t: 1).slice(1), TrialDesign(3, 2, 1, 2), "1 of 144 predictions are missing"),
        (predictions(lambda i, t: 1, clips=9), TrialDesign(3, 2, 1, 2), "fewer than 10 source recordings"),
    ],
)
def test_no_estimate_has_a_reason(table, design, reason):
    rows = components(table, design)
    assert {r["reason"] for r in rows.values()} == {reason} and {r["variance"] for r in rows.values()} == {None}
