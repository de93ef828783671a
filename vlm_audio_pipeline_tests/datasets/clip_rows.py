"""Rows of the table `clips`, measured from recordings as the `clips` stage does."""

import json
from typing import Any

from vlm_audio_pipeline.datasets.base import Clip, ClipRow, Dataset
from vlm_audio_pipeline.datasets.inspection import inspect


def clip_row(dataset: Dataset, clip: Clip) -> dict[str, Any]:
    return {
        "clip": clip.id,
        "label": clip.label,
        "fold": clip.fold,
        "source": clip.source,
        "file": clip.file,
        "start_s": clip.start_s,
        "end_s": clip.end_s,
        **json.loads(inspect(dataset.root / clip.file, clip.start_s, clip.end_s)),
    }


def typed_row(dataset: Dataset, clip: Clip) -> ClipRow:
    return ClipRow.from_row(clip_row(dataset, clip))
