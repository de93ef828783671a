"""Notes of the leaderboard about the answers: one label for most clips, following another clip, a harmful calibration."""

from collections.abc import Iterator

import numpy as np

from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.measures.predictions import PredictionArrays

MAX_UNEXPLAINED_SHARE = 0.5
"""A label gets a note if (share of the predictions - share of the clips of its class) / (1 - share of the clips) is larger."""

MIN_PREDICTIONS = 20
"""With fewer predictions, one label is often the most frequent by chance."""


def answer_notes(predictions: PredictionArrays, control: str) -> Iterator[str]:
    """Yield the notes of one row of the leaderboard.

    Args:
        predictions: predictions of one scoring and control.
        control: the control. Under blank and no_image the same answer for all clips is expected and gets no note.
    """
    if control not in ("blank", "no_image"):
        yield from _constant_answers(predictions)
    yield from _follow_rate(predictions, control)
    yield from _harmful_calibration(predictions)


def _constant_answers(predictions: PredictionArrays) -> Iterator[str]:
    """Report a label with more predictions than its class explains.

    (share of the predictions - share of the clips) / (1 - share of the clips) is 0 if a label is as frequent as its class and 1 if
    every prediction has it, whatever the number of classes.
    """
    if len(predictions.label) < MIN_PREDICTIONS or not predictions.answered.any():
        return
    labels, counts = np.unique(predictions.predicted[predictions.answered], return_counts=True)
    top, count, total = labels[counts.argmax()], int(counts.max()), len(predictions.label)
    class_share = float((predictions.label == top).mean())
    if class_share < 1 and (count / total - class_share) / (1 - class_share) > MAX_UNEXPLAINED_SHARE:
        yield f"{count} of {total} predictions are '{top}'"


def _follow_rate(predictions: PredictionArrays, control: str) -> Iterator[str]:
    changed = predictions.shown_label != ""
    if changed.any():
        follows = int((predictions.predicted[changed] == predictions.shown_label[changed]).sum())
        target = "class of the other clip" if control == "other_clip" else "permuted label of the examples"
        yield f"{follows} of {int(changed.sum())} follow the {target}"


def _harmful_calibration(predictions: PredictionArrays) -> Iterator[str]:
    """Report folds whose accuracy contextual calibration lowers; the largest loss with its numbers."""
    before = predictions.label_before_calibration == predictions.label
    is_calibrated = predictions.label_before_calibration != ""
    losses = []
    for fold in np.unique(predictions.fold[is_calibrated]):
        rows = is_calibrated & (predictions.fold == fold)
        accuracies = float(before[rows].mean()), float(predictions.correct[rows].mean())
        losses.append((accuracies[0] - accuracies[1], int(fold), *accuracies))
    harmed = [loss for loss in losses if loss[0] > 0]
    if harmed:
        _, fold, without, with_calibration = max(harmed)
        yield (
            f"contextual calibration lowers the accuracy of {len(harmed)} of {len(losses)} folds, most in fold {fold}: "
            f"{rounded_text(without, 3)} to {rounded_text(with_calibration, 3)}"
        )
