"""The class that a changed input shows, beside each prediction: a classifier that uses the input follows it."""

from collections.abc import Mapping
from types import MappingProxyType

import pyarrow as pa

from vlm_audio_pipeline.renderings.controls import choose_other_clip

NO_RENAMED_CLASSES: Mapping[int, Mapping[str, str]] = MappingProxyType({})
"""The examples of every trial have their own labels."""


def add_shown_labels(
    predictions: pa.Table, clips: pa.Table, renamed_classes: Mapping[int, Mapping[str, str]] = NO_RENAMED_CLASSES
) -> pa.Table:
    """Add the column `shown_label` to predictions of one fold.

    Under the control other_clip it is the class of the other clip. If the labels of the examples are permuted, it is the name that
    the examples give to the class. Under blank and no_image the input shows no class, and without a change it is null.

    Args:
        predictions: rows of `predictions`.
        clips: `clips` rows of every clip of the fold, from which other_clip chooses.
        renamed_classes: trial -> (class -> its name in the examples), for permuted labels.
    """
    rows = {row["clip"]: row for row in clips.select(["clip", "label", "source"]).to_pylist()}
    others: dict[str, str | None] = {}
    shown_labels: list[str | None] = []
    for clip, control, trial in zip(*(predictions[n].to_pylist() for n in ("clip", "control", "trial")), strict=True):
        label = None
        if control == "other_clip":
            if clip not in others:
                other = choose_other_clip(rows[clip], list(rows.values()))
                others[clip] = None if other is None else other["label"]
            label = others[clip]
        elif trial in renamed_classes and control in ("none", "time_shuffled"):
            label = rows[clip]["label"]
        if label is not None and trial in renamed_classes:
            label = renamed_classes[trial][label]
        shown_labels.append(label)
    return predictions.append_column("shown_label", pa.array(shown_labels, pa.string()))
