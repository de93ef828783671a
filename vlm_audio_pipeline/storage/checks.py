"""Checks of tables as written: what a person wants confirmed of each part, shown as asset checks in the UI."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.storage.schemas import TABLES

OUTCOMES = ("answered", "unparseable", "refused", "error")


@dataclass(frozen=True)
class Check:
    """One finding: `detail` says in words what was looked at and what was found."""

    name: str
    passed: bool
    detail: str


CHECKS: dict[str, dict[str, str]] = {
    "clips": {
        "fold_has_clips": "There is at least one clip in the fold.",
        "sources_in_one_fold": "No recording is the source of clips in two folds.",
    },
    "embeddings": {
        "one_vector_a_clip": "There is a vector for every clip of the fold.",
        "vectors_finite": "Every number of every vector is finite.",
    },
    "predictions": {
        "outcomes_known": f"Every outcome is one of {', '.join(OUTCOMES)}, and only answers carry a label."
    },
}
"""Checks of each table beside the ones all tables have, with what they state."""


def names_of(table: str) -> dict[str, str]:
    """Give the checks of a table by name, with what they state."""
    key = ", ".join(TABLES[table].key)
    return {"rows_unique": f"One row for each ({key}).", **CHECKS.get(table, {})}


def check(table: str, made: pa.Table, inputs: Mapping[str, pa.Table], two_folds: list[str]) -> list[Check]:
    """Look at a table.

    Args:
        table: schema name.
        made: the table as written.
        inputs: tables it was made from, by name.
        two_folds: sources that occur in more than one fold of the dataset.
    """
    schema = TABLES[table]
    distinct = made.group_by(list(schema.key)).aggregate([]).num_rows
    findings = [
        Check("rows_unique", distinct == made.num_rows, f"{made.num_rows} rows, {distinct} distinct keys"),
    ]
    if table == "clips":
        findings.append(Check("fold_has_clips", made.num_rows > 0, f"{made.num_rows} clips"))
        findings.append(
            Check("sources_in_one_fold", not two_folds, f"{len(two_folds)} sources in two folds {two_folds[:5]}")
        )
    if table == "embeddings":
        vectors = made["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        bad = int((~np.isfinite(vectors)).sum())
        findings.append(Check("vectors_finite", bad == 0, f"{bad} of {vectors.size} numbers are not finite"))
        clips = set(inputs["clips"]["clip"].to_pylist()) if "clips" in inputs else set()
        missing = sorted(clips - set(made["clip"].to_pylist()))
        findings.append(
            Check(
                "one_vector_a_clip",
                bool(clips) and not missing,
                f"{made.num_rows} vectors for {len(clips)} clips {missing[:5]}",
            )
        )
    if table == "predictions":
        strange = sorted(set(made["outcome"].to_pylist()) - set(OUTCOMES))
        answered = pc.equal(made["outcome"], "answered")
        odd = int(pc.sum(pc.xor(answered, pc.is_valid(made["predicted"]))).as_py() or 0)
        findings.append(
            Check(
                "outcomes_known", not strange and odd == 0, f"unknown outcomes {strange}; {odd} rows contradict theirs"
            )
        )
    return findings
