"""`predictions` rows for tests of measures and summaries."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.measures.predictions import PredictionArrays
from vlm_audio_pipeline.storage.schemas import TABLES

CLASSES = ("a", "b", "c", "d")


def predictions_table(rows: Sequence[tuple[int, str, str, list[float] | None]], **constants: Any) -> pa.Table:
    """Build rows from (fold, label, predicted class or outcome, scores or None); clips are numbered in that order."""
    answered = [predicted in CLASSES for _, _, predicted, _ in rows]
    scores = [None if s is None else list(zip(CLASSES[::-1], s[::-1], strict=True)) for *_, s in rows]
    columns = {
        "fold": pa.array([r[0] for r in rows], pa.int64()),
        "label": pa.array([r[1] for r in rows], pa.string()),
        "predicted": pa.array([r[2] if a else None for r, a in zip(rows, answered, strict=True)], pa.string()),
        "outcome": pa.array(["answered" if a else r[2] for r, a in zip(rows, answered, strict=True)], pa.string()),
        "correct": pa.array([r[1] == r[2] for r in rows], pa.bool_()),
        "scores": pa.array(scores, pa.map_(pa.string(), pa.float64())),
        "clip": pa.array([f"clip {i}" for i in range(len(rows))], pa.string()),
        "source": pa.array(["s"] * len(rows), pa.string()),
    }
    values = {"kind": "probe", "scoring": "score", "control": "none", "trial": 0, **constants}
    columns |= {name: pa.repeat(pa.scalar(value), len(rows)) for name, value in values.items()}
    return TABLES["predictions"].conform(pa.table(columns), study="s", classifier="p")


def prediction_arrays(*tables: pa.Table) -> PredictionArrays:
    """Join tables and take their arrays."""
    return PredictionArrays.from_table(pa.concat_tables(tables), CLASSES)


def trials(*responses: str) -> PredictionArrays:
    """Build trials over clips of class `a`: a string for each trial, a letter for each clip; `?` is unparseable."""
    return prediction_arrays(
        *(
            predictions_table([(1, "a", "unparseable" if c == "?" else c, None) for c in text], trial=t)
            for t, text in enumerate(responses)
        )
    )
