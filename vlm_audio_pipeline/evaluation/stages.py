"""Stages that summarise a study: metrics of a classifier, the leaderboard, and the contrasts.

Summaries are over the folds that exist and name what is missing; a classifier that fails does not stop the others.

Belongs here: inputs and parameters of the stages. Does not belong here: computing (`metrics`, `leaderboard`,
`contrast_results`).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from vlm_audio_pipeline.classifiers.base import ClipSample
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.contrast_results import Evidence, contrasts_table
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.evaluation.leaderboard import NO_PREDICTIONS, LeaderboardEntry, leaderboard_table
from vlm_audio_pipeline.evaluation.metrics import confusion_table, metrics_table
from vlm_audio_pipeline.evaluation.reliability import reliability_table
from vlm_audio_pipeline.storage.schemas import TABLES


@dataclass(frozen=True)
class ClassifierPlan:
    """How the study runs one classifier.

    Attributes:
        kind: its kind.
        folds: the folds it is run on.
        not_run_reason: returns why it cannot run now, or None. It is called when a stage runs and is not a parameter of
            the stage: when weights arrive, new predictions make the summaries stale.
        trials: passes over the clips; None where the number of predictions is not fixed.
        sample: the clips that it is run on; None for every clip of the folds.
    """

    kind: str
    folds: tuple[int, ...]
    not_run_reason: Callable[[], str | None]
    trials: int | None = None
    sample: ClipSample | None = None

    def expected_predictions(self, clips: Sequence[Clip]) -> int | None:
        """Return the number of predictions for each scoring and control, or None where it is not fixed."""
        if self.trials is None:
            return None
        sizes = Counter(clip.fold for clip in clips)
        shares = (
            sizes[fold] if self.sample is None else min(sizes[fold], self.sample.share(self.folds, fold))
            for fold in self.folds
        )
        return self.trials * sum(shares)


def metrics_stage(classifier_name: str, folds: tuple[int, ...], tuning_folds: tuple[int, ...]) -> Stage:
    """Return the stage that computes the measures of one classifier, over all folds that exist.

    Args:
        classifier_name: its name in the study.
        folds: the dataset's folds.
        tuning_folds: folds that choices were tuned on; those the dataset does not have are ignored.
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
        version=3,
        parameters={"tuning_folds": list(tuned)},
        inputs=(predictions,),
        run=run,
        description=f"Accuracy with its 95 % interval, F1, calibration, agreement, cost and confusion counts of "
        f"'{classifier_name}', as shares of 1, s and USD, over all clips and by fold.",
        per_fold=False,
    )


def leaderboard_stage(classifiers: Mapping[str, ClassifierPlan], tuning_folds: tuple[int, ...], limited: bool) -> Stage:
    """Return the stage that summarises all classifiers.

    Args:
        classifiers: those of the study.
        tuning_folds: folds that choices were tuned on; those the dataset does not have are ignored.
        limited: whether the run takes only some clips.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips, rejected = _usable_clips(context)
        entries = [
            LeaderboardEntry(
                name,
                plan.kind,
                context.inputs.get(f"predictions/{name}"),
                plan.folds,
                plan.not_run_reason(),
                plan.expected_predictions(clips),
            )
            for name, plan in classifiers.items()
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
        version=6,
        parameters={
            "classifiers": {name: [plan.kind, list(plan.folds)] for name, plan in classifiers.items()},
            "tuning_folds": sorted(tuning_folds),
            "limited": limited,
            "passes": {
                name: [plan.trials, plan.sample and plan.sample.clips]
                for name, plan in sorted(classifiers.items())
                if plan.trials is not None
            },
        },
        inputs=(
            Input("clips", folds="all", optional=True),
            *(Input("predictions", name, folds="all", optional=True) for name in classifiers),
        ),
        run=run,
        description="Every classifier, scoring and control with its accuracy as a share of 1, its 95 % interval and its "
        "denominators, beside chance and majority; a classifier that was not run has the reason.",
        per_fold=False,
    )


def contrasts_stage(
    contrasts: Sequence[Contrast],
    classifiers: Mapping[str, ClassifierPlan],
    folds: tuple[int, ...],
    tuning_folds: tuple[int, ...],
) -> Stage:
    """Return the stage that makes the comparisons a study declares.

    Args:
        contrasts: as declared.
        classifiers: those of the study; the stage reads the ones that contrasts mention.
        folds: the dataset's folds.
        tuning_folds: folds that choices were tuned on; those the dataset does not have are ignored.
    """
    names = [n for n in dict.fromkeys(n for c in contrasts for n in c.classifier_names()) if n in classifiers]
    tuned = tuple(sorted(set(tuning_folds) & set(folds)))

    def not_run_reason(name: str) -> str:
        if name not in classifiers:
            return "the study has no such classifier"
        return classifiers[name].not_run_reason() or NO_PREDICTIONS

    def run(context: StageContext) -> dict[str, pa.Table]:
        tables = {name: context.inputs.get(f"predictions/{name}") for name in names}
        evidence = Evidence(
            predictions={name: rows for name, rows in tables.items() if rows is not None and rows.num_rows},
            not_run_reason=not_run_reason,
            clips=_usable_clips(context)[0],
            classes=len(context.classes),
            tuning_folds=tuned,
        )
        return {"contrasts": contrasts_table(contrasts, evidence)}

    return Stage(
        asset="contrasts",
        tables=("contrasts",),
        version=3,
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


def _usable_clips(context: StageContext) -> tuple[list[Clip], int]:
    """Return the dataset's clips without the rejected ones, and the number of these; folds that were not run count too."""
    rejected = set(context.inputs.get("clips:rejected_clips", TABLES["rejected_clips"].empty())["clip"].to_pylist())
    return [clip for clip in context.dataset.clips if clip.id not in rejected], len(rejected)
