"""The reference of the task: a constant score, which does not depend on the clip."""

from collections.abc import Sequence

import numpy as np

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.tasks.multi_label.measures.arrays import LabelArrays

CONSTANT = "constant"
"""Name of the reference with the same score for every clip and class. Its cmAP is the mean share of positives."""


def constant_arrays(clips: Sequence[Clip], classes: tuple[str, ...]) -> LabelArrays:
    """Return the scores of the reference, in the order of the ids of the clips; it has no decisions."""
    ordered = sorted(clips, key=lambda clip: clip.id)
    truth = np.array([[label in clip.class_names for label in classes] for clip in ordered], bool)
    truth = truth.reshape(len(ordered), len(classes))  # without clips, too
    return LabelArrays(
        truth=truth,
        score=np.zeros(truth.shape),
        predicted=np.zeros(truth.shape, bool),
        outcome=np.full(truth.shape, "answered"),
        is_decided=np.zeros(truth.shape, bool),
        clip=np.array([clip.id for clip in ordered], str),
        source=np.array([clip.source for clip in ordered], str),
        fold=np.array([clip.fold for clip in ordered], int),
        classes=classes,
    )
