"""Kind `synthetic`: the ten sounds of ESC-10, made on this machine, so that a study runs without any download.

What belongs here: which clips there are, and putting them on disk in the layout of ESC-50, where the same reader finds
them that reads the real ones. What does not: how they sound (`synthesis.py`). Results on them say whether the pipeline
works, and nothing about how well a model hears.
"""

import csv
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from filelock import FileLock
from pydantic import Field

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.datasets import synthesis
from vlm_audio_pipeline.datasets.base import DATASETS, Card, Clip, Dataset, DatasetSpec
from vlm_audio_pipeline.datasets.esc50 import COLUMNS, LISTING, only_classes, read_listing
from vlm_audio_pipeline.datasets.esc_classes import ESC10, ESC50
from vlm_audio_pipeline.engines.local import cores
from vlm_audio_pipeline.storage.layout import Layout

CARD = Card(title="Synthetic sounds of the ten classes of ESC-10", licence="CC0-1.0")
RATE_HZ = 44100


@DATASETS.register("synthetic")
class SyntheticDataset(DatasetSpec):
    """Sounds of the ten classes of ESC-10, made on this machine: for trying things out, never for claims."""

    clips: int = Field(200, ge=4)
    """Clips in all, spread evenly over the classes."""
    n_folds: int = Field(5, ge=2)
    """Number of folds."""
    seed: int = Field(0, ge=0)
    """Another seed gives other sounds."""
    duration_s: float = Field(5.0, ge=1, le=60)
    """Length of every clip, s."""
    takes: int = Field(2, ge=1, le=26)
    """Clips cut from one source recording: these share pitch, timbre, room and background, and a fold."""

    def folds(self, layout: Layout) -> tuple[int, ...]:
        """Give the folds, ascending, without making a sound."""
        return tuple(sorted({clip.fold for clip, _, _ in self._plan()}))

    def to_download(self, layout: Layout) -> int:
        """Give 0: nothing is downloaded."""
        return 0

    def is_here(self, layout: Layout) -> bool:
        """Say whether the recordings were made on this machine already."""
        return self._root(layout).is_dir()

    def open(self, layout: Layout, progress: Progress = silent) -> Dataset:
        """Give the listing; makes the recordings if they are not on this machine, or not all of them.

        Raises:
            BadDataset: for classes that cannot be synthesised, or too few clips for the classes and folds.
        """
        plan = list(self._plan())
        root = self._root(layout)
        lock = layout.lock(f"datasets.{root.name}")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            if not all((root / file).is_file() for file in (LISTING, *(clip.file for clip, _, _ in plan))):
                self._make(root, plan, progress)
        clips, classes = only_classes(*read_listing(root, only_esc10=False), self._labels)
        return Dataset(root, classes, clips, CARD, self.on_bad_clip)

    @property
    def _labels(self) -> tuple[str, ...]:
        return self.classes or ESC10

    def _root(self, layout: Layout) -> Path:
        """Give the folder of the recordings; all that changes them enters its name, so that no two specs share it."""
        what = [self.clips, self.n_folds, self.seed, self.duration_s, self.takes, *self._labels]
        return layout.datasets / f"synthetic-{fingerprint(synthesis.VERSION, what, length=12)}"

    def _plan(self) -> Iterator[tuple[Clip, int, int]]:
        """Lay out the clips: each with the numbers of its source recording and take.

        Sources go to the folds in turn, through all classes, so that both classes and folds are of even size.
        """
        labels = self._labels
        for label in labels:
            if label not in synthesis.SOUNDS:
                raise BadDataset(
                    f"classes must be among those that can be synthesised, got '{label}'; "
                    f"{suggestion(label, synthesis.SOUNDS)}"
                )
        fewest = max(len(labels) * (self.takes + 1), self.takes * self.n_folds)
        if self.clips < fewest:
            raise BadDataset(
                f"clips must be at least {fewest}, got {self.clips}: each of {len(labels)} classes needs two source "
                f"recordings and each of {self.n_folds} folds one; raise `clips`, or lower `takes` ({self.takes}) or `n_folds`"
            )
        targets = {c.name: at for at, c in enumerate(ESC50)}
        source = -1
        for at, label in enumerate(labels):
            count = self.clips // len(labels) + (at < self.clips % len(labels))
            for k in range(count):
                take = k % self.takes
                source += take == 0
                fold = source % self.n_folds + 1
                name = f"{fold}-{source}-{chr(ord('A') + take)}-{targets[label]}"
                yield Clip(name, label, fold, str(source), f"audio/{name}.wav"), source, take

    def _make(self, root: Path, plan: list[tuple[Clip, int, int]], progress: Progress) -> None:
        """Make all recordings in a folder beside the final one, then move it into place: there is all or nothing."""
        for left_over in root.parent.glob(f".{root.name}.*.tmp"):
            shutil.rmtree(left_over)
        temporary = root.with_name(f".{root.name}.{os.getpid()}.tmp")
        (temporary / "audio").mkdir(parents=True)
        try:
            self._make_recordings(temporary, plan, progress)
            self._make_listing(temporary / LISTING, [clip for clip, _, _ in plan])
            if root.exists():
                shutil.rmtree(root)
            os.replace(temporary, root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _make_recordings(self, folder: Path, plan: list[tuple[Clip, int, int]], progress: Progress) -> None:
        import soundfile

        def make(clip: Clip, source: int, take: int) -> None:
            samples = synthesis.synthesise(
                clip.label, self.seed, source, take, duration_s=self.duration_s, rate_hz=RATE_HZ
            )
            soundfile.write(folder / clip.file, samples, RATE_HZ, subtype="PCM_16")

        with ThreadPoolExecutor(cores()) as pool:
            waiting = [pool.submit(make, *line) for line in plan]
            try:
                for done, future in enumerate(as_completed(waiting), 1):
                    future.result()
                    progress(done, len(plan), "synthesising clips")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _make_listing(self, path: Path, clips: list[Clip]) -> None:
        path.parent.mkdir(parents=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for clip in clips:
                fold, source, take, target = clip.id.split("-")
                writer.writerow([Path(clip.file).name, fold, target, clip.label, True, source, take])
