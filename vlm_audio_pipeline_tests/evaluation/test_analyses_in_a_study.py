"""Embedding quality, projections, leakage and history in a study that is run, changed and run again."""

from vlm_audio_pipeline.planning.execution import execute_node
from vlm_audio_pipeline.planning.planner import make_plan, select_nodes
from vlm_audio_pipeline.planning.publishing import publish_study
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline_tests.bench import Bench


def run_stale_steps(bench, study=None, only=()):
    """Run a study as the command does, without Dagster, and return the steps that ran."""
    graph, steps = bench.graph(study), []
    while wave := make_plan(graph, current_input_versions(graph), select_nodes(graph, only)).wave:
        for run in wave:
            for node in run.nodes:
                execute_node(graph, node)
                steps.append(str(node))
    publish_study(graph)
    return steps


def test_the_history_keeps_the_old_result_when_a_setting_changes(tmp_path):
    bench = Bench(tmp_path / "bench")
    assert run_stale_steps(bench, only=["history"]) == ["history"]  # nothing was predicted yet
    assert query(bench.data_folder, "SELECT * FROM history").num_rows == 0
    run_stale_steps(bench)

    def history():
        sql = "SELECT classifier, entry, current, correct, predictions, common_clips, changed FROM history ORDER BY ALL"
        return query(bench.data_folder, sql).to_pylist()

    first = {r["classifier"]: r for r in history()}
    assert {name: (r["entry"], r["current"], r["predictions"]) for name, r in first.items()} == {
        "probe": (1, True, 12),
        "knn": (1, True, 12),
        "panel": (1, True, 16),  # two annotators of eight clips
    }
    changed = bench.changed_study("classifiers", "probe", c=0.01)
    assert "history" in run_stale_steps(bench, changed)
    before, after = [r for r in history() if r["classifier"] == "probe"]
    assert before == {**first["probe"], "current": False}
    assert (after["entry"], after["current"], after["common_clips"]) == (2, True, 12)
    assert "c: 1.0 -> 0.01" in after["changed"]
    assert run_stale_steps(bench, changed) == [], "a second run has nothing to do"
    for partition_file in bench.data_folder.tables.glob("predictions/study=bench/classifier=probe/*/*.parquet"):
        partition_file.unlink()
    run_stale_steps(bench, changed)
    assert [r for r in history() if r["classifier"] == "probe"] == [before, after]


def test_embedding_quality_projections_and_leakage_of_a_study(tmp_path):
    bench = Bench(tmp_path / "bench")
    run_stale_steps(bench, only=["bands", "leakage"])
    measures = query(bench.data_folder, "SELECT measure, value, clips FROM embedding_quality").to_pylist()
    assert {r["clips"] for r in measures} == {12} and len(measures) == 9
    plane = query(
        bench.data_folder, "SELECT method, count(x) AS n, min(reason) AS reason FROM projections GROUP BY 1 ORDER BY 1"
    )
    assert plane.to_pylist() == [
        {"method": "pca", "n": 12, "reason": None},
        {"method": "umap", "n": 0, "reason": "at least 16 clips are needed, got 12"},
    ]
    rows = query(
        bench.data_folder, "SELECT kind, finding FROM leakage WHERE kind <> 'training_data' ORDER BY ALL"
    ).to_pylist()
    assert [r["finding"] for r in rows] == [
        "0 groups of source recordings have names that differ only in case, spaces or Unicode form",
        "0 groups of clips have the same samples (12 clips were compared)",
        "0 of 12 files have clips in two folds or more",
        "not checked by the embeddings of bands, because 0 clips have 3 clips of other source recordings in their fold, and 80 such clips "
        "are needed",
        "0 of 6 source recordings have clips in two folds or more",
    ]
