"""Stages of the optional analyses, which a study declares under `analyses`.

Belongs here: names, inputs and parameters of these stages. Does not belong here: the computations.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.evaluation.completeness import rows_of_one_model
from vlm_audio_pipeline.evaluation.item_response import item_response_table
from vlm_audio_pipeline.evaluation.rendering_effects import rendering_effects_table
from vlm_audio_pipeline.evaluation.trial_variance import TrialDesign, variance_components_table

ANALYSES = {
    "variance_components": "how much clips, draws, class orders, wordings and repeats change the responses of language models",
    "rendering_effects": "accuracy by class and rendering, with interaction, of classifiers that differ only in the rendering",
    "item_response": "a mixed logistic model over clips, models and annotators (needs the extra `analyses`)",
}
"""Every optional analysis and its meaning; each makes a table of this name."""

AcceptedModels = Mapping[str, tuple[str, ...] | None]
NO_ACCEPTED_MODELS: AcceptedModels = {}


def _inputs(classifiers: Sequence[str]) -> tuple[Input, ...]:
    return tuple(Input("predictions", name, folds="all", optional=True) for name in classifiers)


def _predictions(context: StageContext, classifiers: Sequence[str], accepted: AcceptedModels) -> dict[str, pa.Table]:
    """Return the predictions of the classifiers that have any, without a scoring and control that two models answered."""
    inputs = {name: context.inputs.get(f"predictions/{name}") for name in classifiers}
    tables = {name: rows_of_one_model(rows, accepted.get(name)) for name, rows in inputs.items() if rows is not None}
    return {name: table for name, table in tables.items() if table.num_rows}


def _accepted_parameters(accepted: AcceptedModels) -> dict[str, Any]:
    """Return the accepted models as a stage parameter; empty if there are none."""
    models = {name: sorted(ids) for name, ids in sorted(accepted.items()) if ids}
    return {"accepted_models": models} if models else {}


def variance_components_stage(
    designs: Mapping[str, TrialDesign], accepted: AcceptedModels = NO_ACCEPTED_MODELS
) -> Stage:
    """Return the stage that estimates variance components.

    Args:
        designs: language model -> its trials.
        accepted: classifier -> see `ExpectedRun.accepted_models`.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        return {
            "variance_components": variance_components_table(_predictions(context, list(designs), accepted), designs)
        }

    return Stage(
        asset="variance_components",
        tables=("variance_components",),
        version=3,
        parameters={**{name: vars(design) for name, design in designs.items()}, **_accepted_parameters(accepted)},
        inputs=_inputs(list(designs)),
        run=run,
        description="Variance of correct predictions between clips, draws, class orders, wordings and repeats, with 95 % intervals.",
        per_fold=False,
    )


def rendering_effects_stage(
    groups: Mapping[str, Mapping[str, str]], accepted: AcceptedModels = NO_ACCEPTED_MODELS
) -> Stage:
    """Return the stage that computes accuracy by class and rendering.

    Args:
        groups: name of a group -> rendering -> classifier.
        accepted: classifier -> see `ExpectedRun.accepted_models`.
    """
    names = [name for by_rendering in groups.values() for name in by_rendering.values()]

    def run(context: StageContext) -> dict[str, pa.Table]:
        return {"rendering_effects": rendering_effects_table(_predictions(context, names, accepted), groups)}

    return Stage(
        asset="rendering_effects",
        tables=("rendering_effects",),
        version=2,
        parameters={
            "groups": {group: dict(by_rendering) for group, by_rendering in groups.items()},
            **_accepted_parameters(accepted),
        },
        inputs=_inputs(names),
        run=run,
        description="Accuracy by class and rendering as a share of 1, with 95 % intervals, interactions and permutation tests.",
        per_fold=False,
    )


def item_response_stage(classifiers: Sequence[str], accepted: AcceptedModels = NO_ACCEPTED_MODELS) -> Stage:
    """Return the stage that fits a mixed logistic model.

    Args:
        classifiers: names of the classifiers.
        accepted: classifier -> see `ExpectedRun.accepted_models`.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        return {"item_response": item_response_table(_predictions(context, classifiers, accepted))}

    return Stage(
        asset="item_response",
        tables=("item_response",),
        version=3,
        parameters=_accepted_parameters(accepted),
        inputs=_inputs(classifiers),
        run=run,
        description="Ability of every model and difficulty of every clip in logits, with 95 % credible intervals.",
        per_fold=False,
    )
