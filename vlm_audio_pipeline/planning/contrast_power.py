"""The contrasts of a study before it runs: how large a difference each can show, and what a smaller one needs.

Belongs here: the sizes of a study's contrasts. Does not belong here: the arithmetic (`evaluation.power`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.classifiers.base import ClipSample
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.contrasts import Contrast, Operand
from vlm_audio_pipeline.evaluation.power import PlannedContrast, source_sizes
from vlm_audio_pipeline.evaluation.references import REFERENCES, expected_accuracy
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.studies.study import Study


@dataclass(frozen=True)
class DeclaredContrast:
    """A contrast of the study with its sizes; `sizes` is None if the sides have no clips in common."""

    classifier: str
    against: str
    sizes: PlannedContrast | None


def planned_contrasts(graph: Graph) -> list[DeclaredContrast]:
    """Return the contrasts of a study that compare accuracies, in the order declared, each once.

    The dataset must be on this machine.
    """
    study, clips = graph.study, graph.dataset().clips
    pairs = {
        (Operand.parse(c.classifier), Operand.parse(against), c.folds, c.margin): (c, against)
        for c in study.contrasts
        if c.compares_accuracy
        for against in c.against
    }
    tests = len(pairs) + sum(c.margin is not None for c, _ in pairs.values())
    declared = []
    for contrast, against in pairs.values():
        sides = [Operand.parse(text).name for text in (contrast.classifier, against)]
        common = _common_clips(study, clips, graph.folds, contrast, sides)
        needs = [study.classifiers[name].needs() for name in sides if name in study.classifiers]
        sizes = PlannedContrast(
            source_sizes=source_sizes([clip.source for clip in common]),
            trials=tuple(n.trials for n in needs),
            random_draws=tuple(n.random_draws for n in needs if n.random_draws),
            tests=tests,
            reference_accuracy=_reference_accuracy(sides[1], common, len(graph.dataset().classes)),
        )
        declared.append(DeclaredContrast(contrast.classifier, against, sizes if common else None))
    return declared


def _reference_accuracy(name: str, clips: Sequence[Clip], classes: int) -> float | None:
    """Return the expected accuracy of a reference on the clips; None for a classifier, or where it is undefined."""
    if name not in REFERENCES:
        return None
    labels, folds = np.array([clip.label for clip in clips]), np.array([clip.fold for clip in clips])
    accuracy = expected_accuracy(name, labels, folds, classes)
    return None if np.isnan(accuracy).all() else float(np.nanmean(accuracy))


def _common_clips(
    study: Study, clips: Sequence[Clip], folds: tuple[int, ...], contrast: Contrast, names: Sequence[str]
) -> list[Clip]:
    """Return the clips that every side classifies, with its folds and its sample, and without the tuning folds if declared."""
    without_folds = study.dataset.tuning_folds if contrast.folds == "without_tuning" else ()
    common: list[Clip] = []
    for fold in folds:
        fold_clips = {clip.id: clip for clip in clips if clip.fold == fold}
        table = pa.table(
            {
                "clip": list(fold_clips),
                "label": [c.label for c in fold_clips.values()],
                "fold": [fold] * len(fold_clips),
            }
        )
        if study.limit is not None:
            table = ClipSample(clips=study.limit).take(table, (fold,), fold)
        ids = set(table["clip"].to_pylist())
        for name in names:
            spec = study.classifiers.get(name)
            if spec is not None:
                is_run = fold in (spec.folds or folds)
                ids &= set(spec.queries(table, fold, folds)["clip"].to_pylist()) if is_run else set()
        if fold not in without_folds:
            common += [fold_clips[clip] for clip in sorted(ids)]
    return common
