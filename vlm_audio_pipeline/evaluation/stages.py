"""The summaries of a study as stages: metrics of a classifier, and the leaderboard.

What belongs here: what summaries read and when they change. What does not: any counting (`metrics`, `leaderboard`).
Summaries take the folds that exist and say what is missing; nothing of one classifier stops another.
"""

from collections.abc import Callable, Mapping

import pyarrow as pa

from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.evaluation.leaderboard import Entry, leaderboard_table
from vlm_audio_pipeline.evaluation.metrics import confusion_table, metrics_table
from vlm_audio_pipeline.storage.schemas import TABLES


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
        }

    return Stage(
        asset="metrics",
        tables=("metrics", "confusion"),
        version=1,
        parameters={"tuning_folds": list(tuned)},
        inputs=(predictions,),
        run=run,
        description=f"Accuracy, F1, precision, recall and confusions of '{classifier_name}', as shares of 1, "
        "over all clips and by fold.",
        per_fold=False,
    )


def leaderboard_stage(
    classifiers: Mapping[str, tuple[str, tuple[int, ...], Callable[[], str | None]]],
    tuning_folds: tuple[int, ...],
    limited: bool,
) -> Stage:
    """Give the stage that sums up all classifiers.

    Why a classifier could not be run is asked when the stage runs and does not enter its parameters: weights that
    arrive make predictions, and those make the leaderboard anew.

    Args:
        classifiers: name -> (kind, folds it is to be asked about, says why it cannot run now or None).
        tuning_folds: folds that choices were tuned on; those the dataset does not have are left out.
        limited: whether the run takes only some clips.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        rejected = context.inputs.get("clips:rejected_clips", TABLES["rejected_clips"].empty()).num_rows
        entries = [
            Entry(name, kind, context.inputs.get(f"predictions/{name}"), wanted, unavailable())
            for name, (kind, wanted, unavailable) in classifiers.items()
        ]
        table = leaderboard_table(
            entries,
            of_clips=len(context.dataset.clips) - rejected,  # the listing knows of folds that were never made
            rejected_clips=rejected,
            classes=context.classes,
            tuning_folds=tuple(sorted(set(tuning_folds) & set(context.dataset.folds))),
            limited=limited,
        )
        return {"leaderboard": table}

    return Stage(
        asset="leaderboard",
        tables=("leaderboard",),
        version=2,
        parameters={
            "classifiers": {name: [kind, list(wanted)] for name, (kind, wanted, _) in classifiers.items()},
            "tuning_folds": sorted(tuning_folds),
            "limited": limited,
        },
        inputs=(
            Input("clips", folds="all", optional=True),
            *(Input("predictions", name, folds="all", optional=True) for name in classifiers),
        ),
        run=run,
        description="Every classifier, scoring and control with its accuracy as a share of 1 and its denominators; "
        "what was not run says why.",
        per_fold=False,
    )
