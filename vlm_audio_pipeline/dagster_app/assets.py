"""Steps as Dagster assets: each body is one call of `execute`, each value shown is what `execute` recorded."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import dagster as dg

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.dagster_app import gpu
from vlm_audio_pipeline.dagster_app.previews import preview
from vlm_audio_pipeline.dagster_app.processes import PROCESS_TAG, this_process
from vlm_audio_pipeline.datasets.inspection import folds_disjoint
from vlm_audio_pipeline.planning.execution import Outcome, current_progress, execute, telling
from vlm_audio_pipeline.planning.graph import Graph, Node, Source, Step
from vlm_audio_pipeline.planning.hub_revisions import look_at_models
from vlm_audio_pipeline.planning.publishing import publish
from vlm_audio_pipeline.storage.checks import check, names_of
from vlm_audio_pipeline.storage.partition_files import read_part
from vlm_audio_pipeline.storage.schemas import TABLES

Execute = Callable[[Graph, Node], Outcome]

STUDY_TAG = "vlm_audio_pipeline/study"
"""Tag of runs that nobody started by hand: the study they are of."""
UNATTENDED_TAG = "vlm_audio_pipeline/refresh"
"""Tag of runs that a sensor launched: the look outside that they follow."""
LOG_EVERY_S = 1.0
"""How often a step tells the log of its run how far it is, at most, s: what takes less says nothing."""


def partitions(folds: tuple[int, ...] | None) -> dg.StaticPartitionsDefinition | None:
    """Give one partition a fold."""
    return dg.StaticPartitionsDefinition([str(f) for f in folds]) if folds else None


def _dependencies(graph: Graph, step: Step) -> Iterator[dg.AssetDep]:
    """Give the edges of a step, with the folds they join."""
    for given in step.stage.inputs:
        upstream = graph.steps.get(given.key) or graph.sources[given.key]
        mapping: dg.PartitionMapping | None = None
        if upstream.folds and step.folds:
            if given.folds == "all":
                mapping = dg.AllPartitionMapping()
            elif given.folds == "same" and upstream.folds == step.folds:
                mapping = dg.IdentityPartitionMapping()  # what a backfill needs to make both in one run
            else:
                joined = {
                    str(u): {str(d) for d in step.folds if (u == d) == (given.folds == "same")} for u in upstream.folds
                }
                mapping = dg.StaticPartitionMapping({u: d for u, d in joined.items() if d})
        yield dg.AssetDep(dg.AssetKey(upstream.key), partition_mapping=mapping)


def step_asset(graph: Graph, step: Step, run: Execute | None = None) -> dg.AssetsDefinition:
    """Wrap a step as an asset.

    Args:
        graph: the study.
        step: one of its steps.
        run: how a node is executed, where it is not `execute`; the command passes a variant that counts and shows.
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
        owners=[graph.study.owner] if graph.study.owner else ["team:vlm_audio_pipeline"],
        # the graph shows the last part of a key alone, so what stands before it ("predictions") is told as a kind
        kinds={"parquet", "torch" if step.stage.accelerator else "python", *step.key[1:-1]},
        pool=gpu.POOL if step.stage.accelerator else None,
        op_tags=gpu.TAGS if step.stage.accelerator else None,
        metadata={"dagster/column_schema": columns, "tables": ", ".join(step.stage.tables)},
        check_specs=[dg.AssetCheckSpec(n, asset=key, description=doc) for n, doc in names_of(table).items()],
    )
    def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        node = Node(step.name, int(context.partition_key) if step.folds else None)
        if PROCESS_TAG not in context.run.tags:
            context.instance.add_run_tags(context.run.run_id, {PROCESS_TAG: this_process()})
        # who asks for a step in the UI wants it made; who is sent by a sensor takes what the command made meanwhile
        make = run or partial(execute, unless_made=UNATTENDED_TAG in context.run.tags)
        try:
            with telling(_log_progress(context)):
                outcome = make(graph, node)
                if run is None:  # the command publishes once a wave
                    publish(graph, rebuild=not step.folds)
        except VlmAudioError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        return dg.MaterializeResult(
            data_version=dg.DataVersion(outcome.provenance.data_version),
            metadata=preview(graph, node, outcome),
            check_results=list(_findings(graph, node, outcome)),
        )

    return made


def _log_progress(context: dg.AssetExecutionContext) -> Callable[[int, int, str], None]:
    """Tell the command's display and, every tenth of the way and not more often than people read, the log of the run."""
    outer, tenths, last = current_progress(), 0, time.monotonic()

    def progress(done: int, total: int, what: str) -> None:
        nonlocal tenths, last
        outer(done, total, what)
        tenth, now = 10 * done // max(total, 1), time.monotonic()
        if tenth != tenths and now - last >= LOG_EVERY_S:
            tenths, last = tenth, now
            context.log.info(f"{what}: {done} of {total}")

    return progress


def _findings(graph: Graph, node: Node, outcome: Outcome) -> Iterator[dg.AssetCheckResult]:
    table = graph.steps[node.step].stage.tables[0]
    clips = {}
    if table == "embeddings":
        path = graph.parts(Node("clips", node.fold))["clips"]
        clips = {"clips": read_part(path, TABLES["clips"])[0]}
    two_folds = folds_disjoint(list(graph.dataset().clips))
    for finding in check(table, outcome.tables[table], clips, two_folds):
        yield dg.AssetCheckResult(
            passed=finding.passed, check_name=finding.name, metadata={"found": dg.MetadataValue.text(finding.detail)}
        )


@contextmanager
def _beta() -> Iterator[None]:
    """Use what Dagster still marks beta, observable sources, without its warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        yield


def source_asset(graph: Graph, source: Source) -> Any:
    """Wrap a source as an observable asset whose data version is looked up outside."""

    def observed(context: dg.AssetExecutionContext) -> dg.ObserveResult | dg.DataVersionsByPartition:
        told = {seen.name: seen.words for seen in look_at_models(graph, only=source.name)}
        try:
            graph.look_again()
            versions = source.versions(graph.rows)
        except NotAvailable as error:  # what goes away makes nothing stale
            last = _last_version(context.instance, source, None)
            return dg.ObserveResult(
                data_version=dg.DataVersion(last) if last else None, metadata={**told, "not here": str(error)}
            )
        except VlmAudioError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        if source.folds is None:
            return dg.ObserveResult(data_version=dg.DataVersion(versions[None]), metadata=told)
        with _beta():
            return dg.DataVersionsByPartition({str(f): v for f, v in versions.items()})

    with _beta():
        return dg.observable_source_asset(
            key=dg.AssetKey(source.key),
            partitions_def=partitions(source.folds),
            group_name=graph.study.name if source.name != "dataset" else "datasets",
            description=source.description,
        )(observed)


def graph_assets(graph: Graph, run: Execute | None = None) -> list[Any]:
    """Give all assets of a study, sources first."""
    return [
        *(source_asset(graph, s) for s in graph.sources.values()),
        *(step_asset(graph, s, run) for s in graph.steps.values()),
    ]


def report_observations(graph: Graph, observed: dict[Node, str], instance: dg.DagsterInstance) -> None:
    """Tell Dagster the data versions the command saw, where they differ from those it has on record."""
    for source in graph.sources.values():
        for node in source.nodes:
            if node in observed and _last_version(instance, source, node.fold) != observed[node]:
                instance.report_runless_asset_event(
                    dg.AssetObservation(
                        dg.AssetKey(source.key),
                        partition=None if node.fold is None else str(node.fold),
                        tags={"dagster/data_version": observed[node]},
                    )
                )


def _last_version(instance: dg.DagsterInstance, source: Source, fold: int | None) -> str | None:
    """Give the data version that Dagster has on record."""
    chosen = dg.AssetRecordsFilter(
        asset_key=dg.AssetKey(source.key), asset_partitions=None if fold is None else [str(fold)]
    )
    last = instance.fetch_observations(chosen, limit=1).records
    tags = (last[0].asset_observation.tags if last and last[0].asset_observation else None) or {}
    return tags.get("dagster/data_version")
