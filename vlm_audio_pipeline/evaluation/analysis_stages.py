"""Stages of the analyses beside accuracy: embedding quality, projections, leakage, published results and history.

They are over the folds that exist; an encoder or classifier that fails does not stop the others.

Belongs here: inputs and parameters of the stages. Does not belong here: computing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.evaluation import leakage, projections
from vlm_audio_pipeline.evaluation.embedding_quality import embedding_quality_table
from vlm_audio_pipeline.evaluation.history import PredictionSettings, history_table
from vlm_audio_pipeline.evaluation.published import check_reproduces, published_table, results_version
from vlm_audio_pipeline.storage.history_store import HistoryStore
from vlm_audio_pipeline.storage.schemas import TABLES

CLIPS = Input("clips", folds="all", optional=True)


def _input_table(context: StageContext, asset: str, name: str | None = None) -> pa.Table:
    key = asset if name is None else f"{asset}/{name}"
    return context.inputs.get(key, TABLES[asset].empty())


def _inputs(asset: str, names: Sequence[str]) -> tuple[Input, ...]:
    return tuple(Input(asset, name, folds="all", optional=True) for name in names)


def embedding_quality_stage(encoder_name: str) -> Stage:
    """Return the stage that measures how well one encoder's embeddings separate the classes.

    Args:
        encoder_name: its name in the study.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        embeddings = _input_table(context, "embeddings", encoder_name)
        return {"embedding_quality": embedding_quality_table(_input_table(context, "clips"), embeddings)}

    return Stage(
        asset="embedding_quality",
        tables=("embedding_quality",),
        version=2,
        parameters={},
        inputs=(CLIPS, *_inputs("embeddings", [encoder_name])),
        run=run,
        description=f"Silhouette, clusters, neighbours and retrieval of '{encoder_name}', as shares of 1, without "
        "training; beside published statements about such embeddings.",
        per_fold=False,
    )


def projections_stage(encoder_name: str) -> Stage:
    """Return the stage that projects one encoder's embeddings to two dimensions.

    Args:
        encoder_name: its name in the study.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips, embeddings = _input_table(context, "clips"), _input_table(context, "embeddings", encoder_name)
        return {"projections": projections.projections_table(clips, embeddings, context.result_store)}

    return Stage(
        asset="projections",
        tables=("projections",),
        version=1,
        parameters={"umap": {"version": projections.UMAP_VERSION, **projections.UMAP_SETTINGS}},
        inputs=(CLIPS, *_inputs("embeddings", [encoder_name])),
        run=run,
        description=f"Clips in two dimensions by the embeddings of '{encoder_name}': PCA with the variance each axis "
        "explains, and UMAP, whose axes have no unit.",
        per_fold=False,
        on_demand=True,  # UMAP compiles itself for ten seconds, and only pages and apps show it
    )


def leakage_stage(
    encoders: Sequence[str],
    few_shot: Sequence[str],
    cards: Mapping[str, ModelCard],
    dataset: str,
    collections: tuple[str, ...] | None,
) -> Stage:
    """Return the stage that checks for leakage.

    Args:
        encoders: names of the encoders whose embeddings are checked for near duplicates.
        few_shot: names of the classifiers that have an `examples` step.
        cards: encoder or classifier -> the card of its model.
        dataset: kind of the dataset.
        collections: collections that contain its recordings; None: not known.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        table = leakage.leakage_table(
            _input_table(context, "clips"),
            {name: _input_table(context, "embeddings", name) for name in encoders},
            {name: _input_table(context, "examples", name) for name in few_shot},
            cards,
            dataset,
            collections,
        )
        return {"leakage": table}

    return Stage(
        asset="leakage",
        tables=("leakage",),
        version=2,
        parameters={
            "near": leakage.NEAR_DUPLICATE_COSINE,
            "dataset": dataset,
            "collections": None if collections is None else list(collections),
            "cards": {name: [c.title, c.training_data, list(c.overlaps)] for name, c in cards.items()},
        },
        inputs=(CLIPS, *_inputs("embeddings", encoders), *_inputs("examples", few_shot)),
        run=run,
        description="Sources across folds, exact and near duplicates, examples of a query's own source, and training "
        "data that contains the dataset; checks without a finding are listed too.",
        per_fold=False,
    )


def published_stage(repeated: Mapping[str, tuple[str, str]], dataset: str) -> Stage:
    """Return the stage that compares published results with the classifiers that repeat them.

    Args:
        repeated: classifier -> (`reproduces`, its kind), for those that name a published result.
        dataset: name of the dataset in publications; its kind where it has none.

    Raises:
        BadStudy: for a `reproduces` that names no published result.
    """
    for name, (reproduces, _) in repeated.items():
        check_reproduces(name, reproduces)

    def run(context: StageContext) -> dict[str, pa.Table]:
        runs = {n: (*names, context.inputs.get(f"predictions/{n}")) for n, names in repeated.items()}
        return {"published": published_table(runs, dataset)}

    return Stage(
        asset="published",
        tables=("published",),
        version=2,
        parameters={
            "results": results_version(),
            "dataset": dataset,
            "repeated": {name: list(names) for name, names in repeated.items()},
        },
        inputs=_inputs("predictions", list(repeated)),
        run=run,
        description="Published accuracies as shares of 1, each beside the classifier that repeats it: whether its 95 % "
        "interval holds the number, and how the protocols differ.",
        per_fold=False,
    )


def history_stage(settings: Mapping[str, PredictionSettings]) -> Stage:
    """Return the stage that stores results, and lists all that there ever were.

    Besides its inputs it reads the results of earlier runs; these never make it stale, as only new predictions add to them.

    Args:
        settings: classifier -> how its predictions are made today.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        predictions = {n: t for n in settings if (t := context.inputs.get(f"predictions/{n}")) is not None}
        store = HistoryStore(context.result_store.path)
        return {"history": history_table(context.study, predictions, settings, store)}

    parameters: dict[str, Any] = {
        name: {"step": s.step_version, "settings": dict(s.settings)} for name, s in settings.items()
    }
    return Stage(
        asset="history",
        tables=("history",),
        version=2,
        parameters=parameters,
        inputs=_inputs("predictions", list(settings)),
        run=run,
        description="Every result a classifier ever had in this study, with its settings and revision, and what changed "
        "from one to the next as a difference of shares.",
        per_fold=False,
    )
