"""The history of a study: every result that its classifiers ever had, each compared with the previous result.

A result is stored when it is first computed, with the settings of that time, and is never deleted (`storage.history_store`).
Other settings that give the same predictions are not a new result. A result that is part of another result with the same settings
(fold 1 alone, before the other folds were run) is not listed beside it.

Belongs here: which results are listed, and the comparison of consecutive ones. Does not belong here: comparing classifiers
(`contrasts`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.contracts.hashing import canonical_json
from vlm_audio_pipeline.evaluation.completeness import mixed_responses
from vlm_audio_pipeline.evaluation.significance import mcnemar, sign_flip
from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.measures.predictions import split_by_scoring_and_control
from vlm_audio_pipeline.measures.uncertainty import difference_interval
from vlm_audio_pipeline.storage.history_store import HistoryEntry, HistoryStore, PastPrediction
from vlm_audio_pipeline.storage.partition_files import data_version
from vlm_audio_pipeline.storage.schemas import TABLES


@dataclass(frozen=True)
class PredictionSettings:
    """The current settings of a classifier.

    Attributes:
        step_version: code version and fingerprint of the step, "1:0a1b2c3d4e5f6071".
        settings: settings of the classifier, its encoder and its rendering, as plain values.
        accepted_models: see `ExpectedRun`.
    """

    step_version: str
    settings: Mapping[str, Any]
    accepted_models: tuple[str, ...] | None = None


def current_entries(classifier: str, predictions: pa.Table, settings: PredictionSettings) -> Iterator[HistoryEntry]:
    """Yield the results of one classifier's `predictions` rows, one for each (scoring, control).

    Predictions with failed requests are not a result: a later run sends these requests again. Neither are those of two models.
    """
    ordered = predictions.sort_by([(name, "ascending") for name in TABLES["predictions"].key])
    for scoring, control, table in split_by_scoring_and_control(ordered):
        rows = table.to_pylist()
        if any(row["outcome"] == "error" for row in rows) or mixed_responses(table, settings.accepted_models):
            continue
        yield HistoryEntry(
            classifier,
            scoring,
            control,
            data_version(TABLES["predictions"], table),
            settings.step_version,
            canonical_json(dict(settings.settings)),
            __version__,
            _join_distinct(rows, "model"),
            _join_distinct(rows, "revision"),
            {
                (r["trial"], r["clip"]): PastPrediction(
                    r["source"], r["fold"], r["predicted"] or f"({r['outcome']})", r["correct"]
                )
                for r in rows
            },
        )


def _join_distinct(rows: list[dict[str, Any]], column: str) -> str | None:
    return ", ".join(sorted({row[column] for row in rows if row[column]})) or None


def history_table(
    study: str,
    predictions: Mapping[str, pa.Table],
    settings: Mapping[str, PredictionSettings],
    store: HistoryStore,
) -> pa.Table:
    """Store the current results, and list all results of this study so far.

    Args:
        study: name of the study.
        predictions: classifier -> its `predictions` rows of the folds that exist.
        settings: classifier -> the settings of these predictions.
        store: the history of the data folder.

    Returns:
        `history` rows without `study`, also of classifiers that the study no longer has.
    """
    current_results = [
        entry for name, table in predictions.items() for entry in current_entries(name, table, settings[name])
    ]
    store.add(study, current_results)
    series: dict[tuple[str, str, str], list[HistoryEntry]] = {}
    for entry in store.entries(study):
        series.setdefault((entry.classifier, entry.scoring, entry.control), []).append(entry)
    lines: list[dict[str, Any]] = []
    for key, entries in series.items():
        current_result = next((e for e in current_results if (e.classifier, e.scoring, e.control) == key), None)
        before: HistoryEntry | None = None
        for number, entry in enumerate(_drop_partial_entries(entries), 1):
            is_current = current_result is not None and (
                current_result.data_version == entry.data_version or _is_part(current_result, entry)
            )
            lines.append({"entry": number, "current": is_current, **_line(entry, before)})
            before = entry
    return build_rows("history", lines)


def _is_part(entry: HistoryEntry, other: HistoryEntry) -> bool:
    """Return whether `other` has the same settings and all predictions of `entry`."""
    names = ("step_version", "settings", "model", "revision")
    same_settings = all(getattr(entry, name) == getattr(other, name) for name in names)
    return same_settings and entry.predictions.items() <= other.predictions.items()


def _drop_partial_entries(entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    """Leave out entries that are part of another entry; of two equal entries, keep the first."""
    return [
        entry
        for i, entry in enumerate(entries)
        if not any(
            _is_part(entry, other) and (len(entry.predictions) < len(other.predictions) or j < i)
            for j, other in enumerate(entries)
            if j != i
        )
    ]


def _line(entry: HistoryEntry, before: HistoryEntry | None) -> dict[str, Any]:
    predictions = list(entry.predictions.values())
    correct = sum(prediction.correct for prediction in predictions)
    columns = {name: value for name, value in vars(entry).items() if name != "predictions"}
    return {
        **columns,
        "accuracy": correct / len(predictions),
        "correct": correct,
        "predictions": len(predictions),
        "clips": len({clip for _, clip in entry.predictions}),
        "folds": ",".join(str(f) for f in sorted({prediction.fold for prediction in predictions})),
        "changed": "" if before is None else "; ".join(_changes(before, entry)),
        **compare_entries(before, entry),
    }


def _changes(before: HistoryEntry, after: HistoryEntry) -> list[str]:
    changes = [
        f"{name} {old or 'none'} -> {new or 'none'}"
        for name in ("model", "revision")
        if (old := getattr(before, name)) != (new := getattr(after, name))
    ]
    if (old := before.step_version.split(":")[0]) != (new := after.step_version.split(":")[0]):
        changes.append(f"code version {old} -> {new}")
    old_settings, new_settings = (dict(flatten_settings(json.loads(e.settings))) for e in (before, after))
    for name in sorted({*old_settings, *new_settings}):
        if old_settings.get(name) != new_settings.get(name):
            changes.append(f"{name}: {old_settings.get(name, 'default')} -> {new_settings.get(name, 'default')}")
    return changes or ["only its inputs: its own settings are the same"]


def flatten_settings(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield each setting of nested settings: its key, such as "encoder.model", and its value as text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flatten_settings(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _results_by_clip(entry: HistoryEntry) -> dict[str, tuple[str, list[bool]]]:
    """Map each clip to its source, and to whether each of its predictions is correct."""
    clips: dict[str, tuple[str, list[bool]]] = {}
    for (_, clip), prediction in entry.predictions.items():
        clips.setdefault(clip, (prediction.source, []))[1].append(prediction.correct)
    return clips


def compare_entries(before: HistoryEntry | None, after: HistoryEntry) -> dict[str, Any]:
    """Compare two results on their common clips; each clip counts once, with its share of correct predictions.

    Returns:
        Columns of `history`: `common_clips`, accuracies `before` and `after` on them, `difference` with its interval (`low`, `high`)
        and `p` of a sign-flip test clustered by source recording; and `gained`, `lost`, `p_mcnemar`, or the `reason` without them.
    """
    if before is None:
        return {"reason": "the first result"}
    old_clips, new_clips = _results_by_clip(before), _results_by_clip(after)
    common = sorted(old_clips.keys() & new_clips.keys())
    if not common:
        return {"common_clips": 0, "reason": "no clip in common"}
    old, new = (np.array([np.mean(clips[clip][1]) for clip in common]) for clips in (old_clips, new_clips))
    sources = np.array([new_clips[clip][0] for clip in common])
    interval = difference_interval(new, old, sources)
    line: dict[str, Any] = {
        "common_clips": len(common),
        "before": float(old.mean()),
        "after": float(new.mean()),
        "difference": float((new - old).mean()),
        "low": interval.low,
        "high": interval.high,
        "p": sign_flip(new - old, sources)[0],
    }
    if any(len(clips[clip][1]) > 1 for clips in (old_clips, new_clips) for clip in common):
        return {**line, "reason": "gained, lost and McNemar's test: clips were predicted several times"}
    gained, lost = int((new > old).sum()), int((new < old).sum())
    return {**line, "gained": gained, "lost": lost, "p_mcnemar": mcnemar(gained, lost)}
