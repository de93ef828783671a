"""The chance level of a multi-label classifier: its own scores and decisions, assigned to other recordings at random.

A fixed number would not do. Average precision of random scores lies above the share of positives, the more so the fewer clips there are
(Bestgen, Exact Expected Average Precision of the Random Baseline, 2015), and F1 of random lists depends on their length. So the labels of
whole source recordings are drawn again, without replacement: what a classifier that does not use the clip would reach with the same scores.
The share of drawings that are as far from their mean is the p-value.

Belongs here: the drawings and the measures of them. Does not belong here: the other comparisons (`comparison`).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vlm_audio_pipeline.measures.uncertainty import seed_of
from vlm_audio_pipeline.tasks.multi_label.measures.arrays import LabelArrays
from vlm_audio_pipeline.tasks.multi_label.measures.decisions import f1_counts
from vlm_audio_pipeline.tasks.multi_label.measures.ranking import average_precision, ranking_precision, roc_area

DRAWINGS = 2000
_MAX_CELLS = 2_000_000
"""Maximum size of the labels that are drawn at a time; bounds memory."""


@dataclass(frozen=True)
class ChanceLevel:
    """The chance level of a measure.

    Attributes:
        value: mean of the measure over the drawings.
        p: two-sided p-value of the measure: (1 + drawings that are as far from `value`) / (1 + drawings) (Phipson and Smyth 2010).
        method: the test in words.
    """

    value: float
    p: float
    method: str


def chance_level(arrays: LabelArrays, measure: str, value: float) -> ChanceLevel:
    """Draw the labels of source recordings again, and compare the measure with its values for these labels.

    If recordings have different numbers of clips, a drawing puts the recordings in random order and assigns their clips one after
    the other, so that most neighbours stay neighbours.

    Args:
        arrays: predictions without failed requests, for which the measure is defined.
        measure: name of a measure of all classes.
        value: the measure.
    """
    clips, first, clip_of = np.unique(arrays.clip, return_index=True, return_inverse=True)
    truth, source = arrays.truth[first], np.unique(arrays.source[first], return_inverse=True)[1]
    by_source = np.argsort(source, kind="stable")
    starts = np.searchsorted(source[by_source], np.arange(source.max() + 2))
    blocks = [by_source[begin:end] for begin, end in pairwise(starts)]
    random = np.random.default_rng(seed_of(truth.astype(float), np.array([len(clips), len(blocks)], float)))
    size = max(1, _MAX_CELLS // arrays.truth.size)
    values = []
    for begin in range(0, DRAWINGS, size):
        drawn = np.empty((min(size, DRAWINGS - begin), *truth.shape), bool)
        for labels in drawn:
            labels[by_source] = truth[np.concatenate([blocks[i] for i in random.permutation(len(blocks))])]
        values.append(measure_of_truths(arrays, measure, drawn[:, clip_of]))
    drawn_values = np.concatenate(values)
    mean = float(drawn_values.mean())
    extreme = int((np.abs(drawn_values - mean) >= abs(value - mean) - 1e-12).sum())
    return ChanceLevel(mean, (1 + extreme) / (1 + DRAWINGS), f"{DRAWINGS} drawings of the labels of source recordings")


def measure_of_truths(arrays: LabelArrays, measure: str, truths: np.ndarray) -> np.ndarray:
    """Compute a measure of all classes for several labels of the same predictions.

    Args:
        arrays: n predictions; their own labels are ignored.
        measure: name of the measure.
        truths: (drawings, n, classes) bool; a class has positives in all drawings or in none.

    Returns:
        (drawings,) float64.

    Raises:
        KeyError: for the name of another measure.
    """
    values: np.ndarray
    if measure == "exact_match":
        is_right = (truths == arrays.predicted).all(axis=2) & arrays.is_decided.all(axis=1)
        values = is_right.mean(axis=1)
        return values
    if measure == "lwlrap":
        sums = [ranking_precision(truth, arrays.score) for truth in truths]
        values = np.array([precision.sum() / labels.sum() for precision, labels in sums])
        return values
    covered = np.flatnonzero(truths[0].any(axis=0))
    if measure == "f1_macro":
        numerator, denominator = f1_counts(truths[:, :, covered], arrays.predicted[:, covered]).sum(axis=2)
        values = (numerator / denominator).mean(axis=1)
        return values
    formula = {"cmap": average_precision, "auroc_macro": roc_area}[measure]
    kept = np.ones((truths.shape[1], 1), bool)
    values = np.mean([formula(truths[:, :, k].T, arrays.score[:, k], kept) for k in covered], axis=0)
    return values
