"""What is looked into beside accuracy, as stages over all folds.

What belongs here: what these summaries read and when they change. What does not: any computing. Like all summaries they
take what exists; nothing of one encoder or classifier stops another.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.encoders.base import ModelCard
from vlm_audio_pipeline.evaluation import leakage, projections
from vlm_audio_pipeline.evaluation.embedding_quality import embedding_quality_table
from vlm_audio_pipeline.evaluation.history import Made, history_table
from vlm_audio_pipeline.evaluation.published import check_reproduces, published_table, results_version
from vlm_audio_pipeline.storage.schemas import TABLES

CLIPS = Input("clips", folds="all", optional=True)


def _read(context: StageContext, asset: str, name: str | None = None) -> pa.Table:
    key = asset if name is None else f"{asset}/{name}"
    return context.inputs.get(key, TABLES[asset].empty())


def _all_of(asset: str, names: Sequence[str]) -> tuple[Input, ...]:
    return tuple(Input(asset, name, folds="all", optional=True) for name in names)


def embedding_quality_stage(encoder_name: str) -> Stage:
    """Give the stage that measures how well one encoder's vectors sort the clips, over all folds that exist.

    Args:
        encoder_name: its name in the study.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        vectors = _read(context, "embeddings", encoder_name)
        return {"embedding_quality": embedding_quality_table(_read(context, "clips"), vectors)}

    return Stage(
        asset="embedding_quality",
        tables=("embedding_quality",),
        version=1,
        parameters={},
        inputs=(CLIPS, *_all_of("embeddings", [encoder_name])),
        run=run,
        description=f"Silhouette, clusters, neighbours and retrieval of '{encoder_name}', as shares of 1, with nothing "
        "learnt; beside what was claimed of such vectors.",
        per_fold=False,
    )


def projections_stage(encoder_name: str) -> Stage:
    """Give the stage that brings one encoder's vectors to the plane, over all folds that exist.

    Args:
        encoder_name: its name in the study.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        vectors = _read(context, "embeddings", encoder_name)
        return {"projections": projections.projections_table(_read(context, "clips"), vectors, context.rows)}

    return Stage(
        asset="projections",
        tables=("projections",),
        version=1,
        parameters={"umap": {"version": projections.UMAP_VERSION, **projections.UMAP_SETTINGS}},
        inputs=(CLIPS, *_all_of("embeddings", [encoder_name])),
        run=run,
        description=f"Clips in the plane by the vectors of '{encoder_name}': PCA with the variance each axis explains, "
        "and UMAP, whose axes have no unit.",
        per_fold=False,
        on_demand=True,  # UMAP compiles itself for ten seconds, and only pages and apps show it
    )


def leakage_stage(
    encoders: Sequence[str], few_shot: Sequence[str], cards: Mapping[str, ModelCard], dataset: str
) -> Stage:
    """Give the stage that looks for what makes held-out clips less than new.

    Args:
        encoders: names of those asked for near duplicates.
        few_shot: names of the classifiers that have an `examples` step.
        cards: encoder or classifier -> the card of its model.
        dataset: kind of the dataset.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        table = leakage.leakage_table(
            _read(context, "clips"),
            {name: _read(context, "embeddings", name) for name in encoders},
            {name: _read(context, "examples", name) for name in few_shot},
            cards,
            dataset,
        )
        return {"leakage": table}

    return Stage(
        asset="leakage",
        tables=("leakage",),
        version=1,
        parameters={
            "near": leakage.NEAR,
            "dataset": dataset,
            "cards": {name: [c.title, c.training_data, list(c.overlaps)] for name, c in cards.items()},
        },
        inputs=(CLIPS, *_all_of("embeddings", encoders), *_all_of("examples", few_shot)),
        run=run,
        description="Sources across folds, exact and near duplicates, examples of a query's own source, and training "
        "data that holds the dataset; what was looked for and not found says so.",
        per_fold=False,
    )


def published_stage(repeated: Mapping[str, tuple[str, str]], dataset: str) -> Stage:
    """Give the stage that sets published results beside what repeats them.

    Args:
        repeated: classifier -> (`reproduces`, its kind), for those that say what they repeat.
        dataset: kind of the dataset.

    Raises:
        BadStudy: for a `reproduces` that names nothing published.
    """
    for name, (reproduces, _) in repeated.items():
        check_reproduces(name, reproduces)

    def run(context: StageContext) -> dict[str, pa.Table]:
        beside = {n: (*what, context.inputs.get(f"predictions/{n}")) for n, what in repeated.items()}
        return {"published": published_table(beside, dataset)}

    return Stage(
        asset="published",
        tables=("published",),
        version=1,
        parameters={
            "results": results_version(),
            "dataset": dataset,
            "repeated": {name: list(what) for name, what in repeated.items()},
        },
        inputs=_all_of("predictions", list(repeated)),
        run=run,
        description="Published accuracies as shares of 1, each beside the classifier that repeats it: whether its 95 % "
        "interval holds the number, and what differs in protocol.",
        per_fold=False,
    )


def history_stage(made: Mapping[str, Made]) -> Stage:
    """Give the stage that remembers results, and lists all there ever were.

    It reads what earlier runs left in the row store beside its inputs; that never makes it stale, for only new
    predictions can add to it.

    Args:
        made: classifier -> how its predictions are made today.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        there = {n: t for n in made if (t := context.inputs.get(f"predictions/{n}")) is not None}
        return {"history": history_table(context.study, there, made, context.rows)}

    parameters: dict[str, Any] = {n: {"step": m.step_version, "settings": dict(m.settings)} for n, m in made.items()}
    return Stage(
        asset="history",
        tables=("history",),
        version=1,
        parameters=parameters,
        inputs=_all_of("predictions", list(made)),
        run=run,
        description="Every result a classifier ever had in this study, with its settings and revision, and what changed "
        "from one to the next as a difference of shares.",
        per_fold=False,
    )
