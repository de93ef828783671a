"""Dataset kind `soundscape`: synthesised long recordings with overlapping events of twelve classes, cut into segments.

Belongs here: segments, labels and folds, and writing the recordings with a table of their events. Does not belong here: the sounds
(`soundscape_synthesis.py`). Results on them show that the pipeline works, not how well a model recognises sounds.
"""

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from pydantic import Field, model_validator

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.datasets.annotations.events import Event
from vlm_audio_pipeline.datasets.base import DATASETS, Clip, Dataset, DatasetSpec, label_text, omit_single_labels
from vlm_audio_pipeline.datasets.card import ClassName, DatasetCard
from vlm_audio_pipeline.datasets.esc_classes import esc50_classes
from vlm_audio_pipeline.datasets.folds import check_folds
from vlm_audio_pipeline.datasets.segments import (
    SegmentRule,
    check_min_overlap,
    label_segments,
    segment_times,
    select_labels,
)
from vlm_audio_pipeline.datasets.soundscape_synthesis import (
    CLASSES,
    RATE_HZ,
    VERSION,
    SoundEvent,
    plan_events,
    synthesise_recording,
)
from vlm_audio_pipeline.engines.local import core_count
from vlm_audio_pipeline.storage.atomic import atomic_path, delete
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.locks import file_lock

EVENTS = "events.csv"
"""File with the events of all recordings: recording, start_s, end_s, label, level_db."""


def _classes() -> tuple[ClassName, ...]:
    return tuple(name for name in esc50_classes() if name.name in CLASSES)


@DATASETS.register("soundscape")
class SoundscapeDataset(DatasetSpec):
    """Long synthesised recordings with overlapping sounds of twelve classes, for `task: multi_label`: tests, not claims about models."""

    card = DatasetCard(
        title="Synthetic soundscapes of twelve classes", licence="CC0-1.0", classes=_classes, is_demonstration=True
    )

    recordings: int = Field(60, ge=4, le=10_000)
    """Number of recordings; each is a source recording."""
    duration_s: float = Field(60.0, ge=5, le=3600)
    """Length of every recording, s."""
    events_per_minute: float = Field(8.0, gt=0, le=60)
    """Number of sounds in a minute of a recording."""
    segment_s: float = Field(5.0, ge=1, le=600)
    """Length of the segments that each recording is cut into, s; if a rest remains, one more segment ends with the recording."""
    min_overlap_s: float = Field(0.5, gt=0)
    """A segment has a class if a sound of it lasts this long in the segment, s, or for the whole sound."""
    n_folds: int = Field(5, ge=2)
    """Number of folds; recordings take turns."""
    seed: int = Field(0, ge=0)
    """Seed of the synthesis."""

    @model_validator(mode="after")
    def _check_overlap(self) -> "SoundscapeDataset":
        check_min_overlap(self.min_overlap_s, "segment_s", self.segment_s)
        return self

    def folds(self, data_folder: DataFolder) -> tuple[int, ...]:
        """Return the folds, ascending, without synthesising any recording."""
        return tuple(range(1, min(self.n_folds, self.recordings) + 1))

    def is_local(self, data_folder: DataFolder) -> bool:
        """Return whether the recordings are already on this machine."""
        return self._root(data_folder).is_dir()

    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """Return the segments with their classes; missing recordings are synthesised first.

        Raises:
            BadDataset: for a class that cannot be synthesised, and for a class in one fold only.
        """
        classes = self.classes or CLASSES
        for label in classes:
            if label not in CLASSES:
                raise BadDataset(
                    f"classes must be among those that can be synthesised, got '{label}'; {suggestion(label, CLASSES)}"
                )
        root = self._root(data_folder)
        clips = sorted((c for i in range(self.recordings) for c in self._segments(i, classes)), key=lambda c: c.id)
        clips = omit_single_labels(clips)
        check_folds(((c.id, name, c.source, c.fold) for c in clips for name in c.class_names or ("",)), "soundscape")
        present = {name for clip in clips for name in clip.class_names}
        if not present:
            raise BadDataset(
                f"soundscape: no segment of the {self.recordings} recordings has one of the classes {', '.join(classes)}; raise `recordings` or "
                "`events_per_minute`, or use other `classes`"
            )
        with file_lock(data_folder.lock(f"datasets.{root.name}")):
            if not all((root / file).is_file() for file in (EVENTS, *(c.file for c in clips))):
                self._synthesise_all(root, progress)
        used = tuple(c for c in classes if c in present)
        events = {_file(i): self._events(i) for i in range(self.recordings)}
        return Dataset(root, used, tuple(clips), self.card, self.on_bad_clip, events=events)

    def events(self, recording: int) -> tuple[SoundEvent, ...]:
        """Return the events of a recording (from 0), by start: the truth that segments take their classes from."""
        return plan_events(self.seed, recording, self.duration_s, self.events_per_minute)

    def _events(self, recording: int) -> list[Event]:
        return [Event(_file(recording), e.start_s, e.end_s, e.label) for e in self.events(recording)]

    def _segments(self, recording: int, classes: Sequence[str]) -> list[Clip]:
        name = _name(recording)
        rule = SegmentRule(seconds=self.segment_s, min_overlap_s=self.min_overlap_s)
        times = segment_times(round(self.duration_s * RATE_HZ), RATE_HZ, rule)
        return [
            Clip(
                id=f"{name}@{segment.start_s:07.2f}",
                label=label_text(segment.labels),
                fold=recording % self.n_folds + 1,
                source=name,
                file=_file(recording),
                start_s=segment.start_s,
                end_s=segment.end_s,
                labels=segment.labels,
            )
            for segment in select_labels(
                label_segments(times, self._events(recording), rule.min_overlap_s), rule, classes
            )
        ]

    def _root(self, data_folder: DataFolder) -> Path:
        """Return the folder of the recordings; its name is a hash of what determines them."""
        parameters = [self.recordings, self.duration_s, self.events_per_minute, self.seed]
        return data_folder.datasets / f"soundscape-{fingerprint(VERSION, parameters, length=12)}"

    def _synthesise_all(self, root: Path, progress: Progress) -> None:
        """Synthesise all recordings in a temporary folder, then move it to `root`, so that `root` is always complete."""
        import soundfile

        for unfinished in root.parent.glob(f".{root.name}.*.tmp"):  # left by killed processes
            delete(unfinished)

        def write_recording(number: int) -> None:
            samples = synthesise_recording(self.seed, number, self.duration_s, self.events_per_minute)
            soundfile.write(temporary / _file(number), samples, RATE_HZ, subtype="PCM_16")

        with atomic_path(root) as temporary:
            (temporary / "audio").mkdir(parents=True)
            with ThreadPoolExecutor(core_count()) as pool:
                futures = [pool.submit(write_recording, number) for number in range(self.recordings)]
                try:
                    for done, future in enumerate(as_completed(futures), 1):
                        future.result()
                        progress(done, self.recordings, "synthesising recordings")
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
            with (temporary / EVENTS).open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["recording", "start_s", "end_s", "label", "level_db"])
                for number in range(self.recordings):
                    writer.writerows(
                        [_name(number), e.start_s, e.end_s, e.label, e.level_db] for e in self.events(number)
                    )
            delete(root)


def _name(recording: int) -> str:
    return f"soundscape-{recording:04}"


def _file(recording: int) -> str:
    return f"audio/{_name(recording)}.wav"
