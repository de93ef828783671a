import importlib.util

import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.evaluation import item_response
from vlm_audio_pipeline.evaluation.item_response import item_response_table
from vlm_audio_pipeline.storage.schemas import TABLES


def simulate(abilities, clips, clip_sd, people=(), seed=0):
    """Return predictions of models with these abilities, and of people around ability 0."""
    random = np.random.default_rng(seed)
    difficulty = clip_sd * random.standard_normal(clips)
    names = [f"c{i:03}" for i in range(clips)]

    def table(ability, scoring, annotator):
        correct = random.random(clips) < 1 / (1 + np.exp(difficulty - ability))
        constants = {"scoring": [scoring] * clips, "control": ["none"] * clips}
        annotators = pa.array([annotator] * clips, pa.string())
        return pa.table(constants | {"clip": names, "annotator": annotators, "correct": correct})

    tables = {f"model_{i}": table(ability, "score", None) for i, ability in enumerate(abilities)}
    if len(people):
        tables["people"] = pa.concat_tables(table(a, "annotation", f"p{i}") for i, a in enumerate(people))
    return tables, dict(zip(names, difficulty, strict=True))


def fitted(tables):
    rows = TABLES["item_response"].conform(item_response_table(tables), study="s").to_pylist()
    return {(row["kind"], row["name"]): row for row in rows}


@pytest.mark.slow  # variational Bayes with 180 effects
def test_abilities_difficulties_and_spreads_of_simulated_predictions_are_found():
    people = 0.8 * np.random.default_rng(5).standard_normal(20)
    tables, difficulty = simulate([-1.0, 0.0, 1.5], 150, 1.2, people)
    rows = fitted(tables)
    for i, ability in enumerate([-1.0, 0.0, 1.5]):
        row = rows["ability", f"model_{i}"]
        assert row["value"] == pytest.approx(ability, abs=0.6) and row["low"] < row["value"] < row["high"]
        assert row["predictions"] == 150
    assert rows["spread", "clips"]["value"] == pytest.approx(1.2, abs=0.3)
    assert rows["spread", "annotators"]["value"] == pytest.approx(0.8, abs=0.35)
    found = [rows["difficulty", name]["value"] for name in difficulty]
    assert np.corrcoef(found, list(difficulty.values()))[0, 1] > 0.85


def test_what_cannot_be_fitted_has_a_reason(monkeypatch):
    tables, _ = simulate([0.0, 1.0], 12, 1.0)
    [row] = fitted({"model_0": tables["model_0"]}).values()
    assert row["reason"] == "needs 2 models and 10 clips with predictions, got 1 and 12" and row["value"] is None
    right = {name: t.set_column(4, "correct", pa.array([True] * 12)) for name, t in tables.items()}
    assert [r["reason"] for r in fitted(right).values()] == ["all predictions are correct, or all are wrong"]
    monkeypatch.setattr(item_response, "find_spec", lambda name: importlib.util.find_spec("no_such_package"))
    assert "analyses" in next(iter(fitted(tables).values()))["reason"]
