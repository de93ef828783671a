import pyarrow as pa
import pytest

from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.contracts.hashing import canonical
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.encoders.base import ModelCard
from vlm_audio_pipeline.evaluation.analysis_stages import (
    embedding_quality_stage,
    history_stage,
    leakage_stage,
    projections_stage,
    published_stage,
)
from vlm_audio_pipeline.evaluation.history import Made
from vlm_audio_pipeline.storage.result_store import RowStore
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.running import embeddings_table, toy
from vlm_audio_pipeline_tests.evaluation.test_history import predictions

CARD = ModelCard("CLAP", training_data="FreeSound", overlaps=("FreeSound",))
STAGES = {
    "embedding_quality": embedding_quality_stage("e"),
    "projections": projections_stage("e"),
    "leakage": leakage_stage(["e"], ["p"], {"e": CARD}, "esc10"),
    "published": published_stage({"p": ("dixit2024/GPT-4o", "language_model")}, "esc10"),
    "history": history_stage({"p": Made("1:a", {"prompt": "paper"})}),
}


def run_stage(stage, data, inputs, layout):
    assert set(inputs) <= {i.key for i in stage.inputs}
    context = StageContext("s", "e", None, data.classes, inputs, data, RowStore(layout.rows))
    [(name, table)] = stage.run(context).items()
    assert stage.tables == (name,)
    return TABLES[name].conform(table, study="s", encoder="e", fold=None)


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_is_over_all_folds_and_takes_what_exists(name, layout):
    stage = STAGES[name]
    assert (stage.asset, stage.per_fold, stage.accelerator) == (name, False, False)
    assert not TABLES[name].per_fold
    assert all(i.folds == "all" and i.optional for i in stage.inputs)
    canonical(dict(stage.parameters))  # plain values alone
    data, _, _ = toy(n_folds=2)
    table = run_stage(stage, data, {}, layout)
    assert table["study"].to_pylist() == ["s"] * table.num_rows


def test_they_read_what_they_are_given(layout):
    data, clips, x = toy(n_folds=2)
    inputs = {"clips": clips, "embeddings/e": embeddings_table(clips, x)}
    quality = run_stage(STAGES["embedding_quality"], data, inputs, layout).to_pylist()
    assert {r["clips"] for r in quality} == {36} and all(r["value"] is not None for r in quality)
    found = run_stage(STAGES["leakage"], data, inputs, layout).to_pylist()
    assert {(r["kind"], r["severity"]) for r in found} == {
        ("source_across_folds", "clean"),
        ("exact_duplicate", "clean"),
        ("near_duplicate", "unknown"),
        ("example_of_query_source", "unknown"),
        ("training_data", "suspect"),
    }
    table = predictions((1, "a1", 1), (2, "b1", 0))
    [row] = run_stage(STAGES["history"], data, {"predictions/p": table}, layout).to_pylist()
    assert (row["accuracy"], row["step_version"], row["settings"]) == (0.5, "1:a", '{"prompt":"paper"}')
    beside = run_stage(STAGES["published"], data, {"predictions/p": table}, layout).to_pylist()
    assert {r["measured"] for r in beside if r["classifier"] and r["split"] == "5-fold"} == {0.5}


def test_what_can_change_a_result_is_in_the_parameters():
    def leakage(dataset="esc10", **card):
        return leakage_stage([], [], {"e": ModelCard("t", **card)}, dataset).parameters

    assert leakage() not in [leakage("esc50"), leakage(training_data="x"), leakage(overlaps=("ESC-50",))]
    one, other = (history_stage({"p": Made(v, {"a": s})}).parameters for v, s in (("1:a", 1), ("1:b", 2)))
    assert one != other


def test_a_wrong_reproduces_stops_before_anything_runs():
    with pytest.raises(BadStudy, match=r"classifiers\.p\.reproduces: must name a published result"):
        published_stage({"p": ("dixit2024/GPT-5", "language_model")}, "esc10")


def test_history_outlives_the_part_it_was_written_into(layout):
    data, _, _ = toy(n_folds=2)
    old = predictions((1, "a1", 1), (1, "a2", 0))
    new = predictions((1, "a1", 0), (1, "a2", 1))
    run_stage(STAGES["history"], data, {"predictions/p": old}, layout)
    after = history_stage({"p": Made("1:b", {"prompt": "short"})})
    was, now = run_stage(after, data, {"predictions/p": new}, layout).to_pylist()
    assert (was["current"], now["current"], now["changed"]) == (False, True, "prompt: paper -> short")
    assert pa.types.is_timestamp(TABLES["history"].arrow.field("first_seen").type)
