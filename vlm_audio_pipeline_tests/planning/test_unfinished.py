"""Unfinished steps: their results are used, the plan reports them, and the next run tries them once."""

import dataclasses

import pytest

from vlm_audio_pipeline.cli.run_view import run_and_show
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import make_plan
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.planning.staleness import current_input_versions, fresh_nodes, read_node_provenance

KNN = [Node("predictions/knn", fold) for fold in (1, 2, 3)]


class UnfinishedStage:
    """Make `predictions/knn` of a graph report that it is unfinished in some folds; record the folds that ran."""

    def __init__(self, graph, folds, reason="budget of 5 USD reached"):
        self.folds_run, self.folds, self.reason = [], folds, reason
        step = graph.steps["predictions/knn"]
        original_run = step.stage.run

        def run(context: StageContext):
            self.folds_run.append(context.fold)
            if context.fold in self.folds:
                context.unfinished.append(self.reason)
                context.unfinished.append(self.reason)
            return original_run(context)

        graph.steps["predictions/knn"] = dataclasses.replace(step, stage=dataclasses.replace(step.stage, run=run))


def test_an_unfinished_partition_file_is_used_and_the_next_run_tries_the_step_once(bench):
    graph = bench.graph()
    unfinished = UnfinishedStage(graph, {2})
    first = run_study(graph)
    assert not first.failed and sorted(unfinished.folds_run) == [1, 2, 3]  # not a second time in the same call
    assert read_node_provenance(graph, KNN[1]).details["unfinished"] == ["budget of 5 USD reached"]
    assert "unfinished" not in read_node_provenance(graph, KNN[0]).details
    assert {*KNN, Node("metrics/knn"), Node("leaderboard")} <= fresh_nodes(graph)

    plan = make_plan(graph, current_input_versions(graph))
    assert plan.todo == {KNN[1]: ("unfinished: budget of 5 USD reached",)}
    assert [(run.fold, run.nodes) for run in plan.wave] == [(2, (KNN[1],))]
    assert make_plan(graph, current_input_versions(graph), attempted_nodes=KNN).todo == {}

    second = run_study(graph)
    assert (second.steps, unfinished.folds_run[3:]) == (1, [2])  # equal rows: no downstream step runs
    unfinished.folds = set()
    third = run_study(graph)
    assert (third.steps, unfinished.folds_run[4:]) == (1, [2])
    assert make_plan(graph, current_input_versions(graph)).todo == {}


def test_the_plan_and_the_run_report_unfinished_steps(done, capsys):
    graph = done.graph()
    UnfinishedStage(graph, {1, 3}, "endpoint refused 2 clips")
    for fold in (1, 3):
        graph.partition_files(Node("predictions/knn", fold))["predictions"].unlink()
    assert run_and_show(graph) == 0
    errors = " ".join(capsys.readouterr().err.split())  # the width of a terminal may break lines
    assert "predictions/knn: unfinished: endpoint refused 2 clips; run the same command to try again" in errors
    assert "still to do" not in errors
    assert run_and_show(graph, dry_run=True) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "predictions/knn 1,3 unfinished: endpoint refused 2 clips" in output
    assert "2 to do" in output and "on disk: tables 0." in output and " free" in output


def test_results_of_an_unfinished_step_that_cannot_run_now_are_used(bench):
    graph = bench.graph()
    UnfinishedStage(graph, {2})
    run_study(graph)
    plan = make_plan(graph, current_input_versions(graph), failed={KNN[1]: "held back"})
    assert plan.not_run == {KNN[1]: "held back"} and plan.todo == {}


@pytest.mark.parametrize("stale", [False, True])
def test_a_stale_unfinished_step_blocks_its_downstream_steps_and_a_fresh_one_does_not(bench, stale):
    graph = bench.graph()
    UnfinishedStage(graph, {2})
    run_study(graph)
    if stale:
        step = graph.steps["predictions/knn"]
        graph.steps["predictions/knn"] = dataclasses.replace(
            step, stage=dataclasses.replace(step.stage, version=step.stage.version + 1)
        )
    plan = make_plan(graph, current_input_versions(graph), selected={Node("metrics/probe")})
    assert plan.todo == {} and (KNN[1] in plan.fresh) is not stale
