"""Plan scheduled reruns.

Selects the stale steps that may run without a person: free steps always, paid steps only where the study allows it. A step
that failed is not retried until one of its inputs changes or the next refresh. Schedule, sensor and job belong to
`dagster_app.sensors`.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.planning.budget import open_ledger
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import UNFINISHED, PlannedRun, make_plan
from vlm_audio_pipeline.planning.staleness import current_input_versions, read_node_provenance


@dataclass(frozen=True)
class SensorCursor:
    """The state of the sensor between two evaluations.

    Attributes:
        refresh: run id of the latest refresh that was handled.
        done: whether all steps that were stale after this refresh are done.
        launched: node keys (see `node_key`) of the nodes launched since the refresh.
    """

    refresh: str = ""
    done: bool = True
    launched: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, cursor: str | None) -> "SensorCursor":
        """Parse the stored text; return the initial state for a text that is not valid."""
        try:
            values = json.loads(cursor or "{}")
            return cls(str(values["refresh"]), bool(values["done"]), tuple(values["launched"]))
        except (ValueError, TypeError, KeyError):
            return cls()

    def to_json(self) -> str:
        """Return the text to store."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Launch:
    """A run to start.

    Attributes:
        run: the nodes, of one fold or over all folds.
        node_keys: the key of each node.
        run_key: hash of the refresh and the node keys; Dagster starts no two runs with one run key.
    """

    run: PlannedRun
    node_keys: tuple[str, ...]
    run_key: str


@dataclass(frozen=True)
class NextRuns:
    """The runs to start now, and the nodes that are not run, with the reason."""

    launches: tuple[Launch, ...]
    not_run: dict[Node, str]


def paid_steps_not_allowed(graph: Graph) -> dict[Node, str]:
    """Return the nodes that may cost money and that the study does not allow in scheduled reruns, with the reason."""
    paid = [step for step in graph.steps.values() if step.stage.paid]
    if not paid:
        return {}
    rerun = graph.study.rerun
    if rerun is None or not rerun.paid:
        reason = "it may cost money, and `rerun: {paid: true}` is not in the study"
    elif (ledger := open_ledger(graph)) is None:
        reason = "it may cost money, and the study has no `budget`"
    else:
        left = ledger.remaining_usd()
        ledger.close()
        if left > 0:
            return {}
        reason = f"the budget of {ledger.budget.usd:g} USD is used up"
    return {node: f"not in scheduled reruns: {reason}" for step in paid for node in step.nodes}


def plan_next_runs(graph: Graph, refresh: str, launched: Collection[str] = ()) -> NextRuns:
    """Return the runs of the next wave.

    A node that was launched since the refresh, and that is still missing or stale although no input changed, has failed: it
    and the nodes that need it wait for the next refresh. An unfinished node does not run again before the next refresh either, but its
    partition is used.

    Args:
        graph: the study.
        refresh: run id of the refresh; part of the run keys, so that the next refresh tries again.
        launched: keys of the nodes launched since the refresh.
    """
    input_versions = current_input_versions(graph)
    versions = dict(input_versions)
    versions.update({n: p.data_version for n in graph.nodes if (p := read_node_provenance(graph, n)) is not None})
    excluded, attempted_nodes = paid_steps_not_allowed(graph), set[Node]()
    while True:
        # All nodes: also those that run on demand, such as the report.
        plan = make_plan(graph, input_versions, set(graph.nodes), excluded, attempted_nodes)
        keys = {n: node_key(graph, n, versions) for run in plan.wave for n in run.nodes}
        repeated = [n for n, key in keys.items() if key in launched]
        if not repeated:
            return NextRuns(tuple(_launch(refresh, run, keys) for run in plan.wave), plan.not_run)
        for node in repeated:
            if plan.todo[node][0].startswith(UNFINISHED):
                attempted_nodes.add(node)
            else:
                excluded[node] = "it failed since the last refresh; see its run"


def node_key(graph: Graph, node: Node, versions: Mapping[Node, str]) -> str:
    """Return a hash of the version of a node's step and of its inputs' data versions."""
    inputs = {str(upstream): versions.get(upstream) for upstream, _ in graph.upstream_nodes(node)}
    return fingerprint(str(node), graph.steps[node.step].version, inputs)


def _launch(refresh: str, run: PlannedRun, keys: Mapping[Node, str]) -> Launch:
    node_keys = tuple(keys[n] for n in run.nodes)
    return Launch(run, node_keys, fingerprint(refresh, run.fold, sorted(node_keys), length=32))
