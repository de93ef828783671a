"""Stages of the analyses beside accuracy: embedding quality, projections, leakage, published results and history.

They cover the folds that exist; an encoder or classifier that fails does not stop the others.

Belongs here: inputs and parameters of the stages. Does not belong here: the computations.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.evaluation import leakage, projections
from vlm_audio_pipeline.evaluation.clip_sample import MAX_COMPARED_CLIPS, MAX_SEARCHED_CLIPS
from vlm_audio_pipeline.evaluation.embedding_comparisons import embedding_comparisons_table
from vlm_audio_pipeline.evaluation.embedding_quality import embedding_quality_table
from vlm_audio_pipeline.evaluation.history import PredictionSettings, history_table
from vlm_audio_pipeline.evaluation.near_duplicates import EXPECTED_NEIGHBOURS, MAX_DISTANCE, MIN_CLIPS, NEIGHBOUR, TAIL
from vlm_audio_pipeline.evaluation.published import Reproduction, StudyDataset, published_table
from vlm_audio_pipeline.evaluation.published_results import check_reproduces, results_version
from vlm_audio_pipeline.evaluation.stages import usable_clips
from vlm_audio_pipeline.storage.history_store import HistoryStore
from vlm_audio_pipeline.storage.schemas import TABLES

CLIPS = Input("clips", folds="all", optional=True)


def _input_table(context: StageContext, asset: str, name: str | None = None) -> pa.Table:
    key = asset if name is None else f"{asset}/{name}"
    return context.inputs.get(key, TABLES[asset].empty_table())


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
        version=4,
        parameters={"max_clips": MAX_COMPARED_CLIPS},
        inputs=(CLIPS, *_inputs("embeddings", [encoder_name])),
        run=run,
        description=f"How well the embeddings of '{encoder_name}' separate the classes without training: silhouette (-1 to 1), "
        "clusters, neighbours and retrieval (0 to 1), with 95 % intervals by source recording, beside permuted labels.",
        per_fold=False,
    )


def embedding_comparisons_stage(encoders: Sequence[str], limited: bool) -> Stage:
    """Return the stage that compares the embeddings of every pair of encoders.

    Args:
        encoders: names of the encoders, at least two.
        limited: whether the run is limited to a part of the clips.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips = _input_table(context, "clips")
        expected_clips = len(usable_clips(context)[0])
        embeddings = {name: _input_table(context, "embeddings", name) for name in encoders}
        return {"embedding_comparisons": embedding_comparisons_table(clips, embeddings, expected_clips, limited)}

    return Stage(
        asset="embedding_comparisons",
        tables=("embedding_comparisons",),
        version=2,
        parameters={"limited": limited, "max_clips": MAX_COMPARED_CLIPS},
        inputs=(CLIPS, *_inputs("embeddings", encoders)),
        run=run,
        description="Differences between every pair of encoders on the same clips in silhouette, neighbours and retrieval, with "
        "95 % intervals by source recording and paired tests after Holm.",
        per_fold=False,
    )


def projections_stage(encoder_name: str, projection: projections.Projection) -> Stage:
    """Return the stage that projects one encoder's embeddings to two dimensions.

    Args:
        encoder_name: its name in the study.
        projection: scaling of the vectors and metric of UMAP.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips, embeddings = _input_table(context, "clips"), _input_table(context, "embeddings", encoder_name)
        return {"projections": projections.projections_table(clips, embeddings, context.result_store, projection)}

    return Stage(
        asset="projections",
        tables=("projections",),
        version=2,
        parameters={**projection.parameters(), "max_clips": MAX_COMPARED_CLIPS},
        inputs=(CLIPS, *_inputs("embeddings", [encoder_name])),
        run=run,
        description=f"Clips in two dimensions by the embeddings of '{encoder_name}': PCA with the variance each axis "
        "explains, and UMAP, whose axes have no unit; each with the silhouette of the plane beside that of the space.",
        per_fold=False,
        on_demand=True,  # only the report page and FiftyOne show it; `vlm-audio run` makes it after the results
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
        collections: collections that contain its recordings; None if unknown.
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
        version=7,
        parameters={
            "near": [EXPECTED_NEIGHBOURS, NEIGHBOUR, TAIL, MIN_CLIPS, MAX_DISTANCE],
            "max_clips": MAX_SEARCHED_CLIPS,
            "dataset": dataset,
            "collections": None if collections is None else list(collections),
            "cards": {name: [c.title, c.training_data, list(c.overlaps)] for name, c in cards.items()},
        },
        inputs=(CLIPS, *_inputs("embeddings", encoders), *_inputs("examples", few_shot)),
        run=run,
        description="Source recordings and files in several folds, sources that look equal, exact and near duplicates, examples "
        "from the query's own source recording, and training data that contains the dataset; checks without a finding are listed too.",
        per_fold=False,
    )


def published_stage(reproductions: Mapping[str, Reproduction], dataset: str) -> Stage:
    """Return the stage that compares published results with the classifiers that repeat them.

    Args:
        reproductions: classifier -> what it repeats, for the classifiers that have `reproduces`.
        dataset: name of the dataset in publications; its kind if it has no such name.

    Raises:
        BadStudy: for a `reproduces` that names no published result.
    """
    for name, reproduction in reproductions.items():
        check_reproduces(name, reproduction.reproduces)

    def run(context: StageContext) -> dict[str, pa.Table]:
        predictions = {name: context.inputs.get(f"predictions/{name}") for name in reproductions}
        files = sorted({PurePosixPath(clip.file).suffix.removeprefix(".").lower() for clip in context.dataset.clips})
        study_dataset = StudyDataset(dataset, ", ".join(files))
        return {"published": published_table(reproductions, predictions, study_dataset)}

    return Stage(
        asset="published",
        tables=("published",),
        version=9,
        parameters={
            "results": results_version(),
            "dataset": dataset,
            "repeated": {name: reproduction.stage_parameters() for name, reproduction in reproductions.items()},
        },
        inputs=_inputs("predictions", list(reproductions)),
        run=run,
        description="Published accuracies as shares of 1, each beside the classifier that repeats it: the difference, every "
        "difference between the protocols, and whether the result is reproduced.",
        per_fold=False,
    )


def history_stage(settings: Mapping[str, PredictionSettings]) -> Stage:
    """Return the stage that stores the current results and lists all results of the study so far.

    It also reads the results of earlier runs, which are not inputs: they never make it stale, because only new predictions add
    results.

    Args:
        settings: classifier -> its current settings.
    """

    def run(context: StageContext) -> dict[str, pa.Table]:
        predictions = {n: t for n in settings if (t := context.inputs.get(f"predictions/{n}")) is not None}
        store = HistoryStore(context.result_store.path)
        return {"history": history_table(context.study, predictions, settings, store)}

    parameters: dict[str, Any] = {
        name: {
            "step": s.step_version,
            "settings": dict(s.settings),
            **({"accepted_models": sorted(s.accepted_models)} if s.accepted_models else {}),
        }
        for name, s in settings.items()
    }
    return Stage(
        asset="history",
        tables=("history",),
        version=4,
        parameters=parameters,
        inputs=_inputs("predictions", list(settings)),
        run=run,
        description="All results of each classifier in this study, with their settings and revision, and the change "
        "from one result to the next as a difference of shares.",
        per_fold=False,
    )
