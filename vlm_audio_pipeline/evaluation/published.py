"""Published results beside what was measured here: whether the interval holds the number, and what differs.

What belongs here: the results of `published_results.csv` and how a classifier's protocol compares with theirs. What does
not: the statistics (`uncertainty`). A published number is taken as it stands; those read from secondary sources say so
in their note.
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
from vlm_audio_pipeline.evaluation.tables import rows_of
from vlm_audio_pipeline.evaluation.uncertainty import share_interval

DATASETS = {"esc10": "ESC-10", "esc50": "ESC-50"}
"""Kind of dataset -> its name in publications."""
SETTINGS = {"zero_shot": "zero-shot", "probe": "linear probe", "knn": "k-NN", "human": "judgements of people"}
"""Kind of classifier -> its setting, where that does not depend on the examples shown."""


@dataclass(frozen=True)
class Result:
    """One published number; the columns of `published_results.csv`, `value` as a share of 1."""

    source: str
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
        """What `reproduces` says: `source/system`."""
        return f"{self.source}/{self.system}"


def _text() -> str:
    return files("vlm_audio_pipeline.evaluation").joinpath("published_results.csv").read_text(encoding="utf-8")


@cache
def published_results() -> tuple[Result, ...]:
    """Read every published result."""
    return tuple(
        Result(**row, value=float(value), clips=int(clips))
        for row in csv.DictReader(_text().splitlines())
        for value, clips in [(row.pop("value"), row.pop("clips"))]
    )


def results_version() -> str:
    """Hash the published results, so that a table made from others is made anew."""
    return digest(_text().encode())


def check_reproduces(classifier: str, reproduces: str) -> None:
    """Refuse a `reproduces` that names nothing published.

    Raises:
        BadStudy: naming what was probably meant.
    """
    known = {r.name for r in published_results()}
    if reproduces not in known:
        raise BadStudy(
            f"classifiers.{classifier}.reproduces: must name a published result as source/system, got '{reproduces}'; "
            f"{suggestion(reproduces, known)}"
        )


def published_table(repeated: Mapping[str, tuple[str, str, pa.Table | None]], dataset: str) -> pa.Table:
    """Set each published result beside what repeats it, and give those of the dataset that nobody repeats alone.

    A result over one fold is compared with the same fold here. Where a system was published on several datasets or in
    several settings, a classifier stands beside those of its own, if there are any. Controls are not compared.

    Args:
        repeated: classifier -> (`reproduces`, its kind, its `predictions` rows or None).
        dataset: kind of the study's dataset.

    Returns:
        `published` rows without `study`.

    Raises:
        BadStudy: for a `reproduces` that names nothing published.
    """
    here = DATASETS.get(dataset, dataset)
    lines: list[dict[str, Any]] = []
    taken: set[Result] = set()
    for classifier, (reproduces, kind, predictions) in repeated.items():
        check_reproduces(classifier, reproduces)
        runs: list[_Run | None] = [*_runs(kind, predictions)]
        for run in runs or [None]:
            for result in _fitting(reproduces, here, run.setting if run else None):
                taken.add(result)
                lines.append({"classifier": classifier, **_beside(result, run, here)})
    for result in published_results():
        if result not in taken and result.dataset == here:
            lines.append({"classifier": "", **_beside(result, None, here), "verdict": "not repeated in this study"})
    return rows_of("published", lines)


@dataclass(frozen=True)
class _Run:
    """One way in which a classifier was run: its rows, and what it was."""

    scoring: str
    rows: pa.Table
    kind: str
    setting: str | None
    model: str | None
    rendering: str | None


def _runs(kind: str, predictions: pa.Table | None) -> Iterator[_Run]:
    if predictions is None:
        return
    real = predictions.filter(pc.equal(predictions["control"], "none"))
    for scoring in sorted(set(real["scoring"].to_pylist())):
        rows = real.filter(pc.equal(real["scoring"], scoring))
        shots, model, rendering = (_first(rows, name) for name in ("shots", "model", "rendering"))
        setting = SETTINGS.get(kind) or (None if shots is None else "few-shot" if shots else "zero-shot")
        yield _Run(scoring, rows, kind, setting, model, rendering)


def _first(rows: pa.Table, column: str) -> Any:
    return next((value for value in rows[column].to_pylist() if value is not None), None)


def _fitting(reproduces: str, dataset: str, setting: str | None) -> list[Result]:
    """Give the results of a system: those on this dataset, then those in this setting, where there are any."""
    named = [r for r in published_results() if r.name == reproduces]
    here = [r for r in named if r.dataset == dataset] or named
    return [r for r in here if setting and r.setting.startswith(setting)] or here


def _beside(result: Result, run: _Run | None, dataset: str) -> dict[str, Any]:
    """Give the columns of one published result and one run, or none."""
    line: dict[str, Any] = {
        **{
            name: getattr(result, name)
            for name in ("source", "system", "family", "input", "setting", "dataset", "split")
        },
        "published": result.value,
        "published_clips": result.clips,
        "published_note": result.note,
        "scoring": run.scoring if run else "",
        "differs": "",
    }
    if run is None:
        reason = "no predictions with today's settings yet"
        return {**line, "reason": reason, "verdict": f"not measured: {reason}"}
    over, rows = _same_clips(result, run.rows)
    if not rows.num_rows:
        reason = f"{over} was not predicted"
        return {**line, "reason": reason, "verdict": f"not measured: {reason}"}
    right = np.array(rows["correct"].to_pylist(), float)
    interval = share_interval(right, np.array(rows["source"].to_pylist(), str))
    assert interval is not None
    measured, clips = float(right.mean()), len(set(rows["clip"].to_pylist()))
    line |= {
        "measured": measured,
        "measured_low": interval.low,
        "measured_high": interval.high,
        "measured_over": over,
        "measured_clips": clips,
        "differs": "; ".join(_differences(result, run, rows, dataset, clips)),
    }
    said = f"{measured:.3f} (95 % interval {interval.low:.3f} to {interval.high:.3f})"
    if result.dataset != dataset:
        return {
            **line,
            "reason": "another dataset",
            "verdict": f"{said} on {dataset}; {result.value:.3f} is of {result.dataset}",
        }
    covered = interval.low <= result.value <= interval.high
    how = "holds" if covered else "lies above" if interval.low > result.value else "lies below"
    return {**line, "covered": covered, "verdict": f"{said} {how} the published {result.value:.3f}"}


def _same_clips(result: Result, rows: pa.Table) -> tuple[str, pa.Table]:
    """Give the part of the rows that the published number is over, as far as it can be told: one fold, or all."""
    if result.split.startswith("fold "):
        return result.split, rows.filter(pc.equal(rows["fold"], int(result.split.removeprefix("fold "))))
    return "all", rows


def _differences(result: Result, run: _Run, rows: pa.Table, dataset: str, clips: int) -> Iterator[str]:
    """Say in what the protocols differ, one thing at a time."""
    if result.dataset != dataset:
        yield f"published on {result.dataset}, here on {dataset}"
    if result.clips != clips:
        folds = ",".join(str(f) for f in sorted(set(rows["fold"].to_pylist())))
        yield f"published over {result.clips} clips ({result.split}), here over {clips} (folds {folds})"
    people = result.family == "human" and run.kind == "human"
    if run.setting and not people and not result.setting.startswith(run.setting):
        yield f"published {result.setting}, here {run.setting}"
    elif run.setting and run.rendering and result.setting != run.setting:
        yield f"published with {result.setting.removeprefix(run.setting).strip()}, here with the rendering {run.rendering}"
    given = "spectrogram image" if run.rendering else "audio"
    if not people and result.input != given:
        yield f"published on {result.input}, here on {given}"
    if not people and run.model and not _same_model(result.system, run.model):
        yield f"published for {result.system}, here {run.model}"
    trials = len(set(rows["trial"].to_pylist()))
    if trials > 1 and not people:
        yield f"here {trials} trials are pooled"


def _same_model(system: str, model: str) -> bool:
    one, other = ("".join(c for c in name.split("/")[-1].casefold() if c.isalnum()) for name in (system, model))
    return one in other or other in one
