"""What runs next when nobody is there to ask: the planner's waves, without what costs money, and nothing twice for one reason.

What belongs here: deciding, without Dagster. What does not: schedule, sensor and job, which ask (`automation`).
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.planning.budget import ledger_of
from vlm_audio_pipeline.planning.graph import Graph, Node
from vlm_audio_pipeline.planning.planner import UNFINISHED, Run, make_plan
from vlm_audio_pipeline.planning.staleness import observe, recorded


@dataclass(frozen=True)
class Memory:
    """What the sensor remembers from one look to the next.

    Attributes:
        refresh: the refresh that is being worked off, or was.
        done: whether nothing is left of it.
        launched: keys of the nodes launched since, each with the versions it was to be made from.
    """

    refresh: str = ""
    done: bool = True
    launched: tuple[str, ...] = ()

    @classmethod
    def read(cls, cursor: str | None) -> "Memory":
        """Read it from the text the sensor keeps; nothing is remembered of what is no such text."""
        try:
            values = json.loads(cursor or "{}")
            return cls(str(values["refresh"]), bool(values["done"]), tuple(values["launched"]))
        except (ValueError, TypeError, KeyError):
            return cls()

    def text(self) -> str:
        """Write it."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Launch:
    """A run to start.

    Attributes:
        run: the nodes, of one fold or over all folds.
        node_keys: a key for each node.
        run_key: hash of the refresh and of what every node is to be made from: the same run is never started twice.
    """

    run: Run
    node_keys: tuple[str, ...]
    run_key: str


@dataclass(frozen=True)
class Next:
    """What to do now: runs to start, and what is left out, with the reason."""

    launches: tuple[Launch, ...]
    left_out: dict[Node, str]


def held_back(graph: Graph) -> dict[Node, str]:
    """Give what may cost money and must not run unattended, with the reason."""
    paid = [step for step in graph.steps.values() if step.stage.paid]
    if not paid:
        return {}
    rerun = graph.study.rerun
    if rerun is None or not rerun.paid:
        why = "it may cost money, and `rerun: {paid: true}` is not in the study"
    elif (ledger := ledger_of(graph)) is None:
        why = "it may cost money, and the study has no `budget`"
    else:
        left = ledger.left()
        ledger.close()
        if left > 0:
            return {}
        why = f"the budget of {ledger.budget.usd:g} USD is used up"
    return {node: f"not run unattended: {why}" for step in paid for node in step.nodes}


def next_runs(graph: Graph, refresh: str, launched: Collection[str] = ()) -> Next:
    """Choose the runs of the next wave.

    A node that was launched in this refresh and still is to do, though nothing it is made from has changed since, has
    failed: it, and what needs it, waits for the next refresh. One that stopped early is not tried again either, but what
    there is of it is used.

    Args:
        graph: the study.
        refresh: what the keys begin with, so that the next refresh tries again.
        launched: keys of the nodes launched in this refresh.
    """
    observed = observe(graph)
    versions = dict(observed)
    versions.update({n: p.data_version for n in graph.nodes if (p := recorded(graph, n)) is not None})
    failed, tried = held_back(graph), set[Node]()
    while True:
        plan = make_plan(
            graph, observed, set(graph.nodes), failed, tried
        )  # also what a plain run leaves alone: the report
        keys = {n: node_key(graph, n, versions) for run in plan.wave for n in run.nodes}
        again = [n for n, key in keys.items() if key in launched]
        if not again:
            return Next(tuple(_launch(refresh, run, keys) for run in plan.wave), plan.blocked)
        for node in again:
            if plan.todo[node][0].startswith(UNFINISHED):
                tried.add(node)
            else:
                failed[node] = "failed when it was tried; its run says why"


def node_key(graph: Graph, node: Node, versions: Mapping[Node, str]) -> str:
    """Hash what a node is to be made from: its step's version and those of its inputs."""
    inputs = {str(upstream): versions.get(upstream) for upstream, _ in graph.upstream(node)}
    return fingerprint(str(node), graph.steps[node.step].version, inputs)


def _launch(refresh: str, run: Run, keys: Mapping[Node, str]) -> Launch:
    mine = tuple(keys[n] for n in run.nodes)
    return Launch(run, mine, fingerprint(refresh, run.fold, sorted(mine), length=32))
