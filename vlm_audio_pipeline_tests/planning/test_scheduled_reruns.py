"""What runs when nobody is there: waves until nothing is stale, nothing paid unasked, nothing for ever."""

import dataclasses
import os
import subprocess
import sys

import dagster as dg
import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.dagster_app import sensors as automation
from vlm_audio_pipeline.dagster_app.assets import STUDY_TAG
from vlm_audio_pipeline.dagster_app.definitions import build_definitions
from vlm_audio_pipeline.dagster_app.instance import open_instance
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


def work_off(graph, refresh="one", most=12):
    """Launch and execute wave after wave, as the sensor and the daemon do; gives the nodes of each wave, and the last word."""
    launched, waves = set(), []
    while (coming := plan_next_runs(graph, refresh, launched)).launches:
        assert len(waves) < most, "it goes on for ever"
        waves.append([])
        for launch in coming.launches:
            launched.update(launch.node_keys)
            for node in launch.run.nodes:
                waves[-1].append(str(node))
                try:
                    execute_node(graph, node, reuse=True)
                except VlmAudioError:
                    break  # the rest of the run does not start
    return waves, coming


def test_waves_until_nothing_is_stale_and_then_none(done):
    done.record("1-low-0", "low", seed=99)
    graph = done.graph()
    waves, last = work_off(graph)
    assert (
        waves[0] == ["clips|1"]
        and "embeddings/bands|1" in waves[1]
        and "leaderboard" in {n for wave in waves for n in wave}
    )
    assert last.not_run == {} and make_plan(graph, current_input_versions(graph)).todo == {}
    assert work_off(graph, "two") == ([], last)


def test_each_run_is_of_one_fold_and_its_key_says_what_it_is_to_be_made_from(bench):
    graph = bench.graph()
    first, same = plan_next_runs(graph, "one"), plan_next_runs(graph, "one")
    # over all folds nothing can be made yet, but for the table of published results, which needs none of them
    assert [launch.run.fold for launch in first.launches] == [1, 2, 3, None]
    assert first == same and len({launch.run_key for launch in first.launches}) == 4
    assert {x.run_key for x in plan_next_runs(graph, "two").launches}.isdisjoint(x.run_key for x in first.launches)
    bench.record("1-low-0", "low", seed=99)
    changed = plan_next_runs(bench.graph(), "one")
    assert [a.run_key == b.run_key for a, b in zip(first.launches, changed.launches, strict=True)] == [
        False,
        True,
        True,
        True,
    ]


@pytest.mark.slow
def test_what_fails_waits_for_the_next_refresh_and_stops_nothing_else(bench):
    readings = bench.folder / "annotations.csv"
    good = readings.read_text()
    readings.write_text(good + "2-low-0,ann,loud\n")
    waves, last = work_off(bench.graph())
    tried = [node for wave in waves for node in wave if node.startswith("predictions/panel")]
    assert 3 <= len(tried) <= 6  # with what rides along, and once more when the clips were there
    assert {str(node) for node in last.not_run} == {f"predictions/panel|{fold}" for fold in (1, 2, 3)}
    assert set(last.not_run.values()) == {"it failed since the last refresh; see its run"}
    assert read_node_provenance(bench.graph(), Node("leaderboard")) and read_node_provenance(
        bench.graph(), Node("predictions/knn", 2)
    )
    again, _ = work_off(bench.graph(), "two")
    assert sorted(again[0]) == sorted(set(tried)) and len(again) == 1
    readings.write_text(good)
    assert work_off(bench.graph(), "three")[1].not_run == {}


def test_what_stops_early_is_tried_once_a_refresh_and_used(bench):
    graph = bench.graph()
    runs = []
    step = graph.steps["predictions/knn"]
    inner = step.stage.run

    def stops(context):
        runs.append(context.fold)
        context.unfinished.append("budget reached")
        return inner(context)

    graph.steps["predictions/knn"] = dataclasses.replace(step, stage=dataclasses.replace(step.stage, run=stops))
    for count in (1, 2):
        work_off(graph, f"night {count}")
        assert sorted(runs) == sorted([1, 2, 3] * count)
    assert read_node_provenance(graph, Node("leaderboard"))


@pytest.fixture
def asking(bench):
    """A study with a classifier that may cost money."""
    killable.register()
    bench.study["renderings"] = {"small": {"size": 24, "n_fft": 256, "hop_length": 128, "rate": 8000}}
    bench.study["classifiers"]["asked"] = {"kind": "asks", "rendering": "small"}
    bench.study["rerun"] = NIGHTLY
    return bench


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rerun", "budget", "spent", "why"),
    [
        ({}, {"usd": 5}, 0, "`rerun: {paid: true}` is not in the study"),
        ({"paid": True}, {"usd": 5}, 5, "the budget of 5 USD is used up"),
        ({"paid": True}, {"usd": 5}, 4.9, None),
    ],
)
def test_nothing_paid_runs_unless_the_study_says_so_and_has_budget_left(asking, rerun, budget, spent, why):
    study = asking.changed()
    study["rerun"] = NIGHTLY | rerun
    if budget:
        study["budget"] = budget
    graph = asking.graph(study)
    if spent:
        ledger = Ledger(graph.result_store, "bench", graph.study.budget)
        ledger.settle(ledger.reserve("asked", spent), spent)
        ledger.close()
    held = {Node("predictions/asked", fold) for fold in (1, 2, 3)}
    assert set(paid_steps_not_allowed(graph)) == (held if why else set())
    waves, last = work_off(graph)
    ran = {node for wave in waves for node in wave}
    assert {"predictions/knn|1", "spectrograms/small|1", "leaderboard"} <= ran
    assert ({str(node) for node in held} <= ran) is (why is None)
    assert set(last.not_run) == (held if why else set())
    assert all(why in reason for reason in last.not_run.values())


def test_what_the_sensor_remembers_survives_any_text():
    memory = SensorCursor("abc", False, ("k1", "k2"))
    assert SensorCursor.from_json(memory.to_json()) == memory
    for text in (None, "", "nonsense", "[]", '{"refresh": 1}', '{"refresh": "a", "done": true, "launched": 3}'):
        assert SensorCursor.from_json(text) == SensorCursor()


# --------------------------------------------------------------------------------------------------------- in Dagster


def repository(bench, **rerun):
    study = bench.changed()
    study["rerun"] = NIGHTLY | rerun
    return build_definitions(studies=[str(bench.write(study))], data_folder=bench.data_folder).get_repository_def()


def test_a_study_that_says_so_has_a_schedule_and_a_sensor_and_no_other_has(done):
    plain = build_definitions(studies=[str(done.write())], data_folder=done.data_folder).get_repository_def()
    assert plain.schedule_defs == plain.sensor_defs == []
    there = repository(done)
    (schedule,), (sensor,) = there.schedule_defs, there.sensor_defs
    assert (schedule.name, schedule.cron_schedule, schedule.job_name) == (
        "bench_schedule",
        "0 3 * * *",
        "bench_refresh",
    )
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert (sensor.name, sensor.default_status) == ("bench_sensor", dg.DefaultSensorStatus.RUNNING)
    assert schedule.execution_timezone == local_time_zone()


@pytest.mark.slow
def test_the_sensor_waits_for_a_refresh_launches_what_changed_and_is_done(done):
    there, instance = repository(done), open_instance(done.data_folder)
    sensor = there.get_sensor_def("bench_sensor")

    def look(cursor=None):
        with dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=there) as context:
            return sensor.evaluate_tick(context)

    done.record("1-low-0", "low", seed=99)
    assert look().skip_message == "no refresh yet"  # a change alone starts nothing: the schedule does
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    assert there.get_job("bench_refresh").execute_in_process(instance=instance, run_config=quiet).success
    tick = look()
    (request,) = tick.run_requests
    assert request.partition_key == "1" and [k.path for k in request.asset_selection] == [["bench", "clips"]]
    later = look(tick.cursor).run_requests  # tried, and still to do: it is not tried again
    assert all(request.partition_key is None for request in later)

    run_study(done.graph(), set(done.graph().nodes))  # with the report, which a plain run leaves alone
    last = look(tick.cursor)
    assert last.skip_message == "nothing is left to do"
    assert look(last.cursor).skip_message == "all steps of the last refresh are done"


def test_one_refresh_at_a_time_and_no_waiting_for_the_dead(done):
    there, instance = repository(done), open_instance(done.data_folder)
    schedule = there.get_schedule_def("bench_schedule")
    tick = lambda: schedule.evaluate_tick(dg.build_schedule_context(instance=instance))  # noqa: E731
    assert len(tick().run_requests) == 1
    started = dg.DagsterRunStatus.STARTED
    run = instance.create_run_for_job(there.get_job("bench_refresh"), status=started, tags={STUDY_TAG: "bench"})
    assert tick().skip_message == "1 runs of bench are in progress: one refresh at a time"
    assert _active_runs(instance, "another") == []
    instance.add_run_tags(run.run_id, {PROCESS_TAG: this_process()})
    assert _active_runs(instance, "bench") == [run.run_id]
    dead = subprocess.run(
        [sys.executable, "-c", "from vlm_audio_pipeline.dagster_app.processes import this_process as t; print(t())"],
        capture_output=True,
        text=True,
        check=True,
    )
    instance.add_run_tags(run.run_id, {PROCESS_TAG: dead.stdout.strip()})
    assert _active_runs(instance, "bench") == []
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
    assert len(tick().run_requests) == 1


def test_a_run_that_ends_well_while_it_is_looked_at_did_not_fail(done, monkeypatch):
    there, instance = repository(done), open_instance(done.data_folder)
    started = dg.DagsterRunStatus.STARTED
    run = instance.create_run_for_job(there.get_job("bench_refresh"), status=started, tags={STUDY_TAG: "bench"})

    def ends_just_now(name):
        instance.report_dagster_event(dg.DagsterEvent("PIPELINE_SUCCESS", run.job_name), run.run_id)
        return True

    monkeypatch.setattr(automation, "has_ended", ends_just_now)
    assert _active_runs(instance, "bench") == []
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.SUCCESS


def test_a_process_is_known_by_more_than_its_number():
    assert not has_ended(this_process()) and not has_ended(None) and not has_ended("another-host 1 2")
    host, number, began = this_process().split(" ", 2)
    assert has_ended(f"{host} {number} {began[:-1]}{(int(began[-1]) + 1) % 10}")  # its number, given out again
    child = os.fork()
    if child == 0:
        os._exit(0)
    name = f"{host} {child} {began}"
    os.waitpid(child, 0)
    assert has_ended(name)
