"""What is looked into beside accuracy, in a study that is run, changed and run again."""

from vlm_audio_pipeline.planning.execution import execute
from vlm_audio_pipeline.planning.planner import make_plan, select
from vlm_audio_pipeline.planning.publishing import publish
from vlm_audio_pipeline.planning.staleness import observe
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline_tests.bench import Bench


def brought_up_to_date(bench, study=None, only=()):
    """Run a study as the command does, without Dagster; gives the steps that ran."""
    graph, ran = bench.graph(study), []
    while wave := make_plan(graph, observe(graph), select(graph, only)).wave:
        for run in wave:
            for node in run.nodes:
                execute(graph, node)
                ran.append(str(node))
    publish(graph)
    return ran


def test_a_change_leaves_the_old_result_beside_the_new_one(tmp_path):
    bench = Bench(tmp_path / "bench")
    assert brought_up_to_date(bench, only=["history"]) == ["history"]  # it takes what exists: nothing
    assert query(bench.layout, "SELECT * FROM history").num_rows == 0
    brought_up_to_date(bench)

    def history():
        sql = "SELECT classifier, entry, current, correct, predictions, common_clips, changed FROM history ORDER BY ALL"
        return query(bench.layout, sql).to_pylist()

    first = {r["classifier"]: r for r in history()}
    assert {name: (r["entry"], r["current"], r["predictions"]) for name, r in first.items()} == {
        "probe": (1, True, 12),
        "knn": (1, True, 12),
        "people": (1, True, 16),  # two readers of eight clips
    }
    changed = bench.changed("classifiers", "probe", c=0.01)
    assert "history" in brought_up_to_date(bench, changed)
    was, now = [r for r in history() if r["classifier"] == "probe"]
    assert was == {**first["probe"], "current": False}
    assert (now["entry"], now["current"], now["common_clips"]) == (2, True, 12)
    assert "c: 1.0 -> 0.01" in now["changed"]
    assert brought_up_to_date(bench, changed) == [], "nothing is left to do"
    for part in bench.layout.tables.glob("predictions/study=bench/classifier=probe/*/*.parquet"):
        part.unlink()
    brought_up_to_date(bench, changed)
    assert [r for r in history() if r["classifier"] == "probe"] == [was, now]


def test_what_the_other_analyses_say_of_it(tmp_path):
    bench = Bench(tmp_path / "bench")
    brought_up_to_date(bench, only=["bands", "leakage"])
    measures = query(bench.layout, "SELECT measure, value, clips FROM embedding_quality").to_pylist()
    assert {r["clips"] for r in measures} == {12} and len(measures) == 8
    plane = query(
        bench.layout, "SELECT method, count(x) AS n, min(reason) AS reason FROM projections GROUP BY 1 ORDER BY 1"
    )
    assert plane.to_pylist() == [
        {"method": "pca", "n": 12, "reason": None},
        {"method": "umap", "n": 0, "reason": "it takes 16 clips, got 12"},
    ]
    found = query(
        bench.layout, "SELECT kind, finding FROM leakage WHERE kind <> 'training_data' ORDER BY ALL"
    ).to_pylist()
    assert [r["finding"] for r in found] == [
        "0 groups of clips with the same samples among 12 clips, 0 of them across folds",
        "by bands: cannot be told, vectors of 4 dimensions are alike by chance",
        "0 of 6 sources in two folds or more",
    ]
