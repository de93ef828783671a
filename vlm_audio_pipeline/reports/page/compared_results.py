"""The results that a comparison page compares: of a study now, or at an earlier time.

Every result of a study is kept in its history (`storage.history_store`), so an earlier time needs no other data folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from typing import Any

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.evaluation.history import compare_entries
from vlm_audio_pipeline.evaluation.result_names import EXAMPLES_KNN
from vlm_audio_pipeline.evaluation.significance import holm
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.history_store import HistoryEntry, HistoryStore

ResultKey = tuple[str, str, str]
"""Classifier, scoring and control of a result."""


@dataclass(frozen=True)
class ComparedResults:
    """The results of a study at one time.

    Attributes:
        name: the study's name, with "@" and the time unless the results are the current ones.
        results: the study.
        entries: its results.
        missing: classifiers of the leaderboard without a complete result.
    """

    name: str
    results: StudyResults
    entries: dict[ResultKey, HistoryEntry] = field(repr=False)
    missing: tuple[str, ...] = ()

    @classmethod
    def load(cls, data_folder: DataFolder, name: str) -> "ComparedResults":
        """Load results.

        Args:
            data_folder: the data folder.
            name: name of a study that was run, or NAME@TIME: its results at the end of a day, or at a time, in ISO format, UTC.

        Raises:
            VlmAudioError: if there is no such study, the time cannot be read, or the study had no results then.
        """
        study, at, text = name.partition("@")
        results = StudyResults.load(data_folder, study)
        stored = HistoryStore(data_folder.result_store).entries(study)
        if at:
            latest = _read_time(name, text)
            entries = {_key(entry): entry for entry in stored if entry.first_seen and entry.first_seen <= latest}
            if not entries:
                times = sorted(f"{e.first_seen:%Y-%m-%dT%H:%M:%S}" for e in stored if e.first_seen)
                first = f"its first are of {times[0]}" if times else "it has none at all; run it"
                raise VlmAudioError(f"study '{study}' has no results from {text} or before; {first}")
            return cls(name, results, entries)
        current = {(*_row_key(row), row["data_version"]) for row in results.rows("history") if row["current"]}
        entries = {_key(entry): entry for entry in stored if (*_key(entry), entry.data_version) in current}
        missing = [
            row["classifier"]
            for row in results.rows("leaderboard")
            if row["kind"] != "reference" and row["scoring"] != EXAMPLES_KNN and _row_key(row) not in entries
        ]
        return cls(name, results, entries, tuple(dict.fromkeys(missing)))

    @property
    def is_current(self) -> bool:
        """Whether these are the current results of the study, not those of an earlier time."""
        return "@" not in self.name


def _read_time(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise VlmAudioError(
            f"the time in '{name}' must be a date such as 2026-11-20, or a time such as 2026-11-20T18:00, got '{text}'"
        ) from error
    if len(text) <= len("2026-11-20"):
        moment = datetime.combine(moment.date(), time.max)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _key(entry: HistoryEntry) -> ResultKey:
    return entry.classifier, entry.scoring, entry.control


def _row_key(row: dict[str, Any]) -> ResultKey:
    return row["classifier"], row["scoring"], row["control"]


def common_clip_ids(first: StudyResults, other: StudyResults) -> set[str]:
    """Return the ids of the clips that have the same label and samples in both studies."""
    content = [{row["clip"]: (row["label"], row["samples_sha256"]) for row in r.clips} for r in (first, other)]
    return {clip for clip, value in content[0].items() if content[1].get(clip) == value}


def compare_results(compared: Sequence[ComparedResults]) -> list[dict[str, Any]]:
    """Return one row for each classifier, scoring and control: `key`, `is_original`, and `cells`, one for each of the compared results.

    `is_original`: neither a control nor the k-NN on the examples of a prompt; these rows come first.

    A cell is None without a result, else it has `accuracy`, `correct`, `predictions` and `is_equal`: whether it has the same
    predictions as the first on the clips that both have. If not, it has their difference (see `compare_entries`) with `p_holm`,
    corrected for all such results of its column.
    """
    keys = dict.fromkeys(key for side in compared for key in side.entries)
    rows: list[dict[str, Any]] = [{"key": key, "is_original": _is_original(key), "cells": []} for key in keys]
    for side in compared:
        clips = common_clip_ids(compared[0].results, side.results)
        cells = [_cell(compared[0], side, key, clips) for key in keys]
        tested = [cell for cell in cells if cell is not None and cell.get("p") is not None]
        for cell, p in zip(tested, holm([cell["p"] for cell in tested]) if tested else [], strict=True):
            cell["p_holm"] = p
        for row, column_cell in zip(rows, cells, strict=True):
            row["cells"].append(column_cell)
    return sorted(rows, key=_order)


def _is_original(key: ResultKey) -> bool:
    _, scoring, control = key
    return control == "none" and scoring != EXAMPLES_KNN


def _order(row: dict[str, Any]) -> tuple[bool, float]:
    """Order originals first, then by the accuracy of the first of the compared results that has one."""
    return not row["is_original"], -next(cell["accuracy"] for cell in row["cells"] if cell)


def _cell(first: ComparedResults, side: ComparedResults, key: ResultKey, clips: set[str]) -> dict[str, Any] | None:
    entry = side.entries.get(key)
    if entry is None:
        return None
    correct = sum(prediction.correct for prediction in entry.predictions.values())
    total = len(entry.predictions)
    cell: dict[str, Any] = {"accuracy": correct / total, "correct": correct, "predictions": total, "is_equal": False}
    before = first.entries.get(key)
    if side is first or before is None:
        return cell
    old, new = select_clips(before, clips), select_clips(entry, clips)
    if new.predictions and old.predictions == new.predictions:
        return cell | {"is_equal": True}
    return cell | compare_entries(old, new)


def select_clips(entry: HistoryEntry, clips: set[str]) -> HistoryEntry:
    """Return a result with only its predictions of these clips."""
    predictions = {key: prediction for key, prediction in entry.predictions.items() if key[1] in clips}
    return HistoryEntry(**{**vars(entry), "predictions": predictions})
