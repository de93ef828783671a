"""Annotations: labels that annotators gave to clips, read from a file as predictions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, NO_ENCODERS, ClassifierSpec, Needs
from vlm_audio_pipeline.classifiers.protocol import Protocol
from vlm_audio_pipeline.contracts.errors import BadDataset, NotAvailable, suggestion
from vlm_audio_pipeline.contracts.escapes import unescape_csv
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.look_alikes import find_look_alikes, show_escaped
from vlm_audio_pipeline.contracts.specs import StudyPath, excluded_from_fingerprint
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.datasets.base import annotation_files
from vlm_audio_pipeline.datasets.csv_reader import read_csv, read_number
from vlm_audio_pipeline.encoders.base import EncoderSpec

if TYPE_CHECKING:
    from vlm_audio_pipeline.datasets.base import Dataset

_COLUMNS = ("clip", "annotator", "label")


@dataclass(frozen=True)
class Annotation:
    """A label that an annotator gave to a clip.

    Attributes:
        line: line of the file, from 1.
        clip: name of the clip in the file.
        label: the label, a canonical class name.
        annotator: name of the annotator.
        trial: number of the annotator, from 0. If an annotator labels a clip again, the number of annotators is added: of
            three annotators, the first has the trials 0, 3, 6, ...
        rendering: name of the rendering whose image was annotated; None if the file does not record it.
        seconds: duration of the annotation, s; None if the file does not record it.
        answered_at: date and time of the annotation; None if the file does not record it.
    """

    line: int
    clip: str
    label: str
    annotator: str
    trial: int = 0
    rendering: str | None = None
    seconds: float | None = None
    answered_at: datetime | None = None


def anonymous_clip_name(clip: str) -> str:
    """Return the name of a clip on an annotation sheet. Unlike an id, the name never contains the class.

    The name is a hash, not a secret: the dataset is enough to identify the clip.
    """
    return fingerprint("annotation sheet", clip, length=12)


def _add_source_names(schema: dict[str, Any]) -> None:
    """Add the names of published annotation files to the JSON schema of study files."""
    schema["anyOf"] = [{"enum": sorted(annotation_files()), "type": "string"}, {"type": "null"}]


@CLASSIFIERS.register("annotations")
class AnnotationsClassifier(ClassifierSpec):
    """Labels that annotators gave to clips (audio or images): one prediction per annotation, without scores."""

    source: str | None = Field(None, json_schema_extra=_add_source_names)
    """Annotations that are published with a dataset: `esc10_annotators`, the crowd annotators of the ESC-10 repository."""
    path: StudyPath | None = excluded_from_fingerprint(None)
    """A CSV file with the columns clip, annotator, label, such as an annotation sheet saves; instead of `source`."""

    @field_validator("source")
    @classmethod
    def _check_source(cls, source: str | None) -> str | None:
        if source is not None and source not in annotation_files():
            raise ValueError(
                f"must name published annotations, got {source!r}; {suggestion(source, annotation_files())}"
            )
        return source

    @model_validator(mode="after")
    def _check_source_or_path(self) -> Self:
        if (self.source is None) == (self.path is None):
            got = "neither" if self.source is None else "both"
            raise ValueError(
                f"exactly one of source and path is required, got {got}; write `source: esc10_annotators` or "
                "`path: annotations.csv`"
            )
        return self

    def needs(self) -> Needs:
        """Return how to find the annotations file."""
        return Needs(annotations=self.annotations_file)

    def protocol(self, encoders: Mapping[str, EncoderSpec] = NO_ENCODERS) -> Protocol:
        """Return the file of the annotations, and what annotators heard or saw; a CSV records that in each row."""
        if self.source is None:
            return Protocol(setting="annotation", model=self.path.name if self.path else None)
        file = annotation_files()[self.source]
        return Protocol(setting=file.setting, input=file.input, model=file.file, audio="as recorded")

    def annotations_file(self, dataset_root: Path) -> Path:
        """Return the path of the annotations file.

        Args:
            dataset_root: the dataset's folder, which contains published annotations.

        Raises:
            NotAvailable: if the file is missing.
        """
        published = annotation_files()[self.source] if self.source else None
        path = self.path or dataset_root / (published.file if published else "")
        if not path.is_file():
            url = published.url.removeprefix("https://") if published else ""
            advice = f"; copy it from {url} into the dataset's folder" if published else ""
            raise NotAvailable(f"the annotations file {path} is missing{advice}")
        return path

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Return one stage: the annotations of the fold's clips."""
        return [
            Stage(
                asset="predictions",
                tables=("predictions",),
                version=4,
                parameters={**self.fingerprint_fields(), **self.sampled_folds(folds)},
                inputs=(Input("clips"), Input("annotations", name)),
                run=partial(self._predict, folds=folds),
                description="Labels from annotators, one row per annotation; no scores.",
                folds=self.folds,
            )
        ]

    def _predict(self, context: StageContext, folds: tuple[int, ...]) -> dict[str, pa.Table]:
        path = self.annotations_file(context.dataset.root)
        modified_ns = path.stat().st_mtime_ns
        if self.source:
            annotations = read_published_annotations(self.source, path, modified_ns)
            clip_name = annotation_files()[self.source].clip_name
            ids = {clip_name(c.file): c.id for c in context.dataset.clips}
        else:
            annotations = read_csv_annotations(path, modified_ns)
            ids = {name: c.id for c in context.dataset.clips for name in (anonymous_clip_name(c.id), c.id)}
            _check_clips_and_labels(annotations, path, context.dataset, set(ids))
        queries = self.queries(context.inputs["clips"], int(context.fold or 0), folds)
        clips = {c["clip"]: c for c in queries.select(["clip", "source", "label"]).to_pylist()}
        pairs = [(clips[ids[a.clip]], a) for a in annotations if ids.get(a.clip) in clips]
        n = len(pairs)
        columns: dict[str, Any] = {
            "kind": pa.array([self.kind] * n, pa.string()),
            "scoring": pa.array(["annotation"] * n, pa.string()),
            "control": pa.array(["none"] * n, pa.string()),
            "trial": pa.array([a.trial for _, a in pairs], pa.int64()),
            "clip": pa.array([c["clip"] for c, _ in pairs], pa.string()),
            "source": pa.array([c["source"] for c, _ in pairs], pa.string()),
            "label": pa.array([c["label"] for c, _ in pairs], pa.string()),
            "predicted": pa.array([a.label for _, a in pairs], pa.string()),
            "outcome": pa.array(["answered"] * n, pa.string()),
            "correct": pa.array([a.label == c["label"] for c, a in pairs], pa.bool_()),
            "annotator": pa.array([a.annotator for _, a in pairs], pa.string()),
            "model": pa.array([self.source] * n, pa.string()),
            "rendering": pa.array([a.rendering for _, a in pairs], pa.string()),
            "seconds": pa.array([a.seconds for _, a in pairs], pa.float64()),
            "answered_at": pa.array([a.answered_at for _, a in pairs], pa.timestamp("us", tz="UTC")),
        }
        return {"predictions": pa.table(columns)}


def _with_trials(annotations: Iterable[Annotation], ranks: Mapping[str, int]) -> tuple[Annotation, ...]:
    """Set the trial of each annotation (see `Annotation.trial`), counted over the whole file so that all folds agree."""
    counts: dict[tuple[str, str], int] = {}
    numbered = []
    for a in annotations:
        before = counts.get((a.clip, a.annotator), 0)
        counts[a.clip, a.annotator] = before + 1
        numbered.append(replace(a, trial=ranks[a.annotator] + before * len(ranks)))
    return tuple(numbered)


@lru_cache(maxsize=2)
def read_published_annotations(source: str, path: Path, modified_ns: int) -> tuple[Annotation, ...]:  # noqa: ARG001
    """Read annotations that are published with a dataset; annotators are called "annotator 1" and so on.

    Args:
        source: name of the annotations in a study file.
        path: the file.
        modified_ns: its modification time, ns; part of the cache key.

    Raises:
        BadDataset: if the file does not have the published content.
    """
    rows = annotation_files()[source].read(path)
    ranks = {f"annotator {number}": number - 1 for number in sorted({row.annotator for row in rows})}
    return _with_trials((Annotation(r.line, r.clip, r.label, f"annotator {r.annotator}") for r in rows), ranks)


@lru_cache(maxsize=8)
def read_csv_annotations(path: Path, modified_ns: int) -> tuple[Annotation, ...]:  # noqa: ARG001
    """Read annotations from a CSV with the columns clip, annotator (or reader) and label, see `read_csv`.

    The columns rendering, seconds and answered_at (ISO 8601), which an annotation sheet writes, are optional. Other columns
    are ignored.

    Args:
        path: the file.
        modified_ns: its modification time, ns; part of the cache key.

    Raises:
        BadDataset: for a file that is no CSV, missing columns, empty cells, invalid numbers and times, and a file without
            annotations.
    """
    header, rows = read_csv(path)
    annotator_column = "reader" if "annotator" not in header and "reader" in header else "annotator"
    header = ["annotator" if name == annotator_column else name for name in header]
    if missing := [c for c in _COLUMNS if c not in header]:
        raise BadDataset(
            f"{path} must have the columns {', '.join(_COLUMNS)}, got {', '.join(header)}; add {', '.join(missing)}"
        )
    annotations: list[Annotation] = []
    for row in rows:
        clip, annotator, label = (unescape_csv(row.cells[c]) for c in ("clip", annotator_column, "label"))
        if not (clip and annotator and label):
            raise BadDataset(
                f"{path}, line {row.line} must contain clip, annotator and label, got "
                f"'{clip}', '{annotator}', '{label}'; fill in the empty cells or remove the line"
            )
        rendering = row.cells.get("rendering") or None
        timing = _read_timing(row.cells, f"{path}, line {row.line}")
        annotations.append(Annotation(row.line, clip, label, annotator, 0, rendering, *timing))
    if not annotations:
        raise BadDataset(f"{path} has no annotations below its header; add them")
    names = sorted({a.annotator for a in annotations})
    if alike := find_look_alikes(names):
        raise BadDataset(
            f"{path}: names of annotators must look different, got {show_escaped(alike[0])}; write one of them everywhere, or rename one"
        )
    return _with_trials(annotations, {name: i for i, name in enumerate(names)})


def _read_timing(cells: Mapping[str, str], location: str) -> tuple[float | None, datetime | None]:
    """Return the duration (s) and the date and time of an annotation; each is None if the row does not record it."""
    seconds_text, at = cells.get("seconds", ""), cells.get("answered_at", "")
    try:
        time = datetime.fromisoformat(at) if at else None
        seconds = read_number(seconds_text) if seconds_text else None
        if seconds is not None and seconds < 0:
            raise ValueError("seconds must be 0 or more")
    except ValueError as error:
        raise BadDataset(
            f"{location} must contain a number in seconds and an ISO 8601 time in answered_at, got '{seconds_text}', '{at}' "
            f"({error}); correct them or leave them empty"
        ) from error
    return seconds, time and time.replace(tzinfo=time.tzinfo or UTC)


def _check_clips_and_labels(annotations: Sequence[Annotation], path: Path, dataset: "Dataset", names: set[str]) -> None:
    ids, classes = {c.id for c in dataset.clips}, set(dataset.classes)
    if unknown_clips := [a for a in annotations if a.clip not in names]:
        first = unknown_clips[0]
        advice = suggestion(first.clip, ids)
        if len(ids) > 20:  # too many ids for a message
            advice = advice.split("options:")[0].strip() or "correct it"
        raise BadDataset(
            f"{path}, line {first.line}: clip must be one of the dataset's {len(ids)} clips, got '{first.clip}'; "
            f"{advice} (lines with unknown clips: {_line_numbers(unknown_clips)})"
        )
    if unknown_labels := [a for a in annotations if a.label not in classes]:
        first = unknown_labels[0]
        raise BadDataset(
            f"{path}, line {first.line}: label must be a class of the dataset, got '{first.label}'; "
            f"{suggestion(first.label, classes)} (lines with unknown labels: {_line_numbers(unknown_labels)})"
        )


def _line_numbers(annotations: Sequence[Annotation], max_count: int = 10) -> str:
    suffix = f" and {len(annotations) - max_count} more" if len(annotations) > max_count else ""
    return ", ".join(str(a.line) for a in annotations[:max_count]) + suffix
