"""The steps and input assets of a study as Dagster assets. Each asset body is one call of `execute_node`."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.escapes import show_control_codes
from vlm_audio_pipeline.contracts.progress import Progress
from vlm_audio_pipeline.dagster_app import gpu
from vlm_audio_pipeline.dagster_app.edges import dagster_version, visible_inputs
from vlm_audio_pipeline.dagster_app.jobs import STUDY_TAG
from vlm_audio_pipeline.dagster_app.pages import page_link
from vlm_audio_pipeline.dagster_app.previews import preview
from vlm_audio_pipeline.dagster_app.processes import PROCESS_TAG, this_process
from vlm_audio_pipeline.planning.execution import execute_node
from vlm_audio_pipeline.planning.executor import ExecuteNode
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.hub_revisions import check_hub_revisions
from vlm_audio_pipeline.planning.nodes import InputAsset, Node, Step
from vlm_audio_pipeline.planning.publishing import publish_study
from vlm_audio_pipeline.storage.checks import table_checks
from vlm_audio_pipeline.storage.schemas import TABLES

DEFAULT_OWNER = "team:vlm_audio_pipeline"
"""Owner of the assets of a study without `owner`."""
REFRESH_TAG = "vlm_audio_pipeline/refresh"
"""Tag of runs that the sensor launched: id of the refresh run that they follow."""
LOG_EVERY_S = 1.0
"""Shortest time between two progress messages in the log of a run, s."""


def partitions(folds: tuple[int, ...] | None) -> dg.StaticPartitionsDefinition | None:
    """Return the partitions of an asset, one for each fold; None without folds."""
    return dg.StaticPartitionsDefinition([str(f) for f in folds]) if folds else None


def _dependencies(graph: Graph, step: Step) -> Iterator[dg.AssetDep]:
    """Yield the inputs of a step that are edges in Dagster, with the mapping between folds."""
    for stage_input in visible_inputs(graph, step):
        upstream = graph.steps.get(stage_input.key) or graph.input_assets[stage_input.key]
        mapping: dg.PartitionMapping | None = None
        if upstream.folds and step.folds:
            if stage_input.folds == "all":
                mapping = dg.AllPartitionMapping()
            elif stage_input.folds == "same" and upstream.folds == step.folds:
                mapping = dg.IdentityPartitionMapping()  # with any other mapping, a backfill starts a run for each step
            else:
                folds_by_upstream = {
                    str(u): {str(d) for d in step.folds if (u == d) == (stage_input.folds == "same")}
                    for u in upstream.folds
                }
                mapping = dg.StaticPartitionMapping({u: d for u, d in folds_by_upstream.items() if d})
        yield dg.AssetDep(dg.AssetKey(upstream.key), partition_mapping=mapping)


def step_asset(graph: Graph, step: Step, execute: ExecuteNode | None = None) -> dg.AssetsDefinition:
    """Wrap a step as an asset.

    Args:
        graph: the study.
        step: one of its steps.
        execute: executes a node for the executor of the command, which publishes the study later; None: the asset executes
            the node and publishes the study.
    """
    key = dg.AssetKey(step.key)
    table = step.stage.tables[0]
    columns = dg.TableSchema(
        columns=[dg.TableColumn(c.name, str(c.type), description=c.doc) for c in TABLES[table].columns]
    )

    @dg.asset(
        key=key,
        deps=list(_dependencies(graph, step)),
        partitions_def=partitions(step.folds),
        code_version=step.version,
        group_name=graph.study.name,
        description=f"{step.stage.description}\n\n{TABLES[table].doc}",
        owners=[graph.study.owner or DEFAULT_OWNER],
        kinds={"parquet", "torch" if step.stage.accelerator else "python"},
        pool=gpu.POOL if step.stage.accelerator else None,
        op_tags=gpu.TAGS if step.stage.accelerator else None,
        metadata={"dagster/column_schema": columns, "tables": ", ".join(step.stage.tables), **page_link(graph, step)},
        check_specs=[dg.AssetCheckSpec(c.name, asset=key, description=c.doc) for c in table_checks(TABLES[table])],
    )
    # Dagster compares the annotation with the class itself, without a type argument.
    def asset(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        node = Node(step.name, int(context.partition_key) if step.folds else None)
        if PROCESS_TAG not in context.run.tags:
            # Runs that a person starts from the graph belong to no job, so the tag of the job is repeated.
            tags = {PROCESS_TAG: this_process(), STUDY_TAG: graph.study.name}
            context.instance.add_run_tags(context.run.run_id, tags)
        progress = _log_progress(context)
        try:
            if execute is None:
                # A run that a person starts in the UI recomputes; a run of the sensor reuses results of the command.
                result = execute_node(graph, node, reuse=REFRESH_TAG in context.run.tags, progress=progress)
                publish_study(graph, rebuild=not step.folds)
            else:
                result = execute(node, progress)
        except VlmAudioError as error:
            raise dg.Failure(description=show_control_codes(str(error)), allow_retries=False) from error
        return dg.MaterializeResult(
            data_version=dg.DataVersion(dagster_version(graph, node, result.provenance)),
            metadata=preview(graph, node, result),
            check_results=[
                dg.AssetCheckResult(
                    passed=check.passed,
                    check_name=check.name,
                    metadata={"detail": dg.MetadataValue.text(check.detail)},
                )
                for check in result.checks
            ],
        )

    return asset


def _log_progress(context: dg.AssetExecutionContext) -> Progress:
    """Return a callback that logs progress to the run, at most once for each tenth and each `LOG_EVERY_S` seconds."""
    tenths, last_time = 0, time.monotonic()

    def progress(done: int, total: int, description: str) -> None:
        nonlocal tenths, last_time
        tenth, now = 10 * done // max(total, 1), time.monotonic()
        if tenth != tenths and now - last_time >= LOG_EVERY_S:
            tenths, last_time = tenth, now
            context.log.info(f"{description}: {done} of {total}")

    return progress


@contextmanager
def _ignore_beta_warnings() -> Iterator[None]:
    """Suppress Dagster's warning that observable source assets are a beta feature."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        yield


def observable_asset(graph: Graph, input_asset: InputAsset) -> Any:
    """Return an input asset of a study as an observable source asset of Dagster."""

    def observe(context: dg.AssetExecutionContext) -> dg.ObserveResult | dg.DataVersionsByPartition:
        messages = {status.name: status.message for status in check_hub_revisions(graph, only=input_asset.name)}
        try:
            graph.reload_dataset()
            versions = input_asset.versions(graph.result_store)
        except NotAvailable as error:  # results stay fresh when their inputs are deleted
            last_version = _last_version(context.instance, input_asset, None)
            return dg.ObserveResult(
                data_version=dg.DataVersion(last_version) if last_version else None,
                metadata={**messages, "not available": str(error)},
            )
        except VlmAudioError as error:
            raise dg.Failure(description=show_control_codes(str(error)), allow_retries=False) from error
        if input_asset.folds is None:
            return dg.ObserveResult(data_version=dg.DataVersion(versions[None]), metadata=messages)
        with _ignore_beta_warnings():
            return dg.DataVersionsByPartition({str(f): v for f, v in versions.items()})

    with _ignore_beta_warnings():
        return dg.observable_source_asset(
            key=dg.AssetKey(input_asset.key),
            partitions_def=partitions(input_asset.folds),
            group_name=graph.study.name if input_asset.name != "dataset" else "datasets",
            description=input_asset.description,
            metadata=_input_metadata(graph, input_asset),
        )(observe)


def _input_metadata(graph: Graph, input_asset: InputAsset) -> dict[str, Any]:
    """Return path, counts, licence, link and owner of an input asset, those that are known."""
    owner = graph.study.owner or DEFAULT_OWNER
    try:
        facts = input_asset.facts()
    except (VlmAudioError, OSError) as error:
        return {"owners": owner, "not available": str(error)}
    values: dict[str, Any] = {name: value for name, value in facts.items() if value != ""}
    if str(facts.get("link", "")).startswith("http"):
        values["link"] = dg.MetadataValue.url(str(facts["link"]))
    if str(facts.get("path", "")).startswith("/"):
        values["path"] = dg.MetadataValue.path(str(facts["path"]))
    return {**values, "owners": owner}


def graph_assets(graph: Graph, execute: ExecuteNode | None = None) -> list[Any]:
    """Return all assets of a study, input assets first."""
    return [
        *(observable_asset(graph, s) for s in graph.input_assets.values()),
        *(step_asset(graph, s, execute) for s in graph.steps.values()),
    ]


def report_observations(graph: Graph, observed: dict[Node, str], instance: dg.DagsterInstance) -> None:
    """Report the current versions of the input assets to Dagster, where they differ from the last reported ones.

    A fold is reported as an observation and as a materialization, because the UI counts only materialized partitions as filled.
    The observations come first: Dagster calls a step stale if an observation is newer than the materialization that it read.
    """
    for input_asset in graph.input_assets.values():
        nodes = [node for node in input_asset.nodes if node in observed]
        for event in (dg.AssetObservation, dg.AssetMaterialization) if input_asset.folds else (dg.AssetObservation,):
            for node in nodes:
                if _last_version(instance, input_asset, node.fold, event) != observed[node]:
                    instance.report_runless_asset_event(
                        event(
                            dg.AssetKey(input_asset.key),
                            partition=None if node.fold is None else str(node.fold),
                            tags={"dagster/data_version": observed[node]},
                        )
                    )


def _last_version(
    instance: dg.DagsterInstance,
    input_asset: InputAsset,
    fold: int | None,
    event: type[dg.AssetObservation | dg.AssetMaterialization] = dg.AssetObservation,
) -> str | None:
    """Return the data version of the last observation or materialization, or None."""
    records_filter = dg.AssetRecordsFilter(
        asset_key=dg.AssetKey(input_asset.key), asset_partitions=None if fold is None else [str(fold)]
    )
    is_observation = event is dg.AssetObservation
    fetch = instance.fetch_observations if is_observation else instance.fetch_materializations
    last = fetch(records_filter, limit=1).records
    value = last and (last[0].asset_observation if is_observation else last[0].asset_materialization)
    return value.tags.get("dagster/data_version") if value and value.tags else None
