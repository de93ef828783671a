"""Bring the report page of a study up to date."""

from collections.abc import Callable
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.number_text import count_text
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.planning.executor import Executor
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import AGAIN, UNFINISHED, Plan, make_plan, select_nodes
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.planning.task_graphs import TASK_GRAPHS
from vlm_audio_pipeline.storage.study_records import study_record

MAX_NAMED_STEPS = 5
"""Number of stale steps that the error names."""


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
        VlmAudioError: if results are stale (`refuse_stale_results`), or a step failed.
    """
    refuse_stale_results(graph)
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


def refuse_stale_results(graph: Graph) -> None:
    """Raise an error if a run would replace results of the study: a page without that run mixes old and missing results.

    Missing results are no reason to refuse: the page names them. Neither are stale results that cannot be computed now.

    Raises:
        VlmAudioError: with the steps, why they are stale, and the command that computes them.
    """
    todo = make_plan(graph, current_input_versions(graph)).todo
    stale: dict[str, str] = {}
    for node, reasons in todo.items():
        changes = [r for r in reasons if r not in ("missing", "damaged", AGAIN) and not r.startswith(UNFINISHED)]
        if changes:
            stale.setdefault(node.step, changes[0])
    if not stale:
        return
    named = ", ".join(f"{step} ({reason})" for step, reason in list(stale.items())[:MAX_NAMED_STEPS])
    more = f" and {len(stale) - MAX_NAMED_STEPS} more" if len(stale) > MAX_NAMED_STEPS else ""
    raise VlmAudioError(
        f"the report of study '{graph.study.name}' was not written, because results are stale, those of {count_text(len(stale), 'step')}: "
        f"{named}{more}. "
        f"Compute them with `{graph.study.run_command}`, then write the report again"
    )


def write_single_file(graph: Graph, out: Path, progress: Progress = no_progress) -> Path:
    """Write the report page of a study as one self-contained file; return its path.

    Raises:
        VlmAudioError: if results are stale (`refuse_stale_results`), or the study was not run.
    """
    study_record(
        graph.data_folder, graph.study.name
    )  # a study without results is refused before recordings are synthesised
    refuse_stale_results(graph)
    return TASK_GRAPHS[graph.study.task].write_single_file(graph.data_folder, graph.study.name, out, progress)
