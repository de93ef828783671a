"""The planner agrees with Dagster's own staleness. The private resolver of Dagster gives the expected values, only here."""

import dataclasses

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.workspace.context import LoadingContext

from vlm_audio_pipeline.dagster_app.assets import graph_assets, report_observations
from vlm_audio_pipeline.dagster_app.executor import DagsterExecutor
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import make_plan
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline_tests.bench import Bench

pytestmark = pytest.mark.slow


class _Loading(LoadingContext):
    def __init__(self, instance):
        self._instance, self._loaders = instance, {}

    @property
    def instance(self):
        return self._instance

    @property
    def loaders(self):
        return self._loaders


def stale_for_dagster(graph) -> set[str]:
    """Return the nodes that are stale or missing according to Dagster."""
    instance = open_instance(graph.data_folder)
    report_observations(graph, current_input_versions(graph), instance)
    asset_graph = dg.Definitions(assets=graph_assets(graph)).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, asset_graph, _Loading(instance))
    stale_nodes = set()
    for node in graph.nodes:
        key = dg.AssetKey(graph.steps[node.step].key)
        partition = None if node.fold is None else str(node.fold)
        if resolver.get_status(key, partition) in (StaleStatus.STALE, StaleStatus.MISSING):
            stale_nodes.add(str(node))
    return stale_nodes


def never_run(bench: Bench):
    return bench.study


def all_run(bench: Bench):
    bench.run(executor=DagsterExecutor())
    return bench.study


def recording_replaced(bench: Bench):
    bench.run(executor=DagsterExecutor())
    bench.record("2-high-0", "high", seed=77)
    return bench.study


def label_corrected(bench: Bench):
    bench.run(executor=DagsterExecutor())
    bench.rows[3]["label"] = "low"
    return bench.study


def probe_parameter_changed(bench: Bench):
    bench.run(executor=DagsterExecutor())
    return bench.changed_study("classifiers", "probe", c=0.01)


def encoder_parameter_changed(bench: Bench):
    bench.run(executor=DagsterExecutor())
    return bench.changed_study("encoders", "bands", dimensions=7)


def parameter_changed_and_run_up_to_the_vectors(bench: Bench):
    bench.run(executor=DagsterExecutor())
    changed = bench.changed_study("encoders", "bands", dimensions=7)
    bench.run(changed, only=("embeddings/*",), executor=DagsterExecutor())
    return changed


def parameter_changed_and_changed_back(bench: Bench):
    bench.run(executor=DagsterExecutor())
    bench.graph(bench.changed_study("encoders", "bands", dimensions=7))
    return bench.study


def classifier_added(bench: Bench):
    bench.run(executor=DagsterExecutor())
    return bench.changed_study("classifiers", nearest={"kind": "knn", "encoder": "bands", "k": 1})


def classifier_removed(bench: Bench):
    bench.run(executor=DagsterExecutor())
    study = bench.changed_study()
    del study["classifiers"]["panel"]
    return study


def one_fold_run(bench: Bench):
    bench.run(fold=1, executor=DagsterExecutor())
    return bench.study


def another_fold_predicted_since(bench: Bench):
    bench.run(fold=1, executor=DagsterExecutor())
    bench.run(only=("predictions/knn",), fold=2, executor=DagsterExecutor())
    return bench.study


def annotations_added(bench: Bench):
    bench.run(executor=DagsterExecutor())
    with (bench.folder / "annotations.csv").open("a") as file:
        file.write("3-high-1,ann,low\n")
    return bench.study


def same_content_materialized_again(bench: Bench):
    bench.run(executor=DagsterExecutor())
    graph = bench.graph()
    dg.materialize(
        graph_assets(graph),
        selection=[dg.AssetKey(graph.steps["clips"].key)],
        partition_key="1",
        instance=open_instance(graph.data_folder),
    )
    return bench.study


def code_version_raised(bench: Bench):
    bench.run(executor=DagsterExecutor())
    return bench.study


SITUATIONS = [
    never_run,
    all_run,
    recording_replaced,
    label_corrected,
    probe_parameter_changed,
    encoder_parameter_changed,
    parameter_changed_and_run_up_to_the_vectors,
    parameter_changed_and_changed_back,
    classifier_added,
    classifier_removed,
    one_fold_run,
    another_fold_predicted_since,
    annotations_added,
    same_content_materialized_again,
    code_version_raised,
]
FRESH = {all_run, parameter_changed_and_changed_back, same_content_materialized_again}


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda f: f.__name__)
def test_planner_and_dagster_agree_on_stale_nodes(request, situation):
    # situations that begin with a complete run use a copy of one; running it again does nothing
    fresh_start = situation in (never_run, one_fold_run, another_fold_predicted_since)
    bench = request.getfixturevalue("bench" if fresh_start else "done")
    graph = bench.graph(situation(bench))
    if situation is code_version_raised:
        step = graph.steps["predictions/knn"]
        stage = dataclasses.replace(step.stage, version=step.stage.version + 1)
        graph.steps["predictions/knn"] = dataclasses.replace(step, stage=stage)
    plan = make_plan(graph, current_input_versions(graph), set(graph.nodes))  # Dagster has no steps on demand
    planned = {str(n) for n in [*plan.todo, *plan.not_run]}
    assert planned == stale_for_dagster(graph)
    assert (planned == {"report", "projections/bands"}) == (situation in FRESH), "steps on demand did not run"


def test_the_plan_gives_the_reason_for_each_node(done):
    done.record("2-high-0", "high", seed=77)
    plan = done.plan(done.changed_study("classifiers", "probe", c=0.01))
    assert plan.todo[Node("clips", 2)] == ("dataset|2 changed",)
    assert plan.todo[Node("probes/probe", 1)] == ("parameters changed",)
    assert Node("embeddings/bands", 2) in plan.fresh  # the clips may have equal content, so it waits
