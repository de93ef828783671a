"""Plan which nodes have to run, and why.

The planner is stateless: it compares the provenance of the partition files with the graph. So it detects data
that were deleted, moved or restored, and it needs no run history. Missing and stale nodes run in waves. Each wave has a new
plan: if a recomputed table has equal content, the steps that read it are fresh.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.staleness import (
    nodes_to_ask_again,
    read_node_provenance,
    reasons_to_run,
    unfinished_reasons,
)
from vlm_audio_pipeline.storage.partition_files import Provenance

UNFINISHED = "unfinished: "
"""Prefix of the reason of a node that is fresh, but whose stage stopped early."""
AGAIN = "asked again"
"""Reason of a node that is fresh, but whose responses a person has asked for again."""


@dataclass(frozen=True)
class PlannedRun:
    """Nodes that run together, upstream first: nodes of one fold, or nodes over all folds (`fold` is None)."""

    fold: int | None
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Plan:
    """The nodes that must run to bring a study up to date, and the other nodes.

    Attributes:
        todo: selected nodes that are missing or stale, upstream first, with the reasons.
        not_run: selected nodes that should run but cannot, with the reason.
        fresh: nodes that are up to date.
        wave: the runs that can start now.
        dependents: selected nodes that are fresh and read nodes to do, directly or not: they run, too, if those change.
    """

    todo: dict[Node, tuple[str, ...]]
    not_run: dict[Node, str]
    fresh: tuple[Node, ...]
    wave: tuple[PlannedRun, ...]
    dependents: tuple[Node, ...] = ()

    @property
    def steps_to_do(self) -> str:
        """The number of steps to do, and the largest number if the results of these change, as text."""
        count = len(self.todo)
        return (
            f"{count} to do now, up to {count + len(self.dependents)} if they change"
            if self.dependents
            else f"{count} to do"
        )


def select_nodes(
    graph: Graph, only: Iterable[str] = (), fold: int | None = None, *, option: str = "--only"
) -> set[Node]:
    """Select nodes by pattern and fold.

    Args:
        graph: the study.
        only: shell patterns over step names ("predictions/*", "*probe"), or the name of an encoder or classifier;
            empty: all steps that do not run on demand.
        fold: only this fold, and nodes over all folds; None: all folds.
        option: the option of the command that contains the patterns, for errors.

    Raises:
        VlmAudioError: for a pattern that matches no step, or a fold that the dataset does not have.
    """
    patterns = tuple(only)
    for pattern in patterns:
        if not pattern or not any(_matches(pattern, graph, name) for name in graph.steps):
            names = {*graph.steps, *(step.component for step in graph.steps.values() if step.component)}
            raise VlmAudioError(
                f"{option} must match a step of the study, got '{pattern}'; {suggestion(pattern, names)}"
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
    attempted_nodes: Collection[Node] = (),
    again: Collection[Node] = (),
) -> Plan:
    """Plan the nodes that have to run.

    Args:
        graph: the study.
        input_versions: current data versions of the input assets.
        selected: the nodes to bring up to date; nodes that they need are added. None: all that do not run on demand.
        failed: nodes that must not run again, with the reason.
        attempted_nodes: nodes that ran in this call; they do not run again only because they are unfinished.
        again: nodes that are planned as if a person had asked for their responses again.
    """
    provenances = {node: read_node_provenance(graph, node) for node in graph.nodes}
    versions = dict(input_versions) | {node: p.data_version for node, p in provenances.items() if p is not None}
    selected = _add_upstream(graph, select_nodes(graph) if selected is None else selected)
    todo: dict[Node, tuple[str, ...]] = {}
    not_run: dict[Node, str] = {}
    out_of_date: set[Node] = set()  # stale nodes that will not run; those of `todo` will be up to date
    unavailable: dict[str, str | None] = {}
    again = nodes_to_ask_again(graph) | {node for node in again if provenances[node] is not None}
    for node in graph.nodes:
        if any(u in out_of_date for u, optional in graph.upstream_nodes(node) if not optional):
            out_of_date.add(node)
        stale = reasons_to_run(graph, node, provenances[node], versions, out_of_date, todo)
        unfinished = () if stale or node in attempted_nodes else unfinished_reasons(provenances[node])
        reasons = stale or tuple(UNFINISHED + reason for reason in unfinished)
        if node in again and not stale and node not in attempted_nodes:
            reasons = (AGAIN, *reasons)
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
    dependents = _dependents(graph, todo, selected.intersection(fresh))
    return Plan(todo, not_run, fresh, _wave(graph, todo, provenances), dependents)


def plan_without_dataset(graph: Graph, selected: set[Node] | None = None) -> Plan:
    """Plan a study whose dataset is not on this machine yet: every step is to do, and nothing is downloaded."""
    versions = {node: "not downloaded" for asset in graph.input_assets.values() for node in asset.nodes}
    return make_plan(graph, versions, selected)


def _add_upstream(graph: Graph, nodes: set[Node]) -> set[Node]:
    """Return nodes and all nodes that they need."""
    required: set[Node] = set()
    queue = list(nodes)
    while queue:
        node = queue.pop()
        if node in required or node.step in graph.input_assets:
            continue
        required.add(node)
        queue += [n for n, optional in graph.upstream_nodes(node) if not optional]
    return required


def _dependents(graph: Graph, todo: Collection[Node], candidates: Collection[Node]) -> tuple[Node, ...]:
    """Return the candidates that read nodes to do, directly or through other candidates."""
    changing = set(todo)
    for node in graph.nodes:
        if node in candidates and any(upstream in changing for upstream, _ in graph.upstream_nodes(node)):
            changing.add(node)
    return tuple(node for node in graph.nodes if node in changing and node not in todo)


def _upstream_reason(
    graph: Graph,
    node: Node,
    versions: Mapping[Node, str],
    not_run: Mapping[Node, str],
    out_of_date: Collection[Node],
) -> str | None:
    for upstream, optional in graph.upstream_nodes(node):
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

    A stale node waits until all nodes upstream of it are up to date, because their new content may equal the old. A missing
    node joins the run of its fold if the nodes that it waits for are in the same run.
    """
    downstream_of_todo: set[Node] = set()
    in_wave: set[Node] = set()
    runs: dict[tuple[int | None, tuple[int, ...] | None], list[Node]] = {}
    for node in graph.nodes:
        upstream = [n for n, _ in graph.upstream_nodes(node)]
        pending_upstream = [n for n in upstream if n in todo or n in downstream_of_todo]
        if pending_upstream:
            downstream_of_todo.add(node)
        if node not in todo:
            continue
        folds = graph.steps[node.step].folds  # a run of Dagster needs nodes of the same partitions
        can_join = provenances[node] is None and all(
            n in in_wave and n.fold == node.fold and graph.steps[n.step].folds == folds for n in pending_upstream
        )
        if not pending_upstream or can_join:
            in_wave.add(node)
            runs.setdefault((node.fold, folds), []).append(node)
    return tuple(PlannedRun(fold, tuple(nodes)) for (fold, _), nodes in runs.items())
