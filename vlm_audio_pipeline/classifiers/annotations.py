"""Annotations: labels that annotators gave to clips, read from a file as predictions."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, NO_ENCODERS, ClassifierSpec, Needs
from vlm_audio_pipeline.contracts.errors import BadDataset, NotAvailable, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.specs import StudyPath, excluded_from_fingerprint
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.datasets.base import annotation_files
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
        trial: number of the annotator; where one annotates a clip again, that number plus the number of annotators, and so on.
        rendering: name of the rendering whose image was annotated, where it is recorded.
        seconds: time taken, s, where it is recorded.
        answered_at: time of the annotation, where it is recorded.
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
    """Return the name of a clip on an annotation sheet, which does not contain the class as an id may do.

    The name is a hash, not a secret: with the dataset, the clip can be found.
    """
    return fingerprint("annotation sheet", clip, length=12)


def _add_source_names(schema: dict[str, Any]) -> None:
    """Add the names of published annotation files to the JSON schema of study files."""
    schema["anyOf"] = [{"enum": sorted(annotation_files()), "type": "string"}, {"type": "null"}]


@CLASSIFIERS.register("annotations")
class AnnotationsClassifier(ClassifierSpec):
    """Labels that annotators gave to clips, as audio or as images: one prediction per annotation, without scores."""

    source: str | None = Field(None, json_schema_extra=_add_source_names)
    """Annotations that are published with a dataset: `esc10_annotators`, the crowd annotators of the ESC-10 repository."""
    path: StudyPath | None = excluded_from_fingerprint(None)
    """A CSV with the columns clip, annotator, label, as an annotation sheet saves it; instead of `source`."""

    @field_validator("source")
    @classmethod
    def _is_published(cls, source: str | None) -> str | None:
        if source is not None and source not in annotation_files():
            raise ValueError(f"must be one of them, got {source!r}; {suggestion(source, annotation_files())}")
        return source

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        if (self.source is None) == (self.path is None):
            got = "neither" if self.source is None else "both"
            raise ValueError(
                f"exactly one of source and path must be given, got {got}; write `source: esc10_annotators` or "
                "`path: annotations.csv`"
            )
        return self

    def needs(self) -> Needs:
        """Return how to find the annotations file."""
        return Needs(annotations=self.annotations_file)

    def annotations_file(self, dataset_root: Path) -> Path:
        """Return the path of the annotations file.

        Args:
            dataset_root: the dataset's folder, where published annotations are.

        Raises:
            NotAvailable: when there is no such file.
        """
        published = annotation_files()[self.source] if self.source else None
        path = self.path or dataset_root / (published.file if published else "")
        if not path.is_file():
            url = published.url.removeprefix("https://") if published else ""
            advice = f"; it comes with {url}, put it into the dataset's folder" if published else ""
            raise NotAvailable(f"annotations must be in {path}, got no such file{advice}")
        return path

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Return one stage: the annotations of the fold's clips."""
        return [
            Stage(
                asset="predictions",
                tables=("predictions",),
                version=2,
                parameters={**self.fingerprint_fields(), **self.sampled_folds(folds)},
                inputs=(Input("clips"), Input("annotations", name)),
                run=partial(self._predict, folds=folds),
                description="Labels given by annotators, one row each; no scores.",
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
            _check(annotations, path, context.dataset, set(ids))
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
    """Set the trials, numbered over the whole file so that folds agree; see `Annotation.trial`."""
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
        BadDataset: when the file has another content.
    """
    rows = annotation_files()[source].read(path)
    ranks = {f"annotator {number}": number - 1 for number in sorted({row.annotator for row in rows})}
    return _with_trials((Annotation(r.line, r.clip, r.label, f"annotator {r.annotator}") for r in rows), ranks)


@lru_cache(maxsize=8)
def read_csv_annotations(path: Path, modified_ns: int) -> tuple[Annotation, ...]:  # noqa: ARG001
    """Read annotations from a CSV with the columns clip, annotator and label (UTF-8).

    The columns rendering, seconds and answered_at (ISO 8601), which an annotation sheet writes, are optional. Other columns
    are ignored.

    Args:
        path: the file.
        modified_ns: its modification time, ns; part of the cache key.

    Raises:
        BadDataset: for missing columns, empty cells, invalid numbers and times, text that is not UTF-8, and a file without
            annotations.
    """
    annotations: list[Annotation] = []
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
                clip, annotator, label = ((row[c] or "").strip() for c in _COLUMNS)
                if not (clip and annotator and label):
                    raise BadDataset(
                        f"{path} line {table.line_num} must give clip, annotator and label, got "
                        f"'{clip}', '{annotator}', '{label}'; fill in the empty cells or remove the line"
                    )
                rendering = (row.get("rendering") or "").strip() or None
                timing = _read_timing(row, f"{path} line {table.line_num}")
                annotations.append(Annotation(table.line_num, clip, label, annotator, 0, rendering, *timing))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataset(f"{path} must be a CSV in UTF-8, got: {error}; save it again as UTF-8") from error
    if not annotations:
        raise BadDataset(f"{path} must contain at least one annotation, got none below its header; add them")
    return _with_trials(annotations, {name: i for i, name in enumerate(sorted({a.annotator for a in annotations}))})


def _read_timing(row: Mapping[str, str | None], location: str) -> tuple[float | None, datetime | None]:
    """Return the time taken, s, and the time of the annotation, each None where the row does not record it."""
    seconds, at = ((row.get(name) or "").strip() for name in ("seconds", "answered_at"))
    try:
        time = datetime.fromisoformat(at) if at else None
        return float(seconds) if seconds else None, time and time.replace(tzinfo=time.tzinfo or UTC)
    except ValueError as error:
        raise BadDataset(
            f"{location} must give seconds as a number and answered_at as a time, got '{seconds}', '{at}' ({error}); "
            "correct them or leave them empty"
        ) from error


def _check(annotations: Sequence[Annotation], path: Path, dataset: "Dataset", names: set[str]) -> None:
    ids, classes = {c.id for c in dataset.clips}, set(dataset.classes)
    if unknown_clips := [a for a in annotations if a.clip not in names]:
        first = unknown_clips[0]
        advice = suggestion(first.clip, ids)
        if len(ids) > 20:  # do not list them all
            advice = advice.split("options:")[0].strip() or "correct it"
        raise BadDataset(
            f"{path} line {first.line}: clip must be one of the dataset's {len(ids)} clips, got '{first.clip}'; "
            f"{advice} (lines with unknown clips: {_line_numbers(unknown_clips)})"
        )
    if unknown_labels := [a for a in annotations if a.label not in classes]:
        first = unknown_labels[0]
        raise BadDataset(
            f"{path} line {first.line}: label must be a class of the dataset, got '{first.label}'; "
            f"{suggestion(first.label, classes)} (lines with unknown labels: {_line_numbers(unknown_labels)})"
        )


def _line_numbers(annotations: Sequence[Annotation], max_count: int = 10) -> str:
    rest = f" and {len(annotations) - max_count} more" if len(annotations) > max_count else ""
    return ", ".join(str(a.line) for a in annotations[:max_count]) + rest
