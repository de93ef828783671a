import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.evaluation.metrics import metrics_table
from vlm_audio_pipeline.evaluation.reliability import reliability_table
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.measures.prediction_tables import CLASSES, predictions_table


def scored_predictions(n=200, **constants) -> pa.Table:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(4, 0.5), n)
    rows = [
        (1 + i % 4, CLASSES[rng.choice(4, p=s**0.5 / (s**0.5).sum())], CLASSES[s.argmax()], s.tolist())
        for i, s in enumerate(p)
    ]
    table = predictions_table(rows, **constants)
    index = table.schema.get_field_index("confidence")
    return table.set_column(index, table.schema.field(index), pa.array(p.max(axis=1)))


def reliability_rows(table, variant):
    rows = TABLES["reliability"].conform(reliability_table(table, CLASSES), study="s", classifier="p")
    return [row for row in rows.to_pylist() if row["variant"] == variant]


def test_bins_equal_scikit_learn():
    from sklearn.calibration import calibration_curve

    table = scored_predictions()
    rows = reliability_rows(table, "raw")
    accuracy, confidence = calibration_curve(table["correct"].to_pylist(), table["confidence"].to_pylist(), n_bins=10)
    assert [r["accuracy"] for r in rows] == pytest.approx(accuracy.tolist())
    assert [r["confidence"] for r in rows] == pytest.approx(confidence.tolist())
    assert sum(r["count"] for r in rows) == 200
    assert all((r["bin"] - 1) / 10 < r["confidence"] <= r["bin"] / 10 for r in rows)


@pytest.mark.parametrize(("variant", "metric"), [("raw", "ece"), ("temperature", "ece_temperature")])
def test_the_calibration_error_equals_the_sum_over_bins(variant, metric):
    table = scored_predictions()
    numbers = metrics_table(table, CLASSES, ()).to_pylist()
    [value] = [r["value"] for r in numbers if (r["metric"], r["subset"]) == (metric, "all")]
    rows = reliability_rows(table, variant)
    assert value == pytest.approx(sum(r["count"] / 200 * abs(r["accuracy"] - r["confidence"]) for r in rows))


def test_temperature_scaling_reduces_the_calibration_error():
    table = scored_predictions()

    def calibration_error(variant):
        return sum(r["count"] * abs(r["accuracy"] - r["confidence"]) for r in reliability_rows(table, variant))

    assert calibration_error("temperature") < calibration_error("raw") / 2


def test_controls_are_separate_and_predictions_without_confidence_are_left_out():
    tables = [
        scored_predictions(8),
        scored_predictions(8, control="blank"),
        predictions_table([(1, "a", "a", None)], scoring="generation"),
    ]
    rows = reliability_table(pa.concat_tables(tables), CLASSES).to_pylist()
    assert {(r["scoring"], r["control"], r["variant"]) for r in rows} == {
        ("score", control, variant) for control in ("none", "blank") for variant in ("raw", "temperature")
    }


def test_no_predictions_give_an_empty_table():
    assert reliability_rows(TABLES["predictions"].empty_table(), "raw") == []
