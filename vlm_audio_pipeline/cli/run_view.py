"""Run a study, or only plan it, and show the plan, the failures and the leaderboard."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console

from vlm_audio_pipeline.cli import executor
from vlm_audio_pipeline.cli.app import print_json
from vlm_audio_pipeline.cli.label_tables import label_contrasts_table, label_leaderboard_table, recordings_table
from vlm_audio_pipeline.cli.plan_view import plan_tables, show_plan, steps_by_reason
from vlm_audio_pipeline.cli.power_view import power_rows, show_power
from vlm_audio_pipeline.cli.printing import PlainText, console, print_view
from vlm_audio_pipeline.cli.progress import progress_bars
from vlm_audio_pipeline.cli.settings import name_study, settings
from vlm_audio_pipeline.cli.tables import CONTRASTS_TITLE, contrasts_table, leaderboard_table
from vlm_audio_pipeline.cli.verdicts_view import verdicts_table
from vlm_audio_pipeline.contracts.number_text import count_text
from vlm_audio_pipeline.planning.asking_again import CONTINUED_AGAIN, ask_again, select_nodes_again
from vlm_audio_pipeline.planning.clip_limit import check_limit
from vlm_audio_pipeline.planning.contrast_power import planned_contrasts
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import UNFINISHED, make_plan, plan_without_dataset, select_nodes
from vlm_audio_pipeline.planning.publishing import other_file_warning
from vlm_audio_pipeline.planning.run import RunSummary, failure_messages
from vlm_audio_pipeline.planning.staleness import current_input_versions, read_node_provenance
from vlm_audio_pipeline.reports.lookup import LEADERBOARD, MULTI_LABEL_LEADERBOARD, MULTI_LABEL_RECORDINGS
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.studies.missing_paths import missing_path_warnings

_LEADERBOARDS = {"leaderboard": leaderboard_table, "multi_label_leaderboard": label_leaderboard_table}
"""Table -> how it is shown."""


def run_and_show(
    graph: Graph,
    only: Iterable[str] = (),
    fold: int | None = None,
    *,
    dry_run: bool = False,
    difference: float | None = None,
    again: Iterable[str] = (),
    wait: bool = True,
    as_json: bool = False,
) -> int:
    """Bring a study up to date and show its results; for a dry run, show the plan.

    Args:
        graph: the study.
        only: patterns of steps to select.
        fold: the only fold to select.
        dry_run: stop after the plan.
        difference: with `dry_run`, show what the contrasts need to find this difference of accuracies, a share of 1.
        again: steps whose language model is asked again; they are selected, too.
        wait: wait for batches of requests, and run the steps that need them when they have ended.
        as_json: print tables as JSON instead.

    Returns:
        Exit code: 0 if every selected step is up to date (or planned), 1 if a step or a check failed.
    """
    started = time.perf_counter()
    out = console(quiet=as_json)
    plan_out = console(quiet=as_json or (settings().quiet and not dry_run))
    for warning in (other_file_warning(graph), *missing_path_warnings(graph.study)):
        if warning is not None:
            _warn(warning)
    nodes_again = select_nodes_again(graph, again, fold)
    nodes = select_nodes(graph, only, fold) | nodes_again
    if dry_run and not graph.study.dataset.is_local(graph.data_folder):
        plan = plan_without_dataset(graph, nodes)
        show_plan(graph, plan, out)
        if graph.study.contrasts:
            text = f"contrasts: `vlm-audio fetch {graph.study.cli_argument}` and plan again to see what they can show"
            print_view(out, PlainText(text, style="dim"))
        if as_json:
            print_json(plan_tables(graph, plan) | {"contrasts": []})
        return 0
    graph.data_folder.create()
    with progress_bars(f"datasets/{graph.study.dataset.asset_name}") as display:
        dataset = graph.dataset(display.progress)
    check_limit(graph.study.limit, dataset.classes)
    if left_out := dataset.describe_left_out():
        _warn(left_out)
    planning_started = time.perf_counter()
    if nodes_again and not dry_run and not ask_again(graph, nodes_again):
        _warn(CONTINUED_AGAIN)
    plan = make_plan(graph, current_input_versions(graph), nodes, again=nodes_again if dry_run else ())
    show_plan(graph, plan, plan_out, planning_seconds=time.perf_counter() - planning_started)
    if dry_run:
        contrasts = planned_contrasts(graph)
        show_power(contrasts, out, difference)
        if as_json:
            print_json(plan_tables(graph, plan) | {"contrasts": power_rows(contrasts, difference)})
        return 0
    summary = RunSummary()
    if plan.wave:
        summary = executor.run_with_progress(
            graph, nodes, plan, wait=wait, on_wait=lambda waiting: _show_waiting(waiting, plan_out)
        )
    code = 1 if summary.failed or summary.failed_checks else 0
    _show_failures(graph, summary.failed)
    for check in summary.failed_checks:
        _warn(f"check failed: {check}", style="")
    results = _read_results(graph)
    _show_results(graph, results, out)
    if code == 0 and not only and fold is None:
        _prepare_maps(graph)
    _show_remaining(graph, has_leaderboard=any(results[table] for table in _LEADERBOARDS))
    _show_token_counts(summary.counts, plan_out)
    seconds = time.perf_counter() - started
    plan_out.print(f"{count_text(summary.steps, 'step')}, {count_text(summary.runs, 'run')}, {seconds:.1f} s")
    if as_json:
        failures = [{"step": n.step, "fold": n.fold, "reason": reason} for n, reason in summary.failed.items()]
        run = {"study": graph.study.name, "steps": summary.steps, "runs": summary.runs, "seconds": seconds}
        checks = [{"check": check} for check in summary.failed_checks]
        print_json({"run": [run], **results, "failures": failures, "failed_checks": checks})
    return code


def _prepare_maps(graph: Graph) -> None:
    """Project the embeddings after the results are shown, so that `vlm-audio report` does not wait for UMAP."""
    maps = [name for name, step in graph.steps.items() if step.stage.asset == "projections"]
    nodes = select_nodes(graph, maps) if maps else set()
    if not make_plan(graph, current_input_versions(graph), nodes).wave:
        return
    text = "The results are complete. Now the maps of the embeddings for the report page; the first time this takes up to a minute"
    if console(stderr=True).is_terminal and not settings().quiet:
        print_view(console(stderr=True), PlainText(text, style="dim"))
    summary = executor.run_with_progress(graph, nodes, name="maps of the embeddings")
    _show_failures(graph, summary.failed)


def _show_waiting(waiting: Mapping[Node, tuple[str, ...]], out: Console) -> None:
    for reason, steps in steps_by_reason(waiting).items():
        print_view(out, PlainText(f"{', '.join(steps)}: {reason}", style="dim"))


def _warn(text: str, style: str = "yellow") -> None:
    print_view(console(stderr=True), PlainText(text, style=style))


def _show_remaining(graph: Graph, *, has_leaderboard: bool) -> None:
    """Show which steps are left after a partial run, and which results use inputs that no longer exist."""
    versions = current_input_versions(graph)
    plan = make_plan(graph, versions)
    unfinished = {n: reasons for n, reasons in plan.todo.items() if reasons[0].startswith(UNFINISHED)}
    for reason, steps in steps_by_reason(unfinished).items():
        _warn(f"{', '.join(steps)}: {reason}; run the same command to try again")
    if count := len(set(plan.todo) - set(unfinished)):
        effect = "; the leaderboard does not include them"
        if Node("leaderboard") in plan.todo:
            effect = "; the leaderboard above is out of date" if has_leaderboard else ""
        are = "is" if count == 1 else "are"
        _warn(
            f"{count_text(count, 'step')} of {graph.study.name} {are} still to do{effect}. Run: {graph.study.run_command}"
        )
    for asset in graph.input_assets.values():
        if asset.nodes[0] in versions:
            continue
        provenances = (read_node_provenance(graph, node) for node in plan.fresh)
        if any(p is not None and str(asset.nodes[0]) in p.inputs for p in provenances):
            _warn(
                f"results computed with {asset.name} are kept, but {asset.name} is not available now: "
                f"{name_study(graph.unavailable(asset.name) or '', graph.study.cli_argument)}"
            )


def _show_failures(graph: Graph, failed: Mapping[Node, str]) -> None:
    for message in failure_messages(graph, failed):
        print_view(console(stderr=True), PlainText.assemble(("failed", "red"), f" {name_study(message)}"))


def _read_results(graph: Graph) -> dict[str, list[dict[str, Any]]]:
    """Return the verdicts, the leaderboard and the contrasts of a study, by table."""

    def read(sql: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = query(
            graph.data_folder, sql, [graph.study.name], leave_out_damaged=True
        ).to_pylist()
        return rows

    return {
        "verdicts": read("SELECT * FROM verdicts WHERE study = ? ORDER BY position"),
        "leaderboard": read(LEADERBOARD),
        "multi_label_leaderboard": read(MULTI_LABEL_LEADERBOARD),
        "contrasts": read("SELECT * FROM contrasts WHERE study = ? ORDER BY position"),
        "multi_label_recordings": read(MULTI_LABEL_RECORDINGS),
        "multi_label_contrasts": read("SELECT * FROM multi_label_contrasts WHERE study = ? ORDER BY position"),
    }


def _show_results(graph: Graph, results: Mapping[str, list[dict[str, Any]]], out: Console) -> None:
    study = graph.study
    if results["verdicts"]:
        print_view(out, verdicts_table(results["verdicts"], study.name, study.cli_argument))
    title = f"{study.name}: {study.description}" if study.description else study.name
    for table, view in _LEADERBOARDS.items():
        if results[table]:
            print_view(out, view(results[table], title, study.cli_argument))
    if results["multi_label_recordings"]:
        print_view(out, recordings_table(results["multi_label_recordings"], "whole recordings", study.cli_argument))
    if results["contrasts"]:
        print_view(out, contrasts_table(results["contrasts"], CONTRASTS_TITLE, study.cli_argument))
    if results["multi_label_contrasts"]:
        print_view(
            out,
            label_contrasts_table(results["multi_label_contrasts"], CONTRASTS_TITLE, study.cli_argument),
        )


def _show_token_counts(counts: Mapping[str, Mapping[str, int]], out: Console) -> None:
    for step, tokens in counts.items():
        if computed_tokens := tokens.get("tokens_computed"):
            naive = tokens["tokens_naive"]
            text = f"{step}: {computed_tokens:,} tokens of prompts, class names and responses computed; {naive:,} without sharing of common prompt texts ({naive / computed_tokens:.1f}x)"
            print_view(out, PlainText(text, style="dim"))
