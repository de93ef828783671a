"""Which summaries a study has: what its predictions and vectors come to, over all folds.

What belongs here: which stage of `evaluation` is made for which part of a study. What does not: what they compute.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vlm_audio_pipeline.classifiers.base import ClassifierSpec
from vlm_audio_pipeline.contracts.stages import Stage
from vlm_audio_pipeline.encoders.base import ModelCard
from vlm_audio_pipeline.evaluation.analysis_stages import (
    embedding_quality_stage,
    history_stage,
    leakage_stage,
    projections_stage,
    published_stage,
)
from vlm_audio_pipeline.evaluation.history import Made
from vlm_audio_pipeline.evaluation.stages import contrasts_stage, leaderboard_stage, metrics_stage
from vlm_audio_pipeline.studies.study import Study


def summaries(
    study: Study, folds: tuple[int, ...], why_not: Callable[[str], str | None], versions: Mapping[str, str]
) -> Iterator[tuple[str, Stage]]:
    """Give the summaries of a study, each with the name of the classifier or encoder it belongs to, "" for the study's own.

    Args:
        study: a checked study.
        folds: the dataset's folds.
        why_not: says of a classifier why it cannot run now, or None.
        versions: classifier -> version of the step that makes its predictions.

    Raises:
        BadStudy: for a classifier that reproduces nothing published.
    """
    tuning = study.dataset.tuning_folds
    for name in study.encoders:
        yield name, embedding_quality_stage(name)
        yield name, projections_stage(name)
    for name in study.classifiers:
        yield name, metrics_stage(name, folds, tuning)
    asked = {
        name: (spec.kind, spec.folds or folds, lambda name=name: why_not(name))  # type: ignore[misc]
        for name, spec in study.classifiers.items()
    }
    passes = {
        name: (len(getattr(spec, "trials", ())) or 1, spec.sample)
        for name, spec in study.classifiers.items()
        if spec.sees
    }
    yield "", leaderboard_stage(asked, tuning_folds=tuning, limited=study.limit is not None, passes=passes)
    if study.contrasts:
        yield "", contrasts_stage(study.contrasts, asked, folds, tuning)
    few_shot = [name for name, spec in study.classifiers.items() if getattr(spec, "shots", 0)]
    yield "", leakage_stage(list(study.encoders), few_shot, cards(study), study.dataset.kind)
    repeated = {
        name: (spec.reproduces, spec.kind) for name, spec in study.classifiers.items() if spec.reproduces is not None
    }
    yield "", published_stage(repeated, study.dataset.kind)
    made = {name: Made(versions[name], _settings(study, spec)) for name, spec in study.classifiers.items()}
    yield "", history_stage(made)


def cards(study: Study) -> dict[str, ModelCard]:
    """Give what is known of the models of a study, by encoder or classifier."""
    specs = (*study.encoders.items(), *study.classifiers.items())
    return {name: card for name, spec in specs if (card := getattr(spec, "card", None)) is not None}


def _settings(study: Study, spec: ClassifierSpec) -> dict[str, Any]:
    """Give a classifier and what it stands on, so that history can name what changed."""
    encoder = study.encoders.get(getattr(spec, "encoder", None) or "")
    rendering = study.renderings.get(getattr(encoder or spec, "rendering", None) or "")
    parts = {"classifier": spec, "encoder": encoder, "rendering": rendering}
    return {name: part.identity() for name, part in parts.items() if part is not None}
