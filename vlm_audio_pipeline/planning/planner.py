"""Plan which nodes have to run, and why.

The planner is stateless: it compares the provenance of the partition files with the graph. So it notices data that was
deleted, moved or restored, and run history may be pruned. Missing and stale nodes run in waves. Each wave has a new plan,
because a step that runs again with equal content leaves its readers fresh.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.staleness import read_node_provenance, reasons_to_run, unfinished_reasons
from vlm_audio_pipeline.storage.partition_files import Provenance

UNFINISHED = "unfinished: "
"""Start of the reason of a node that stopped early and is otherwise fresh."""


@dataclass(frozen=True)
class PlannedRun:
    """Nodes that run together, upstream first: all of one fold, or all over every fold (None)."""

    fold: int | None
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Plan:
    """The state of a study.

    Attributes:
        todo: selected nodes that are missing or stale, upstream first, with the reasons.
        not_run: selected nodes that should run but cannot, with the reason.
        fresh: nodes that are up to date.
        wave: the runs that can start now.
    """

    todo: dict[Node, tuple[str, ...]]
    not_run: dict[Node, str]
    fresh: tuple[Node, ...]
    wave: tuple[PlannedRun, ...]


def select_nodes(graph: Graph, only: Iterable[str] = (), fold: int | None = None) -> set[Node]:
    """Select nodes by pattern and fold.

    Args:
        graph: the study.
        only: shell patterns over step names ("predictions/*", "*probe"), or the name of an encoder or classifier;
            empty: all steps but those made on demand.
        fold: only this fold, and nodes over all folds; None: all folds.

    Raises:
        VlmAudioError: for a pattern that matches no step, or a fold that the dataset does not have.
    """
    patterns = tuple(only)
    for pattern in patterns:
        if not any(_matches(pattern, graph, name) for name in graph.steps):
            raise VlmAudioError(
                f"--only must match a step of the study, got '{pattern}'; {suggestion(pattern, graph.steps)}"
            )
    if fold is not None and fold not in graph.folds:
        raise VlmAudioError(f"--fold must be one of the dataset's folds {list(graph.folds)}, got {fold}")
    return {
        node
        for node in graph.nodes
        if (
            any(_matches(p, graph, node.step) for p in patterns)
            if patterns
            else not graph.steps[node.step].stage.on_demand
        )
        and (fold is None or node.fold in (None, fold))
    }


def _matches(pattern: str, graph: Graph, name: str) -> bool:
    return fnmatchcase(name, pattern) or graph.steps[name].component == pattern


def make_plan(
    graph: Graph,
    input_versions: Mapping[Node, str],
    selected: set[Node] | None = None,
    failed: Mapping[Node, str] | None = None,
    tried: Collection[Node] = (),
) -> Plan:
    """Plan the nodes that have to run.

    Args:
        graph: the study.
        input_versions: current data versions of the input assets.
        selected: the nodes to bring up to date, with what they need; None: all but those made on demand.
        failed: nodes that must not be tried again, with the reason.
        tried: nodes that ran in this call; they are not tried again because they are unfinished.
    """
    provenances = {node: read_node_provenance(graph, node) for node in graph.nodes}
    versions = dict(input_versions) | {node: p.data_version for node, p in provenances.items() if p is not None}
    selected = _with_upstream(graph, select_nodes(graph) if selected is None else selected)
    todo: dict[Node, tuple[str, ...]] = {}
    not_run: dict[Node, str] = {}
    out_of_date: set[Node] = set()  # stale nodes that will not run; those of `todo` will be up to date
    unavailable: dict[str, str | None] = {}
    for node in graph.nodes:
        if any(u in out_of_date for u, optional in graph.upstream(node) if not optional):
            out_of_date.add(node)
        stale = reasons_to_run(graph, node, provenances[node], versions, out_of_date, todo)
        unfinished = () if stale or node in tried else unfinished_reasons(provenances[node])
        reasons = stale or tuple(UNFINISHED + reason for reason in unfinished)
        if not reasons:
            continue
        if node not in selected:
            if stale:
                out_of_date.add(node)
            continue
        if node.step not in unavailable:
            unavailable[node.step] = graph.steps[node.step].stage.unavailable()
        reason = (
            (failed or {}).get(node)
            or unavailable[node.step]
            or _upstream_reason(graph, node, versions, not_run, out_of_date)
        )
        if reason:
            not_run[node] = reason
            if stale:  # an unfinished partition is valid
                out_of_date.add(node)
        else:
            todo[node] = reasons
    fresh = tuple(n for n in graph.nodes if provenances[n] is not None and n not in {*todo, *not_run, *out_of_date})
    return Plan(todo, not_run, fresh, _wave(graph, todo, provenances))


def _with_upstream(graph: Graph, nodes: set[Node]) -> set[Node]:
    """Add the nodes that some nodes need."""
    required: set[Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node in required or node.step in graph.input_assets:
            continue
        required.add(node)
        waiting += [n for n, optional in graph.upstream(node) if not optional]
    return required


def _upstream_reason(
    graph: Graph,
    node: Node,
    versions: Mapping[Node, str],
    not_run: Mapping[Node, str],
    out_of_date: Collection[Node],
) -> str | None:
    for upstream, optional in graph.upstream(node):
        if optional:
            continue
        if upstream in not_run and upstream in out_of_date:
            return not_run[upstream]
        if upstream.step in graph.input_assets and upstream not in versions:
            return graph.unavailable(upstream.step) or f"{upstream} does not exist"
    return None


def _wave(
    graph: Graph, todo: Mapping[Node, tuple[str, ...]], provenances: Mapping[Node, Provenance | None]
) -> tuple[PlannedRun, ...]:
    """Return the runs that can start now.

    A node is unsettled while a node upstream of it has to run. Stale nodes wait until they are settled, because their inputs
    may come out equal. Missing nodes join the run of their fold.
    """
    unsettled: set[Node] = set()
    running: set[Node] = set()
    runs: dict[tuple[int | None, tuple[int, ...] | None], list[Node]] = {}
    for node in graph.nodes:
        upstream = [n for n, _ in graph.upstream(node)]
        waits_for = [n for n in upstream if n in todo or n in unsettled]
        if waits_for:
            unsettled.add(node)
        if node not in todo:
            continue
        folds = graph.steps[node.step].folds  # a run of Dagster needs nodes of the same partitions
        joins = provenances[node] is None and all(
            n in running and n.fold == node.fold and graph.steps[n.step].folds == folds for n in waits_for
        )
        if not waits_for or joins:
            running.add(node)
            runs.setdefault((node.fold, folds), []).append(node)
    return tuple(PlannedRun(fold, tuple(nodes)) for (fold, _), nodes in runs.items())
