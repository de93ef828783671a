"""Dataset kind `synthetic`: the ten sounds of ESC-10, synthesised on this machine, so that a study needs no download.

Belongs here: the list of clips, and writing them in the layout of ESC-50, so that the reader of ESC-50 can read them. Does
not belong here: the sounds (`synthesis.py`). Results on them show that the pipeline works, not how well a model recognises sounds.
"""

import csv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from pydantic import Field

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.datasets import synthesis
from vlm_audio_pipeline.datasets.base import DATASETS, Clip, Dataset, DatasetSpec
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.datasets.esc50 import COLUMNS, LISTING, read_listing, select_classes
from vlm_audio_pipeline.datasets.esc_classes import ESC10, esc10_classes, esc50_classes
from vlm_audio_pipeline.engines.local import core_count
from vlm_audio_pipeline.storage.atomic import atomic_path, delete
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.locks import file_lock

RATE_HZ = 44100


@DATASETS.register("synthetic")
class SyntheticDataset(DatasetSpec):
    """Sounds of the ten classes of ESC-10, synthesised on this machine: for tests of the pipeline, not for claims about models."""

    card = DatasetCard(
        title="Synthetic sounds of the ten classes of ESC-10",
        licence="CC0-1.0",
        classes=esc10_classes,
        is_demonstration=True,
    )

    clips: int = Field(200, ge=4)
    """Total number of clips, spread evenly over the classes."""
    n_folds: int = Field(5, ge=2)
    """Number of folds."""
    seed: int = Field(0, ge=0)
    """Seed of the synthesis."""
    duration_s: float = Field(5.0, ge=1, le=60)
    """Length of every clip, s."""
    takes: int = Field(2, ge=1, le=26)
    """Clips per source recording. They share pitch, timbre, room and background, and a fold."""

    def folds(self, data_folder: DataFolder) -> tuple[int, ...]:
        """Return the folds, ascending, without synthesising any recording."""
        return tuple(sorted({clip.fold for clip, _, _ in self._plan()}))

    def is_local(self, data_folder: DataFolder) -> bool:
        """Return whether the recordings are already on this machine."""
        return self._root(data_folder).is_dir()

    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """Read the listing; missing recordings are synthesised first.

        Raises:
            BadDataset: for classes that cannot be synthesised, and for too few clips for the classes and folds.
        """
        plan = list(self._plan())
        root = self._root(data_folder)
        with file_lock(data_folder.lock(f"datasets.{root.name}")):
            if not all((root / file).is_file() for file in (LISTING, *(clip.file for clip, _, _ in plan))):
                self._synthesise_all(root, plan, progress)
        clips, classes = select_classes(*read_listing(root, only_esc10=False), self._labels)
        return Dataset(root, classes, clips, self.card, self.on_bad_clip)

    @property
    def _labels(self) -> tuple[str, ...]:
        return self.classes or ESC10

    def _root(self, data_folder: DataFolder) -> Path:
        """Return the folder of the recordings; its name is a hash of all parameters, so that no two specs share it."""
        parameters = [self.clips, self.n_folds, self.seed, self.duration_s, self.takes, *self._labels]
        return data_folder.datasets / f"synthetic-{fingerprint(synthesis.VERSION, parameters, length=12)}"

    def _plan(self) -> Iterator[tuple[Clip, int, int]]:
        """Yield each clip with the numbers of its source recording and take.

        Source recordings are assigned to the folds in turn, over all classes, so that classes and folds have even sizes.
        """
        labels = self._labels
        for label in labels:
            if label not in synthesis.SOUNDS:
                raise BadDataset(
                    f"classes must be among those that can be synthesised, got '{label}'; "
                    f"{suggestion(label, synthesis.SOUNDS)}"
                )
        min_clips = max(len(labels) * (self.takes + 1), self.takes * self.n_folds)
        if self.clips < min_clips:
            raise BadDataset(
                f"clips must be at least {min_clips}, got {self.clips}: each of {len(labels)} classes needs two source "
                f"recordings and each of {self.n_folds} folds one; raise `clips`, or lower `takes` ({self.takes}) or `n_folds`"
            )
        targets = {c.name: index for index, c in enumerate(esc50_classes())}
        source = -1
        for index, label in enumerate(labels):
            count = self.clips // len(labels) + (index < self.clips % len(labels))
            for k in range(count):
                take = k % self.takes
                source += take == 0
                fold = source % self.n_folds + 1
                name = f"{fold}-{source}-{chr(ord('A') + take)}-{targets[label]}"
                yield Clip(name, label, fold, str(source), f"audio/{name}.wav"), source, take

    def _synthesise_all(self, root: Path, plan: list[tuple[Clip, int, int]], progress: Progress) -> None:
        """Synthesise all recordings in a temporary folder, then move it to `root`, so that `root` is always complete."""
        # Left by killed processes, because the lock excludes running ones.
        for leftover in root.parent.glob(f".{root.name}.*.tmp"):
            delete(leftover)
        with atomic_path(root) as temporary:
            (temporary / "audio").mkdir(parents=True)
            self._write_recordings(temporary, plan, progress)
            self._write_listing(temporary / LISTING, [clip for clip, _, _ in plan])
            delete(root)

    def _write_recordings(self, folder: Path, plan: list[tuple[Clip, int, int]], progress: Progress) -> None:
        import soundfile

        def write_recording(clip: Clip, source: int, take: int) -> None:
            samples = synthesis.synthesise(
                clip.label, self.seed, source, take, duration_s=self.duration_s, sample_rate_hz=RATE_HZ
            )
            soundfile.write(folder / clip.file, samples, RATE_HZ, subtype="PCM_16")

        with ThreadPoolExecutor(core_count()) as pool:
            futures = [pool.submit(write_recording, *line) for line in plan]
            try:
                for done, future in enumerate(as_completed(futures), 1):
                    future.result()
                    progress(done, len(plan), "synthesising clips")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _write_listing(self, path: Path, clips: list[Clip]) -> None:
        path.parent.mkdir(parents=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for clip in clips:
                fold, source, take, target = clip.id.split("-")
                writer.writerow([Path(clip.file).name, fold, target, clip.label, True, source, take])
