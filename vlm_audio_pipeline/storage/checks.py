"""Checks of the rows of a partition. They run after a step, are stored in the provenance and appear in the Dagster UI.

Belongs here: the checks themselves. Does not belong here: which table has which checks (`TableSchema.checks`), and the checks of
columns, types and nulls that every write makes (`TableSchema.conform`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.contracts.model_ids import mixed_models
from vlm_audio_pipeline.measures.predictions import OUTCOMES

if TYPE_CHECKING:
    from vlm_audio_pipeline.storage.table_schema import TableSchema


@dataclass(frozen=True)
class CheckResult:
    """The result of one check: `detail` contains the counts."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class CheckContext:
    """The data that checks compare a table with.

    Attributes:
        inputs: the tables that the step read, by input key.
        sources_in_several_folds: source recordings that have clips in more than one fold of the dataset.
        accepted_models: see `Stage.accepted_models`.
    """

    inputs: Mapping[str, pa.Table]
    sources_in_several_folds: Sequence[str] = ()
    accepted_models: tuple[str, ...] | None = None


@dataclass(frozen=True)
class TableCheck:
    """A check of one table.

    Attributes:
        name: unique within the table.
        doc: one sentence that is true if the check passes.
        run: returns whether the check passes, and the detail.
    """

    name: str
    doc: str
    run: Callable[[pa.Table, CheckContext], tuple[bool, str]]


def table_checks(schema: "TableSchema") -> tuple[TableCheck, ...]:
    """Return the checks of a table: first that its keys are unique, then those of its schema."""

    def has_unique_keys(table: pa.Table, context: CheckContext) -> tuple[bool, str]:
        distinct = table.group_by(list(schema.key)).aggregate([]).num_rows
        return distinct == table.num_rows, f"{table.num_rows} rows, {distinct} distinct keys"

    unique = TableCheck("rows_unique", f"One row for each ({', '.join(schema.key)}).", has_unique_keys)
    return unique, *schema.checks


def run_checks(schema: "TableSchema", table: pa.Table, context: CheckContext) -> tuple[CheckResult, ...]:
    """Run all checks of a table."""
    return tuple(CheckResult(check.name, *check.run(table, context)) for check in table_checks(schema))


def _has_clips(table: pa.Table, context: CheckContext) -> tuple[bool, str]:
    return table.num_rows > 0, f"{table.num_rows} clips"


def _has_disjoint_sources(table: pa.Table, context: CheckContext) -> tuple[bool, str]:
    shared = list(context.sources_in_several_folds)
    return not shared, f"{len(shared)} sources in two folds {shared[:5]}"


def _has_vector_for_every_clip(table: pa.Table, context: CheckContext) -> tuple[bool, str]:
    clips = set(context.inputs["clips"]["clip"].to_pylist()) if "clips" in context.inputs else set()
    missing = sorted(clips - set(table["clip"].to_pylist()))
    return bool(clips) and not missing, f"{table.num_rows} vectors for {len(clips)} clips {missing[:5]}"


def _has_finite_vectors(table: pa.Table, context: CheckContext) -> tuple[bool, str]:
    numbers = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    count = int((~np.isfinite(numbers)).sum())
    return count == 0, f"{count} of {numbers.size} numbers are not finite"


def _has_consistent_outcomes(table: pa.Table, context: CheckContext) -> tuple[bool, str]:
    unknown = sorted(set(table["outcome"].to_pylist()) - set(OUTCOMES))
    answered = pc.equal(table["outcome"], "answered")
    count = int(pc.sum(pc.xor(answered, pc.is_valid(table["predicted"]))).as_py() or 0)
    return (
        not unknown and count == 0,
        f"unknown outcomes {unknown}; {count} rows have a label that contradicts their outcome",
    )


def _has_consistent_decisions(table: pa.Table, context: CheckContext) -> tuple[bool, str]:
    """Compare the decisions of a multi-label table with outcomes, scores and thresholds."""
    unknown = sorted(set(table["outcome"].to_pylist()) - set(OUTCOMES))
    answered = pc.equal(table["outcome"], "answered")
    count = int(pc.sum(pc.xor(answered, pc.is_valid(table["predicted"]))).as_py() or 0)
    differs = pc.not_equal(pc.greater_equal(table["score"], table["threshold"]), table["predicted"])
    wrong = int(pc.sum(pc.fill_null(differs, False)).as_py() or 0)
    return (
        not unknown and count == 0 and wrong == 0,
        f"unknown outcomes {unknown}; {count} rows have a decision that contradicts their outcome, {wrong} one that contradicts "
        "their threshold",
    )


def _has_every_class(table: pa.Table, context: CheckContext) -> tuple[bool, str]:
    rows = table.group_by(["scoring", "control", "trial", "clip"]).aggregate([("label", "count_distinct")])
    counts = sorted(set(rows["label_count_distinct"].to_pylist()))
    return len(counts) <= 1, f"{rows.num_rows} passes over clips with {counts} classes"


def _has_one_model(table: pa.Table, context: CheckContext) -> tuple[bool, str]:
    """Compare the models of the responses: of the table itself, or of the predictions of all folds that a summary reads."""
    if context.accepted_models is None:
        return True, "no endpoint"
    inputs = [rows for name, rows in context.inputs.items() if name.startswith("predictions/")]
    tables = [table] if "revision" in table.column_names else inputs
    rows = [row for t in tables for row in t.select(["outcome", "revision"]).to_pylist()]
    revisions = [row["revision"] for row in rows if row["outcome"] != "error"]
    reason = mixed_models(revisions, context.accepted_models)
    models = sorted({revision.split()[0] for revision in revisions if revision})
    return reason is None, reason or f"{len(revisions)} responses of {', '.join(models) or 'a model without an id'}"


FOLD_HAS_CLIPS = TableCheck("fold_has_clips", "The fold has at least one clip.", _has_clips)
SOURCES_IN_ONE_FOLD = TableCheck(
    "sources_in_one_fold", "All clips of a source recording are in one fold.", _has_disjoint_sources
)
ONE_VECTOR_PER_CLIP = TableCheck(
    "one_vector_per_clip", "Every clip of the fold has a vector.", _has_vector_for_every_clip
)
VECTORS_FINITE = TableCheck("vectors_finite", "Every number of every vector is finite.", _has_finite_vectors)
OUTCOMES_CONSISTENT = TableCheck(
    "outcomes_consistent",
    f"Every outcome is one of {', '.join(OUTCOMES)}, and exactly the rows with outcome answered have a label.",
    _has_consistent_outcomes,
)
DECISIONS_CONSISTENT = TableCheck(
    "decisions_consistent",
    "Exactly the rows with outcome answered have a decision, and it is that of the score and the threshold.",
    _has_consistent_decisions,
)
EVERY_CLASS_PREDICTED = TableCheck("every_class_predicted", "Every clip has a row for every class.", _has_every_class)
ONE_MODEL = TableCheck(
    "one_model",
    "All responses of an endpoint are of one model, over all folds, apart from the models that the study accepts. The check is "
    "blind where a gateway returns a name of its own.",
    _has_one_model,
)
