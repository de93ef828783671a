"""The executor of the commands, and running steps through it with progress bars."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlm_audio_pipeline.planning.executor import Executor
    from vlm_audio_pipeline.planning.graph import Graph
    from vlm_audio_pipeline.planning.nodes import Node
    from vlm_audio_pipeline.planning.planner import Plan
    from vlm_audio_pipeline.planning.run import RunSummary


def command_executor() -> "Executor":
    """Return the executor of `vlm-audio run` and `report`: Dagster's, so that the UI shows their runs."""
    from vlm_audio_pipeline.dagster_app.executor import DagsterExecutor

    return DagsterExecutor()


def run_with_progress(
    graph: "Graph",
    nodes: "set[Node]",
    first_plan: "Plan | None" = None,
    *,
    name: str = "",
    wait: bool = False,
    on_wait: "Callable[[Mapping[Node, tuple[str, ...]]], None]" = lambda waiting: None,
) -> "RunSummary":
    """Run nodes through the executor of the commands, with progress bars; see `run_study`.

    Args:
        graph: the study.
        nodes: the nodes to bring up to date; nodes that they need are added.
        first_plan: the first plan, if the caller already has it.
        name: name of the progress bar before the first step.
        wait: wait for batches of requests, and run the steps that need them when they have ended.
        on_wait: called with the nodes that wait for a batch, and the reasons, before each wait.
    """
    from vlm_audio_pipeline.cli.progress import progress_bars
    from vlm_audio_pipeline.planning.run import run_study
    from vlm_audio_pipeline.planning.waiting import wait_for_batches

    with progress_bars(name) as display:

        def show_and_wait(waiting: "Mapping[Node, tuple[str, ...]]") -> None:
            on_wait(waiting)
            display.name = "batches"
            wait_for_batches(graph, waiting, display.progress)

        return run_study(
            graph,
            nodes,
            executor=command_executor(),
            first_plan=first_plan,
            on_plan=display.on_plan,
            on_step=display.on_step,
            progress=display.progress,
            wait=show_and_wait if wait else None,
        )
