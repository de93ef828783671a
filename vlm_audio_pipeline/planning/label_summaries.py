"""The summary stages of a multi-label study, over all folds: metrics, leaderboard, leakage, contrasts."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from vlm_audio_pipeline.contracts.stages import Stage
from vlm_audio_pipeline.evaluation.analysis_stages import leakage_stage
from vlm_audio_pipeline.evaluation.stages import ClassifierPlan
from vlm_audio_pipeline.planning.summaries import cards
from vlm_audio_pipeline.studies.study import Study
from vlm_audio_pipeline.tasks.multi_label.contrasts import LabelContrast
from vlm_audio_pipeline.tasks.multi_label.stages import (
    label_contrasts_stage,
    label_leaderboard_stage,
    label_metrics_stage,
    recordings_stage,
)


def label_summaries(
    study: Study,
    folds: tuple[int, ...],
    unavailable: Callable[[str], str | None],
    versions: Mapping[str, str],  # noqa: ARG001  # of the interface; the task has no history yet
) -> Iterator[tuple[str, Stage]]:
    """Yield the summary stages, each with the name of its classifier; "" for a stage of the whole study.

    Args:
        study: a checked study.
        folds: the dataset's folds.
        unavailable: returns why a classifier cannot run now, or None.
        versions: version of the predictions step, by classifier.
    """
    for name in study.classifiers:
        yield name, label_metrics_stage(name, folds, study.dataset.tuning_folds)
    plans = {
        name: ClassifierPlan(
            kind=spec.kind,
            folds=spec.folds or folds,
            not_run_reason=partial(unavailable, name),
            trials=spec.needs().trials,
            sample=spec.sample,
            accepted_models=spec.needs().accepted_models,
        )
        for name, spec in study.classifiers.items()
    }
    if study.pooling:
        for name, plan in plans.items():
            yield name, recordings_stage(name, plan, study.pooling, limited=study.limit is not None)
    yield "", label_leaderboard_stage(plans, limited=study.limit is not None)
    few_shot = [name for name, spec in study.classifiers.items() if spec.needs().shots]
    card = study.dataset.card
    yield "", leakage_stage(list(study.encoders), few_shot, cards(study), study.dataset.kind, card.collections)
    contrasts = [contrast for contrast in study.contrasts if isinstance(contrast, LabelContrast)]
    if contrasts:
        yield (
            "",
            label_contrasts_stage(contrasts, plans, folds, study.dataset.tuning_folds, limited=study.limit is not None),
        )
