"""Human readers: what people answered when they were given the same clips.

What belongs here: reading recorded judgements, one row each. What does not: pooling them into one number
(`evaluation`), and asking anybody anything (`reports.reading_sheet` does).
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow as pa
from pydantic import model_validator

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, NO_ENCODERS, ClassifierSpec
from vlm_audio_pipeline.contracts.errors import BadDataset, NotAvailable, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.specs import StudyPath, not_identity
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.encoders.base import EncoderSpec

if TYPE_CHECKING:
    from vlm_audio_pipeline.datasets.base import Dataset

ESC10_SHEET = "ESC-10-HumanClassification.xlsx"
_COLUMNS = ("clip", "reader", "label")


@dataclass(frozen=True)
class Reading:
    """One judgement.

    Attributes:
        line: line of the file, from 1.
        clip: what the file calls the clip.
        label: the label given; a canonical class name.
        reader: who judged.
        trial: a reader's first judgements of clips share one trial, the second ones of clips judged again another, ...
        rendering: of the picture that was shown, where one was.
        seconds: time to judge, s, where it was recorded.
        answered_at: when, where that was recorded.
    """

    line: int
    clip: str
    label: str
    reader: str
    trial: int = 0
    rendering: str | None = None
    seconds: float | None = None
    answered_at: datetime | None = None


def anonymous(clip: str) -> str:
    """Give the name of a clip on a reading sheet: ids of clips may name their class, this does not.

    It is a hash, not a secret: who has the dataset can find the clip.
    """
    return fingerprint("reading sheet", clip, length=12)


@CLASSIFIERS.register("human")
class Human(ClassifierSpec):
    """People who listened, or read pictures: one prediction a judgement, without scores."""

    source: Literal["esc10_listeners"] | None = None
    """Judgements that come with a dataset: the crowd listeners of the ESC-10 repository."""
    path: StudyPath | None = not_identity(None)
    """A CSV of judgements with columns clip, reader, label, as a reading sheet saves it; instead of `source`."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.source is None) == (self.path is None):
            given = "neither" if self.source is None else "both"
            raise ValueError(
                f"exactly one of source and path must be given, got {given}; write `source: esc10_listeners` or "
                "`path: readings.csv`"
            )
        return self

    def readings_file(self, dataset_root: Path) -> Path:
        """Give the file of judgements, whose digest is the data version of `readings/<name>`.

        Args:
            dataset_root: the dataset's folder.

        Raises:
            NotAvailable: when there is no such file.
        """
        path = self.path or dataset_root / ESC10_SHEET
        if not path.is_file():
            origin = (
                "" if self.path else "; it comes with github.com/karolpiczak/ESC-10, put it into the dataset's folder"
            )
            raise NotAvailable(f"judgements must lie in {path}, got no such file{origin}")
        return path

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Give the one stage: the judgements of this fold's clips."""
        asked = {"asked": sorted(self.folds or folds)} if self.sample else {}
        return [
            Stage(
                asset="predictions",
                tables=("predictions",),
                version=2,
                parameters={**self.identity(), **asked},
                inputs=(Input("clips"), Input("readings", name)),
                run=partial(self._predict, folds=folds),
                description="Judgements of human readers, one row each; no scores.",
                folds=self.folds,
            )
        ]

    def _predict(self, context: StageContext, folds: tuple[int, ...]) -> dict[str, pa.Table]:
        path = self.readings_file(context.dataset.root)
        stamp = path.stat().st_mtime_ns
        readings = esc10_readings(path, stamp) if self.source else csv_readings(path, stamp)
        if self.source:
            # the sheet names recordings "1-100032-A", which the files of both layouts begin with
            named = {"-".join(Path(c.file).stem.split("-")[:3]): c.id for c in context.dataset.clips}
        else:
            named = {name: c.id for c in context.dataset.clips for name in (anonymous(c.id), c.id)}
            _check(readings, path, context.dataset, set(named))
        queries = self.queries(context.inputs["clips"], int(context.fold or 0), folds)
        asked = {c["clip"]: c for c in queries.select(["clip", "source", "label"]).to_pylist()}
        judged = [(asked[named[r.clip]], r) for r in readings if named.get(r.clip) in asked]
        n = len(judged)
        columns: dict[str, Any] = {
            "kind": pa.array([self.kind] * n, pa.string()),
            "scoring": pa.array(["judgement"] * n, pa.string()),
            "control": pa.array(["none"] * n, pa.string()),
            "trial": pa.array([r.trial for _, r in judged], pa.int64()),
            "clip": pa.array([c["clip"] for c, _ in judged], pa.string()),
            "source": pa.array([c["source"] for c, _ in judged], pa.string()),
            "label": pa.array([c["label"] for c, _ in judged], pa.string()),
            "predicted": pa.array([r.label for _, r in judged], pa.string()),
            "outcome": pa.array(["answered"] * n, pa.string()),
            "correct": pa.array([r.label == c["label"] for c, r in judged], pa.bool_()),
            "reader": pa.array([r.reader for _, r in judged], pa.string()),
            "model": pa.array([self.source] * n, pa.string()),
            "rendering": pa.array([r.rendering for _, r in judged], pa.string()),
            "seconds": pa.array([r.seconds for _, r in judged], pa.float64()),
            "answered_at": pa.array([r.answered_at for _, r in judged], pa.timestamp("us", tz="UTC")),
        }
        return {"predictions": pa.table(columns)}


def _numbered(readings: list[Reading], rank: Mapping[str, int]) -> tuple[Reading, ...]:
    """Give judgements their trials, numbered over the whole file, so that folds agree.

    A reader's first judgement of a clip is of the trial of the reader's rank, a second one of the same clip of rank +
    number of readers, and so on.
    """
    times: dict[tuple[str, str], int] = {}
    numbered = []
    for r in readings:
        before = times.get((r.clip, r.reader), 0)
        times[r.clip, r.reader] = before + 1
        numbered.append(replace(r, trial=rank[r.reader] + before * len(rank)))
    return tuple(numbered)


@lru_cache(maxsize=2)
def esc10_readings(path: Path, stamp_ns: int) -> tuple[Reading, ...]:
    """Read the judgements of crowd listeners that come with ESC-10, sheet "Raw data".

    4,687 judgements of 321 clips by 135 listeners, 4,487 of them right. Nine clips were put up a second time later on,
    and 66 times somebody judged one of them again: those second judgements are trials of their own, so that every
    judgement counts. Listeners are called "reader 1" to "reader 135" here; the sheet's own ids, places and trust are
    not kept.

    K. J. Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015.

    Args:
        path: the spreadsheet.
        stamp_ns: its modification time, ns: what is remembered in this process holds for this file.

    Raises:
        BadDataset: when the file is not that spreadsheet.
    """
    from zipfile import BadZipFile

    from openpyxl import load_workbook

    from vlm_audio_pipeline.datasets.esc_classes import LEGACY_FOLDERS

    canonical = {folder.split(" - ", 1)[1]: label for folder, label in LEGACY_FOLDERS.items()}
    wanted = ("Recording", "Worker ID (anonymized)", "Worker prediction")
    try:
        book = load_workbook(path, read_only=True)
        try:
            lines = book["Raw data"].iter_rows(values_only=True)
            header = [str(cell).replace("\n", " ") for cell in next(lines)]
            at = [header.index(name) for name in wanted]
            cells = [(line, *(row[i] for i in at)) for line, row in enumerate(lines, 2) if row[at[0]] is not None]
            rows = [(line, str(clip), int(worker), canonical[said]) for line, clip, worker, said in cells]
        finally:
            book.close()
    except (BadZipFile, KeyError, StopIteration, TypeError, ValueError) as error:
        raise BadDataset(
            f"{path} must be the spreadsheet of ESC-10 with a sheet 'Raw data' and columns {list(wanted)}, got a file "
            f"without: {error!r}; fetch it again from github.com/karolpiczak/ESC-10"
        ) from error
    rank = {f"reader {i}": i - 1 for i in range(1, len({worker for _, _, worker, _ in rows}) + 1)}
    name = dict(zip(sorted({worker for _, _, worker, _ in rows}), rank, strict=True))
    return _numbered([Reading(line, clip, label, name[worker]) for line, clip, worker, label in rows], rank)


@lru_cache(maxsize=8)
def csv_readings(path: Path, stamp_ns: int) -> tuple[Reading, ...]:
    """Read judgements from a CSV with columns clip, reader and label (UTF-8).

    Where there are columns rendering, seconds and answered_at (ISO 8601), as a reading sheet writes them, they are read
    too; others are ignored.

    Args:
        path: the file.
        stamp_ns: its modification time, ns: what is remembered in this process holds for this file.

    Raises:
        BadDataset: for missing columns, empty cells, numbers and times that are none, text that is not UTF-8, or no
            judgement at all.
    """
    readings: list[Reading] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            missing = [c for c in _COLUMNS if c not in (table.fieldnames or ())]
            if missing:
                raise BadDataset(
                    f"{path} must have the columns {', '.join(_COLUMNS)}, got "
                    f"{', '.join(table.fieldnames or ()) or 'none'}; add {', '.join(missing)}"
                )
            for row in table:
                clip, reader, label = ((row[c] or "").strip() for c in _COLUMNS)
                if not (clip and reader and label):
                    raise BadDataset(
                        f"{path} line {table.line_num} must give clip, reader and label, got "
                        f"'{clip}', '{reader}', '{label}'; fill in what is empty or drop the line"
                    )
                rendering = (row.get("rendering") or "").strip() or None
                timing = _timing(row, f"{path} line {table.line_num}")
                readings.append(Reading(table.line_num, clip, label, reader, 0, rendering, *timing))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataset(f"{path} must be a CSV in UTF-8, got: {error}; save it again as UTF-8") from error
    if not readings:
        raise BadDataset(f"{path} must hold at least one judgement, got none below its header; add them")
    return _numbered(readings, {reader: i for i, reader in enumerate(sorted({r.reader for r in readings}))})


def _timing(row: Mapping[str, str | None], where: str) -> tuple[float | None, datetime | None]:
    """Read how long a judgement took, s, and when it was made, where the file says so."""
    seconds, at = ((row.get(name) or "").strip() for name in ("seconds", "answered_at"))
    try:
        when = datetime.fromisoformat(at) if at else None
        return float(seconds) if seconds else None, when and when.replace(tzinfo=when.tzinfo or UTC)
    except ValueError as error:
        raise BadDataset(
            f"{where} must give seconds as a number and answered_at as a time, got '{seconds}', '{at}' ({error}); "
            "correct them or leave them empty"
        ) from error


def _check(readings: tuple[Reading, ...], path: Path, dataset: "Dataset", names: set[str]) -> None:
    ids, classes = {c.id for c in dataset.clips}, set(dataset.classes)
    clips = [r for r in readings if r.clip not in names]
    labels = [r for r in readings if r.label not in classes]
    if clips:
        first = clips[0]
        close = (
            suggestion(first.clip, ids) if len(ids) <= 20 else suggestion(first.clip, ids).split("options:")[0].strip()
        )
        raise BadDataset(
            f"{path} line {first.line}: clip must be one of the dataset's {len(ids)} clips, got '{first.clip}'; "
            f"{close or 'correct it'} (lines with unknown clips: {_lines(clips)})"
        )
    if labels:
        first = labels[0]
        raise BadDataset(
            f"{path} line {first.line}: label must be a class of the dataset, got '{first.label}'; "
            f"{suggestion(first.label, classes)} (lines with unknown labels: {_lines(labels)})"
        )


def _lines(readings: list[Reading], most: int = 10) -> str:
    more = f" and {len(readings) - most} more" if len(readings) > most else ""
    return ", ".join(str(r.line) for r in readings[:most]) + more
