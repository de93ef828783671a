"""Scheduled reruns in Dagster: a schedule starts a refresh job, then a sensor launches waves until nothing is stale.

Belongs here: the job, the schedule and the sensor, which the UI shows and can switch off. Does not belong here: which steps
run (`planning.scheduled_reruns`), and queries to the hub (`planning.hub_revisions`).
"""

from collections.abc import Iterator

import dagster as dg

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.escapes import show_control_codes
from vlm_audio_pipeline.dagster_app.assets import REFRESH_TAG, report_observations
from vlm_audio_pipeline.dagster_app.jobs import STUDY_TAG
from vlm_audio_pipeline.dagster_app.processes import PROCESS_TAG, has_ended, this_process
from vlm_audio_pipeline.dagster_app.time_zones import local_time_zone
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.hub_revisions import fetch_changed_models
from vlm_audio_pipeline.planning.scheduled_reruns import SensorCursor, plan_next_runs
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.studies.rerun import Rerun

SENSOR_INTERVAL_S = 10
"""Default time between two evaluations of the sensor, s: the maximum pause between two waves. Without a new refresh, an
evaluation is a single query of Dagster's database."""

IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def rerun_definitions(
    graph: Graph, rerun: Rerun, sensor_interval_s: int = SENSOR_INTERVAL_S
) -> tuple[dg.JobDefinition, dg.ScheduleDefinition, dg.SensorDefinition]:
    """Return the refresh job of a study, the schedule that starts it, and the sensor that launches stale steps."""
    job = _refresh_job(graph, rerun)
    return job, _schedule(graph, rerun, job), _sensor(graph, job.name, sensor_interval_s)


def _refresh_job(graph: Graph, rerun: Rerun) -> dg.JobDefinition:
    name = graph.study.name

    @dg.op(name=f"refresh_inputs_{name}")
    def refresh_inputs(context: dg.OpExecutionContext) -> None:
        context.instance.add_run_tags(context.run_id, {PROCESS_TAG: this_process()})
        try:
            graph.data_folder.create()
            graph.reload_dataset()
            graph.dataset()
            for status in fetch_changed_models(graph, rerun.download_gb):
                (context.log.warning if status.problem else context.log.info)(status.message)
            report_observations(graph, current_input_versions(graph), context.instance)
        except VlmAudioError as error:
            raise dg.Failure(description=show_control_codes(str(error)), allow_retries=False) from error

    @dg.job(
        name=f"{name}_refresh",
        tags={STUDY_TAG: name},
        description=f"Checks the dataset and the models of {name} for changes, and fetches models that changed on the hub.",
    )
    def refresh() -> None:
        refresh_inputs()

    return refresh


def _schedule(graph: Graph, rerun: Rerun, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    name = graph.study.name

    @dg.schedule(
        name=f"{name}_schedule",
        job=job,
        cron_schedule=rerun.schedule,
        execution_timezone=local_time_zone(),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Starts a refresh of {name} at the times in its study file.",
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if active := _active_runs(context.instance, name):
            return dg.SkipReason(f"{len(active)} runs of {name} are in progress: one refresh at a time")
        return dg.RunRequest(tags={STUDY_TAG: name})

    return tick


def _sensor(graph: Graph, refresh_job: str, interval_s: int) -> dg.SensorDefinition:
    name = graph.study.name

    @dg.sensor(
        name=f"{name}_sensor",
        target=dg.AssetSelection.assets(*(dg.AssetKey(step.key) for step in graph.steps.values())),
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"After a refresh, runs the stale steps of {name}: one run for each fold, in waves.",
    )
    def launch(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        cursor = SensorCursor.from_json(context.cursor)
        refreshes = context.instance.get_runs(dg.RunsFilter(job_name=refresh_job), limit=1)
        if not refreshes or (cursor.done and refreshes[0].run_id == cursor.refresh):
            return dg.SkipReason("all steps of the last refresh are done" if refreshes else "no refresh yet")
        refresh = refreshes[0]
        if active := _active_runs(context.instance, name):
            return dg.SkipReason(f"{len(active)} runs of {name} are in progress")
        if refresh.status is not dg.DagsterRunStatus.SUCCESS:
            return _finish_refresh(refresh.run_id, "the last refresh failed; see its run")
        if refresh.run_id != cursor.refresh:
            cursor = SensorCursor(refresh.run_id, False, ())
        graph.reload_dataset()
        next_runs = plan_next_runs(graph, cursor.refresh, cursor.launched)
        if not next_runs.launches:
            reasons = dict.fromkeys(next_runs.not_run.values())
            return _finish_refresh(
                cursor.refresh, "; ".join(["nothing is left to do", *(f"not run: {r}" for r in reasons)])
            )
        launched = (*cursor.launched, *(key for new in next_runs.launches for key in new.node_keys))
        requests = [
            dg.RunRequest(
                run_key=new.run_key,
                partition_key=None if new.run.fold is None else str(new.run.fold),
                asset_selection=[dg.AssetKey(graph.steps[node.step].key) for node in new.run.nodes],
                tags={STUDY_TAG: name, REFRESH_TAG: cursor.refresh},
            )
            for new in next_runs.launches
        ]
        return dg.SensorResult(run_requests=requests, cursor=SensorCursor(cursor.refresh, False, launched).to_json())

    return launch


def _finish_refresh(refresh: str, reason: str) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=reason, cursor=SensorCursor(refresh, True).to_json())


def _active_runs(instance: dg.DagsterInstance, study: str) -> list[str]:
    """Return the runs of a study that are in progress; first mark those whose process has ended as failed."""
    active = []
    for run in _runs_in_progress(instance, study):
        if run.status is not dg.DagsterRunStatus.STARTED or not has_ended(run.tags.get(PROCESS_TAG)):
            active.append(run.run_id)
            continue
        # The run may have ended since the first query.
        current_run = instance.get_run_by_id(run.run_id)
        if current_run and not current_run.is_finished:
            instance.report_run_failed(current_run, "its process has ended; finished steps are kept")
    return active


def _runs_in_progress(instance: dg.DagsterInstance, study: str) -> Iterator[dg.DagsterRun]:
    for run in instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS)):
        if run.tags.get(STUDY_TAG) == study or any(key.path[0] == study for key in run.asset_selection or ()):
            yield run
