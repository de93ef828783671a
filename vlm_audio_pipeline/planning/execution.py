"""Execute one node: read its inputs, run its stage, check its first table and write its tables with their provenance."""

import platform
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version

import pyarrow as pa

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.errors import MissingInput
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.datasets.inspection import sources_in_several_folds
from vlm_audio_pipeline.engines.blas import one_blas_thread
from vlm_audio_pipeline.planning.budget import open_ledger
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.publishing import publish_study
from vlm_audio_pipeline.planning.staleness import (
    fresh_nodes,
    read_node_provenance,
    times_asked_again,
    unfinished_reasons,
)
from vlm_audio_pipeline.storage.checks import SOURCES_IN_ONE_FOLD, CheckContext, CheckResult, run_checks
from vlm_audio_pipeline.storage.disk_errors import convert_disk_errors
from vlm_audio_pipeline.storage.locks import file_lock
from vlm_audio_pipeline.storage.partition_files import Provenance, data_version, read_partition, write_partition
from vlm_audio_pipeline.storage.row_order import sort_rows
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.storage.scratch import Scratch


@dataclass(frozen=True)
class NodeResult:
    """The result of executing a node.

    Attributes:
        provenance: the provenance in the footers of the partition files.
        tables: the tables of its partition, by name.
        checks: the results of the checks of the first table.
        seconds: wall time, s.
        reused: True if nothing was computed, because the partition existed and was computed from exactly these inputs.
    """

    provenance: Provenance
    tables: dict[str, pa.Table]
    checks: tuple[CheckResult, ...]
    seconds: float
    reused: bool = False


class DamagedInput(MissingInput):
    """A partition file that was intact cannot be read any more, so an input is missing; the next run recomputes it."""


@cache
def _environment() -> dict[str, str]:
    """Return the versions of this package, of Python and of the packages that results may depend on, and the machine type."""
    packages = ("numpy", "scipy", "scikit-learn", "soundfile", "soxr", "torch", "transformers")
    return {
        "package_version": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in packages},
    }


def execute_node(graph: Graph, node: Node, *, reuse: bool = False, progress: Progress = no_progress) -> NodeResult:
    """Run the stage of a node under the lock of the node, check its first table and write its partition files.

    Args:
        graph: the study.
        node: the node.
        reuse: return the existing partition if it was computed from exactly these inputs. Another process may have
            written it while this process waited for the lock.
        progress: called with the progress of the stage.

    Raises:
        MissingInput: when an input does not exist.
        DamagedInput: when an input cannot be read; the next run recomputes it.
        VlmAudioError: when the stage rejects its inputs, or the disk cannot be written.
    """
    lock = graph.data_folder.create().lock(f"{graph.study.name}.{node}")
    with convert_disk_errors(graph.data_folder), file_lock(lock):
        started = time.perf_counter()
        inputs, versions = read_inputs(graph, node)
        result = _existing_result(graph, node, inputs, versions, started) if reuse else None
        return result or _run_stage(graph, node, inputs, versions, progress, started)


def matching_provenance(graph: Graph, node: Node, versions: Mapping[str, str]) -> Provenance | None:
    """Return the provenance of the partition of a node if it is complete and was computed from these versions of its inputs."""
    provenance = read_node_provenance(graph, node)
    if provenance is None or unfinished_reasons(provenance):
        return None
    if provenance.details.get("asked_again", 0) < times_asked_again(graph, [node])[node]:
        return None
    return provenance if (provenance.version, provenance.inputs) == (graph.steps[node.step].version, versions) else None


def _existing_result(
    graph: Graph, node: Node, inputs: Mapping[str, pa.Table], versions: dict[str, str], started: float
) -> NodeResult | None:
    """Read the partition of a node if it is complete and was computed from these input versions."""
    provenance = matching_provenance(graph, node, versions)
    if provenance is None:
        return None
    tables = {t: read_partition(path, TABLES[t])[0] for t, path in graph.partition_files(node).items()}
    checks = _check_first_table(graph, node, tables, inputs)
    return NodeResult(provenance, tables, checks, time.perf_counter() - started, reused=True)


def _check_first_table(
    graph: Graph, node: Node, tables: Mapping[str, pa.Table], inputs: Mapping[str, pa.Table]
) -> tuple[CheckResult, ...]:
    name, table = next(iter(tables.items()))
    needs_sources = SOURCES_IN_ONE_FOLD in TABLES[name].checks  # not looked up for every node: it reads all clips
    shared_sources = sources_in_several_folds(list(graph.dataset().clips)) if needs_sources else []
    return run_checks(
        TABLES[name], table, CheckContext(inputs, shared_sources, graph.steps[node.step].stage.accepted_models)
    )


def _run_stage(
    graph: Graph,
    node: Node,
    inputs: dict[str, pa.Table],
    versions: dict[str, str],
    progress: Progress,
    started: float,
) -> NodeResult:
    step = graph.steps[node.step]
    asked_again = times_asked_again(graph, [node])[node]
    scratch = Scratch(graph.data_folder.scratch(f"{graph.study.name}.{node}"))
    if step.stage.reads_catalogue:
        publish_study(graph)
    context, tables = compute_tables(graph, node, inputs, progress, scratch)
    checks = _check_first_table(graph, node, tables, inputs)
    content = {t: data_version(TABLES[t], table) for t, table in tables.items()}
    content |= step.stage.content_versions(context)
    provenance = Provenance(
        step=node.step,
        version=step.version,
        inputs=versions,
        data_version=next(iter(content.values())) if len(content) == 1 else fingerprint(content, length=64),
        details={
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - started, 3),
            "checks": [asdict(check) for check in checks],
            **({"unfinished": list(dict.fromkeys(context.unfinished))} if context.unfinished else {}),
            **({"counts": context.counts} if context.counts else {}),
            **({"asked_again": asked_again} if asked_again else {}),
            **_environment(),
        },
    )
    paths = graph.partition_files(node)
    for table, path in paths.items():
        write_partition(path, tables[table], provenance)
    graph.result_store.mark_intact(list(paths.values()))
    scratch.discard()
    return NodeResult(provenance, tables, checks, time.perf_counter() - started)


def compute_tables(
    graph: Graph,
    node: Node,
    inputs: Mapping[str, pa.Table],
    progress: Progress = no_progress,
    scratch: Scratch | None = None,
) -> tuple[StageContext, dict[str, pa.Table]]:
    """Run the stage of a node on tables in memory; return its context and its tables, which match their schemas. Writes no table."""
    step = graph.steps[node.step]
    context = stage_context(graph, node, inputs, progress, scratch)
    with graph.engine.exclusive_gpu(progress) if step.stage.accelerator else nullcontext(), one_blas_thread():
        outputs = step.stage.run(context)
    faults.kill_point(f"stage:{step.stage.asset}")
    tables = {
        t: TABLES[t].conform(
            outputs[t],
            study=graph.study.name,
            fold=node.fold,
            **({TABLES[t].component or "": step.component} if TABLES[t].component else {}),
        )
        for t in step.stage.tables
    }
    return context, tables


def stage_context(
    graph: Graph, node: Node, inputs: Mapping[str, pa.Table], progress: Progress, scratch: Scratch | None
) -> StageContext:
    """Return the arguments of the stage of a node."""
    step = graph.steps[node.step]
    return StageContext(
        study=graph.study.name,
        name=step.component,
        fold=node.fold,
        classes=graph.dataset().classes,
        inputs=inputs,
        dataset=graph.dataset(),
        result_store=graph.result_store,
        engine=graph.engine,
        progress=progress,
        ledger=open_ledger(graph) if step.stage.paid else None,
        scratch=scratch,
        other_folds=partial(read_other_folds, graph, node),
    )


def read_other_folds(graph: Graph, node: Node) -> list[pa.Table]:
    """Read the first table of the step of a node for each other fold that was computed with the current settings."""
    step, tables = graph.steps[node.step], []
    for other in step.nodes:
        provenance = read_node_provenance(graph, other) if other != node else None
        if provenance is not None and provenance.version == step.version:
            table = step.stage.tables[0]
            tables.append(read_partition(graph.partition_files(other)[table], TABLES[table])[0])
    return tables


def read_inputs(graph: Graph, node: Node) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """Read the inputs of a node: tables by input key, and the data version of each upstream node as it was read."""
    inputs: dict[str, pa.Table] = {}
    versions: dict[str, str] = {}
    stage = graph.steps[node.step].stage
    fresh = fresh_nodes(graph) if any(i.optional for i in stage.inputs) else set()
    for stage_input in stage.inputs:
        folds = graph.upstream_folds(node, stage_input.key)
        if stage_input.key in graph.input_assets:
            current = graph.input_assets[stage_input.key].versions(graph.result_store)
            if removed_folds := [fold for fold in folds if fold not in current]:
                raise MissingInput(
                    f"{graph.study.name}/{node} reads folds {removed_folds} of {graph.study.dataset.asset_name}, which no longer "
                    "exist; reload the code location (Deployment > Reload in the UI), or start the command again"
                )
            versions.update({str(Node(stage_input.key, fold)): current[fold] for fold in folds})
            continue
        tables: dict[str, list[pa.Table]] = {}
        for upstream in (Node(stage_input.key, fold) for fold in folds):
            if stage_input.optional and upstream not in fresh:
                continue
            partition = _read_node(graph, upstream, reader=node)
            versions[str(upstream)] = next(provenance.data_version for _, provenance in partition.values())
            for name, (table, _) in partition.items():
                tables.setdefault(name, []).append(table)
        for i, (name, fold_tables) in enumerate(tables.items()):
            joined = sort_rows(pa.concat_tables(fold_tables), TABLES[name].key)
            inputs[stage_input.key if i == 0 else f"{stage_input.key}:{name}"] = joined
    return inputs, versions


def _read_node(graph: Graph, node: Node, reader: Node) -> dict[str, tuple[pa.Table, Provenance]]:
    """Read the partition files of a node, with their provenance, by table; `reader` is named in errors."""
    try:
        return {name: read_partition(path, TABLES[name]) for name, path in graph.partition_files(node).items()}
    except FileNotFoundError as error:
        raise MissingInput(
            f"{graph.study.name}/{reader} reads {graph.study.name}/{node}, which does not exist yet; "
            f"run `{graph.study.run_command}`, or materialize it first"
        ) from error
    except (pa.ArrowException, OSError) as error:
        graph.result_store.mark_intact(list(graph.partition_files(node).values()), is_intact=False)
        raise DamagedInput(
            f"{graph.study.name}/{reader} reads {graph.study.name}/{node}, which is damaged ({error}); "
            "run again to recompute it"
        ) from error
