"""The report page is not written from stale results."""

import dataclasses

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.planning.report_page import refuse_stale_results, update_report_page
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline_tests.bench import Bench


def with_new_code(bench: Bench, step_name: str):
    """Return the graph after a change of the code of a step, which raises its version."""
    graph = bench.graph()
    step = graph.steps[step_name]
    stage = dataclasses.replace(step.stage, version=step.stage.version + 1)
    graph.steps[step_name] = dataclasses.replace(step, stage=stage)
    return graph


def test_a_report_of_stale_results_is_refused_with_the_steps_and_the_command(tmp_path):
    bench = Bench(tmp_path / "bench")
    bench.run()
    graph = with_new_code(bench, "predictions/knn")
    old, new = (g.steps["predictions/knn"].stage.version for g in (bench.graph(), graph))
    with pytest.raises(VlmAudioError) as caught:
        update_report_page(graph)
    message = str(caught.value)
    assert f"predictions/knn (code version {old} -> {new})" in message
    assert f"`vlm-audio run {bench.folder / 'bench.yaml'}`" in message
    assert not graph.data_folder.report("bench").exists()
    run_study(graph)
    refuse_stale_results(graph)


def test_results_that_do_not_exist_yet_are_no_reason_to_refuse(tmp_path):
    bench = Bench(tmp_path / "bench")
    graph = bench.graph()
    refuse_stale_results(graph)
    run_study(graph, {node for node in graph.nodes if node.fold == 1})
    refuse_stale_results(graph)
