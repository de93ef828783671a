"""Bring a study up to date: observe the input assets, plan, execute one wave, and plan again until nothing is left."""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.planning.computing_ahead import compute_ahead, cut_wave
from vlm_audio_pipeline.planning.execution import DamagedInput, NodeResult, execute_node
from vlm_audio_pipeline.planning.executor import DirectExecutor, Executor
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import Plan, PlannedRun, make_plan
from vlm_audio_pipeline.planning.publishing import is_published, publish_study
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.planning.waiting import waiting_nodes
from vlm_audio_pipeline.storage.disk_errors import convert_disk_errors

MAX_ATTEMPTS = 25
"""Maximum number of executions of one node in one call. Other processes may change its inputs, about once for each fold. If a
node needs more executions than this, its inputs change all the time."""
REBUILD_INTERVAL_S = 2.0
"""Shortest time between two rebuilds of the catalogue during a run, s. The commands rebuild a stale
catalogue before they read it; other DuckDB clients do not."""


@dataclass
class RunSummary:
    """The result of `run_study`.

    Attributes:
        steps: number of nodes that were executed and succeeded.
        runs: number of planned runs that were started. A run that an engine executes in parts, together with other folds, is one run.
        reused: number of nodes that another process executed while this process waited.
        failed: nodes that failed, with the reason.
        not_run: nodes that could not run, with the reason.
        failed_checks: checks that failed, as `key (fold n): check: detail`.
        counts: the counts of the stages (such as tokens), summed over folds, by step.
    """

    steps: int = 0
    runs: int = 0
    reused: int = 0
    failed: dict[Node, str] = field(default_factory=dict)
    not_run: dict[Node, str] = field(default_factory=dict)
    failed_checks: list[str] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)


def run_study(
    graph: Graph,
    selected: set[Node] | None = None,
    *,
    executor: Executor | None = None,
    first_plan: Plan | None = None,
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_step: Callable[[Node, bool], None] = lambda node, started: None,
    progress: Progress = no_progress,
    wait: Callable[[Mapping[Node, tuple[str, ...]]], None] | None = None,
) -> RunSummary:
    """Bring a study up to date.

    Args:
        graph: the study.
        selected: the nodes to bring up to date; nodes that they need are added. None: all that do not run on demand.
        executor: executes the planned runs; None: directly, in this process.
        first_plan: the first plan, if the caller already has it.
        on_plan: called with each plan, before its wave runs.
        on_step: called with each node and True when it starts, and with False when it has succeeded.
        progress: called with the progress of the current step.
        wait: called with the nodes that wait for a batch of requests, and the reasons, when nothing else is left to do;
            returns when they may run again. None: do not wait.

    Returns:
        The executed nodes and the failures. A failed node stops only the nodes that need it.

    Raises:
        KeyboardInterrupt: after Ctrl-C; finished steps are kept.
        VlmAudioError: when the disk is full, read-only or missing.
    """
    with convert_disk_errors(graph.data_folder):
        return _StudyRun(graph, executor or DirectExecutor(), on_step, progress).run(
            selected, first_plan, on_plan, wait
        )


class _StudyRun:
    """One call of `run_study`: executes waves and records their results."""

    def __init__(self, graph: Graph, executor: Executor, on_step: Callable[[Node, bool], None], progress: Progress):
        self.graph = graph
        self.executor = executor
        self.on_step = on_step
        self.progress = progress
        self.summary = RunSummary()
        self.attempts: Counter[Node] = Counter()
        self.rebuilt_at = time.monotonic()
        self.has_begun = False

    def run(
        self,
        selected: set[Node] | None,
        plan: Plan | None,
        on_plan: Callable[[Plan], None],
        wait: Callable[[Mapping[Node, tuple[str, ...]]], None] | None,
    ) -> RunSummary:
        summary, graph = self.summary, self.graph
        while True:
            if plan is None:
                plan = make_plan(graph, current_input_versions(graph), selected, summary.failed, self.attempts)
            on_plan(plan)
            summary.not_run = {n: reason for n, reason in plan.not_run.items() if n not in summary.failed}
            if not plan.wave:
                if self.has_begun or (plan.fresh and not is_published(graph)):
                    publish_study(graph)
                waiting = waiting_nodes(graph, (selected or set(graph.nodes)) - summary.failed.keys())
                if wait is None or not waiting:
                    return summary
                wait(waiting)
                # Only nodes that waited run again because they are unfinished, however often.
                self.attempts = Counter(dict.fromkeys(self.attempts.keys() - waiting.keys(), 1))
                plan = None
                continue
            if not self.has_begun:
                self.has_begun = True
                graph.data_folder.create()
                self.executor.prepare(graph)
                publish_study(graph, rebuild=False)  # readers see finished steps during the run, or after a kill
            if graph.engine.maps_all_folds:
                self._execute_together(plan.wave)
            else:
                for planned_run in plan.wave:
                    self.summary.runs += 1
                    self._execute_run(planned_run)
            if any(graph.steps[node.step].stage.stops_study for node in summary.failed):
                publish_study(graph)
                return summary
            if time.monotonic() - self.rebuilt_at >= REBUILD_INTERVAL_S:
                publish_study(graph)
                self.rebuilt_at = time.monotonic()
            plan = None

    def _execute_together(self, wave: Sequence[PlannedRun]) -> None:
        """Execute a wave step by step for all folds; end at a failure, because the next plan leaves out what needs the failed node."""
        failures = len(self.summary.failed)
        run_of_node = {node: i for i, run in enumerate(wave) for node in run.nodes}
        started: set[int] = set()  # positions of runs
        for step, runs in cut_wave(self.graph, wave):
            nodes = [node for run in runs for node in run.nodes if node.step == step]
            if nodes and not self._compute_ahead(nodes):
                return
            for part in runs:
                run = run_of_node[part.nodes[0]]
                self.summary.runs += run not in started
                started.add(run)
                self._execute_run(part)
            if len(self.summary.failed) > failures:
                return

    def _compute_ahead(self, nodes: Sequence[Node]) -> bool:
        """Compute the rows of nodes of one step; return whether that succeeded. After a failure, all the nodes count as failed."""
        self.on_step(nodes[0], True)
        try:
            compute_ahead(self.graph, nodes, self.progress)
        except DamagedInput:
            self._count_attempts(nodes)
            return False  # the next plan includes the input again
        except Exception as error:  # noqa: BLE001  recorded, as the failure of a node is
            self.summary.failed |= dict.fromkeys(nodes, _failure_reason(error))
            return False
        return True

    def _execute_run(self, run: PlannedRun) -> None:
        """Execute a planned run, or a part of it."""
        self._count_attempts(run.nodes)
        self.summary.failed |= self.executor.execute(self.graph, run, self._execute_node, self.progress)

    def _count_attempts(self, nodes: Sequence[Node]) -> None:
        self.attempts.update(nodes)
        for node in nodes:
            if self.attempts[node] > MAX_ATTEMPTS:
                raise VlmAudioError(
                    f"The inputs of {node} kept changing ({MAX_ATTEMPTS} attempts). Is another process writing to the "
                    "dataset or the data folder?"
                )

    def _execute_node(self, node: Node, progress: Progress) -> NodeResult:
        self.on_step(node, True)
        try:
            result = execute_node(self.graph, node, reuse=True, progress=progress)
        except DamagedInput:
            raise  # the next plan includes the input again, then this node
        except Exception as error:
            self.summary.failed[node] = _failure_reason(error)
            raise
        self._record(node, result)
        self.on_step(node, False)
        return result

    def _record(self, node: Node, result: NodeResult) -> None:
        self.summary.reused += result.reused
        self.summary.steps += not result.reused
        if counts := result.provenance.details.get("counts"):
            self.summary.counts.setdefault(node.step, Counter()).update({} if result.reused else counts)
        name = f"{self.graph.study.name}/{node.step}"
        fold = "" if node.fold is None else f" (fold {node.fold})"
        self.summary.failed_checks += [f"{name}{fold}: {c.name}: {c.detail}" for c in result.checks if not c.passed]


def _failure_reason(error: Exception) -> str:
    """Return the message of an error that the user can fix; for a defect, its description and its traceback."""
    if isinstance(error, VlmAudioError):
        return str(error)
    description = traceback.format_exception_only(error)  # it comes first, because a traceback ends with it
    return "".join([*description, *traceback.format_exception(error)])


def failure_messages(graph: Graph, failed: Mapping[Node, str]) -> list[str]:
    """Return `study/step (folds 1,2): reason` of each failed step; folds with the same reason are listed together."""
    folds: dict[tuple[str, str], list[str]] = {}
    for node, reason in failed.items():
        folds.setdefault((node.step, reason), []).extend([] if node.fold is None else [str(node.fold)])
    messages = []
    for (step, reason), numbers in folds.items():
        folds_text = f" (fold{'s' if len(numbers) > 1 else ''} {','.join(numbers)})" if numbers else ""
        messages.append(f"{graph.study.name}/{step}{folds_text}: {reason}")
    return messages
