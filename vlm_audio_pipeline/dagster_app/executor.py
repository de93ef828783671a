"""The executor that runs steps through Dagster, so that Dagster's UI shows them."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.progress import Progress
from vlm_audio_pipeline.dagster_app.assets import graph_assets, report_observations
from vlm_audio_pipeline.dagster_app.instance import is_damage, open_instance, set_damaged_databases_aside
from vlm_audio_pipeline.dagster_app.interrupts import raise_interrupts
from vlm_audio_pipeline.dagster_app.jobs import StudyRuns
from vlm_audio_pipeline.dagster_app.run_history import limit_history
from vlm_audio_pipeline.planning.execution import NodeResult
from vlm_audio_pipeline.planning.executor import ExecuteNode
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import PlannedRun
from vlm_audio_pipeline.planning.staleness import current_input_versions

_QUIET_CONFIG = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class DagsterExecutor:
    """Executes each planned run as one run of Dagster, in this process; see `planning.executor.Executor`."""

    def __init__(self) -> None:
        self._instance: dg.DagsterInstance | None = None
        self._runs: StudyRuns | None = None
        self._execute_node: ExecuteNode | None = None
        self._progress: Progress | None = None
        self._failed_nodes: set[Node] = set()

    def prepare(self, graph: Graph) -> None:
        """Open Dagster's instance in the data folder and report the versions of the input assets to it; delete old runs."""
        try:
            self._open(graph)
        except Exception as error:  # noqa: BLE001
            self._repair(graph, error)
        self._runs = StudyRuns(graph, graph_assets(graph, self._execute_in_step))

    def _open(self, graph: Graph) -> None:
        self._instance = open_instance(graph.data_folder)
        limit_history(self._instance, graph.data_folder)
        report_observations(graph, current_input_versions(graph), self._instance)

    def _repair(self, graph: Graph, error: Exception) -> None:
        """Set damaged databases aside and open new ones, or raise the error again."""
        if not is_damage(error) or not set_damaged_databases_aside(graph.data_folder):
            raise error
        if self._instance is not None:
            self._instance.dispose()
        self._open(graph)

    def execute(
        self, graph: Graph, run: PlannedRun, execute_node: ExecuteNode, progress: Progress
    ) -> Mapping[Node, str]:
        """Execute the nodes of a run; see `Executor.execute`.

        Raises:
            VlmAudioError: when Dagster fails before any step.
        """
        self._execute_node, self._progress = execute_node, progress
        self._failed_nodes.clear()
        try:
            result = self._materialize(run)
        except Exception as error:  # noqa: BLE001
            self._repair(graph, error)
            result = self._materialize(run)  # the nodes that were executed are up to date
        if result.success:
            return {}
        failures = {
            n: reason for n, reason in _step_failures(graph, run.fold, result).items() if n not in self._failed_nodes
        }
        if not failures and not self._failed_nodes:
            raise VlmAudioError(
                f"Dagster run {result.run_id} failed before its first step. Open `vlm-audio ui` to see its log."
            )
        return failures

    def _materialize(self, run: PlannedRun) -> dg.ExecuteInProcessResult:
        assert self._runs is not None
        with raise_interrupts(), _hide_warning_of_nested_loop():
            return self._runs.execute([n.step for n in run.nodes], run.fold, self._instance, _QUIET_CONFIG)

    def _execute_in_step(self, node: Node, log_progress: Progress) -> NodeResult:
        assert self._execute_node is not None
        try:
            return self._execute_node(node, self._report_progress_to(log_progress))
        except Exception:
            self._failed_nodes.add(node)
            raise

    def _report_progress_to(self, log_progress: Progress) -> Progress:
        def progress(done: int, total: int, description: str) -> None:
            if self._progress is not None:
                self._progress(done, total, description)
            log_progress(done, total, description)

        return progress


@contextmanager
def _hide_warning_of_nested_loop() -> Iterator[None]:
    """Hide a warning of Dagster's that has no effect: within an event loop (a notebook), it cannot close a loop of its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "coroutine 'BaseEventLoop.shutdown_asyncgens' was never awaited", RuntimeWarning
        )
        yield


def _step_failures(graph: Graph, fold: int | None, result: dg.ExecuteInProcessResult) -> dict[Node, str]:
    """Return the failed steps of a run with the reason; steps that were skipped after a failure are not included."""
    names = {dg.AssetKey(step.key).to_python_identifier(): name for name, step in graph.steps.items()}
    failures: dict[Node, str] = {}
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        error = data.error
        cause = error.cause or error if error else None
        message = data.user_failure_data.description if data.user_failure_data else None
        node = Node(names.get(event.step_key or "", event.step_key or "?"), fold)
        failures[node] = message or (cause.to_string() if cause else "unknown")
    return failures
