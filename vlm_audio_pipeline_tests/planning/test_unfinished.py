"""Steps that stopped early: their part counts, the plan says so, and the next run tries again - once."""

import dataclasses

import pytest

from vlm_audio_pipeline.cli.run_view import run_and_show
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import make_plan
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.planning.staleness import current_input_versions, read_node_provenance, up_to_date

KNN = [Node("predictions/knn", fold) for fold in (1, 2, 3)]


class Stops:
    """Makes `predictions/knn` of a graph say that it stopped early in some folds; counts its runs."""

    def __init__(self, graph, folds, reason="budget of 5 USD reached"):
        self.runs, self.folds, self.reason = [], folds, reason
        step = graph.steps["predictions/knn"]
        inner = step.stage.run

        def run(context: StageContext):
            self.runs.append(context.fold)
            if context.fold in self.folds:
                context.unfinished.append(self.reason)
                context.unfinished.append(self.reason)
            return inner(context)

        graph.steps["predictions/knn"] = dataclasses.replace(step, stage=dataclasses.replace(step.stage, run=run))


def test_an_unfinished_part_is_used_and_tried_again_by_the_next_run_once(bench):
    graph = bench.graph()
    stops = Stops(graph, {2})
    first = run_study(graph)
    assert not first.failed and sorted(stops.runs) == [1, 2, 3]  # not again in the same call
    assert read_node_provenance(graph, KNN[1]).details["unfinished"] == ["budget of 5 USD reached"]
    assert "unfinished" not in read_node_provenance(graph, KNN[0]).details
    assert {*KNN, Node("metrics/knn"), Node("leaderboard")} <= up_to_date(graph)

    plan = make_plan(graph, current_input_versions(graph))
    assert plan.todo == {KNN[1]: ("unfinished: budget of 5 USD reached",)}
    assert [(run.fold, run.nodes) for run in plan.wave] == [(2, (KNN[1],))]
    assert make_plan(graph, current_input_versions(graph), tried=KNN).todo == {}

    second = run_study(graph)
    assert (second.steps, stops.runs[3:]) == (1, [2])  # the same rows: nothing after it runs
    stops.folds = set()
    third = run_study(graph)
    assert (third.steps, stops.runs[4:]) == (1, [2])
    assert make_plan(graph, current_input_versions(graph)).todo == {}


def test_the_plan_and_the_run_say_what_is_unfinished(done, capsys):
    graph = done.graph()
    Stops(graph, {1, 3}, "endpoint refused 2 clips")
    for fold in (1, 3):
        graph.partition_files(Node("predictions/knn", fold))["predictions"].unlink()
    assert run_and_show(graph) == 0
    said = capsys.readouterr()
    assert "predictions/knn: unfinished: endpoint refused 2 clips; run the same command to try again" in said.err
    assert "still to do" not in said.err
    assert run_and_show(graph, dry_run=True) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "predictions/knn 1,3 unfinished: endpoint refused 2 clips" in said
    assert "2 to do" in said and "on disk: tables 0." in said and " free" in said


def test_what_is_unfinished_and_cannot_be_tried_now_still_counts(bench):
    graph = bench.graph()
    Stops(graph, {2})
    run_study(graph)
    plan = make_plan(graph, current_input_versions(graph), failed={KNN[1]: "held back"})
    assert plan.not_run == {KNN[1]: "held back"} and plan.todo == {}


@pytest.mark.parametrize("stale", [False, True])
def test_only_a_stale_unfinished_part_makes_the_rest_wait(bench, stale):
    graph = bench.graph()
    Stops(graph, {2})
    run_study(graph)
    if stale:
        step = graph.steps["predictions/knn"]
        graph.steps["predictions/knn"] = dataclasses.replace(
            step, stage=dataclasses.replace(step.stage, version=step.stage.version + 1)
        )
    plan = make_plan(graph, current_input_versions(graph), selected={Node("metrics/probe")})
    assert plan.todo == {} and (KNN[1] in plan.fresh) is not stale
