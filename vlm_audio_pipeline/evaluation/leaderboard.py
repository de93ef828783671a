"""The leaderboard: one row for each way in which each classifier was run, and one for each that was not.

What belongs here: which rows may be compared at all (`rank`), and their denominators in words; the rows of chance and
majority. What does not: whether a difference between two rows means anything (`contrasts`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.agreement import trial_sd
from vlm_audio_pipeline.evaluation.metrics import accuracy, accuracy_answered, accuracy_fold_mean, macro_f1
from vlm_audio_pipeline.evaluation.outlay import median_seconds, tokens, usd, usd_per_correct
from vlm_audio_pipeline.evaluation.references import CHANCE, MAJORITY, expected
from vlm_audio_pipeline.evaluation.rows import Number, Rows, groups
from vlm_audio_pipeline.evaluation.uncertainty import Interval, share_interval
from vlm_audio_pipeline.storage.schemas import TABLES

NUMBERS: dict[str, Callable[[Rows], Number]] = {
    "accuracy": accuracy,
    "accuracy_answered": accuracy_answered,
    "accuracy_fold_mean": accuracy_fold_mean,
    "macro_f1": macro_f1,
    "trial_sd": trial_sd,
    "seconds": median_seconds,
    "tokens": tokens,
    "usd": usd,
    "usd_per_correct": usd_per_correct,
}
"""Columns of the leaderboard that are metrics over all clips."""


@dataclass(frozen=True)
class Entry:
    """What is known of one classifier.

    Attributes:
        classifier: its name in the study.
        kind: its kind.
        predictions: `predictions` rows of the folds that exist; None for none.
        folds_wanted: the folds it is to be asked about.
        not_run: why it could not be run, or None.
        asked: predictions it is to have for each scoring and control, so that one without an answer was not got to; None
            where fewer are no surprise (the clips that people judged).
    """

    classifier: str
    kind: str
    predictions: pa.Table | None
    folds_wanted: tuple[int, ...]
    not_run: str | None = None
    asked: int | None = None


def leaderboard_table(
    entries: Sequence[Entry],
    *,
    clips: Sequence[Clip],
    rejected_clips: int,
    classes: tuple[str, ...],
    tuning_folds: tuple[int, ...],
    limited: bool,
) -> pa.Table:
    """Sum up every classifier, with chance and majority beside them.

    A row is ranked only where it is comparable: real input (control "none"), not partial, and every clip of the dataset
    predicted, each as often as any other; and not the k-NN over a few-shot model's examples, which is that model's
    baseline. Equal accuracies share a rank, and the next rank counts them (1, 1, 3).

    Args:
        entries: what is known of each classifier.
        clips: usable clips of the dataset, over all folds.
        rejected_clips: clips set aside as unusable.
        classes: every label of the study.
        tuning_folds: folds of the dataset that choices were tuned on; without any, `accuracy_without_tuning_folds` is null.
        limited: whether the run took only some clips; then every row is partial.

    Returns:
        `leaderboard` rows without `study`: ranked ones first, then by accuracy, those without a number last.

    Raises:
        VlmAudioError: for predictions with labels outside `classes`, or of more clips than there are.
    """
    of_clips = len(clips)
    lines = [_reference(name, clips, rejected_clips, classes, tuning_folds, limited) for name in (CHANCE, MAJORITY)]
    for entry in entries:
        if entry.predictions is None or not entry.predictions.num_rows:
            lines.append(_not_run(entry, of_clips, rejected_clips))
            continue
        lines += [
            _row(entry, scoring, control, here, of_clips, rejected_clips, classes, tuning_folds, limited)
            for scoring, control, here in groups(entry.predictions)
        ]
    comparable = [line for line in lines if line.pop("comparable")]
    for line in comparable:  # exact fractions, so that 10 of 30 and 20 of 60 are equal
        line["rank"] = 1 + sum(
            other["correct"] * line["predictions"] > line["correct"] * other["predictions"] for other in comparable
        )
    lines.sort(
        key=lambda line: (
            line["rank"] is None,
            line["rank"] or 0,
            line["accuracy"] is None,
            -(line["accuracy"] or 0),
            line["classifier"],
        )
    )
    return pa.Table.from_pylist(lines, pa.schema([f for f in TABLES["leaderboard"].arrow if f.name != "study"]))


def _row(
    entry: Entry,
    scoring: str,
    control: str,
    here: pa.Table,
    of_clips: int,
    rejected_clips: int,
    classes: tuple[str, ...],
    tuning_folds: tuple[int, ...],
    limited: bool,
) -> dict[str, Any]:
    rows = Rows.of(here, classes)
    folds = tuple(np.unique(rows.fold).tolist())
    missing = sorted(set(entry.folds_wanted) - set(folds))
    times = np.unique(rows.clip, return_counts=True)[1]
    clips, correct, predictions = len(times), int(rows.correct.sum()), len(rows.label)
    if clips > of_clips:
        raise VlmAudioError(
            f"predictions of '{entry.classifier}' must be of the {of_clips} clips of the dataset, got {clips} clips; "
            "run the study again"
        )
    left = max(0, (entry.asked or 0) - predictions)
    partial = bool(missing) or limited or left > 0
    baseline = scoring == "examples_knn"
    whole = control == "none" and not partial and clips == of_clips and not baseline
    even = times.min() == times.max()  # else clips that were asked about more often would weigh more
    untuned = rows.where(~np.isin(rows.fold, tuning_folds)) if tuning_folds else None
    things = "judgements" if scoring == "judgement" else "predictions"
    notes = [f"{correct} of {predictions} {things}"]
    if baseline:
        notes.append("baseline: k-NN over the examples shown")
    numbers = {name: metric(rows).value for name, metric in NUMBERS.items()}
    if scoring != "judgement" and (sd := numbers["trial_sd"]) is not None:
        notes.append(f"standard deviation over trials {sd:.3f}")
    if clips != of_clips:
        notes.append(f"{clips} of {of_clips} clips")
    if left:
        notes.append(f"{left} of {entry.asked} not got to")
    if missing:
        notes.append(f"folds {_list(folds)} of {_list(entry.folds_wanted)}")
        if entry.not_run:
            notes.append(f"the others not run: {entry.not_run}")
    if limited:
        notes.append("limited run")
    if whole and not even:
        verb = "judged" if scoring == "judgement" else "predicted"
        notes.append(f"not ranked: clips were {verb} {times.min()} to {times.max()} times")
    if (answered := int(rows.answered.sum())) < predictions:
        notes.append(f"{correct} of {answered} answered")
    outcomes = here["outcome"].to_pylist()
    notes += [f"{outcomes.count(o)} {o}" for o in sorted(set(outcomes) - {"answered"})]
    notes += _rejected(rejected_clips)
    interval = share_interval(rows.correct, rows.source)
    return {
        "rank": None,
        "classifier": entry.classifier,
        "kind": entry.kind,
        "model": next((m for m in here["model"].to_pylist() if m), None),
        "scoring": scoring,
        "control": control,
        **numbers,
        **_ends(interval),
        "accuracy_without_tuning_folds": None if untuned is None else accuracy(untuned).value,
        "predictions": predictions,
        "correct": correct,
        "answered": answered,
        "clips": clips,
        "of_clips": of_clips,
        "rejected_clips": rejected_clips,
        "trials": len(set(here["reader" if scoring == "judgement" else "trial"].to_pylist())),
        "folds": _list(folds),
        "training_clips": max((n for n in here["training_clips"].to_pylist() if n is not None), default=None),
        "partial": partial,
        "note": ", ".join(notes),
        "comparable": whole and even,
    }


def _ends(interval: Interval | None) -> dict[str, Any]:
    if interval is None:
        return {}
    return {"accuracy_low": interval.low, "accuracy_high": interval.high, "interval": interval.method}


def _reference(
    name: str,
    clips: Sequence[Clip],
    rejected_clips: int,
    classes: tuple[str, ...],
    tuning_folds: tuple[int, ...],
    limited: bool,
) -> dict[str, Any]:
    folds = np.array([clip.fold for clip in clips], int)
    share = expected(name, np.array([clip.label for clip in clips], str), folds, len(classes))
    known = share[~np.isnan(share)]
    untuned = share[~np.isin(folds, tuning_folds) & ~np.isnan(share)] if tuning_folds else known[:0]
    note = {
        CHANCE: f"expected of a guess among {len(classes)} classes",
        MAJORITY: "expected of the most frequent class of the other folds"
        if len(known)
        else "not known: there are no other folds",
    }[name]
    value = float(known.mean()) if len(known) else None
    return {
        "classifier": name,
        "kind": "reference",
        "scoring": "",
        "control": "none",
        "accuracy": value,
        "accuracy_answered": value,
        "accuracy_without_tuning_folds": float(untuned.mean()) if len(untuned) else None,
        **dict.fromkeys(("predictions", "answered", "clips"), len(known)),
        "trials": 0,
        "of_clips": len(clips),
        "rejected_clips": rejected_clips,
        "folds": _list(np.unique(folds).tolist()),
        "rank": None,
        "partial": limited,
        "comparable": False,
        "note": note,
    }


def _not_run(entry: Entry, of_clips: int, rejected_clips: int) -> dict[str, Any]:
    reason = entry.not_run or "no predictions with today's settings yet"
    return {
        "classifier": entry.classifier,
        "kind": entry.kind,
        "scoring": "",
        "control": "none",
        "accuracy": None,
        **dict.fromkeys(("predictions", "correct", "answered", "clips", "trials"), 0),
        "of_clips": of_clips,
        "rejected_clips": rejected_clips,
        "folds": "",
        "rank": None,
        "partial": True,
        "comparable": False,
        "note": ", ".join([f"not run: {reason}", *_rejected(rejected_clips)]),
    }


def _list(folds: Sequence[int]) -> str:
    return ",".join(str(f) for f in folds)


def _rejected(count: int) -> list[str]:
    return [f"{count} recording{'s' if count != 1 else ''} rejected"] if count else []
