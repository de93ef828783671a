"""Clips and their pictures, through the pipeline's own reader and renderer."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vlm_audio_pipeline.classifiers.language_models.messages import Picture
from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.datasets.base import Dataset
from vlm_audio_pipeline.renderings.controls import blank, time_shuffled
from vlm_audio_pipeline.renderings.recipe import Recipe


@dataclass(frozen=True)
class Unseen:
    dataset: Dataset
    labels: list[str]
    pictures: list[bytes]
    shuffled: list[bytes]
    blank: bytes

    @classmethod
    def drawn(cls, dataset: Dataset, recipe: Recipe) -> "Unseen":
        rows = [
            {"clip": c.id, "file": c.file, "start_s": None, "end_s": None, "rate_hz": 44100, "duration_s": 5.0}
            for c in dataset.clips
        ]
        return cls(
            dataset,
            [c.label for c in dataset.clips],
            [recipe.draw(dataset, row).bytes for row in rows],
            [time_shuffled(dataset, row, recipe).bytes for row in rows],
            blank(dataset, rows[0], recipe).bytes,
        )

    def sounds(self, rate_hz: int) -> list[np.ndarray]:
        return [self.dataset.load(c.file, rate_hz) for c in self.dataset.clips]


def rgb(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as opened:
        return opened.convert("RGB")


def sent(data: bytes) -> Picture:
    return Picture(data, "image/png", digest(data))


def flipped(data: bytes) -> bytes:
    """The picture upside down: low frequencies on top."""
    file = io.BytesIO()
    rgb(data).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(file, "PNG")
    return file.getvalue()


def accuracy(said: list[str], labels: list[str]) -> float:
    return float(np.mean([a == b for a, b in zip(said, labels, strict=True)]))
