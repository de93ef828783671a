"""Read the table `multi_label_predictions` as arrays."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.measures.predictions import ALL_CLIPS, WITHOUT_TUNING
from vlm_audio_pipeline.storage.row_order import sort_rows
from vlm_audio_pipeline.tasks.multi_label.measures.arrays import LabelArrays


def read_arrays(rows: pa.Table, classes: tuple[str, ...]) -> LabelArrays:
    """Convert `multi_label_predictions` rows of one scoring and control to arrays.

    Raises:
        VlmAudioError: for rows of other classes, which were computed when the study had other classes.
    """
    rows = sort_rows(rows, ("trial", "clip", "label"))
    labels = sorted(classes)
    found = rows["label"].to_pylist()
    n, k = len(found) // len(labels), len(labels)
    if found != labels * n:
        raise VlmAudioError(
            f"every clip must have a prediction for each of the classes {labels}, got {sorted(set(found))} in {len(found)} rows; run "
            "the study again"
        )
    order = [labels.index(label) for label in classes]

    def matrix(values: np.ndarray) -> np.ndarray:
        return values.reshape(n, k)[:, order]

    def of_clip(name: str) -> list[object]:
        values: list[object] = rows[name].to_pylist()
        return values[::k]

    return LabelArrays(
        truth=matrix(np.array(rows["truth"].to_pylist(), bool)),
        score=matrix(np.array(pc.cast(rows["score"], pa.float64()).to_numpy(), float)),
        predicted=matrix(np.array(pc.fill_null(rows["predicted"], False).to_pylist(), bool)),
        outcome=matrix(np.array(rows["outcome"].to_pylist(), str)),
        is_decided=matrix(np.array(pc.is_valid(rows["predicted"]).to_pylist(), bool)),
        clip=np.array(of_clip("clip"), str),
        source=np.array(of_clip("source"), str),
        fold=np.array(of_clip("fold"), int),
        classes=classes,
    )


def label_subsets(arrays: LabelArrays, tuning_folds: tuple[int, ...]) -> Iterator[tuple[str, LabelArrays]]:
    """Yield the subsets of clips that measures are computed on: all clips, each fold, and all clips outside tuning folds.

    The last subset is yielded only when there are tuning folds.
    """
    yield ALL_CLIPS, arrays
    for fold in np.unique(arrays.fold):
        yield f"fold {fold}", arrays.select(arrays.fold == fold)
    if tuning_folds:
        yield WITHOUT_TUNING, arrays.select(~np.isin(arrays.fold, tuning_folds))
