"""Bring a study up to date: observe the input assets, plan, execute one wave, and plan again until nothing is left."""

import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.planning.execution import DamagedInput, StepResult, execute_node
from vlm_audio_pipeline.planning.executor import DirectExecutor, Executor
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import Plan, PlannedRun, make_plan
from vlm_audio_pipeline.planning.publishing import publish_study
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.storage.disk_errors import convert_disk_errors

MAX_ATTEMPTS = 25
"""Executions of one node in one call. Other processes may change its inputs, at most once for each fold or so; more
attempts than this mean that the inputs never stop changing."""
REBUILD_INTERVAL_S = 2.0
"""Shortest time between two rebuilds of the catalogue during a run, s. Our own readers rebuild a stale catalogue; this is
for other DuckDB clients."""


@dataclass
class RunSummary:
    """The result of `run_study`.

    Attributes:
        steps: nodes that were executed and succeeded.
        runs: planned runs that were started.
        reused: nodes that another process executed while this process waited.
        failed: nodes that failed, with the reason.
        not_run: nodes that could not run, with the reason.
        failed_checks: checks that failed, as `key (fold n): check: detail`.
        counts: what the stages counted, summed over folds, by step.
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
) -> RunSummary:
    """Bring a study up to date.

    Args:
        graph: the study.
        selected: the nodes to bring up to date, with what they need; None: all but those made on demand.
        executor: executes the planned runs; None: directly, in this process.
        first_plan: the plan, if it has just been made.
        on_plan: called with each plan, before its wave runs.
        on_step: called with each node and True when it starts, and with False when it has succeeded.
        progress: called with the progress of the current step.

    Returns:
        What was done. A node that fails stops only the nodes that need it.

    Raises:
        KeyboardInterrupt: after Ctrl-C; finished steps are kept.
        VlmAudioError: when the disk is full, read-only or missing.
    """
    with convert_disk_errors(graph.data_folder):
        return _StudyRun(graph, executor or DirectExecutor(), on_step, progress).run(selected, first_plan, on_plan)


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

    def run(self, selected: set[Node] | None, plan: Plan | None, on_plan: Callable[[Plan], None]) -> RunSummary:
        summary, graph = self.summary, self.graph
        while True:
            if plan is None:
                plan = make_plan(graph, current_input_versions(graph), selected, summary.failed, self.attempts)
            on_plan(plan)
            summary.not_run = {n: reason for n, reason in plan.not_run.items() if n not in summary.failed}
            if not plan.wave:
                if summary.runs:
                    publish_study(graph)
                return summary
            if not summary.runs:
                graph.data_folder.create()
                self.executor.prepare(graph)
                publish_study(graph, rebuild=False)  # a reader during the run, or after a kill, sees finished steps
            for planned in plan.wave:
                self._execute_run(planned)
            if any(graph.steps[node.step].stage.stops_study for node in summary.failed):
                publish_study(graph)
                return summary
            if time.monotonic() - self.rebuilt_at >= REBUILD_INTERVAL_S:
                publish_study(graph)
                self.rebuilt_at = time.monotonic()
            plan = None

    def _execute_run(self, planned: PlannedRun) -> None:
        self.summary.runs += 1
        self.attempts.update(planned.nodes)
        for node in planned.nodes:
            if self.attempts[node] > MAX_ATTEMPTS:
                raise VlmAudioError(
                    f"The inputs of {node} kept changing ({MAX_ATTEMPTS} attempts). Is another process writing to the "
                    "dataset or the data folder?"
                )
        self.summary.failed |= self.executor.execute(self.graph, planned, self._execute_node, self.progress)

    def _execute_node(self, node: Node, progress: Progress) -> StepResult:
        self.on_step(node, True)
        try:
            result = execute_node(self.graph, node, reuse=True, progress=progress)
        except DamagedInput:
            raise  # the next plan includes the input again, then this node
        except VlmAudioError as error:
            self.summary.failed[node] = str(error)
            raise
        except Exception as error:
            description = traceback.format_exception_only(error)  # first: a traceback ends with it
            self.summary.failed[node] = "".join([*description, *traceback.format_exception(error)])
            raise
        self._record(node, result)
        self.on_step(node, False)
        return result

    def _record(self, node: Node, result: StepResult) -> None:
        self.summary.reused += result.reused
        self.summary.steps += not result.reused
        if counts := result.provenance.details.get("counts"):
            self.summary.counts.setdefault(node.step, Counter()).update({} if result.reused else counts)
        name = "/".join(self.graph.steps[node.step].key)
        fold = "" if node.fold is None else f" (fold {node.fold})"
        self.summary.failed_checks += [f"{name}{fold}: {c.name}: {c.detail}" for c in result.checks if not c.passed]
