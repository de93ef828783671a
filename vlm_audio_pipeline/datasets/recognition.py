"""Recognise the kind of dataset that a folder or file belongs to."""

from pathlib import Path

from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.datasets.guess import DatasetGuess


def recognise_dataset(path: Path) -> tuple[str, DatasetGuess] | None:
    """Return the kind of dataset and the fields that a study needs; None if no kind recognises the path.

    Kinds that know the folder are asked before general ones.

    Raises:
        BadDataset: if a kind recognises the path, but its files cannot be used.
    """
    for kind, spec in sorted(DATASETS.all().items(), key=lambda item: item[1].is_general):
        if (guess := spec.recognise(path)) is not None:
            return kind, guess
    return None
