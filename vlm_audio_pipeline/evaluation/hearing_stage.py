"""The stage that decides for every vision-language model of a study whether it can hear what it sees.

Belongs here: inputs and parameters of the stage. Does not belong here: the rule (`hearing`), the sentences
(`hearing_statements`), which classifiers of a study are models or baselines (`planning.summaries`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.evaluation.hearing import MARGIN, HearingModel, HearingStudy
from vlm_audio_pipeline.evaluation.hearing_statements import verdicts_table
from vlm_audio_pipeline.evaluation.leaderboard import NO_PREDICTIONS
from vlm_audio_pipeline.evaluation.stages import ClassifierPlan, usable_clips


@dataclass(frozen=True)
class HearingPlan:
    """How the study runs one vision-language model.

    Attributes:
        plan: its folds, trials and sample.
        shots: number of examples of each class in the prompt.
        pixels: name of the probe on the pixels of the same images; None if the study has none.
        caution: see `HearingModel`.
    """

    plan: ClassifierPlan
    shots: int
    pixels: str | None
    caution: str = ""


def verdicts_stage(
    models: Mapping[str, HearingPlan], audio: Sequence[str], tuning_folds: tuple[int, ...], limited: bool
) -> Stage:
    """Return the stage that computes the table `verdicts`.

    Args:
        models: the vision-language models of the study.
        audio: names of the classifiers on audio, in the order in which one is chosen as the audio baseline.
        tuning_folds: folds that choices were tuned on.
        limited: whether the run is limited to a part of the clips.
    """
    pixels = [model.pixels for model in models.values() if model.pixels is not None]
    baselines = list(dict.fromkeys([*audio, *pixels]))

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips, _ = usable_clips(context)

        def rows(name: str) -> pa.Table | None:
            table = context.inputs.get(f"predictions/{name}")
            return table if table is not None and table.num_rows else None

        results = [
            HearingModel(
                classifier=name,
                predictions=rows(name),
                expected=model.plan.expected_run(clips),
                not_run_reason=model.plan.not_run_reason() or NO_PREDICTIONS,
                shots=model.shots,
                pixels=model.pixels,
                caution=model.caution,
            )
            for name, model in models.items()
        ]
        study = HearingStudy(
            clips=clips,
            classes=context.classes,
            baselines={name: table for name in baselines if (table := rows(name)) is not None},
            audio=tuple(audio),
            tuning_folds=tuning_folds,
            limited=limited,
        )
        return {"verdicts": verdicts_table(results, study)}

    return Stage(
        asset="verdicts",
        tables=("verdicts",),
        version=6,
        parameters={
            "margin": MARGIN,
            "models": {
                name: [
                    list(model.plan.folds),
                    model.plan.trials,
                    model.plan.sample and model.plan.sample.clips,
                    model.shots,
                    model.pixels,
                    *([sorted(model.plan.accepted_models)] if model.plan.accepted_models else []),
                    *([{"caution": model.caution}] if model.caution else []),
                ]
                for name, model in models.items()
            },
            "order": list(models),
            "audio": list(audio),
            "tuning_folds": sorted(tuning_folds),
            "limited": limited,
        },
        inputs=(
            Input("clips", folds="all", optional=True),
            *(Input("predictions", name, folds="all", optional=True) for name in dict.fromkeys([*models, *baselines])),
        ),
        run=run,
        description="Can it hear what it sees? For each vision-language model: it can, it cannot or cannot be decided, "
        "with its accuracies as shares of 1 on images, on control images and of the audio baseline, and their tests.",
        per_fold=False,
    )
