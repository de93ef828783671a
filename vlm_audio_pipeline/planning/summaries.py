"""The summary stages of a study, over all folds: metrics, leaderboard, contrasts, analyses.

Belongs here: the choice of the `evaluation` stages of a study. Does not belong here: their computation.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from vlm_audio_pipeline.classifiers.base import ClassifierSpec
from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel
from vlm_audio_pipeline.contracts.hashing import canonical_json
from vlm_audio_pipeline.contracts.stages import Stage
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.evaluation.analysis_stages import (
    embedding_comparisons_stage,
    embedding_quality_stage,
    history_stage,
    leakage_stage,
    projections_stage,
    published_stage,
)
from vlm_audio_pipeline.evaluation.hearing_stage import HearingPlan, verdicts_stage
from vlm_audio_pipeline.evaluation.history import PredictionSettings
from vlm_audio_pipeline.evaluation.optional_analysis_stages import (
    item_response_stage,
    rendering_effects_stage,
    variance_components_stage,
)
from vlm_audio_pipeline.evaluation.published import Reproduction
from vlm_audio_pipeline.evaluation.stages import ClassifierPlan, contrasts_stage, leaderboard_stage, metrics_stage
from vlm_audio_pipeline.evaluation.trial_variance import TrialDesign
from vlm_audio_pipeline.studies.study import Study


def summaries(
    study: Study, folds: tuple[int, ...], unavailable: Callable[[str], str | None], versions: Mapping[str, str]
) -> Iterator[tuple[str, Stage]]:
    """Yield the summary stages, each with the name of its classifier or encoder; "" for a stage of the whole study.

    Args:
        study: a checked study.
        folds: the dataset's folds.
        unavailable: returns why a classifier cannot run now, or None.
        versions: version of the predictions step, by classifier.

    Raises:
        BadStudy: if `reproduces` of a classifier is not the name of a published result.
    """
    tuning = study.dataset.tuning_folds
    for name in study.encoders:
        yield name, embedding_quality_stage(name)
        yield name, projections_stage(name, study.projection)
    if len(study.encoders) > 1:
        yield "", embedding_comparisons_stage(list(study.encoders), limited=study.limit is not None)
    for name in study.classifiers:
        yield name, metrics_stage(name, folds, tuning, study.classifiers[name].needs().accepted_models)
    plans = {
        name: ClassifierPlan(
            kind=spec.kind,
            folds=spec.folds or folds,
            not_run_reason=partial(unavailable, name),
            trials=None if spec.needs().annotations else spec.needs().trials,
            sample=None if spec.needs().annotations else spec.sample,
            accepted_models=spec.needs().accepted_models,
        )
        for name, spec in study.classifiers.items()
    }
    yield "", leaderboard_stage(plans, tuning_folds=tuning, limited=study.limit is not None)
    if study.contrasts:
        yield "", contrasts_stage(study.contrasts, plans, folds, tuning, limited=study.limit is not None)
    if models := vision_language_models(study, plans):
        models = {name: replace(plan, caution=caution(study, name)) for name, plan in models.items()}
        yield "", verdicts_stage(models, audio_classifiers(study), tuning, limited=study.limit is not None)
    yield from _optional_analyses(study)
    few_shot = [name for name, spec in study.classifiers.items() if spec.needs().shots]
    yield (
        "",
        leakage_stage(list(study.encoders), few_shot, cards(study), study.dataset.kind, study.dataset.card.collections),
    )
    if reproductions := published_reproductions(study):
        yield "", published_stage(reproductions, study.dataset.card.published_name or study.dataset.kind)
    settings = {
        name: PredictionSettings(versions[name], _settings(study, spec), spec.needs().accepted_models)
        for name, spec in study.classifiers.items()
    }
    yield "", history_stage(settings)


def _optional_analyses(study: Study) -> Iterator[tuple[str, Stage]]:
    """Yield the stages of the analyses that the study declares."""
    accepted = {name: spec.needs().accepted_models for name, spec in study.classifiers.items()}
    if "variance_components" in study.analyses:
        models = {name: spec for name, spec in study.classifiers.items() if isinstance(spec, LanguageModel)}
        yield "", variance_components_stage({name: _trial_design(spec) for name, spec in models.items()}, accepted)
    if "rendering_effects" in study.analyses:
        yield "", rendering_effects_stage(rendering_groups(study), accepted)
    if "item_response" in study.analyses:
        yield "", item_response_stage(list(study.classifiers), accepted)


def _trial_design(spec: LanguageModel) -> TrialDesign:
    is_ranked = spec.select in ("medoid", "diverse")
    return TrialDesign(
        spec.draws, spec.orders, spec.paraphrases, spec.repeats, ranked_draws=spec.select if is_ranked else None
    )


def rendering_groups(study: Study) -> dict[str, dict[str, str]]:
    """Return the classifiers that differ only in the rendering: name of the first -> rendering -> classifier."""
    groups: dict[str, dict[str, str]] = {}
    for name, spec in study.classifiers.items():
        needs = spec.needs()
        encoder = study.encoders.get(needs.encoder or "")
        settings = {"kind": spec.kind, **spec.fingerprint_fields(), "rendering": None}
        rendering = needs.rendering
        if rendering is None and encoder is not None and encoder.image_rendering:
            rendering = encoder.image_rendering
            settings["encoder"] = {"kind": encoder.kind, **encoder.fingerprint_fields(), "rendering": None}
        if rendering is not None:
            groups.setdefault(canonical_json(settings), {}).setdefault(rendering, name)
    return {next(iter(group.values())): group for group in groups.values() if len(group) > 1}


def vision_language_models(study: Study, plans: Mapping[str, ClassifierPlan]) -> dict[str, HearingPlan]:
    """Return the language models of a study that receive images, each with the probe on the pixels of its rendering."""
    pixels: dict[str | None, str] = {}
    for name, spec in study.classifiers.items():
        encoder = study.encoders.get(spec.needs().encoder or "")
        is_image = encoder is not None and encoder.kind == "pixels" and getattr(encoder, "content", "") == "image"
        if spec.kind == "probe" and encoder is not None and is_image:
            pixels.setdefault(encoder.image_rendering, name)
    return {
        name: HearingPlan(plans[name], needs.shots, pixels.get(needs.rendering))
        for name, spec in study.classifiers.items()
        if (needs := spec.needs()).asks_per_clip and needs.rendering is not None
    }


def caution(study: Study, classifier: str) -> str:
    """Return why results of a language model are no finding about real models or recordings, or "" if they are."""
    card = study.classifiers[classifier].needs().card
    reasons = ["the sounds are synthetic"] if study.dataset.card.is_demonstration else []
    if card is not None and card.is_demonstration:
        reasons.append("the model was trained on synthetic sounds for this demonstration")
    return f"Demonstration, not a finding: {' and '.join(reasons)}." if reasons else ""


def audio_classifiers(study: Study) -> list[str]:
    """Return the classifiers that receive audio: first zero-shot, then language models, probes, k-NN and others.

    The order does not depend on results, so that the audio baseline of a study is not chosen by its accuracy.
    """
    kinds = ("zero_shot", "language_model", "probe", "knn")
    names = []
    for name, spec in study.classifiers.items():
        needs = spec.needs()
        encoder = study.encoders.get(needs.encoder or "")
        encodes_audio = not needs.asks_per_clip and encoder is not None and encoder.image_rendering is None
        if encodes_audio or (needs.asks_per_clip and needs.rendering is None):
            names.append(name)
    return sorted(names, key=lambda name: (*kinds, study.classifiers[name].kind).index(study.classifiers[name].kind))


def cards(study: Study) -> dict[str, ModelCard]:
    """Return the model cards of a study, by encoder or classifier."""
    encoder_cards = {name: encoder.card for name, encoder in study.encoders.items()}
    own_cards = {name: classifier.needs().card for name, classifier in study.classifiers.items()}
    return encoder_cards | {name: card for name, card in own_cards.items() if card is not None}


def published_reproductions(study: Study) -> dict[str, Reproduction]:
    """Return the classifiers that repeat a published result, with their protocols."""
    reproductions = {}
    for name, spec in study.classifiers.items():
        if spec.reproduces is None:
            continue
        protocol = spec.protocol(study.encoders)
        names = study.renderings if spec.needs().annotations else {protocol.rendering} & study.renderings.keys()
        renderings = {rendering: study.renderings[rendering] for rendering in sorted(filter(None, names))}
        reproductions[name] = Reproduction(
            spec.reproduces, protocol, spec.margin, renderings, spec.needs().accepted_models
        )
    return reproductions


def _settings(study: Study, spec: ClassifierSpec) -> dict[str, Any]:
    """Return the settings of a classifier, its encoder and its rendering, so that the history can name the changed settings."""
    needs = spec.needs()
    encoder = study.encoders.get(needs.encoder or "")
    rendering = study.renderings.get(needs.rendering or (encoder.image_rendering if encoder else None) or "")
    specs = {"classifier": spec, "encoder": encoder, "rendering": rendering}
    return {name: part.fingerprint_fields() for name, part in specs.items() if part is not None}
