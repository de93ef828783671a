"""Dataset kind `annotated_recordings`: a folder of recordings and files that say which sounds occur when; each segment is a clip.

Belongs here: the keys of the study file, and listing the segments. Does not belong here: reading annotation files (`annotations/`), cutting
and labelling (`cut_recordings.py`, `segments.py`), folds (`folds.py`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.specs import StudyPath, excluded_from_fingerprint
from vlm_audio_pipeline.datasets.annotations.events import Event, ReadOptions
from vlm_audio_pipeline.datasets.annotations.formats import annotation_formats
from vlm_audio_pipeline.datasets.base import (
    DATASETS,
    Clip,
    Dataset,
    DatasetSpec,
    LeftOut,
    label_text,
    omit_single_labels,
    slug,
)
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.datasets.cut_recordings import (
    CollectedEvents,
    collect_events,
    cut_recordings,
    events_with_times,
    labels_in_order,
    leave_out_empty,
    read_lengths,
    rename_labels,
    segment_id,
)
from vlm_audio_pipeline.datasets.folds import check_fold_clips, check_folds, fold_file_name, persistent_folds
from vlm_audio_pipeline.datasets.guess import DatasetGuess
from vlm_audio_pipeline.datasets.recording_guess import guess_annotated_recordings
from vlm_audio_pipeline.datasets.recording_listing import (
    find_annotation_files,
    list_recording_files,
    read_annotation_files,
    read_fold_file,
)
from vlm_audio_pipeline.datasets.segments import Segment, SegmentRule
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.result_store import ResultStore

_MAX_NAMES = 10


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | Path) else value


@DATASETS.register("annotated_recordings")
class AnnotatedRecordings(DatasetSpec):
    """Long recordings with annotations: each segment is a clip, with the labels of the events in it."""

    is_general = True

    path: StudyPath = excluded_from_fingerprint()
    """The folder of the recordings; subfolders are read, too."""
    annotations: Annotated[tuple[StudyPath, ...], BeforeValidator(_as_list)] = excluded_from_fingerprint(())
    """Annotation files, or folders of them; one or several. By default those in the folder of the recordings."""
    format: str | None = None
    """Format of the annotation files: `raven`, `audacity`, `label_studio`, ...; null: each file is recognised by its first lines."""
    label_column: str | None = None
    """Column with the labels, for formats with columns; for Label Studio, the control with the labels; null: the usual one."""
    min_confidence: float = Field(0.0, ge=0, le=1)
    """Leave out detections with a lower confidence, for annotation files that a model wrote."""
    rename: dict[str, str | None] = Field(default_factory=dict)
    """Label in the files -> class, to rename labels or to merge them; null leaves its events out."""
    segment: SegmentRule = SegmentRule()
    """How the recordings are cut."""
    unannotated: Literal["leave_out", "empty"] = "leave_out"
    """Recordings that no annotation file names: leave them out, or use them as recordings without events."""
    fold_file: StudyPath | None = excluded_from_fingerprint(None)
    """A CSV with the columns recording and fold, and optionally source; by default folds are assigned."""
    n_folds: int = Field(5, ge=2)
    """Number of folds to assign. A recording keeps its fold when others are added, as long as the folder is not moved."""
    seed: int = 0
    """Seed for the choice between equally good folds."""
    source: str | None = None
    r"""Regular expression that is searched in the path of a recording; its first group is the source, such as the site: `^(\w+)/`.
    Recordings of one source share a fold. By default each recording is a source of its own."""
    title: str | None = excluded_from_fingerprint(None)
    """Full name of the dataset, for reports and exports; by default the name of the folder."""
    licence: str = excluded_from_fingerprint("")
    """Licence of the recordings, for reports and exports."""
    citation: str = excluded_from_fingerprint("")
    """BibTeX entry of the dataset, for exports."""

    @field_validator("format")
    @classmethod
    def _check_format(cls, name: str | None) -> str | None:
        if name is not None and name not in annotation_formats():
            raise ValueError(
                f"format must be an annotation format, got '{name}'; {suggestion(name, annotation_formats())}"
            )
        return name

    @field_validator("source")
    @classmethod
    def _check_group(cls, source: str | None) -> str | None:
        try:
            groups = 1 if source is None else re.compile(source).groups
        except re.error as error:
            raise ValueError(f"source must be a regular expression, got '{source}': {error}; correct it") from error
        if groups < 1:
            raise ValueError(f"source must have a group, got '{source}'; put ( ) around the part that names the source")
        return source

    @classmethod
    def recognise(cls, path: Path) -> DatasetGuess | None:
        """Recognise a folder of recordings and annotation files, and an annotation file."""
        return guess_annotated_recordings(path)

    @property
    def base_name(self) -> str:
        """The kind and the name of the folder."""
        return f"{self.kind}_{slug(self.path.name)}"

    def folds(self, data_folder: DataFolder) -> tuple[int, ...]:
        """Return the folds, ascending; reads annotation files and the headers of recordings."""
        all_segments, segments, _, _ = self._segments(None)
        folds = self._folds(all_segments, segments, data_folder, save=False)
        return tuple(sorted({fold for fold, _ in folds.values()}))

    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """Read the annotation files, cut the recordings into segments and label them.

        Raises:
            BadDataset: for annotation files that cannot be read or name recordings that are not there, and for events after the end of their
                recording.
        """
        all_segments, segments, left_out, events = self._segments(data_folder)
        folds = self._folds(all_segments, segments, data_folder, save=True)
        clips = [
            Clip(
                segment_id(file, segment.start_s, segment.end_s),
                label_text(segment.labels),
                *folds[file],
                file,
                segment.start_s,
                segment.end_s,
                labels=segment.labels,
            )
            for file, file_segments in segments.items()
            for segment in file_segments
        ]
        classes = self.classes or labels_in_order(segments.values())
        card = DatasetCard(self.title or self.path.name, self.licence, str(self.path), self.citation)
        clips = sorted(omit_single_labels(clips), key=lambda c: c.id)
        return Dataset(self.path, classes, tuple(clips), card, self.on_bad_clip, left_out, events=events)

    def _segments(
        self, data_folder: DataFolder | None
    ) -> tuple[dict[str, list[Segment]], dict[str, list[Segment]], tuple[LeftOut, ...], dict[str, list[Event]]]:
        """Return the segments of each recording, those of them that are clips, the recordings that are left out, and the events.

        Args:
            data_folder: stores digests of recordings, which choose among segments without a label; None keeps all of these.
        """
        files, left_out = list_recording_files(self.path, skips_bad=self.on_bad_clip == "skip")
        paths = [path for path in find_annotation_files(self.annotations or (self.path,)) if path != self.fold_file]
        options = ReadOptions(self.label_column, self.min_confidence)
        contents = read_annotation_files(paths, self.annotations, files, self.format, options)
        annotated = collect_events(files, contents)
        self._check_missing(annotated, left_out)
        events = rename_labels(annotated.events, self.rename)
        for file in files:
            if file not in events:
                if self.unannotated == "empty":
                    events[file] = []
                else:
                    left_out.append(LeftOut(file, "", "not annotated: no annotation file names it; see `unannotated`"))
        if not events:
            raise BadDataset(f"{self.path}: no recording is annotated; check `annotations`")
        lengths, problems = read_lengths(self.path, sorted(events))
        if problems and self.on_bad_clip != "skip":
            lines = "".join(f"\n  {file}: {reason}" for file, reason in problems.items())
            raise BadDataset(
                f"{len(problems)} of {len(events)} recordings in {self.path} cannot be used:{lines}\n"
                "repair or remove them, or set `on_bad_clip: skip` to go on without them"
            )
        left_out += [LeftOut(file, "", reason) for file, reason in problems.items()]
        digest = self._digests(sorted(lengths), data_folder).__getitem__ if self._needs_digests(data_folder) else None
        all_segments = cut_recordings(events, lengths, self.segment, self.classes)
        segments = leave_out_empty(all_segments, self.segment, digest)
        if not segments:
            raise BadDataset(
                f"{self.path}: no segment of the {len(lengths)} recordings is left, because each has no label, or several; change `segment`, "
                "for example to shorter `seconds`"
            )
        self._check_classes(segments, events)
        if not labels_in_order(segments.values()):
            raise BadDataset(
                f"{self.path}: no segment of the {len(lengths)} recordings has a label, so there are no classes; check `annotations`, "
                "`rename`, `min_confidence` and `min_overlap_s` of `segment`"
            )
        return all_segments, segments, tuple(sorted(left_out, key=lambda left: left.file)), events_with_times(events)

    def _check_missing(self, annotated: CollectedEvents, left_out: list[LeftOut]) -> None:
        """Refuse recordings that are annotated but not in the folder; with `on_bad_clip: skip`, list them."""
        missing = annotated.missing
        if not missing:
            return
        if self.on_bad_clip == "skip":
            left_out += [LeftOut(name, "", "missing: it is annotated, but not in the folder") for name in missing]
            return
        lines = "".join(f"\n  {name}, in {origin}" for name, origin in list(missing.items())[:_MAX_NAMES])
        more = f"\n  and {len(missing) - _MAX_NAMES} more" if len(missing) > _MAX_NAMES else ""
        raise BadDataset(
            f"{len(missing)} annotated recordings are not in {self.path}:{lines}{more}\n"
            "add them, rename them as the annotation files do, or set `on_bad_clip: skip` to go on without them"
        )

    def _check_classes(self, segments: Mapping[str, Sequence[Segment]], events: Mapping[str, Sequence[Event]]) -> None:
        labels = labels_in_order(segments.values())
        for label in self.classes or ():
            if label not in labels:
                annotated_labels = {event.label for file_events in events.values() for event in file_events}
                options = (annotated_labels - set(self.classes or ())) | set(labels)
                raise BadDataset(f"{self.path}: class '{label}' is in no segment; {suggestion(label, options)}")

    def _needs_digests(self, data_folder: DataFolder | None) -> bool:
        return data_folder is not None and 0 < self.segment.keep_empty < 1

    def _digests(self, files: Sequence[str], data_folder: DataFolder | None) -> dict[str, str]:
        assert data_folder is not None
        store = ResultStore(data_folder.create().result_store)
        try:
            digests = store.file_digests([self.path / file for file in files])
        finally:
            store.close()
        return {file: self._require_digest(file, sha256) for file, sha256 in zip(files, digests, strict=True)}

    def _require_digest(self, file: str, sha256: str | None) -> str:
        if sha256 is None:
            raise BadDataset(f"{self.path / file} cannot be read any more; restore it, or run again without it")
        return sha256

    def _sources(self, files: Iterable[str]) -> dict[str, str]:
        """Return the source of each recording, without the fold file."""
        sources = {}
        for file in files:
            match = re.search(self.source, file) if self.source else re.match("(.*)", file)
            if match is None or not match.group(1):
                raise BadDataset(
                    f"{self.path / file}: the regular expression of `source`, '{self.source}', does not match this path; rename the "
                    "file, or change the expression"
                )
            sources[file] = match.group(1)
        return sources

    def _folds(
        self,
        all_segments: Mapping[str, Sequence[Segment]],
        segments: Mapping[str, Sequence[Segment]],
        data_folder: DataFolder,
        *,
        save: bool,
    ) -> dict[str, tuple[int, str]]:
        """Return fold and source of each annotated recording.

        Args:
            all_segments: recording -> segments, before empty ones are left out, so that `keep_empty` changes no fold.
            segments: the segments that are clips.
            data_folder: contains the folds that were assigned earlier.
            save: store the folds.

        Raises:
            BadDataset: for folds that make an evaluation impossible, and for a fold without clips.
        """
        # Each recording counts once for each of its labels, however many segments it has, so that another hop changes no fold.
        rows = [
            (file, label)
            for file, file_segments in all_segments.items()
            for label in labels_in_order([file_segments]) or ("",)
        ]
        if self.fold_file is not None:
            folds = read_fold_file(self.fold_file, sorted(all_segments))
            check_folds(((file, label, folds[file][1], folds[file][0]) for file, label in rows), str(self.fold_file))
        else:
            sources = self._sources(all_segments)
            file_name = fold_file_name(
                f"{self.kind}_{slug(self.path.resolve().name)}", self.path, self.source, self.n_folds, self.seed
            )
            inputs = sorted((file, label, sources[file]) for file, label in rows)
            assigned = persistent_folds(data_folder, file_name, inputs, self.n_folds, self.seed, save=save)
            folds = {file: (assigned[source], source) for file, source in sources.items()}
        check_fold_clips({file: fold for file, (fold, _) in folds.items()}, segments, str(self.path))
        return folds
