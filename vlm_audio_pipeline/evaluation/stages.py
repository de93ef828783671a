"""The summaries of a study as stages: metrics of a classifier, the leaderboard, and the contrasts.

What belongs here: what summaries read and when they change. What does not: any counting (`metrics`, `leaderboard`, `contrasts`).
Summaries take the folds that exist and say what is missing; nothing of one classifier stops another.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from vlm_audio_pipeline.classifiers.base import Sample
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.contrast_results import Evidence, contrasts_table
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.evaluation.leaderboard import Entry, leaderboard_table
from vlm_audio_pipeline.evaluation.metrics import confusion_table, metrics_table
from vlm_audio_pipeline.evaluation.reliability import reliability_table
from vlm_audio_pipeline.storage.schemas import TABLES

Asked = Mapping[str, tuple[str, tuple[int, ...], Callable[[], str | None]]]
"""Classifier -> (kind, folds it is to be asked about, says why it cannot run now or None)."""


def metrics_stage(classifier_name: str, folds: tuple[int, ...], tuning_folds: tuple[int, ...]) -> Stage:
    """Give the stage that counts one classifier's predictions over all folds that exist.

    Args:
        classifier_name: its name in the study.
        folds: the dataset's folds.
        tuning_folds: folds that choices were tuned on; those the dataset does not have are left out.
    """
    tuned = tuple(sorted(set(tuning_folds) & set(folds)))
    predictions = Input("predictions", classifier_name, folds="all", optional=True)

    def run(context: StageContext) -> dict[str, pa.Table]:
        rows = context.inputs.get(predictions.key, TABLES["predictions"].empty())
        return {
            "metrics": metrics_table(rows, context.classes, tuned),
            "confusion": confusion_table(rows, context.classes),
            "reliability": reliability_table(rows, context.classes),
        }

    return Stage(
        asset="metrics",
        tables=("metrics", "confusion", "reliability"),
        version=2,
        parameters={"tuning_folds": list(tuned)},
        inputs=(predictions,),
        run=run,
        description=f"Accuracy with its 95 % interval, F1, calibration, agreement, outlay and confusions of "
        f"'{classifier_name}', as shares of 1, s and USD, over all clips and by fold.",
        per_fold=False,
    )


def leaderboard_stage(
    classifiers: Asked,
    tuning_folds: tuple[int, ...],
    limited: bool,
    passes: Mapping[str, tuple[int, Sample | None]] | None = None,
) -> Stage:
    """Give the stage that sums up all classifiers.

    Why a classifier could not be run is asked when the stage runs and does not enter its parameters: weights that
    arrive make predictions, and those make the leaderboard anew.

    Args:
        classifiers: those of the study.
        tuning_folds: folds that choices were tuned on; those the dataset does not have are left out.
        limited: whether the run takes only some clips.
        passes: of those asked clip by clip: trials, and the sample asked about (None: every clip of the folds).
    """

    def _asked(name: str, wanted: tuple[int, ...], clips: Sequence[Clip]) -> int | None:
        if name not in (passes or {}):
            return None
        trials, sample = (passes or {})[name]
        there = Counter(clip.fold for clip in clips)
        return trials * sum(there[f] if sample is None else min(there[f], sample.share(wanted, f)) for f in wanted)

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips, rejected = _usable(context)
        entries = [
            Entry(
                name,
                kind,
                context.inputs.get(f"predictions/{name}"),
                wanted,
                unavailable(),
                _asked(name, wanted, clips),
            )
            for name, (kind, wanted, unavailable) in classifiers.items()
        ]
        table = leaderboard_table(
            entries,
            clips=clips,
            rejected_clips=rejected,
            classes=context.classes,
            tuning_folds=tuple(sorted(set(tuning_folds) & set(context.dataset.folds))),
            limited=limited,
        )
        return {"leaderboard": table}

    return Stage(
        asset="leaderboard",
        tables=("leaderboard",),
        version=5,
        parameters={
            "classifiers": {name: [kind, list(wanted)] for name, (kind, wanted, _) in classifiers.items()},
            "tuning_folds": sorted(tuning_folds),
            "limited": limited,
            "passes": {n: [trials, sample and sample.clips] for n, (trials, sample) in sorted((passes or {}).items())},
        },
        inputs=(
            Input("clips", folds="all", optional=True),
            *(Input("predictions", name, folds="all", optional=True) for name in classifiers),
        ),
        run=run,
        description="Every classifier, scoring and control with its accuracy as a share of 1, its 95 % interval and its "
        "denominators, beside chance and majority; what was not run says why.",
        per_fold=False,
    )


def contrasts_stage(
    contrasts: Sequence[Contrast], classifiers: Asked, folds: tuple[int, ...], tuning_folds: tuple[int, ...]
) -> Stage:
    """Give the stage that makes the comparisons a study declares.

    Args:
        contrasts: as declared.
        classifiers: those of the study; the ones that contrasts mention are read.
        folds: the dataset's folds.
        tuning_folds: folds that choices were tuned on; those the dataset does not have are left out.
    """
    names = [n for n in dict.fromkeys(n for c in contrasts for n in c.mentioned()) if n in classifiers]
    tuned = tuple(sorted(set(tuning_folds) & set(folds)))

    def not_run(name: str) -> str:
        if name not in classifiers:
            return "the study has no such classifier"
        return classifiers[name][2]() or "no predictions with today's settings yet"

    def run(context: StageContext) -> dict[str, pa.Table]:
        read = {name: context.inputs.get(f"predictions/{name}") for name in names}
        evidence = Evidence(
            predictions={name: rows for name, rows in read.items() if rows is not None and rows.num_rows},
            not_run=not_run,
            clips=_usable(context)[0],
            classes=len(context.classes),
            tuning_folds=tuned,
        )
        return {"contrasts": contrasts_table(contrasts, evidence)}

    return Stage(
        asset="contrasts",
        tables=("contrasts",),
        version=2,
        parameters={
            "contrasts": [contrast.model_dump(mode="json") for contrast in contrasts],
            "classifiers": names,
            "tuning_folds": list(tuned),
        },
        inputs=(
            Input("clips", folds="all", optional=True),
            *(Input("predictions", name, folds="all", optional=True) for name in names),
        ),
        run=run,
        description="The comparisons declared in advance, on the clips both sides have: difference as a share of 1 with "
        "its 95 % interval, sign-flip test by source after Holm, and the verdict in words.",
        per_fold=False,
    )


def _usable(context: StageContext) -> tuple[list[Clip], int]:
    """Give the listed clips without the rejected ones, and how many these are; folds never made are listed too."""
    rejected = set(context.inputs.get("clips:rejected_clips", TABLES["rejected_clips"].empty())["clip"].to_pylist())
    return [clip for clip in context.dataset.clips if clip.id not in rejected], len(rejected)
