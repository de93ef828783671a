"""Clips that were not in the training of the demo models, and their images, from the pipeline's own code."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart
from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.datasets.base import Dataset
from vlm_audio_pipeline.renderings.controls import render_blank, render_time_shuffled
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.stage import render_clip
from vlm_audio_pipeline_tests.datasets.clip_rows import typed_row


@dataclass(frozen=True)
class HeldOutClips:
    dataset: Dataset
    labels: list[str]
    images: list[bytes]
    shuffled: list[bytes]
    blank: bytes

    @classmethod
    def render(cls, dataset: Dataset, recipe: Recipe) -> "HeldOutClips":
        rows = [typed_row(dataset, c) for c in dataset.clips]
        return cls(
            dataset,
            [c.label for c in dataset.clips],
            [render_clip(dataset, row, recipe).bytes for row in rows],
            [render_time_shuffled(dataset, row, recipe).bytes for row in rows],
            render_blank(dataset, rows[0], recipe).bytes,
        )

    def audio(self, sample_rate_hz: int) -> list[np.ndarray]:
        return [self.dataset.samples(typed_row(self.dataset, c), sample_rate_hz) for c in self.dataset.clips]


def decode(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def image_part(data: bytes) -> ImagePart:
    return ImagePart(data, "image/png", digest(data))


def flip(data: bytes) -> bytes:
    """The image upside down: low frequencies on top."""
    file = io.BytesIO()
    decode(data).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(file, "PNG")
    return file.getvalue()


def accuracy(predicted: list[str], labels: list[str]) -> float:
    return float(np.mean([a == b for a, b in zip(predicted, labels, strict=True)]))
