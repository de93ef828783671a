"""A study that reruns by itself: a schedule starts a look outside, a sensor then launches waves until nothing is stale.

What belongs here: the wiring in Dagster, visible and switchable in its UI. What does not: what runs (`unattended`) and how the
hub is looked at (`observing`).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.dagster_app.assets import STUDY_TAG, UNATTENDED_TAG, report_observations
from vlm_audio_pipeline.dagster_app.processes import PROCESS_TAG, is_gone, this_process
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.hub_revisions import refresh_models
from vlm_audio_pipeline.planning.scheduled_reruns import Memory, next_runs
from vlm_audio_pipeline.planning.staleness import observe
from vlm_audio_pipeline.studies.rerun import Rerun

LOOK_EVERY_S = 10
"""How often the sensor looks, s: at most so long lies between two waves. Where no refresh is open a look is one query."""

IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def automation(graph: Graph, rerun: Rerun) -> tuple[dg.JobDefinition, dg.ScheduleDefinition, dg.SensorDefinition]:
    """Give the job that looks outside, the schedule that starts it and the sensor that launches what has become stale."""
    job = _refresh_job(graph, rerun)
    return job, _schedule(graph, rerun, job), _sensor(graph, job.name)


def _refresh_job(graph: Graph, rerun: Rerun) -> dg.JobDefinition:
    name = graph.study.name

    @dg.op(name=f"look_outside_{name}")
    def look(context: dg.OpExecutionContext) -> None:
        context.instance.add_run_tags(context.run_id, {PROCESS_TAG: this_process()})
        try:
            graph.layout.made()
            graph.look_again()
            graph.dataset()
            for seen in refresh_models(graph, rerun.download_gb):
                (context.log.warning if seen.trouble else context.log.info)(seen.words)
            report_observations(graph, observe(graph), context.instance)
        except VlmAudioError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error

    @dg.job(
        name=f"{name}_refresh",
        tags={STUDY_TAG: name},
        description=f"Looks at the dataset and the models of {name}, and fetches models that have changed on the hub.",
    )
    def refresh() -> None:
        look()

    return refresh


def _schedule(graph: Graph, rerun: Rerun, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    name = graph.study.name

    @dg.schedule(
        name=f"{name}_schedule",
        job=job,
        cron_schedule=rerun.schedule,
        execution_timezone=time_zone(),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Looks for changes of the dataset and the models of {name}, as its file says.",
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if busy := _active(context.instance, name):
            return dg.SkipReason(f"{len(busy)} runs of {name} are still going on: one refresh at a time")
        return dg.RunRequest(tags={STUDY_TAG: name})

    return tick


def _sensor(graph: Graph, refresh_job: str) -> dg.SensorDefinition:
    name = graph.study.name

    @dg.sensor(
        name=f"{name}_sensor",
        target=dg.AssetSelection.assets(*(dg.AssetKey(step.key) for step in graph.steps.values())),
        minimum_interval_seconds=LOOK_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"After a look outside, runs what has become stale in {name}: one run a fold, wave by wave.",
    )
    def launch(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        memory = Memory.read(context.cursor)
        found = context.instance.get_runs(dg.RunsFilter(job_name=refresh_job), limit=1)
        if not found or (memory.done and found[0].run_id == memory.refresh):
            return dg.SkipReason("everything of the last look outside is done" if found else "no look outside yet")
        latest = found[0]
        if busy := _active(context.instance, name):
            return dg.SkipReason(f"{len(busy)} runs of {name} are going on")
        if latest.status is not dg.DagsterRunStatus.SUCCESS:
            return _done(latest.run_id, "the last look outside did not succeed; its run says why")
        if latest.run_id != memory.refresh:
            memory = Memory(latest.run_id, False, ())
        graph.look_again()
        coming = next_runs(graph, memory.refresh, memory.launched)
        if not coming.launches:
            reasons = dict.fromkeys(coming.left_out.values())
            return _done(memory.refresh, "; ".join(["nothing is left to do", *(f"left out: {r}" for r in reasons)]))
        launched = (*memory.launched, *(key for one in coming.launches for key in one.node_keys))
        requests = [
            dg.RunRequest(
                run_key=one.run_key,
                partition_key=None if one.run.fold is None else str(one.run.fold),
                asset_selection=[dg.AssetKey(graph.steps[node.step].key) for node in one.run.nodes],
                tags={STUDY_TAG: name, UNATTENDED_TAG: memory.refresh},
            )
            for one in coming.launches
        ]
        return dg.SensorResult(run_requests=requests, cursor=Memory(memory.refresh, False, launched).text())

    return launch


def _done(refresh: str, why: str) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=why, cursor=Memory(refresh, True).text())


def _active(instance: dg.DagsterInstance, study: str) -> list[str]:
    """Give the runs of a study that are going on; those whose process died are marked as failed first."""
    active = []
    for run in _in_progress(instance, study):
        if run.status is not dg.DagsterRunStatus.STARTED or not is_gone(run.tags.get(PROCESS_TAG)):
            active.append(run.run_id)
        elif (now := instance.get_run_by_id(run.run_id)) and not now.is_finished:  # it may have ended well meanwhile
            instance.report_run_failed(now, "its process is gone; what it finished is kept")
    return active


def _in_progress(instance: dg.DagsterInstance, study: str) -> Iterator[dg.DagsterRun]:
    for run in instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS)):
        if run.tags.get(STUDY_TAG) == study or any(key.path[0] == study for key in run.asset_selection or ()):
            yield run


def time_zone() -> str:
    """Give the name of this machine's time zone: `TZ`, else what /etc/localtime points to, else UTC."""
    linked = os.path.realpath("/etc/localtime").partition("zoneinfo/")[2] if Path("/etc/localtime").is_symlink() else ""
    for name in (os.environ.get("TZ", "").lstrip(":"), linked):
        try:
            return ZoneInfo(name).key if name else "UTC"
        except (ZoneInfoNotFoundError, ValueError, OSError):
            continue
    return "UTC"
