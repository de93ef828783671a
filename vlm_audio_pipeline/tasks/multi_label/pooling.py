"""Results of whole recordings: the segments of a source recording are pooled, then the measures are those of clips.

A recording has a class if one of its segments has it. Poolings:

- max: the score is the highest of the segments; the class is predicted if it is predicted in a segment.
- mean: the score is the mean of the segments. The threshold of segments does not fit such scores, so there are no decisions.
- any: only decisions; the class is predicted if it is predicted in a segment. For classifiers without scores.

A segment without an answer leaves its recording without one, and a failed request leaves out its recording.

Belongs here: pooling, and the table `multi_label_recordings`. Does not belong here: the measures (`measures`).
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.completeness import ExpectedRun, incomplete_reason
from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.measures.predictions import split_by_scoring_and_control
from vlm_audio_pipeline.tasks.multi_label.leaderboard import measure_columns
from vlm_audio_pipeline.tasks.multi_label.measures.arrays import LabelArrays
from vlm_audio_pipeline.tasks.multi_label.measures.declarations import TITLES, estimate
from vlm_audio_pipeline.tasks.multi_label.prediction_arrays import read_arrays

Pooling = Literal["max", "mean", "any"]


def pool(arrays: LabelArrays, pooling: Pooling) -> LabelArrays:
    """Return the predictions of source recordings, one row for each recording and pass over its clips.

    Args:
        arrays: predictions of segments; n rows.
        pooling: see the module.

    Returns:
        Rows in the order of the names of the recordings, then of passes; `clip` is the name of the recording.
    """
    _, clip_of = np.unique(arrays.clip, return_inverse=True)
    order = np.argsort(clip_of, kind="stable")
    first_of_clip = np.searchsorted(clip_of[order], clip_of[order])
    passes = np.empty(len(order), int)
    passes[order] = np.arange(len(order)) - first_of_clip  # 0 for the first row of a clip, 1 for its second, ...
    _, source_of = np.unique(arrays.source, return_inverse=True)
    keys = source_of * (passes.max(initial=0) + 1) + passes
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    shape = (len(first), len(arrays.classes))

    def any_of(values: np.ndarray) -> np.ndarray:
        found = np.zeros(shape, bool)
        np.logical_or.at(found, group, values)
        return found

    outcome = np.full(shape, "answered", dtype=arrays.outcome.dtype if len(first) else "<U12")
    for name in (*sorted(set(np.unique(arrays.outcome)) - {"answered", "error"}), "error"):
        outcome[any_of(arrays.outcome == name)] = name
    is_answered = outcome == "answered"
    if pooling == "max":
        score = np.full(shape, -np.inf)
        np.maximum.at(score, group, np.where(np.isnan(arrays.score), -np.inf, arrays.score))
    else:
        score = np.zeros(shape)
        np.add.at(score, group, arrays.score)
        score /= np.bincount(group, minlength=len(first))[:, None]
    has_score = is_answered & ~any_of(np.isnan(arrays.score)) & (pooling != "any")
    is_decided = is_answered & ~any_of(~arrays.is_decided) & (pooling != "mean")
    return LabelArrays(
        truth=any_of(arrays.truth),
        score=np.where(has_score, score, np.nan),
        predicted=any_of(arrays.predicted) & is_decided,
        outcome=outcome,
        is_decided=is_decided,
        clip=arrays.source[first],
        source=arrays.source[first],
        fold=arrays.fold[first],
        classes=arrays.classes,
    )


def recordings_table(
    predictions: pa.Table,
    poolings: Sequence[Pooling],
    *,
    classifier: str,
    kind: str,
    expected: ExpectedRun,
    clips: Sequence[Clip],
    classes: tuple[str, ...],
    limited: bool,
) -> pa.Table:
    """Compute the measures of whole recordings for every scoring, control and pooling of a classifier.

    A run that is not complete, or that leaves out clips of the dataset, has the reason and no measure: a recording whose segments are
    partly missing may have a class that no predicted segment has.

    Args:
        predictions: `multi_label_predictions` rows of the classifier.
        poolings: the poolings of the study.
        classifier: its name.
        kind: its kind.
        expected: its complete run.
        clips: usable clips of the dataset.
        classes: every class of the study.
        limited: whether the run was limited to a part of the clips.

    Returns:
        `multi_label_recordings` rows without `study` and `classifier`.

    Raises:
        VlmAudioError: for predictions of other classes.
    """
    lines: list[dict[str, Any]] = []
    for scoring, control, rows in split_by_scoring_and_control(predictions):
        arrays = read_arrays(rows, classes)
        predicted = set(arrays.clip.tolist())
        reason = "the run is limited to a part of the clips" if limited else None
        reason = reason or incomplete_reason(classifier, rows, expected)
        if reason is None and (missing := [clip for clip in clips if clip.id not in predicted]):
            reason = f"{len(missing):,} of {len(clips):,} clips are not predicted"
        for pooling in poolings:
            pooled = pool(arrays, pooling)
            line: dict[str, Any] = {"kind": kind, "scoring": scoring, "control": control, "pooling": pooling}
            line |= {"recordings": len(np.unique(pooled.clip)), "clips": len(predicted)}
            if reason is None:
                estimates = {name: estimate(pooled, name) for name in TITLES}
                undefined = [f"{name} undefined: {e.reason}" for name, e in estimates.items() if e.value is None]
                cmap = estimates["cmap"]
                line |= {**measure_columns(estimates), "positives": cmap.positives, "classes": cmap.classes}
                line["note"] = ", ".join([f"{cmap.positives} labels of {cmap.classes} classes", *undefined])
            else:
                line |= {"positives": 0, "classes": 0, "note": f"not finished: {reason}"}
            lines.append(line)
    return build_rows("multi_label_recordings", lines, added_columns=("study", "classifier"))
