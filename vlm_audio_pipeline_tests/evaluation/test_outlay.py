import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.evaluation.outlay import OUTLAY_METRICS
from vlm_audio_pipeline.evaluation.rows import Rows
from vlm_audio_pipeline_tests.evaluation.test_metrics import CLASSES, predictions


def taken(*tables) -> dict[str, tuple[float | None, int]]:
    rows = Rows.of(pa.concat_tables(tables), CLASSES)
    return {name: (metric(rows).value, int(metric(rows).over.sum())) for name, metric in OUTLAY_METRICS.items()}


def test_sums_are_over_what_is_on_record():
    right, wrong = (1, "a", "a", None), (1, "a", "b", None)
    got = taken(
        predictions([right, wrong], tokens=100, seconds=1.0, usd=0.02),
        predictions([right], tokens=50, seconds=4.0, usd=0.05, trial=1),
        predictions([right, right], trial=2),  # nothing on record
    )
    assert got == {
        "median_seconds": (1.0, 3),
        "tokens": (250.0, 3),
        "usd": (pytest.approx(0.09), 3),
        "usd_per_correct": (pytest.approx(0.045), 3),  # two of the three are right
    }


def test_without_a_right_answer_none_has_a_price():
    rows = Rows.of(predictions([(1, "a", "b", None)], usd=0.1), CLASSES)
    found = OUTLAY_METRICS["usd_per_correct"](rows)
    assert (found.value, found.reason) == (None, "nothing was right")


def test_what_cost_nothing_cost_nothing():
    rows = Rows.of(predictions([(1, "a", "a", None)], usd=0.0), CLASSES)
    assert OUTLAY_METRICS["usd_per_correct"](rows).value == 0.0
    assert np.isnan(rows.seconds).all()
