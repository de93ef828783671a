"""The summary stages of a study, over all folds: metrics, leaderboard, contrasts, analyses.

Belongs here: which stages of `evaluation` a study has. Does not belong here: what they compute.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from vlm_audio_pipeline.classifiers.base import ClassifierSpec
from vlm_audio_pipeline.contracts.stages import Stage
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.evaluation.analysis_stages import (
    embedding_quality_stage,
    history_stage,
    leakage_stage,
    projections_stage,
    published_stage,
)
from vlm_audio_pipeline.evaluation.history import PredictionSettings
from vlm_audio_pipeline.evaluation.stages import ClassifierPlan, contrasts_stage, leaderboard_stage, metrics_stage
from vlm_audio_pipeline.studies.study import Study


def summaries(
    study: Study, folds: tuple[int, ...], unavailable: Callable[[str], str | None], versions: Mapping[str, str]
) -> Iterator[tuple[str, Stage]]:
    """Yield the summary stages, each with the name of its classifier or encoder, "" for the study's own.

    Args:
        study: a checked study.
        folds: the dataset's folds.
        unavailable: returns why a classifier cannot run now, or None.
        versions: version of the predictions step, by classifier.

    Raises:
        BadStudy: when `reproduces` of a classifier names no published result.
    """
    tuning = study.dataset.tuning_folds
    for name in study.encoders:
        yield name, embedding_quality_stage(name)
        yield name, projections_stage(name)
    for name in study.classifiers:
        yield name, metrics_stage(name, folds, tuning)
    plans = {
        name: ClassifierPlan(
            kind=spec.kind,
            folds=spec.folds or folds,
            not_run_reason=partial(unavailable, name),
            trials=spec.needs().trials if spec.needs().asks_per_clip else None,
            sample=spec.sample if spec.needs().asks_per_clip else None,
        )
        for name, spec in study.classifiers.items()
    }
    yield "", leaderboard_stage(plans, tuning_folds=tuning, limited=study.limit is not None)
    if study.contrasts:
        yield "", contrasts_stage(study.contrasts, plans, folds, tuning)
    few_shot = [name for name, spec in study.classifiers.items() if spec.needs().shots]
    yield (
        "",
        leakage_stage(list(study.encoders), few_shot, cards(study), study.dataset.kind, study.dataset.card.collections),
    )
    reproductions = {
        name: (spec.reproduces, spec.kind) for name, spec in study.classifiers.items() if spec.reproduces is not None
    }
    yield "", published_stage(reproductions, study.dataset.card.published_name or study.dataset.kind)
    settings = {
        name: PredictionSettings(versions[name], _settings(study, spec)) for name, spec in study.classifiers.items()
    }
    yield "", history_stage(settings)


def cards(study: Study) -> dict[str, ModelCard]:
    """Return the model cards of a study, by encoder or classifier."""
    encoder_cards = {name: encoder.card for name, encoder in study.encoders.items()}
    own_cards = {name: classifier.needs().card for name, classifier in study.classifiers.items()}
    return encoder_cards | {name: card for name, card in own_cards.items() if card is not None}


def _settings(study: Study, spec: ClassifierSpec) -> dict[str, Any]:
    """Return the settings of a classifier, its encoder and its rendering, so that the history can name what changed."""
    needs = spec.needs()
    encoder = study.encoders.get(needs.encoder or "")
    rendering = study.renderings.get((encoder.image_rendering if encoder else needs.rendering) or "")
    specs = {"classifier": spec, "encoder": encoder, "rendering": rendering}
    return {name: used.fingerprint_fields() for name, used in specs.items() if used is not None}
