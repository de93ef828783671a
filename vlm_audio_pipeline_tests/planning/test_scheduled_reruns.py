"""Scheduled reruns: waves until nothing is stale, no paid step without permission, no endless repetition."""

import dataclasses
import os
import subprocess
import sys

import dagster as dg
import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.dagster_app import sensors as automation
from vlm_audio_pipeline.dagster_app.definitions import build_definitions
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.dagster_app.jobs import STUDY_TAG
from vlm_audio_pipeline.dagster_app.processes import PROCESS_TAG, has_ended, this_process
from vlm_audio_pipeline.dagster_app.sensors import _active_runs
from vlm_audio_pipeline.dagster_app.time_zones import local_time_zone
from vlm_audio_pipeline.planning.execution import execute_node
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import make_plan
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.planning.scheduled_reruns import SensorCursor, paid_steps_not_allowed, plan_next_runs
from vlm_audio_pipeline.planning.staleness import current_input_versions, read_node_provenance
from vlm_audio_pipeline.storage.ledger import Ledger
from vlm_audio_pipeline_tests import killable

NIGHTLY = {"schedule": "0 3 * * *"}


def run_all_waves(graph, refresh="one", max_waves=12):
    """Launch and execute wave after wave as sensor and daemon do. Return the nodes of each wave and the last plan."""
    launched, waves = set(), []
    while (planned := plan_next_runs(graph, refresh, launched)).launches:
        assert len(waves) < max_waves, "the waves do not end"
        waves.append([])
        for launch in planned.launches:
            launched.update(launch.node_keys)
            for node in launch.run.nodes:
                waves[-1].append(str(node))
                try:
                    execute_node(graph, node, reuse=True)
                except VlmAudioError:
                    break  # the rest of the run does not start
    return waves, planned


def test_waves_run_until_nothing_is_stale(done):
    done.record("1-low-0", "low", seed=99)
    graph = done.graph()
    waves, last_plan = run_all_waves(graph)
    assert (
        waves[0] == ["clips|1"]
        and "embeddings/bands|1" in waves[1]
        and "leaderboard" in {n for wave in waves for n in wave}
    )
    assert last_plan.not_run == {} and make_plan(graph, current_input_versions(graph)).todo == {}
    assert run_all_waves(graph, "two") == ([], last_plan)


def test_each_run_has_one_fold_and_its_key_depends_on_the_inputs(bench):
    graph = bench.graph()
    first, repeated = plan_next_runs(graph, "one"), plan_next_runs(graph, "one")
    # steps over all folds cannot run yet
    assert [launch.run.fold for launch in first.launches] == [1, 2, 3]
    assert first == repeated and len({launch.run_key for launch in first.launches}) == 3
    assert {x.run_key for x in plan_next_runs(graph, "two").launches}.isdisjoint(x.run_key for x in first.launches)
    bench.record("1-low-0", "low", seed=99)
    changed = plan_next_runs(bench.graph(), "one")
    assert [a.run_key == b.run_key for a, b in zip(first.launches, changed.launches, strict=True)] == [
        False,
        True,
        True,
    ]


@pytest.mark.slow
def test_a_failed_step_is_retried_after_the_next_refresh_and_does_not_block_others(bench):
    annotations = bench.folder / "annotations.csv"
    valid_text = annotations.read_text()
    annotations.write_text(valid_text + "2-low-0,ann,loud\n")
    waves, last_plan = run_all_waves(bench.graph())
    panel_nodes = [node for wave in waves for node in wave if node.startswith("predictions/panel")]
    assert 3 <= len(panel_nodes) <= 6  # together with the first wave, and again after the clips were computed
    assert {str(node) for node in last_plan.not_run} == {f"predictions/panel|{fold}" for fold in (1, 2, 3)}
    assert set(last_plan.not_run.values()) == {"it failed since the last refresh; see its run"}
    assert read_node_provenance(bench.graph(), Node("leaderboard")) and read_node_provenance(
        bench.graph(), Node("predictions/knn", 2)
    )
    retried, _ = run_all_waves(bench.graph(), "two")
    assert sorted(retried[0]) == sorted(set(panel_nodes)) and len(retried) == 1
    annotations.write_text(valid_text)
    assert run_all_waves(bench.graph(), "three")[1].not_run == {}


def test_an_unfinished_step_is_tried_once_in_each_refresh_and_its_result_is_used(bench):
    graph = bench.graph()
    folds_run = []
    step = graph.steps["predictions/knn"]
    original_run = step.stage.run

    def stop_early(context):
        folds_run.append(context.fold)
        context.unfinished.append("budget reached")
        return original_run(context)

    graph.steps["predictions/knn"] = dataclasses.replace(step, stage=dataclasses.replace(step.stage, run=stop_early))
    for count in (1, 2):
        run_all_waves(graph, f"night {count}")
        assert sorted(folds_run) == sorted([1, 2, 3] * count)
    assert read_node_provenance(graph, Node("leaderboard"))


@pytest.fixture
def paid_bench(bench):
    """A study with a classifier whose requests may cost money."""
    killable.register()
    bench.study["renderings"] = {"small": {"size": 24, "n_fft": 256, "hop_length": 128, "rate": 8000}}
    bench.study["classifiers"]["paid"] = {"kind": "counted_paid", "rendering": "small"}
    bench.study["rerun"] = NIGHTLY
    return bench


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rerun", "budget", "spent", "reason"),
    [
        ({}, {"usd": 5}, 0, "`rerun: {paid: true}` is not in the study"),
        ({"paid": True}, {"usd": 5}, 5, "the budget of 5 USD is used up"),
        ({"paid": True}, {"usd": 5}, 4.9, None),
    ],
)
def test_paid_steps_run_only_if_the_study_allows_it_and_budget_remains(paid_bench, rerun, budget, spent, reason):
    study = paid_bench.changed_study()
    study["rerun"] = NIGHTLY | rerun
    if budget:
        study["budget"] = budget
    graph = paid_bench.graph(study)
    if spent:
        ledger = Ledger(graph.result_store, "bench", graph.study.budget)
        ledger.settle(ledger.reserve("paid", spent), spent)
        ledger.close()
    paid_nodes = {Node("predictions/paid", fold) for fold in (1, 2, 3)}
    assert set(paid_steps_not_allowed(graph)) == (paid_nodes if reason else set())
    waves, last_plan = run_all_waves(graph)
    executed = {node for wave in waves for node in wave}
    assert {"predictions/knn|1", "spectrograms/small|1", "leaderboard"} <= executed
    assert ({str(node) for node in paid_nodes} <= executed) is (reason is None)
    assert set(last_plan.not_run) == (paid_nodes if reason else set())
    assert all(reason in text for text in last_plan.not_run.values())


def test_a_sensor_cursor_is_read_from_any_text():
    cursor = SensorCursor("abc", False, ("k1", "k2"))
    assert SensorCursor.from_json(cursor.to_json()) == cursor
    for text in (None, "", "nonsense", "[]", '{"refresh": 1}', '{"refresh": "a", "done": true, "launched": 3}'):
        assert SensorCursor.from_json(text) == SensorCursor()


# --------------------------------------------------------------------------------------------------------- in Dagster


def repository(bench, **rerun):
    study = bench.changed_study()
    study["rerun"] = NIGHTLY | rerun
    return build_definitions(studies=[str(bench.write(study))], data_folder=bench.data_folder).get_repository_def()


def test_only_a_study_with_rerun_has_a_schedule_and_a_sensor(done):
    plain = build_definitions(studies=[str(done.write())], data_folder=done.data_folder).get_repository_def()
    assert plain.schedule_defs == plain.sensor_defs == []
    repository_def = repository(done)
    (schedule,), (sensor,) = repository_def.schedule_defs, repository_def.sensor_defs
    assert (schedule.name, schedule.cron_schedule, schedule.job_name) == (
        "bench_schedule",
        "0 3 * * *",
        "bench_refresh",
    )
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert (sensor.name, sensor.default_status) == ("bench_sensor", dg.DefaultSensorStatus.RUNNING)
    assert schedule.execution_timezone == local_time_zone()


@pytest.mark.slow
def test_the_sensor_waits_for_a_refresh_and_launches_stale_steps(done):
    repository_def, instance = repository(done), open_instance(done.data_folder)
    sensor = repository_def.get_sensor_def("bench_sensor")

    def evaluate_sensor(cursor=None):
        with dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=repository_def) as context:
            return sensor.evaluate_tick(context)

    done.record("1-low-0", "low", seed=99)
    assert evaluate_sensor().skip_message == "no refresh yet"  # a change alone starts nothing; only the schedule does
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    assert repository_def.get_job("bench_refresh").execute_in_process(instance=instance, run_config=quiet).success
    tick = evaluate_sensor()
    (request,) = tick.run_requests
    assert request.partition_key == "1" and [k.path for k in request.asset_selection] == [["bench", "clips"]]
    later_requests = evaluate_sensor(tick.cursor).run_requests  # it was tried in this refresh and is not tried again
    assert all(request.partition_key is None for request in later_requests)

    run_study(done.graph(), set(done.graph().nodes))  # including the report, which a normal run does not write
    last_tick = evaluate_sensor(tick.cursor)
    assert last_tick.skip_message == "nothing is left to do"
    assert evaluate_sensor(last_tick.cursor).skip_message == "all steps of the last refresh are done"


def test_one_refresh_runs_at_a_time_and_ended_processes_are_not_waited_for(done):
    repository_def, instance = repository(done), open_instance(done.data_folder)
    schedule = repository_def.get_schedule_def("bench_schedule")
    tick = lambda: schedule.evaluate_tick(dg.build_schedule_context(instance=instance))  # noqa: E731
    assert len(tick().run_requests) == 1
    started = dg.DagsterRunStatus.STARTED
    run = instance.create_run_for_job(
        repository_def.get_job("bench_refresh"), status=started, tags={STUDY_TAG: "bench"}
    )
    assert tick().skip_message == "1 runs of bench are in progress: one refresh at a time"
    assert _active_runs(instance, "another") == []
    instance.add_run_tags(run.run_id, {PROCESS_TAG: this_process()})
    assert _active_runs(instance, "bench") == [run.run_id]
    ended_process = subprocess.run(
        [sys.executable, "-c", "from vlm_audio_pipeline.dagster_app.processes import this_process as t; print(t())"],
        capture_output=True,
        text=True,
        check=True,
    )
    instance.add_run_tags(run.run_id, {PROCESS_TAG: ended_process.stdout.strip()})
    assert _active_runs(instance, "bench") == []
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
    assert len(tick().run_requests) == 1


def test_a_run_that_succeeds_during_the_check_is_not_marked_as_failed(done, monkeypatch):
    repository_def, instance = repository(done), open_instance(done.data_folder)
    started = dg.DagsterRunStatus.STARTED
    run = instance.create_run_for_job(
        repository_def.get_job("bench_refresh"), status=started, tags={STUDY_TAG: "bench"}
    )

    def end_run(name):
        instance.report_dagster_event(dg.DagsterEvent("PIPELINE_SUCCESS", run.job_name), run.run_id)
        return True

    monkeypatch.setattr(automation, "has_ended", end_run)
    assert _active_runs(instance, "bench") == []
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.SUCCESS


def test_a_process_is_identified_by_host_number_and_start_time():
    assert not has_ended(this_process()) and not has_ended(None) and not has_ended("another-host 1 2")
    host, number, start_time = this_process().split(" ", 2)
    # another process with the same number
    assert has_ended(f"{host} {number} {start_time[:-1]}{(int(start_time[-1]) + 1) % 10}")
    child = os.fork()
    if child == 0:
        os._exit(0)
    name = f"{host} {child} {start_time}"
    os.waitpid(child, 0)
    assert has_ended(name)
