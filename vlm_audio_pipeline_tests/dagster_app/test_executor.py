"""The direct executor and the Dagster executor give equal tables, provenance, checks and summaries."""

import dataclasses
import os
import signal

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.dagster_app.executor import DagsterExecutor
from vlm_audio_pipeline.planning.executor import DirectExecutor
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.run import RunSummary, run_study
from vlm_audio_pipeline.planning.staleness import read_node_provenance
from vlm_audio_pipeline.storage.partition_files import read_partition
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.bench import Bench

TIMES = ("made_at", "seconds")


def replace_stage(graph: Graph, step: str, run) -> None:
    """Replace the function of a step; `run` gets the context and the original function."""
    original = graph.steps[step]
    function = original.stage.run
    stage = dataclasses.replace(original.stage, run=lambda context: run(context, function))
    graph.steps[step] = dataclasses.replace(original, stage=stage)


def prepare_nothing(graph: Graph) -> None:
    pass


def prepare_failing_steps(graph: Graph) -> None:
    def refuse(context, run):
        if context.fold == 2:
            raise VlmAudioError("no probe of fold 2")
        return run(context)

    def divide_by_zero(context, run):
        return run(context) if context.fold == 1 else 1 / 0

    replace_stage(graph, "probes/probe", refuse)
    replace_stage(graph, "predictions/knn", divide_by_zero)


def prepare_failing_clips(graph: Graph) -> None:
    def refuse(context, run):
        raise VlmAudioError("recordings cannot be used")

    replace_stage(graph, "clips", refuse)


def prepare_unfinished_stage(graph: Graph) -> None:
    def stop_early(context, run):
        context.unfinished.append("budget reached")
        context.counts["tokens_computed"] = 3
        return run(context)

    replace_stage(graph, "predictions/knn", stop_early)


def prepare_failing_check(graph: Graph) -> None:
    def drop_a_clip(context, run):
        tables = run(context)
        return {**tables, "embeddings": tables["embeddings"].slice(1)} if context.fold == 3 else tables

    replace_stage(graph, "embeddings/bands", drop_a_clip)


def prepare_damaged_input(graph: Graph) -> None:
    """Damage embeddings without a detectable change, and make predictions stale."""
    [path] = graph.partition_files(Node("embeddings/bands", 2)).values()
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(byte ^ 0xFF for byte in content[40:60])
    path.write_bytes(bytes(content))
    graph.result_store.mark_intact([path])
    for fold in (1, 2, 3):
        graph.partition_files(Node("predictions/knn", fold))["predictions"].unlink()


def run_in(bench: Bench, prepare, executor) -> tuple[dict, RunSummary, list[str]]:
    """Run a study; return its tables with their provenance, the summary, and the steps that were started."""
    if prepare is prepare_damaged_input:
        assert not bench.run().report.failed
    graph = bench.graph()
    prepare(graph)
    started: list[str] = []
    summary = run_study(graph, executor=executor, on_step=lambda node, is_start: started.append(f"{node} {is_start}"))
    results = {}
    for node in graph.nodes:
        provenance = read_node_provenance(graph, node)
        if provenance is None:
            continue
        details = {key: value for key, value in provenance.details.items() if key not in TIMES}
        for table, path in graph.partition_files(node).items():
            rows = read_partition(path, TABLES[table])[0].select(TABLES[table].content_columns)
            results[node, table] = (rows, dataclasses.replace(provenance, details=details))
    return results, summary, sorted(started)


@pytest.mark.slow
@pytest.mark.parametrize(
    "prepare",
    [
        prepare_nothing,
        prepare_failing_steps,
        prepare_failing_clips,
        prepare_unfinished_stage,
        prepare_failing_check,
        prepare_damaged_input,
    ],
)
def test_both_executors_give_the_same_tables_provenance_checks_and_summary(tmp_path, prepare):
    direct_results, direct_summary, direct_steps = run_in(Bench(tmp_path / "a"), prepare, DirectExecutor())
    results, summary, steps = run_in(Bench(tmp_path / "b"), prepare, DagsterExecutor())
    assert results.keys() == direct_results.keys()
    for key, (rows, provenance) in results.items():
        assert rows.equals(direct_results[key][0]), key
        assert provenance == direct_results[key][1], key
        assert provenance.details["checks"], key
    assert steps == direct_steps
    assert _comparable(summary, tmp_path / "b") == _comparable(direct_summary, tmp_path / "a")


def _comparable(summary: RunSummary, folder) -> dict:
    """Return a summary without what differs between folders and between calls: paths, and the end of a traceback."""
    values = dataclasses.asdict(summary)
    for name in ("failed", "not_run"):
        values[name] = {node: reason.replace(str(folder), "") for node, reason in values[name].items()}
    return values


@pytest.mark.slow
def test_the_failure_scenarios_have_the_expected_failures(tmp_path):
    _, summary, _ = run_in(Bench(tmp_path / "steps"), prepare_failing_steps, DirectExecutor())
    assert summary.failed[Node("probes/probe", 2)] == "no probe of fold 2"
    assert "ZeroDivisionError" in summary.failed[Node("predictions/knn", 3)]
    assert summary.not_run[Node("predictions/probe", 2)] == "no probe of fold 2"
    results, summary, _ = run_in(Bench(tmp_path / "check"), prepare_failing_check, DirectExecutor())
    assert any("one_vector_per_clip" in text and "(fold 3)" in text for text in summary.failed_checks)
    checks = results[Node("embeddings/bands", 3), "embeddings"][1].details["checks"]
    assert {check["name"]: check["passed"] for check in checks} == {
        "rows_unique": True,
        "vectors_finite": True,
        "one_vector_per_clip": False,
    }
    _, summary, steps = run_in(Bench(tmp_path / "damage"), prepare_damaged_input, DirectExecutor())
    assert not summary.failed and "embeddings/bands|2 True" in steps


@pytest.mark.parametrize("executor", [DirectExecutor, pytest.param(DagsterExecutor, marks=pytest.mark.slow)])
def test_ctrl_c_ends_the_run_and_keeps_finished_work(tmp_path, executor):
    bench = Bench(tmp_path / "bench")
    graph = bench.graph()

    def interrupt(context, run):
        os.kill(os.getpid(), signal.SIGINT)
        return run(context)

    replace_stage(graph, "probes/probe", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_study(graph, executor=executor())
    assert read_node_provenance(graph, Node("clips", 1)) is not None
    assert not bench.run().report.failed
