"""Run a study, or only plan it, and show the plan, the failures and the leaderboard."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from vlm_audio_pipeline.cli import executor
from vlm_audio_pipeline.cli.plan_view import show_plan, steps_by_reason
from vlm_audio_pipeline.cli.printing import console, print_view
from vlm_audio_pipeline.cli.progress import progress_bars
from vlm_audio_pipeline.cli.tables import contrasts_table, leaderboard_table
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import UNFINISHED, make_plan, select_nodes
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.planning.staleness import current_input_versions, read_node_provenance
from vlm_audio_pipeline.storage.catalogue import query, study_records


def run_and_show(graph: Graph, only: Iterable[str] = (), fold: int | None = None, *, dry_run: bool = False) -> int:
    """Bring a study up to date and show its results; for a dry run, show the plan.

    Args:
        graph: the study.
        only: patterns of steps to select.
        fold: the only fold to select.
        dry_run: stop after the plan.

    Returns:
        Exit code: 0 if every selected step is up to date (or planned), 1 if a step or a check failed.
    """
    started = time.perf_counter()
    out = console()
    _warn_about_other_file(graph)
    nodes = select_nodes(graph, only, fold)
    if dry_run and not graph.study.dataset.is_local(graph.data_folder):
        versions = {node: "not here yet" for asset in graph.input_assets.values() for node in asset.nodes}
        show_plan(graph, make_plan(graph, versions, nodes), out)
        return 0
    graph.data_folder.create()
    with progress_bars(f"datasets/{graph.study.dataset.asset_name}") as display:
        graph.dataset(display.progress)
    planning_started = time.perf_counter()
    plan = make_plan(graph, current_input_versions(graph), nodes)
    show_plan(graph, plan, out, planned_in=time.perf_counter() - planning_started)
    if dry_run:
        return 0
    steps = runs = code = 0
    counts: Mapping[str, Mapping[str, int]] = {}
    if plan.wave:
        with progress_bars() as display:
            summary = run_study(
                graph,
                nodes,
                executor=executor.command_executor(),
                first_plan=plan,
                on_plan=display.on_plan,
                on_step=display.on_step,
                progress=display.progress,
            )
        steps, runs, counts = summary.steps, summary.runs, summary.counts
        code = 1 if summary.failed or summary.failed_checks else 0
        _show_failures(graph, summary.failed)
        for check in summary.failed_checks:
            _warn(f"check failed: {check}", style="")
    _show_leaderboard(graph, out)
    _show_remaining(graph)
    _show_token_counts(counts, out)
    out.print(f"{steps} steps, {runs} runs, {time.perf_counter() - started:.1f} s")
    return code


def _warn(text: str, style: str = "yellow") -> None:
    print_view(console(stderr=True), Text(text, style=style))


def _warn_about_other_file(graph: Graph) -> None:
    """Warn if the results of a study with this name come from another study file."""
    file = (study_records(graph.data_folder).get(graph.study.name) or {}).get("file")
    if file and file != str(graph.study.path) and Path(file).is_file():
        _warn(
            f"'{graph.study.name}' was run from {file} before; its results are now updated to {graph.study.path}. Give "
            "one of the two studies another name to keep both"
        )


def _show_remaining(graph: Graph) -> None:
    """Show which steps are left after a partial run, and which results use inputs that no longer exist."""
    versions = current_input_versions(graph)
    plan = make_plan(graph, versions)
    unfinished = {n: reasons for n, reasons in plan.todo.items() if reasons[0].startswith(UNFINISHED)}
    for reason, steps in steps_by_reason(unfinished).items():
        _warn(f"{', '.join(steps)}: {reason}; run the same command to try again")
    if count := len(set(plan.todo) - set(unfinished)):
        effect = "the leaderboard does not include them"
        if Node("leaderboard") in plan.todo:
            effect = "the leaderboard above is out of date"
        _warn(
            f"{count} steps of {graph.study.name} are still to do; {effect}: vlm-audio run {graph.study.cli_argument}"
        )
    for asset in graph.input_assets.values():
        if asset.nodes[0] in versions:
            continue
        provenances = (read_node_provenance(graph, node) for node in plan.fresh)
        if any(p is not None and str(asset.nodes[0]) in p.inputs for p in provenances):
            _warn(f"results made with {asset.name} are kept, although: {graph.unavailable(asset.name)}")


def _show_failures(graph: Graph, failed: Mapping[Node, str]) -> None:
    """Show why steps failed; folds with the same reason are shown together."""
    folds: dict[tuple[str, str], list[str]] = {}
    for node, reason in failed.items():
        folds.setdefault((node.step, reason), []).extend([] if node.fold is None else [str(node.fold)])
    for (step, reason), numbers in folds.items():
        where = f" (fold{'s' if len(numbers) > 1 else ''} {','.join(numbers)})" if numbers else ""
        text = Text.assemble(("failed", "red"), f" {graph.study.name}/{step}{where}: {reason}")
        print_view(console(stderr=True), text)


def _show_leaderboard(graph: Graph, out: Console) -> None:
    study = graph.study
    rows = query(
        graph.data_folder,
        "SELECT * FROM leaderboard WHERE study = ? ORDER BY rank NULLS LAST, accuracy DESC NULLS LAST, classifier",
        [study.name],
    ).to_pylist()
    if rows:
        title = f"{study.name}: {study.description}" if study.description else study.name
        print_view(out, leaderboard_table(rows, title))
    contrasts = query(graph.data_folder, "SELECT * FROM contrasts WHERE study = ? ORDER BY position", [study.name])
    if contrasts.num_rows:
        print_view(out, contrasts_table(contrasts.to_pylist(), "contrasts"))


def _show_token_counts(counts: Mapping[str, Mapping[str, int]], out: Console) -> None:
    for step, tokens in counts.items():
        if computed := tokens.get("tokens_computed"):
            naive = tokens["tokens_naive"]
            text = f"{step}: {computed:,} tokens computed, {naive:,} without sharing ({naive / computed:.1f}x)"
            print_view(out, Text(text, style="dim"))
