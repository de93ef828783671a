import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.evaluation.rendering_effects import interaction_table, rendering_effects_table
from vlm_audio_pipeline.storage.schemas import TABLES


def predictions(correct, labels):
    n = len(labels)
    columns = {"scoring": ["score"] * n, "control": ["none"] * n, "clip": [f"c{i:03}" for i in range(n)]}
    return pa.table(columns | {"label": labels, "source": [f"s{i // 2:03}" for i in range(n)], "correct": correct})


def effects(correct, labels, groups=None):
    tables = {f"m_{j}": predictions(column, labels) for j, column in enumerate(np.array(correct, bool).T)}
    groups = groups or {"m_0": {f"r{j}": f"m_{j}" for j in range(len(tables))}}
    rows = TABLES["rendering_effects"].conform(rendering_effects_table(tables, groups), study="s").to_pylist()
    return {(row["rendering"], row["label"]): row for row in rows}


def test_interactions_by_hand():
    # class 0: 1 and 0, class 1: 1/2 and 1/2; class means 1/2, rendering means 3/4 and 1/4, mean 1/2
    correct = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], float)
    np.testing.assert_allclose(interaction_table(correct, np.array([0, 0, 1, 1])), [[0.25, -0.25], [-0.25, 0.25]])


def test_a_rendering_that_helps_one_class_is_found():
    random = np.random.default_rng(0)
    labels = np.tile(np.repeat(["a", "b"], 2), 30)
    share = np.where((labels == "a")[:, None], [0.9, 0.3], [0.6, 0.6])
    rows = effects(random.random((120, 2)) < share, labels.tolist())
    cell = rows["r0", "a"]
    # expected interaction: 0.9 - 0.6 - 0.75 + 0.6 = 0.15
    assert cell["interaction_low"] < 0.15 < cell["interaction_high"] and cell["interaction_low"] > 0
    assert cell["interaction"] == pytest.approx(-rows["r0", "b"]["interaction"])
    assert rows["r0", ""]["p_interaction"] == rows["r1", ""]["p_interaction"] < 0.01
    assert rows["r0", ""]["p_rendering"] < 0.01 and rows["r0", "a"]["p_rendering"] is None
    assert rows["r0", "a"]["clips"] == 60 and rows["r0", ""]["clips"] == 120


@pytest.mark.slow  # 40 worlds of two permutation tests
def test_equal_renderings_are_not_found():
    random = np.random.default_rng(1)
    labels = ["a", "a", "b", "b"] * 15
    p_values = []
    for _ in range(40):
        row = effects(random.random((60, 3)) < 0.5, labels)["r0", ""]
        p_values.append([row["p_rendering"], row["p_interaction"]])
    # 40 worlds at 0.05: 2 expected, 7 or more with probability 0.003
    assert ((np.array(p_values) < 0.05).sum(axis=0) < 7).all()
    assert 0.3 < np.mean(p_values) < 0.7


def test_a_missing_rendering_leaves_accuracies_without_tests():
    groups = {"m_0": {"r0": "m_0", "r1": "m_1", "r2": "absent"}}
    rows = effects(np.ones((40, 2)), ["a", "b"] * 20, groups)
    assert {r["reason"] for r in rows.values()} == {"not run: absent"} and len(rows) == 6
    assert rows["r0", "a"]["accuracy"] == 1.0 and rows["r0", "a"]["interaction"] is None
    assert rows["r0", ""]["p_rendering"] is None
