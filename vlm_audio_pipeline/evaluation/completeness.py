"""Check whether a run is complete: a contrast gets no verdict from part of its predictions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.contracts.model_ids import mixed_models
from vlm_audio_pipeline.measures.predictions import split_by_scoring_and_control


@dataclass(frozen=True)
class ExpectedRun:
    """The predictions of a complete run of one classifier, for each scoring and control.

    Attributes:
        predictions_of_fold: the folds that the study runs it on, and their number of predictions; None if the number is not
            fixed (annotations).
        accepted_models: ids that may answer beside each other; all other responses must be of one model. None without an
            endpoint.
    """

    predictions_of_fold: Mapping[int, int | None]
    accepted_models: tuple[str, ...] | None = None


def incomplete_reason(name: str, rows: pa.Table, run: ExpectedRun, without_folds: Collection[int] = ()) -> str | None:
    """Return why the predictions of one scoring and control are not complete, or None.

    A prediction with outcome "error" was not made: a failure is not a wrong answer. Unparseable, truncated and refused
    responses are responses of the model.

    Args:
        name: name of the classifier.
        rows: `predictions` rows of one scoring and control.
        run: the complete run.
        without_folds: folds that the comparison leaves out.
    """
    counts: dict[int, int] = {}
    errors = 0
    for fold, outcome in zip(rows["fold"].to_pylist(), rows["outcome"].to_pylist(), strict=True):
        if fold not in without_folds:
            counts[fold] = counts.get(fold, 0) + 1
            errors += outcome == "error"
    expected = {fold: n for fold, n in run.predictions_of_fold.items() if fold not in without_folds and n != 0}
    if folds := sorted(expected.keys() - counts.keys()):
        return f"{name} has no predictions of fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))} yet"
    total = sum(n or 0 for n in expected.values())
    if missing := sum(max(0, (n or 0) - counts[fold]) for fold, n in expected.items()):
        return f"{missing} of {total} predictions of {name} are missing"
    if errors:
        return f"{errors} of {sum(counts.values())} predictions of {name} are errors; run the study again"
    return mixed_responses(rows, run.accepted_models)


def rows_of_one_model(predictions: pa.Table, accepted_models: tuple[str, ...] | None) -> pa.Table:
    """Return `predictions` rows of a classifier without those of a scoring and control that two models answered."""
    if mixed_responses(predictions, accepted_models) is None:
        return predictions
    runs = [
        rows
        for _, _, rows in split_by_scoring_and_control(predictions)
        if mixed_responses(rows, accepted_models) is None
    ]
    return pa.concat_tables([predictions.slice(0, 0), *runs])


def mixed_responses(rows: pa.Table, accepted_models: tuple[str, ...] | None) -> str | None:
    """Return why `predictions` rows are not of one model, or None; see `ExpectedRun.accepted_models`."""
    if accepted_models is None:
        return None
    return mixed_models(rows.filter(pc.not_equal(rows["outcome"], "error"))["revision"].to_pylist(), accepted_models)
