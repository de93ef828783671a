"""Show the plan of a study: the steps to do with their reasons, the steps that cannot run, and the cost."""

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vlm_audio_pipeline.cli.costs import cost_views
from vlm_audio_pipeline.cli.printing import print_view
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import Plan
from vlm_audio_pipeline.planning.staleness import read_node_provenance
from vlm_audio_pipeline.storage.disk_usage import describe_disk_usage


def show_plan(graph: Graph, plan: Plan, out: Console, planned_in: float | None = None) -> None:
    """Show the steps of a plan with folds and reasons, and its cost and run time.

    Args:
        graph: the study.
        plan: its plan.
        out: the console.
        planned_in: how long planning took, s.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"{graph.study.name}: to do", no_wrap=True)
    table.add_column("folds", no_wrap=True)
    table.add_column("why", overflow="fold")
    for name in graph.steps:
        groups: dict[str, list[Node]] = {}
        for node, reasons in plan.todo.items():
            if node.step == name:
                groups.setdefault(join_reasons(reasons), []).append(node)
        for reason, nodes in groups.items():
            table.add_row(name, ",".join(str(n.fold) for n in nodes if n.fold), reason)
    if table.row_count:
        print_view(out, table)
    for reason, steps in steps_by_reason({node: (reason,) for node, reason in plan.not_run.items()}).items():
        print_view(out, Text(f"not run: {reason}\n  affects {', '.join(steps)}", style="yellow"))
    summary = [f"{len(plan.fresh)} fresh", f"{len(plan.todo)} to do"]
    if plan.not_run:
        summary.append(f"{len(plan.not_run)} cannot run")
    if planned_in is not None:
        summary.append(f"planned in {planned_in:.2f} s")
    print_view(out, Text(", ".join(summary), style="dim"))
    for view in cost_views(graph, plan):
        print_view(out, view)
    if plan.todo:
        print_view(out, Text(_download_and_time(graph, plan), style="dim"))
    if usage := describe_disk_usage(graph.data_folder):
        print_view(out, Text(usage, style="dim"))


def steps_by_reason(reasons: Mapping[Node, Iterable[str]]) -> dict[str, list[str]]:
    """Group steps by the reasons of their nodes; each step occurs once per group."""
    groups: dict[str, dict[str, None]] = {}
    for node, node_reasons in reasons.items():
        groups.setdefault(join_reasons(tuple(node_reasons)), {})[node.step] = None
    return {reason: list(steps) for reason, steps in groups.items()}


def join_reasons(reasons: tuple[str, ...]) -> str:
    """Join the first three reasons, and count the others."""
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return ", ".join(reasons[:3]) + more


def _download_and_time(graph: Graph, plan: Plan) -> str:
    """Describe what a plan downloads, and how long its steps took the last time."""
    download = graph.study.dataset.download_size(graph.data_folder)
    seconds: dict[str, list[float]] = {}
    for node in graph.nodes:
        if (provenance := read_node_provenance(graph, node)) is not None:
            seconds.setdefault(node.step, []).append(float(provenance.details["seconds"]))
    total = sum(sum(seconds[n.step]) / len(seconds[n.step]) for n in plan.todo if n.step in seconds)
    new = len({n.step for n in plan.todo} - set(seconds))
    times = [f"about {total:.0f} s, as the last time"] if total >= 1 or not new else []
    if new:
        times.append(f"{new} steps that never ran here")
    return f"download {download / 1e9:.2f} GB; run time {' and '.join(times)}"
