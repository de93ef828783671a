"""What has to run, and why: provenance footers compared with the graph of today.

Stateless: nothing but the parts themselves is consulted, so deleting, moving or restoring data is always seen, and run
history may be pruned freely. What is missing or stale runs in waves; between waves the plan is made anew, because a step
that runs again and gives the same content leaves everything after it fresh.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.planning.graph import Graph, Node
from vlm_audio_pipeline.planning.staleness import reasons_to_run, recorded, unfinished
from vlm_audio_pipeline.storage.partition_files import Provenance

UNFINISHED = "unfinished: "
"""How the reason begins of a node that nothing is wrong with but that it stopped early."""


@dataclass(frozen=True)
class Run:
    """Nodes that run together, upstream first: all of one fold, or all over folds."""

    fold: int | None
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Plan:
    """The state of a study.

    Attributes:
        todo: what is missing or stale and wanted, upstream first, with the reasons.
        blocked: what would have to run but cannot, with the reason.
        fresh: what needs nothing.
        wave: what can run now.
    """

    todo: dict[Node, tuple[str, ...]]
    blocked: dict[Node, str]
    fresh: tuple[Node, ...]
    wave: tuple[Run, ...]


def select(graph: Graph, only: Iterable[str] = (), fold: int | None = None) -> set[Node]:
    """Choose nodes by pattern and fold.

    Args:
        graph: the study.
        only: shell patterns over step names ("predictions/*", "*probe"), or the name of an encoder or classifier;
            none: all but those made on demand.
        fold: only this fold, and what is over all folds; None: all folds.

    Raises:
        VlmAudioError: for a pattern that fits nothing, or a fold the dataset has not.
    """
    patterns = tuple(only)
    for pattern in patterns:
        if not any(_fits(pattern, graph, name) for name in graph.steps):
            raise VlmAudioError(
                f"--only must fit a step of the study, got '{pattern}'; {suggestion(pattern, graph.steps)}"
            )
    if fold is not None and fold not in graph.folds:
        raise VlmAudioError(f"--fold must be one of the dataset's folds {list(graph.folds)}, got {fold}")
    return {
        node
        for node in graph.nodes
        if (
            any(_fits(p, graph, node.step) for p in patterns)
            if patterns
            else not graph.steps[node.step].stage.on_demand
        )
        and (fold is None or node.fold in (None, fold))
    }


def _fits(pattern: str, graph: Graph, name: str) -> bool:
    return fnmatchcase(name, pattern) or graph.steps[name].owner == pattern


def make_plan(
    graph: Graph,
    observed: Mapping[Node, str],
    wanted: set[Node] | None = None,
    failed: Mapping[Node, str] | None = None,
    tried: Collection[Node] = (),
) -> Plan:
    """Compare what is there with what should be.

    Args:
        graph: the study as it is today.
        observed: data versions of the sources.
        wanted: nodes asked for (what they need is added); None: all but those made on demand.
        failed: nodes not to be tried again, with the reason.
        tried: nodes that ran a moment ago; what they left unfinished is for the next time.
    """
    there = {node: recorded(graph, node) for node in graph.nodes}
    versions = dict(observed) | {node: p.data_version for node, p in there.items() if p is not None}
    wanted = _with_upstream(graph, select(graph) if wanted is None else wanted)
    todo: dict[Node, tuple[str, ...]] = {}
    blocked: dict[Node, str] = {}
    out_of_date: set[Node] = set()  # and staying so: what is to do will be up to date
    why_not: dict[str, str | None] = {}
    for node in graph.nodes:
        if any(u in out_of_date for u, optional in graph.upstream(node) if not optional):
            out_of_date.add(node)
        stale = reasons_to_run(graph, node, there[node], versions, out_of_date, todo)
        left = () if stale or node in tried else unfinished(there[node])
        reasons = stale or tuple(UNFINISHED + why for why in left)
        if not reasons:
            continue
        if node not in wanted:
            if stale:
                out_of_date.add(node)
            continue
        if node.step not in why_not:
            why_not[node.step] = graph.steps[node.step].stage.unavailable()
        reason = (
            (failed or {}).get(node)
            or why_not[node.step]
            or _blocked_upstream(graph, node, versions, blocked, out_of_date)
        )
        if reason:
            blocked[node] = reason
            if stale:  # what is unfinished stands, as far as it goes
                out_of_date.add(node)
        else:
            todo[node] = reasons
    fresh = tuple(n for n in graph.nodes if there[n] is not None and n not in {*todo, *blocked, *out_of_date})
    return Plan(todo, blocked, fresh, _wave(graph, todo, there))


def _with_upstream(graph: Graph, nodes: set[Node]) -> set[Node]:
    needed: set[Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node in needed or node.step in graph.sources:
            continue
        needed.add(node)
        waiting += [n for n, optional in graph.upstream(node) if not optional]
    return needed


def _blocked_upstream(
    graph: Graph,
    node: Node,
    versions: Mapping[Node, str],
    blocked: Mapping[Node, str],
    out_of_date: Collection[Node],
) -> str | None:
    for upstream, optional in graph.upstream(node):
        if optional:
            continue
        if upstream in blocked and upstream in out_of_date:
            return blocked[upstream]
        if upstream.step in graph.sources and upstream not in versions:
            return graph.unavailable(upstream.step) or f"{upstream} is not there"
    return None


def _wave(
    graph: Graph, todo: Mapping[Node, tuple[str, ...]], there: Mapping[Node, Provenance | None]
) -> tuple[Run, ...]:
    """Choose what can run now.

    A node is unsettled while anything upstream of it has still to run. Stale nodes wait until they are settled, for
    their inputs may turn out the same; missing ones ride along in the run of their fold.
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
        folds = graph.steps[node.step].folds  # Dagster runs together only what has the same partitions
        rides = there[node] is None and all(
            n in running and n.fold == node.fold and graph.steps[n.step].folds == folds for n in waits_for
        )
        if not waits_for or rides:
            running.add(node)
            runs.setdefault((node.fold, folds), []).append(node)
    return tuple(Run(fold, tuple(nodes)) for (fold, _), nodes in runs.items())
