"""The executor interface: how the nodes of one planned run are executed.

`DirectExecutor` executes them in this process. `dagster_app.executor` executes them through Dagster, so that its UI
shows the runs. Both call `execute_node`, so tables, provenance and checks are the same.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from vlm_audio_pipeline.contracts.progress import Progress
from vlm_audio_pipeline.planning.execution import NodeResult
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import PlannedRun

ExecuteNode = Callable[[Node, Progress], NodeResult]
"""Executes one node and records its result; a failure is recorded, then raised."""


class Executor(Protocol):
    """Executes planned runs."""

    def prepare(self, graph: Graph) -> None:
        """Prepare for the runs of a study; called once, before the first run."""

    def execute(
        self, graph: Graph, run: PlannedRun, execute_node: ExecuteNode, progress: Progress
    ) -> Mapping[Node, str]:
        """Execute the nodes of a run, upstream first; skip nodes that read a failed node.

        Args:
            graph: the study.
            run: the nodes.
            execute_node: called for each node.
            progress: passed to `execute_node`; an executor may wrap it.

        Returns:
            The reasons of failures that `execute_node` did not raise, by node.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
        """
        ...


class DirectExecutor:
    """Executes nodes in this process, one after another."""

    def prepare(self, graph: Graph) -> None:
        """Do nothing."""

    def execute(
        self, graph: Graph, run: PlannedRun, execute_node: ExecuteNode, progress: Progress
    ) -> Mapping[Node, str]:
        """Execute the nodes of a run; see `Executor.execute`."""
        failed: set[Node] = set()
        for node in run.nodes:
            if any(upstream in failed for upstream, _ in graph.upstream_nodes(node)):
                failed.add(node)
                continue
            try:
                execute_node(node, progress)
            except Exception:  # noqa: BLE001
                failed.add(node)
        return {}
