"""Stages of the task: the labels of the clips, metrics of a classifier, results of recordings, the leaderboard, and contrasts.

Belongs here: inputs and parameters of the stages. Does not belong here: the computations (`metrics`, `leaderboard`,
`contrast_results`, `pooling`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.datasets.clip_events import list_clip_events
from vlm_audio_pipeline.evaluation.completeness import ExpectedRun
from vlm_audio_pipeline.evaluation.leaderboard import NO_PREDICTIONS, LeaderboardEntry
from vlm_audio_pipeline.evaluation.stages import ClassifierPlan, completeness_parameters, usable_clips
from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.tasks.multi_label.contrast_results import LabelContrastData, label_contrasts_table
from vlm_audio_pipeline.tasks.multi_label.contrasts import LabelContrast
from vlm_audio_pipeline.tasks.multi_label.leaderboard import label_leaderboard_table
from vlm_audio_pipeline.tasks.multi_label.metrics import label_metrics_table
from vlm_audio_pipeline.tasks.multi_label.pooling import Pooling, recordings_table


def add_label_tables(stage: Stage) -> Stage:
    """Add the tables `clip_labels` and `clip_events` to the stage of `clips`.

    Args:
        stage: the stage that computes `clips`.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        tables = stage.run(context)
        clips = set(tables["clips"]["clip"].to_pylist())
        listed = [clip for clip in context.dataset.clips if clip.id in clips]
        lines = [{"clip": clip.id, "label": label} for clip in listed for label in clip.class_names]
        events = list(list_clip_events(listed, context.dataset.events, context.classes))
        return {
            **tables,
            "clip_labels": build_rows("clip_labels", lines, added_columns=("study", "fold")),
            "clip_events": build_rows("clip_events", events, added_columns=("study", "fold")),
        }

    return replace(stage, tables=(*stage.tables, "clip_labels", "clip_events"), run=run)


def label_metrics_stage(classifier_name: str, folds: tuple[int, ...], tuning_folds: tuple[int, ...]) -> Stage:
    """Return the stage that computes the measures of one classifier, over all folds that exist.

    Args:
        classifier_name: its name in the study.
        folds: the dataset's folds.
        tuning_folds: folds that choices were tuned on; those the dataset does not have are ignored.
    """
    dataset_tuning_folds = tuple(sorted(set(tuning_folds) & set(folds)))
    predictions = Input("predictions", classifier_name, folds="all", optional=True)

    def run(context: StageContext) -> dict[str, pa.Table]:
        rows = context.inputs.get(predictions.key, TABLES["multi_label_predictions"].empty_table())
        return {"multi_label_metrics": label_metrics_table(rows, context.classes, dataset_tuning_folds)}

    return Stage(
        asset="metrics",
        tables=("multi_label_metrics",),
        version=2,
        parameters={"tuning_folds": list(dataset_tuning_folds)},
        inputs=(predictions,),
        run=run,
        description=f"Average precision, ROC area and F1 of '{classifier_name}' for each class and over all classes, lwlrap and exact "
        "match, as shares of 1 with 95 % intervals by source recording, over all clips and by fold.",
        per_fold=False,
    )


def recordings_stage(classifier_name: str, plan: ClassifierPlan, poolings: tuple[Pooling, ...], limited: bool) -> Stage:
    """Return the stage that computes the measures of whole recordings of one classifier.

    Args:
        classifier_name: its name in the study.
        plan: how the study runs it.
        poolings: the poolings of the study.
        limited: whether the run is limited to a part of the clips.
    """
    predictions = Input("predictions", classifier_name, folds="all", optional=True)

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips = usable_clips(context)[0]
        table = recordings_table(
            context.inputs.get(predictions.key, TABLES["multi_label_predictions"].empty_table()),
            poolings,
            classifier=classifier_name,
            kind=plan.kind,
            expected=expected_label_run(plan, clips, len(context.classes)),
            clips=clips,
            classes=context.classes,
            limited=limited,
        )
        return {"multi_label_recordings": table}

    return Stage(
        asset="recordings",
        tables=("multi_label_recordings",),
        version=1,
        parameters={
            "poolings": list(poolings),
            "limited": limited,
            **completeness_parameters({classifier_name: plan}),
        },
        inputs=(Input("clips", folds="all", optional=True), predictions),
        run=run,
        description=f"Measures of '{classifier_name}' for whole recordings, whose segments are pooled by {', '.join(poolings)}.",
        per_fold=False,
    )


def label_leaderboard_stage(classifiers: Mapping[str, ClassifierPlan], limited: bool) -> Stage:
    """Return the stage that summarises all classifiers.

    Args:
        classifiers: the classifiers of the study.
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
        table = label_leaderboard_table(
            entries, clips=clips, rejected_clips=rejected, classes=context.classes, limited=limited
        )
        return {"multi_label_leaderboard": table}

    return Stage(
        asset="leaderboard",
        tables=("multi_label_leaderboard",),
        version=4,
        parameters={
            "classifiers": {name: [plan.kind, list(plan.folds)] for name, plan in classifiers.items()},
            "limited": limited,
            **completeness_parameters(classifiers),
        },
        inputs=(
            Input("clips", folds="all", optional=True),
            *(Input("predictions", name, folds="all", optional=True) for name in classifiers),
        ),
        run=run,
        description="Every classifier, scoring and control with its mean average precision over classes and other measures, their "
        "95 % intervals and denominators; a classifier that was not run has a row with the reason.",
        per_fold=False,
    )


def label_contrasts_stage(
    contrasts: Sequence[LabelContrast],
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
    names = list(dict.fromkeys(n for c in contrasts for n in c.classifier_names()))
    dataset_tuning_folds = tuple(sorted(set(tuning_folds) & set(folds)))

    def run(context: StageContext) -> dict[str, pa.Table]:
        tables = {name: context.inputs.get(f"predictions/{name}") for name in names}
        clips = usable_clips(context)[0]
        data = LabelContrastData(
            predictions={name: rows for name, rows in tables.items() if rows is not None and rows.num_rows},
            not_run_reason=lambda name: classifiers[name].not_run_reason() or NO_PREDICTIONS,
            classes=context.classes,
            tuning_folds=dataset_tuning_folds,
            expected={name: expected_label_run(classifiers[name], clips, len(context.classes)) for name in names},
            limited=limited,
        )
        return {"multi_label_contrasts": label_contrasts_table(contrasts, data)}

    return Stage(
        asset="contrasts",
        tables=("multi_label_contrasts",),
        version=1,
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
        description="The comparisons declared in advance, on the common clips of both sides: difference of a measure with its 95 % "
        "interval, tests by source recording after Holm, and the verdict in words.",
        per_fold=False,
    )


def expected_label_run(plan: ClassifierPlan, clips: Sequence[Clip], classes: int) -> ExpectedRun:
    """Return the number of predictions of each fold: one for each pass, clip and class."""
    run = plan.expected_run(clips)
    counts = {fold: None if n is None else n * classes for fold, n in run.predictions_of_fold.items()}
    return replace(run, predictions_of_fold=counts)
