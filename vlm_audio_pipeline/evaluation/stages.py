"""Stages that summarise a study: metrics of a classifier, the leaderboard, and the contrasts.

Summaries cover the folds that exist and name the missing folds. A classifier that fails does not stop the others.

Belongs here: inputs and parameters of the stages. Does not belong here: the computations (`metrics`, `leaderboard`,
`contrast_results`).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.classifiers.base import ClipSample
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.completeness import ExpectedRun, rows_of_one_model
from vlm_audio_pipeline.evaluation.contrast_results import ContrastData, contrasts_table
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
        trials: number of passes over the clips; None if the number of predictions is not fixed.
        sample: the clips that it is run on; None for every clip of the folds.
        accepted_models: see `ExpectedRun`.
    """

    kind: str
    folds: tuple[int, ...]
    not_run_reason: Callable[[], str | None]
    trials: int | None = None
    sample: ClipSample | None = None
    accepted_models: tuple[str, ...] | None = None

    def expected_run(self, clips: Sequence[Clip]) -> ExpectedRun:
        """Return the number of predictions of each fold, for each scoring and control.

        Args:
            clips: usable clips of the dataset.
        """
        sizes = Counter(clip.fold for clip in clips)
        predictions = {fold: self._predictions_in_fold(fold, sizes[fold]) for fold in self.folds}
        return ExpectedRun(predictions, self.accepted_models)

    def _predictions_in_fold(self, fold: int, clips: int) -> int | None:
        if self.trials is None:
            return None
        return self.trials * (clips if self.sample is None else min(clips, self.sample.clips_in_fold(self.folds, fold)))

    def expected_predictions(self, clips: Sequence[Clip]) -> int | None:
        """Return the number of predictions for each scoring and control, or None if it is not fixed."""
        if self.trials is None:
            return None
        return sum(n or 0 for n in self.expected_run(clips).predictions_of_fold.values())


def metrics_stage(
    classifier_name: str,
    folds: tuple[int, ...],
    tuning_folds: tuple[int, ...],
    accepted_models: tuple[str, ...] | None = None,
) -> Stage:
    """Return the stage that computes the measures of one classifier, over all folds that exist.

    Args:
        classifier_name: its name in the study.
        folds: the dataset's folds.
        tuning_folds: folds that choices were tuned on; those the dataset does not have are ignored.
        accepted_models: see `Stage.accepted_models`.
    """
    dataset_tuning_folds = tuple(sorted(set(tuning_folds) & set(folds)))
    predictions = Input("predictions", classifier_name, folds="all", optional=True)

    def run(context: StageContext) -> dict[str, pa.Table]:
        rows = context.inputs.get(predictions.key, TABLES["predictions"].empty_table())
        one_model_rows = rows_of_one_model(rows, accepted_models)
        return {
            "metrics": metrics_table(rows, context.classes, dataset_tuning_folds, accepted_models),
            "confusion": confusion_table(one_model_rows, context.classes),
            "reliability": reliability_table(one_model_rows, context.classes),
        }

    return Stage(
        asset="metrics",
        tables=("metrics", "confusion", "reliability"),
        version=7,
        parameters={
            "tuning_folds": list(dataset_tuning_folds),
            **({"accepted_models": sorted(accepted_models)} if accepted_models else {}),
        },
        inputs=(predictions,),
        run=run,
        description=f"Accuracy with its 95 % interval, F1, calibration, agreement, cost and confusion counts of "
        f"'{classifier_name}', as shares of 1, s and USD, over all clips and by fold.",
        per_fold=False,
        accepted_models=accepted_models,
    )


def leaderboard_stage(classifiers: Mapping[str, ClassifierPlan], tuning_folds: tuple[int, ...], limited: bool) -> Stage:
    """Return the stage that summarises all classifiers.

    Args:
        classifiers: the classifiers of the study.
        tuning_folds: folds that choices were tuned on; those the dataset does not have are ignored.
        limited: whether the run is limited to a part of the clips.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips, rejected = usable_clips(context)
        entries = [
            LeaderboardEntry(
                name,
                plan.kind,
                context.inputs.get(f"predictions/{name}"),
                plan.folds,
                plan.not_run_reason(),
                plan.expected_predictions(clips),
                plan.accepted_models,
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
        version=13,
        parameters={
            "classifiers": {name: [plan.kind, list(plan.folds)] for name, plan in classifiers.items()},
            "tuning_folds": sorted(tuning_folds),
            "limited": limited,
            **completeness_parameters(classifiers),
        },
        inputs=(
            Input("clips", folds="all", optional=True),
            *(Input("predictions", name, folds="all", optional=True) for name in classifiers),
        ),
        run=run,
        description="Every classifier, scoring and control with its accuracy as a share of 1, its 95 % interval and its "
        "denominators, beside chance and majority; a classifier that was not run has a row with the reason.",
        per_fold=False,
    )


def contrasts_stage(
    contrasts: Sequence[Contrast],
    classifiers: Mapping[str, ClassifierPlan],
    folds: tuple[int, ...],
    tuning_folds: tuple[int, ...],
    limited: bool,
) -> Stage:
    """Return the stage that computes the comparisons that a study declares.

    Args:
        contrasts: as declared.
        classifiers: the classifiers of the study; the stage reads those that contrasts name.
        folds: the dataset's folds.
        tuning_folds: folds that choices were tuned on; those the dataset does not have are ignored.
        limited: whether the run is limited to a part of the clips.
    """
    names = [n for n in dict.fromkeys(n for c in contrasts for n in c.classifier_names()) if n in classifiers]
    dataset_tuning_folds = tuple(sorted(set(tuning_folds) & set(folds)))

    def not_run_reason(name: str) -> str:
        if name not in classifiers:
            return "the study has no such classifier"
        return classifiers[name].not_run_reason() or NO_PREDICTIONS

    def run(context: StageContext) -> dict[str, pa.Table]:
        tables = {name: context.inputs.get(f"predictions/{name}") for name in names}
        clips = usable_clips(context)[0]
        data = ContrastData(
            predictions={name: rows for name, rows in tables.items() if rows is not None and rows.num_rows},
            not_run_reason=not_run_reason,
            clips=clips,
            classes=context.classes,
            tuning_folds=dataset_tuning_folds,
            expected={name: classifiers[name].expected_run(clips) for name in names},
            limited=limited,
        )
        return {"contrasts": contrasts_table(contrasts, data)}

    return Stage(
        asset="contrasts",
        tables=("contrasts",),
        version=11,
        parameters={
            "contrasts": [contrast.model_dump(mode="json") for contrast in contrasts],
            "classifiers": names,
            "tuning_folds": list(dataset_tuning_folds),
            "limited": limited,
            **completeness_parameters({name: classifiers[name] for name in names}),
        },
        inputs=(
            Input("clips", folds="all", optional=True),
            *(Input("predictions", name, folds="all", optional=True) for name in names),
        ),
        run=run,
        description="The comparisons declared in advance, on the common clips of both sides: difference as a share of 1 with "
        "its 95 % interval, tests by source recording after Holm, and the verdict in words.",
        per_fold=False,
    )


def completeness_parameters(classifiers: Mapping[str, ClassifierPlan]) -> dict[str, Any]:
    """Return the values on which the completeness of a run depends, as stage parameters."""
    accepted = {name: sorted(plan.accepted_models) for name, plan in classifiers.items() if plan.accepted_models}
    return {
        **({"accepted_models": accepted} if accepted else {}),
        "passes": {
            name: [list(plan.folds), plan.trials, plan.sample and plan.sample.clips]
            for name, plan in sorted(classifiers.items())
        },
    }


def usable_clips(context: StageContext) -> tuple[list[Clip], int]:
    """Return the usable clips of all folds of the dataset, also of folds that were not run, and the number of rejected clips."""
    rejected = set(
        context.inputs.get("clips:rejected_clips", TABLES["rejected_clips"].empty_table())["clip"].to_pylist()
    )
    return [clip for clip in context.dataset.clips if clip.id not in rejected], len(rejected)
