"""Published results beside what was measured here: whether the interval holds the number, and how the protocols differ.

A published number is used as it stands; one that comes from a secondary publication says so in its note.

Belongs here: the results of `published_results.csv`, and the comparison of protocols. Does not belong here: statistics
(`measures.uncertainty`).
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.contracts.errors import BadStudy, suggestion
from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.evaluation.leaderboard import NO_PREDICTIONS
from vlm_audio_pipeline.evaluation.tables import rows_of
from vlm_audio_pipeline.measures.uncertainty import share_interval

SETTINGS = {"zero_shot": "zero-shot", "probe": "linear probe", "knn": "k-NN", "annotations": "human annotations"}
"""Kind of classifier -> its setting, where that does not depend on the examples shown."""


@dataclass(frozen=True)
class PublishedResult:
    """One published number; the columns of `published_results.csv`, `value` as a share of 1."""

    publication: str
    system: str
    family: str
    input: str
    setting: str
    dataset: str
    split: str
    metric: str
    value: float
    clips: int
    note: str

    @property
    def name(self) -> str:
        """Its name in `reproduces`: `publication/system`."""
        return f"{self.publication}/{self.system}"


def _csv_text() -> str:
    return files("vlm_audio_pipeline.evaluation").joinpath("published_results.csv").read_text(encoding="utf-8")


@cache
def published_results() -> tuple[PublishedResult, ...]:
    """Read every published result."""
    return tuple(
        PublishedResult(**row, value=float(value), clips=int(clips))
        for row in csv.DictReader(_csv_text().splitlines())
        for value, clips in [(row.pop("value"), row.pop("clips"))]
    )


def results_version() -> str:
    """Return a hash of the published results, which makes the table stale when they change."""
    return digest(_csv_text().encode())


def check_reproduces(classifier: str, reproduces: str) -> None:
    """Refuse a `reproduces` that names no published result.

    Raises:
        BadStudy: with the nearest names.
    """
    names = {r.name for r in published_results()}
    if reproduces not in names:
        raise BadStudy(
            f"classifiers.{classifier}.reproduces: must name a published result as publication/system, got "
            f"'{reproduces}'; {suggestion(reproduces, names)}"
        )


def published_table(repeated: Mapping[str, tuple[str, str, pa.Table | None]], dataset: str) -> pa.Table:
    """Compare each published result with the classifiers that repeat it; also list those of the dataset without one.

    A result over one fold is compared with the same fold here. Where a system was published on several datasets or in
    several settings, a classifier is compared with those of its own, if there are any. Controls are left out.

    Args:
        repeated: classifier -> (`reproduces`, its kind, its `predictions` rows or None).
        dataset: name of the study's dataset in publications, as in the column `dataset`; its kind where it has none.

    Returns:
        `published` rows without `study`.

    Raises:
        BadStudy: for a `reproduces` that names no published result.
    """
    lines: list[dict[str, Any]] = []
    compared: set[PublishedResult] = set()
    for classifier, (reproduces, kind, predictions) in repeated.items():
        check_reproduces(classifier, reproduces)
        runs: list[_MeasuredRun | None] = [*_runs_by_scoring(kind, predictions)]
        for run in runs or [None]:
            for result in _matching_results(reproduces, dataset, run.setting if run else None):
                compared.add(result)
                lines.append({"classifier": classifier, **_line(result, run, dataset)})
    for result in published_results():
        if result not in compared and result.dataset == dataset:
            line = _line(result, None, dataset)
            lines.append({"classifier": "", **line, "verdict": "not repeated in this study"})
    return rows_of("published", lines)


@dataclass(frozen=True)
class _MeasuredRun:
    """The predictions of one classifier under one scoring, and their protocol."""

    scoring: str
    rows: pa.Table
    kind: str
    setting: str | None
    model: str | None
    rendering: str | None


def _runs_by_scoring(kind: str, predictions: pa.Table | None) -> Iterator[_MeasuredRun]:
    if predictions is None:
        return
    uncontrolled = predictions.filter(pc.equal(predictions["control"], "none"))
    for scoring in sorted(set(uncontrolled["scoring"].to_pylist())):
        rows = uncontrolled.filter(pc.equal(uncontrolled["scoring"], scoring))
        shots, model, rendering = (_first_value(rows, name) for name in ("shots", "model", "rendering"))
        setting = SETTINGS.get(kind) or (None if shots is None else "few-shot" if shots else "zero-shot")
        yield _MeasuredRun(scoring, rows, kind, setting, model, rendering)


def _first_value(rows: pa.Table, column: str) -> Any:
    return next((value for value in rows[column].to_pylist() if value is not None), None)


def _matching_results(reproduces: str, dataset: str, setting: str | None) -> list[PublishedResult]:
    """Return the results of a system: those on this dataset, and of these the ones in this setting, if there are any."""
    of_system = [r for r in published_results() if r.name == reproduces]
    on_dataset = [r for r in of_system if r.dataset == dataset] or of_system
    return [r for r in on_dataset if setting and r.setting.startswith(setting)] or on_dataset


def _line(result: PublishedResult, run: _MeasuredRun | None, dataset: str) -> dict[str, Any]:
    """Return the columns of one published result and one run, or none."""
    names = ("publication", "system", "family", "input", "setting", "dataset", "split")
    line: dict[str, Any] = {
        **{name: getattr(result, name) for name in names},
        "published": result.value,
        "published_clips": result.clips,
        "published_note": result.note,
        "scoring": run.scoring if run else "",
        "differences": "",
    }
    if run is None:
        return {**line, "reason": NO_PREDICTIONS, "verdict": f"not measured: {NO_PREDICTIONS}"}
    subset, rows = _same_clips(result, run.rows)
    if not rows.num_rows:
        reason = f"{subset} was not predicted"
        return {**line, "reason": reason, "verdict": f"not measured: {reason}"}
    correct = np.array(rows["correct"].to_pylist(), float)
    interval = share_interval(correct, np.array(rows["source"].to_pylist(), str))
    assert interval is not None
    measured, clips = float(correct.mean()), len(set(rows["clip"].to_pylist()))
    line |= {
        "measured": measured,
        "measured_low": interval.low,
        "measured_high": interval.high,
        "measured_over": subset,
        "measured_clips": clips,
        "differences": "; ".join(_protocol_differences(result, run, rows, dataset, clips)),
    }
    measurement = f"{measured:.3f} (95 % interval {interval.low:.3f} to {interval.high:.3f})"
    if result.dataset != dataset:
        verdict = f"{measurement} on {dataset}; {result.value:.3f} is of {result.dataset}"
        return {**line, "reason": "another dataset", "verdict": verdict}
    in_interval = interval.low <= result.value <= interval.high
    relation = "holds" if in_interval else "lies above" if interval.low > result.value else "lies below"
    verdict = f"{measurement} {relation} the published {result.value:.3f}"
    return {**line, "published_in_interval": in_interval, "verdict": verdict}


def _same_clips(result: PublishedResult, rows: pa.Table) -> tuple[str, pa.Table]:
    """Return the rows that the published number is over, and their name: one fold, or otherwise all."""
    if result.split.startswith("fold "):
        return result.split, rows.filter(pc.equal(rows["fold"], int(result.split.removeprefix("fold "))))
    return "all", rows


def _protocol_differences(
    result: PublishedResult, run: _MeasuredRun, rows: pa.Table, dataset: str, clips: int
) -> Iterator[str]:
    """Yield the differences between the protocols, one at a time."""
    if result.dataset != dataset:
        yield f"published on {result.dataset}, here on {dataset}"
    if result.clips != clips:
        folds = ",".join(str(f) for f in sorted(set(rows["fold"].to_pylist())))
        yield f"published over {result.clips} clips ({result.split}), here over {clips} (folds {folds})"
    both_human = result.family == "human" and run.kind == "annotations"
    if run.setting and not both_human and not result.setting.startswith(run.setting):
        yield f"published {result.setting}, here {run.setting}"
    elif run.setting and run.rendering and result.setting != run.setting:
        variant = result.setting.removeprefix(run.setting).strip()
        yield f"published with {variant}, here with the rendering {run.rendering}"
    model_input = "spectrogram image" if run.rendering else "audio"
    if not both_human and result.input != model_input:
        yield f"published on {result.input}, here on {model_input}"
    if not both_human and run.model and not _is_same_model(result.system, run.model):
        yield f"published for {result.system}, here {run.model}"
    trials = len(set(rows["trial"].to_pylist()))
    if trials > 1 and not both_human:
        yield f"here {trials} trials are pooled"


def _is_same_model(system: str, model: str) -> bool:
    first, second = ("".join(c for c in name.split("/")[-1].casefold() if c.isalnum()) for name in (system, model))
    return first in second or second in first
