"""The measures of the task by name, in the order in which tables show them.

To add a measure, write its formula and declare it here; the tables `multi_label_metrics` and `multi_label_leaderboard` read the declaration.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from vlm_audio_pipeline.tasks.multi_label.measures.arrays import LabelArrays
from vlm_audio_pipeline.tasks.multi_label.measures.estimates import (
    ClassMeasure,
    Estimate,
    class_average_precision,
    class_f1,
    class_roc_area,
    estimate_classes,
    estimate_exact_match,
    estimate_lwlrap,
    exact_match_values,
    lwlrap_values,
    mean_of_classes,
)

RANKING_MEASURE = "cmap"
"""The measure that ranks the leaderboard."""


@dataclass(frozen=True)
class ClassMeasureNames:
    """The names of a measure that each class has: of one class, and of the mean over classes."""

    of_class: str
    of_mean: str
    formula: ClassMeasure


CLASS_MEASURES = (
    ClassMeasureNames("ap", "cmap", class_average_precision),
    ClassMeasureNames("auroc", "auroc_macro", class_roc_area),
    ClassMeasureNames("f1", "f1_macro", class_f1),
)
CLIP_MEASURES = {"lwlrap": estimate_lwlrap, "exact_match": estimate_exact_match}
MEASURE_VALUES: Mapping[str, Callable[[LabelArrays], np.ndarray]] = {
    **{m.of_mean: partial(mean_of_classes, measure=m.formula) for m in CLASS_MEASURES},
    "lwlrap": lwlrap_values,
    "exact_match": exact_match_values,
}
"""Each measure of all classes for each selection of recordings, by name: for differences of two classifiers."""
TIE_SENSITIVE = frozenset({"cmap", "lwlrap"})
"""Measures that are lower for equal scores than, on average, for the same clips in random order."""
TITLES: Mapping[str, str] = {
    "cmap": "cmAP",
    "auroc_macro": "macro AUROC",
    "f1_macro": "macro F1",
    "lwlrap": "lwlrap",
    "exact_match": "share of exact matches",
}
"""Each measure of all classes in words."""


def estimate(arrays: LabelArrays, name: str) -> Estimate:
    """Return the estimate of one measure of all classes, by name."""
    if name in CLIP_MEASURES:
        return CLIP_MEASURES[name](arrays)
    [formula] = [m.formula for m in CLASS_MEASURES if m.of_mean == name]
    return estimate_classes(arrays, formula)[1]


def estimates(arrays: LabelArrays) -> Iterator[tuple[str, str, Estimate]]:
    """Yield every measure as (name, class, or "" for all classes, estimate)."""
    for measure in CLASS_MEASURES:
        of_classes, mean = estimate_classes(arrays, measure.formula)
        yield measure.of_mean, "", mean
        for label, estimate in zip(arrays.classes, of_classes, strict=True):
            yield measure.of_class, label, estimate
    for name, formula in CLIP_MEASURES.items():
        yield name, "", formula(arrays)
