"""Bring the report page of a study up to date."""

from collections.abc import Callable
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.planning.executor import Executor
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import Plan, select_nodes
from vlm_audio_pipeline.planning.run import run_study


def update_report_page(
    graph: Graph,
    executor: Executor | None = None,
    progress: Progress = no_progress,
    *,
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_step: Callable[[Node, bool], None] = lambda node, started: None,
) -> Path:
    """Run the steps that run on demand, which write the report page, if they are stale; return the page.

    Args:
        graph: the study.
        executor: executes the steps; None: directly, in this process.
        progress: called with the progress of the current step.
        on_plan: called with each plan, before its wave runs.
        on_step: called with each node and True when it starts, and with False when it has succeeded.

    Raises:
        VlmAudioError: if a step failed.
    """
    page = graph.data_folder.report(graph.study.name) / "index.html"
    if not page.exists():  # the page was deleted, so the step that writes it must run again
        for file in graph.partition_files(Node("report")).values():
            file.unlink(missing_ok=True)
    steps = [name for name, step in graph.steps.items() if step.stage.on_demand]
    selected = select_nodes(graph, steps)
    failed = run_study(graph, selected, executor=executor, on_plan=on_plan, on_step=on_step, progress=progress).failed
    if failed:
        raise VlmAudioError("; ".join(failed.values()))
    return page
