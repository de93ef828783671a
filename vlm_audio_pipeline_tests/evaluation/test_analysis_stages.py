import pyarrow as pa
import pytest

from vlm_audio_pipeline.classifiers.protocol import Protocol
from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.contracts.hashing import canonical_json
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.evaluation.analysis_stages import (
    embedding_quality_stage,
    history_stage,
    leakage_stage,
    projections_stage,
    published_stage,
)
from vlm_audio_pipeline.evaluation.history import PredictionSettings
from vlm_audio_pipeline.evaluation.projections import DEFAULT_PROJECTION
from vlm_audio_pipeline.evaluation.published import Reproduction
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.stage_runner import embeddings_table, gaussian_blobs
from vlm_audio_pipeline_tests.evaluation.test_history import predictions

CARD = ModelCard("CLAP", training_data="FreeSound", overlaps=("FreeSound",))
STAGES = {
    "embedding_quality": embedding_quality_stage("e"),
    "projections": projections_stage("e", DEFAULT_PROJECTION),
    "leakage": leakage_stage(["e"], ["p"], {"e": CARD}, "esc10", ("ESC-10", "FreeSound")),
    "published": published_stage({"p": Reproduction("dixit2024/GPT-4o", Protocol("few-shot"))}, "ESC-10"),
    "history": history_stage({"p": PredictionSettings("1:a", {"prompt": "paper"})}),
}


def run_stage(stage, data, inputs, data_folder):
    assert set(inputs) <= {i.key for i in stage.inputs}
    context = StageContext(
        "s", "e", None, data.classes, inputs, data, ResultStore(data_folder.result_store), engine=LocalEngine()
    )
    [(name, table)] = stage.run(context).items()
    assert stage.tables == (name,)
    return TABLES[name].conform(table, study="s", encoder="e", fold=None)


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_is_over_all_folds_that_exist(name, data_folder):
    stage = STAGES[name]
    assert (stage.asset, stage.per_fold, stage.accelerator) == (name, False, False)
    assert not TABLES[name].per_fold
    assert all(i.folds == "all" and i.optional for i in stage.inputs)
    canonical_json(dict(stage.parameters))  # parameters must be JSON values
    data, _, _ = gaussian_blobs(n_folds=2)
    table = run_stage(stage, data, {}, data_folder)
    assert table["study"].to_pylist() == ["s"] * table.num_rows


def test_the_stages_use_their_inputs(data_folder):
    data, clips, x = gaussian_blobs(n_folds=2)
    inputs = {"clips": clips, "embeddings/e": embeddings_table(clips, x)}
    quality = run_stage(STAGES["embedding_quality"], data, inputs, data_folder).to_pylist()
    assert {r["clips"] for r in quality} == {36} and all(r["value"] is not None for r in quality)
    rows = run_stage(STAGES["leakage"], data, inputs, data_folder).to_pylist()
    assert {(r["kind"], r["severity"]) for r in rows} == {
        ("source_across_folds", "clean"),
        ("file_across_folds", "clean"),
        ("alike_sources", "clean"),
        ("exact_duplicate", "clean"),
        ("near_duplicate", "unknown"),
        ("example_of_query_source", "unknown"),
        ("training_data", "suspect"),
    }
    table = predictions((1, "a1", 1), (2, "b1", 0))
    [row] = run_stage(STAGES["history"], data, {"predictions/p": table}, data_folder).to_pylist()
    assert (row["accuracy"], row["step_version"], row["settings"]) == (0.5, "1:a", '{"prompt":"paper"}')
    published_rows = run_stage(STAGES["published"], data, {"predictions/p": table}, data_folder).to_pylist()
    assert {r["measured"] for r in published_rows if r["classifier"] and r["split"] == "5-fold"} == {0.5}


def test_the_parameters_contain_all_that_changes_a_result():
    def leakage(dataset="esc10", collections=("FreeSound",), **card):
        return leakage_stage([], [], {"e": ModelCard("t", **card)}, dataset, collections).parameters

    assert leakage() not in [
        leakage("esc50"),
        leakage(collections=None),
        leakage(training_data="x"),
        leakage(overlaps=("ESC-50",)),
    ]
    first, second = (
        history_stage({"p": PredictionSettings(v, {"a": s})}).parameters for v, s in (("1:a", 1), ("1:b", 2))
    )
    assert first != second

    def published(margin=None, renderings=None, **protocol):
        reproduction = Reproduction("dixit2024/GPT-4o", Protocol("few-shot", **protocol), margin, renderings or {})
        return published_stage({"p": reproduction}, "ESC-10").parameters

    changed = [published(margin=0.1), published(shots=2), published(renderings={"r": Recipe()})]
    assert published() == published() and published() not in changed


def test_an_unknown_published_result_is_an_error_before_the_run():
    with pytest.raises(BadStudy, match=r"classifiers\.p\.reproduces: must name a published result"):
        published_stage({"p": Reproduction("dixit2024/GPT-5", Protocol("few-shot"))}, "ESC-10")


def test_history_outlives_its_partition_file(data_folder):
    data, _, _ = gaussian_blobs(n_folds=2)
    old = predictions((1, "a1", 1), (1, "a2", 0))
    new = predictions((1, "a1", 0), (1, "a2", 1))
    run_stage(STAGES["history"], data, {"predictions/p": old}, data_folder)
    after = history_stage({"p": PredictionSettings("1:b", {"prompt": "short"})})
    before, after = run_stage(after, data, {"predictions/p": new}, data_folder).to_pylist()
    assert (before["current"], after["current"], after["changed"]) == (False, True, "prompt: paper -> short")
    assert pa.types.is_timestamp(TABLES["history"].arrow.field("first_seen").type)
