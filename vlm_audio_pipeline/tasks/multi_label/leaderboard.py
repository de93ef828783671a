"""The table `multi_label_leaderboard`: one row for each (classifier, scoring, control), and one for each classifier that was not run.

Belongs here: which rows are ranked, the notes of a row, and the row of a constant score. Does not belong here: formulas (`measures`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.completeness import mixed_responses
from vlm_audio_pipeline.evaluation.leaderboard import NO_PREDICTIONS, LeaderboardEntry
from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.measures.predictions import split_by_scoring_and_control
from vlm_audio_pipeline.tasks.multi_label.measures.arrays import LabelArrays
from vlm_audio_pipeline.tasks.multi_label.measures.declarations import CLASS_MEASURES, CLIP_MEASURES, RANKING_MEASURE
from vlm_audio_pipeline.tasks.multi_label.measures.estimates import Estimate, estimate_classes
from vlm_audio_pipeline.tasks.multi_label.prediction_arrays import read_arrays
from vlm_audio_pipeline.tasks.multi_label.references import CONSTANT, constant_arrays


def label_leaderboard_table(
    entries: Sequence[LeaderboardEntry],
    *,
    clips: Sequence[Clip],
    rejected_clips: int,
    classes: tuple[str, ...],
    limited: bool,
) -> pa.Table:
    """Summarise every classifier, with a constant score beside them.

    A row is ranked by cmAP, and only if it is comparable: its control is "none", it is not partial, and it predicts every clip of the
    dataset equally often. Equal values share a rank, and the ranks after it are skipped (1, 1, 3).

    Args:
        entries: the classifiers of the study.
        clips: usable clips of the dataset, over all folds.
        rejected_clips: number of clips that cannot be used.
        classes: every class of the study.
        limited: whether the run was limited to a part of the clips; then every row is partial.

    Returns:
        `multi_label_leaderboard` rows without `study`: ranked rows first, then by cmAP; rows without cmAP last.

    Raises:
        VlmAudioError: for predictions of other classes.
    """
    facts = {"dataset_clips": len(clips), "rejected_clips": rejected_clips}
    lines = [_constant_line(clips, classes) | facts | {"partial": limited}]
    for entry in entries:
        if entry.predictions is None or not entry.predictions.num_rows:
            lines.append(_not_run_line(entry) | facts)
            continue
        lines += [
            _line(entry, scoring, control, rows, classes, len(clips), limited) | facts
            for scoring, control, rows in split_by_scoring_and_control(entry.predictions)
        ]
    comparable = [line for line in lines if line.pop("comparable")]
    for line in comparable:
        line["rank"] = 1 + sum(other[RANKING_MEASURE] > line[RANKING_MEASURE] for other in comparable)
    lines.sort(
        key=lambda line: (
            line["rank"] is None,
            line["rank"] or 0,
            line[RANKING_MEASURE] is None,
            -(line[RANKING_MEASURE] or 0),
            line["classifier"],
            line["scoring"],
            line["control"],
        )
    )
    return build_rows("multi_label_leaderboard", lines)


def _all_estimates(arrays: LabelArrays) -> dict[str, Estimate]:
    """Return the measures of all classes, by name."""
    means = {m.of_mean: estimate_classes(arrays, m.formula)[1] for m in CLASS_MEASURES}
    return means | {name: formula(arrays) for name, formula in CLIP_MEASURES.items()}


def measure_columns(found: Mapping[str, Estimate]) -> dict[str, float | int | None]:
    """Return the columns of measures by name: value and interval."""
    columns: dict[str, float | int | None] = {}
    for name, estimate in found.items():
        columns |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return columns


def _line(
    entry: LeaderboardEntry,
    scoring: str,
    control: str,
    rows: pa.Table,
    classes: tuple[str, ...],
    dataset_clips: int,
    limited: bool,
) -> dict[str, Any]:
    arrays = read_arrays(rows, classes)
    found = _all_estimates(arrays)
    ranking = found[RANKING_MEASURE]
    passes = np.unique(arrays.clip, return_counts=True)[1]
    folds = tuple(np.unique(arrays.fold).tolist())
    missing_folds = sorted(set(entry.expected_folds) - set(folds))
    missing = max(0, (entry.expected_predictions or 0) - len(arrays.clip))
    failed = int(arrays.is_error.sum())
    mixed = mixed_responses(rows, entry.accepted_models)
    partial = bool(missing_folds) or limited or missing > 0 or failed > 0 or mixed is not None
    is_balanced = passes.min() == passes.max()
    outcomes = [name for name in np.unique(arrays.outcome).tolist() if name not in ("answered", "error")]
    notes = [f"{ranking.positives} labels of {ranking.classes} classes in {len(passes)} clips"]
    if ranking.value is None:
        notes.append(f"{RANKING_MEASURE} undefined: {ranking.reason}")
    notes += _interval_note(ranking)
    if len(passes) != dataset_clips:
        notes.append(f"{len(passes):,} of {dataset_clips:,} clips")
    if missing:
        notes.append(f"{missing} of {entry.expected_predictions} clips not predicted yet")
    if failed:
        notes.append(f"{failed} requests failed: run the study again")
    if mixed:
        notes.append(f"not ranked: {mixed}")
    if missing_folds:
        notes.append(f"folds {_join(folds)} of {_join(entry.expected_folds)}")
        if entry.not_run_reason:
            notes.append(f"other folds not run: {entry.not_run_reason}")
    if limited:
        notes.append("limited run")
    if not is_balanced:
        notes.append(f"not ranked: clips were predicted {passes.min()} to {passes.max()} times")
    notes += [f"{int((arrays.outcome == name).sum())} {name}" for name in outcomes]
    is_rankable = control == "none" and not partial and len(passes) == dataset_clips and is_balanced
    return {
        "rank": None,
        "classifier": entry.classifier,
        "kind": entry.kind,
        "model": next((m for m in rows["model"].to_pylist() if m), None),
        "scoring": scoring,
        "control": control,
        **measure_columns(found),
        "positives": ranking.positives,
        "classes": ranking.classes,
        "predictions": rows.num_rows,
        "answered": int(arrays.is_decided.sum()),
        "clips": len(passes),
        "trials": len(set(rows["trial"].to_pylist())),
        "folds": _join(folds),
        "training_clips": max((n for n in rows["training_clips"].to_pylist() if n is not None), default=None),
        "partial": partial,
        "note": ", ".join(notes),
        "comparable": is_rankable and ranking.value is not None,
    }


def _constant_line(clips: Sequence[Clip], classes: tuple[str, ...]) -> dict[str, Any]:
    arrays = constant_arrays(clips, classes)
    arrays = replace(arrays, is_decided=np.ones(arrays.truth.shape, bool))  # the decision no
    found = _all_estimates(arrays)
    values = {name: value for name, value in measure_columns(found).items() if name in found}
    ranking = found[RANKING_MEASURE]
    return {
        **values,
        "rank": None,
        "classifier": CONSTANT,
        "kind": "reference",
        "scoring": "",
        "control": "none",
        "positives": ranking.positives,
        "classes": ranking.classes,
        "predictions": arrays.truth.size,
        "answered": arrays.truth.size,
        "clips": len(clips),
        "trials": 0,
        "folds": _join(np.unique(arrays.fold).tolist()),
        "comparable": False,
        "note": ", ".join(
            [
                "the same score for every clip and class, and the decision no",
                *([f"{RANKING_MEASURE} undefined: {ranking.reason}"] if ranking.value is None else []),
                *_interval_note(ranking),
            ]
        ),
    }


def _interval_note(ranking: Estimate) -> list[str]:
    """Return why a measure that is defined has no interval."""
    if ranking.value is None or ranking.low is not None or ranking.interval is None:
        return []
    return [f"no interval: {ranking.interval.removeprefix('none: ')}"]


def _not_run_line(entry: LeaderboardEntry) -> dict[str, Any]:
    return {
        "rank": None,
        "classifier": entry.classifier,
        "kind": entry.kind,
        "scoring": "",
        "control": "none",
        RANKING_MEASURE: None,
        **dict.fromkeys(("positives", "classes", "predictions", "answered", "clips", "trials"), 0),
        "folds": "",
        "partial": True,
        "comparable": False,
        "note": f"not run: {entry.not_run_reason or NO_PREDICTIONS}",
    }


def _join(folds: Sequence[int]) -> str:
    return ",".join(str(f) for f in folds)
