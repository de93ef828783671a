"""Show the plan of a study: the steps to do with their reasons, the steps that cannot run, and the cost."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from rich.console import Console

from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel
from vlm_audio_pipeline.cli.costs import cost_views
from vlm_audio_pipeline.cli.printing import PlainTable, PlainText, print_view
from vlm_audio_pipeline.cli.settings import name_study
from vlm_audio_pipeline.cli.weights_view import describe_missing_weights, missing_weights
from vlm_audio_pipeline.planning.budget import planned_costs
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import Plan
from vlm_audio_pipeline.planning.staleness import read_node_provenance
from vlm_audio_pipeline.storage.disk_usage import describe_disk_usage


def show_plan(graph: Graph, plan: Plan, out: Console, planning_seconds: float | None = None) -> None:
    """Show the steps of a plan with folds and reasons, models that are retired soon, and its cost and run time.

    Args:
        graph: the study.
        plan: its plan.
        out: the console.
        planning_seconds: duration of the planning, s; None: it is not shown.
    """
    table = PlainTable()
    table.add_column(f"{graph.study.name}: to do")
    table.add_column("folds", no_wrap=True)
    table.add_column("reason")
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
        advice = name_study(reason, graph.study.cli_argument)
        print_view(out, PlainText(f"not run: {advice}\n  affects {', '.join(steps)}", style="yellow"))
    summary = [f"{len(plan.fresh)} fresh", plan.steps_to_do]
    if plan.not_run:
        summary.append(f"{len(plan.not_run)} cannot run")
    if planning_seconds is not None:
        summary.append(f"planned in {planning_seconds:.2f} s")
    print_view(out, PlainText(", ".join(summary), style="dim"))
    for name, spec in graph.study.classifiers.items():
        if isinstance(spec, LanguageModel) and (warning := spec.retirement_warning(date.today())):
            print_view(out, PlainText(f"{name}: {warning}", style="yellow"))
    for view in cost_views(graph, plan):
        print_view(out, view)
    if text := describe_missing_weights(graph):
        advice = f"weights to download: {text}: vlm-audio fetch {graph.study.cli_argument}"
        print_view(out, PlainText(advice, style="dim"))
    if plan.todo:
        print_view(out, PlainText(_download_and_time(graph, plan), style="dim"))
    if usage := describe_disk_usage(graph.data_folder):
        print_view(out, PlainText(usage, style="dim"))


def plan_tables(graph: Graph, plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Return a plan as tables: its summary, the steps to do and those that cannot run, requests, and weights to download."""
    states: list[tuple[str, Mapping[Node, Iterable[str]]]] = [
        ("to do", plan.todo),
        ("cannot run", {node: (reason,) for node, reason in plan.not_run.items()}),
    ]
    costs = planned_costs(graph, plan) if graph.study.dataset.is_local(graph.data_folder) else []
    return {
        "plan": [
            {
                "study": graph.study.name,
                "fresh": len(plan.fresh),
                "to_do": len(plan.todo),
                "to_do_at_most": len(plan.todo) + len(plan.dependents),
                "cannot_run": len(plan.not_run),
            }
        ],
        "steps": [
            {"step": node.step, "fold": node.fold, "state": state, "reason": name_study(", ".join(reasons))}
            for state, nodes in states
            for node, reasons in nodes.items()
        ],
        "requests": [
            {
                "classifier": step.classifier,
                "requests": step.cost.requests,
                "tokens_at_most": step.cost.tokens if step.paid else None,
                "usd_at_most": step.cost.live_usd if step.paid else None,
                "batch_usd": step.cost.batch_usd if step.paid else None,
            }
            for step in costs
        ],
        "weights": [{"model": model, "size_bytes": size} for model, size in missing_weights(graph)],
    }


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
    """Describe the download of a plan, and how long its steps took in their last run."""
    download = graph.study.dataset.download_size(graph.data_folder)
    seconds: dict[str, list[float]] = {}
    for node in graph.nodes:
        if (provenance := read_node_provenance(graph, node)) is not None:
            seconds.setdefault(node.step, []).append(float(provenance.details["seconds"]))
    total = sum(sum(seconds[n.step]) / len(seconds[n.step]) for n in plan.todo if n.step in seconds)
    new_steps = len({n.step for n in plan.todo} - set(seconds))
    times = [f"about {total:.0f} s, as in the last run"] if total >= 1 or not new_steps else []
    if new_steps:
        times.append(f"unknown for {new_steps} steps that have no earlier run")
    dataset = f"dataset download {download / 1e9:.2f} GB; " if download else ""
    return f"{dataset}run time {' and '.join(times)}"
