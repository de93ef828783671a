"""What `vlm-audio run` and `plan` show: the plan with its reasons, progress that log lines do not drown, the end."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from vlm_audio_pipeline.cli.tables import console, contrasts_table, leaderboard_table
from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError, suggestion
from vlm_audio_pipeline.encoders.weights import fetch_weights
from vlm_audio_pipeline.planning.budget import cost_views
from vlm_audio_pipeline.planning.graph import Graph, Node
from vlm_audio_pipeline.planning.planner import UNFINISHED, Plan, make_plan, select
from vlm_audio_pipeline.planning.staleness import observe, recorded
from vlm_audio_pipeline.renderings.recipe import Recipe, recipes
from vlm_audio_pipeline.reports.pictures import chosen_clips, write_pictures
from vlm_audio_pipeline.storage.catalogue import manifests, query
from vlm_audio_pipeline.storage.disk_usage import disk_words


class Display:
    """A bar for the step that runs and a count of steps, on stderr; silent where stderr is no terminal."""

    def __init__(self) -> None:
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self.steps: TaskID | None = None
        self.step: TaskID | None = None
        self.name = ""
        self.done: set[Node] = set()

    def plan(self, plan: Plan) -> None:
        """Show how many steps are known to be left; later waves may add some."""
        total = len(self.done | set(plan.todo))
        if self.steps is None:
            self.steps = self.bars.add_task("steps", total=total)
        self.bars.update(self.steps, total=total)

    def on_step(self, node: Node, started: bool) -> None:
        """Show which step runs."""
        if started:
            self.name = str(node)
            self.progress(0, 1, "")
        else:
            self.done.add(node)
            if self.steps is not None:
                self.bars.update(self.steps, completed=len(self.done))

    def progress(self, done: int, total: int, what: str) -> None:
        """Show how far the step is."""
        if self.step is None:
            self.step = self.bars.add_task(self.name)
        self.bars.update(self.step, description=f"{self.name} {what}".strip(), completed=done, total=max(total, 1))


@contextmanager
def _displayed() -> Iterator[Display]:
    display = Display()
    with display.bars:
        yield display


def tell(out: Console, what: RenderableType) -> None:
    """Print without cutting values: tables of figures as wide as they are, and no line broken for a window that is not there."""
    for piece in what.renderables if isinstance(what, Group) else [what]:
        if isinstance(piece, Table):
            window = out.width
            if not out.is_terminal or all(c.no_wrap for c in piece.columns):
                out.width = max(window, natural_width(out, piece))
            out.print(piece, crop=False)
            out.width = window
        else:
            out.print(piece, soft_wrap=not out.is_terminal)


def natural_width(out: Console, what: RenderableType) -> int:
    """Give the width that needs no wrapping, in characters."""
    return Measurement.get(out, out.options.update(max_width=100_000), what).maximum


def show_run(graph: Graph, only: Iterable[str] = (), fold: int | None = None, *, dry_run: bool = False) -> int:
    """Bring a study up to date and show it; or only say what that would take.

    Args:
        graph: the study.
        only: patterns of steps.
        fold: only this fold.
        dry_run: stop after the plan.

    Returns:
        Exit code: 0 when everything asked for is up to date (or, for a dry run, could be planned), 1 when a step failed.
    """
    started = time.perf_counter()
    out = console()
    _warn_of_another_file(graph)
    wanted = select(graph, only, fold)
    ready = graph.study.dataset.is_here(graph.layout)
    if dry_run and not ready:
        seen = {node: "not here yet" for source in graph.sources.values() for node in source.nodes}
        show_plan(graph, make_plan(graph, seen, wanted), out)
        return 0
    graph.layout.made()
    with _displayed() as display:
        display.name = f"datasets/{graph.study.dataset.asset_name}"
        graph.dataset(display.progress)
    planned = time.perf_counter()
    plan = make_plan(graph, observe(graph), wanted)
    show_plan(graph, plan, out, planned_in=time.perf_counter() - planned)
    if dry_run:
        return 0
    steps = runs = code = 0
    counted: Mapping[str, Mapping[str, int]] = {}
    if plan.wave:
        from vlm_audio_pipeline.dagster_app.running import run_study  # Dagster is loaded only when something runs

        with _displayed() as display:
            report = run_study(
                graph,
                wanted,
                first=plan,
                on_plan=display.plan,
                on_step=display.on_step,
                progress=display.progress,
            )
        steps, runs, code = report.steps, report.runs, 1 if report.failed or report.doubts else 0
        counted = report.counts
        _show_failures(graph, report.failed)
        for doubt in report.doubts:
            tell(console(stderr=True), Text(f"check failed: {doubt}"))
    _show_leaderboard(graph, out)
    _show_what_is_left(graph)
    for step, counts in counted.items():
        if computed := counts.get("tokens_computed"):
            words = f"{step}: {computed:,} tokens computed, of {counts['tokens_naive']:,} without sharing"
            tell(out, Text(f"{words} ({counts['tokens_naive'] / computed:.1f}x)", style="dim"))
    out.print(f"{steps} steps, {runs} runs, {time.perf_counter() - started:.1f} s")
    return code


def _warn_of_another_file(graph: Graph) -> None:
    """Say so if the results under this study's name were made from another file."""
    before = (manifests(graph.layout).get(graph.study.name) or {}).get("file")
    if before and before != str(graph.study.path) and Path(before).is_file():
        words = f"the results of '{graph.study.name}' here were made from {before}, and are now brought in line with"
        tell(console(stderr=True), Text(f"{words} {graph.study.path}; give one of them another name", style="yellow"))


def _show_what_is_left(graph: Graph) -> None:
    """Say what a partial run left undone, and which results rest on something that is no longer there."""
    seen = observe(graph)
    left = make_plan(graph, seen)
    early = {n: reasons for n, reasons in left.todo.items() if reasons[0].startswith(UNFINISHED)}
    for words, steps in _by_reason(early).items():
        tell(console(stderr=True), Text(f"{', '.join(steps)}: {words}; the same command tries again", style="yellow"))
    if set(left.todo) - set(early):
        count = len(set(left.todo) - set(early))
        words = f"{count} steps of {graph.study.name} are still to do; the leaderboard takes them for absent"
        if Node("leaderboard") in left.todo:
            words = f"{count} steps of {graph.study.name} are still to do, the leaderboard shown among them"
        tell(console(stderr=True), Text(f"{words}: vlm-audio run {graph.study.as_asked}", style="yellow"))
    for source in graph.sources.values():
        if source.nodes[0] in seen:
            continue
        made_with = [p for n in left.fresh if (p := recorded(graph, n)) and str(source.nodes[0]) in p.inputs]
        if made_with:
            why = graph.unavailable(source.name)
            tell(console(stderr=True), Text(f"results made with {source.name} stand, though: {why}", style="yellow"))


def _by_reason(reasons: Mapping[Node, tuple[str, ...]]) -> dict[str, list[str]]:
    """Group nodes by why they are to do, each step once."""
    groups: dict[str, dict[str, None]] = {}
    for node, why in reasons.items():
        groups.setdefault(_shortly(why), {})[node.step] = None
    return {why: list(steps) for why, steps in groups.items()}


def _show_failures(graph: Graph, failed: Mapping[Node, str]) -> None:
    """Say why steps failed; one reason for several folds is said once."""
    folds: dict[tuple[str, str], list[str]] = {}
    for node, why in failed.items():
        folds.setdefault((node.step, why), []).extend([] if node.fold is None else [str(node.fold)])
    for (step, why), some in folds.items():
        where = f" (fold{'s' if len(some) > 1 else ''} {','.join(some)})" if some else ""
        tell(console(stderr=True), Text.assemble(("failed", "red"), f" {graph.study.name}/{step}{where}: {why}"))


def show_plan(graph: Graph, plan: Plan, out: Console, planned_in: float | None = None) -> None:
    """Show what is to do, step by step with its folds and reasons, and what it takes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"{graph.study.name}: to do", no_wrap=True)
    table.add_column("folds", no_wrap=True)
    table.add_column("why", overflow="fold")
    for name in graph.steps:
        groups: dict[str, list[Node]] = {}
        for node, given in plan.todo.items():
            if node.step == name:
                groups.setdefault(_shortly(given), []).append(node)
        for why, some in groups.items():
            table.add_row(name, ",".join(str(n.fold) for n in some if n.fold), why)
    if table.row_count:
        tell(out, table)
    reasons: dict[str, dict[str, None]] = {}
    for node, reason in plan.blocked.items():
        reasons.setdefault(reason, {})[node.step] = None
    for reason, steps in reasons.items():
        tell(out, Text(f"not run: {reason}\n  affects {', '.join(steps)}", style="yellow"))
    summary = [f"{len(plan.fresh)} fresh", f"{len(plan.todo)} to do"]
    if plan.blocked:
        summary.append(f"{len(plan.blocked)} cannot run")
    if planned_in is not None:
        summary.append(f"planned in {planned_in:.2f} s")
    tell(out, Text(", ".join(summary), style="dim"))
    for view in cost_views(graph, plan):
        tell(out, view)
    if plan.todo:
        tell(out, Text(_costs(graph, plan), style="dim"))
    if words := disk_words(graph.layout):
        tell(out, Text(words, style="dim"))


def _shortly(reasons: tuple[str, ...]) -> str:
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return ", ".join(reasons[:3]) + more


def _costs(graph: Graph, plan: Plan) -> str:
    """Say what running the plan takes: download, requests, money, and time as far as it is known from before."""
    download = graph.study.dataset.to_download(graph.layout)
    known: dict[str, list[float]] = {}
    for node in graph.nodes:
        if (there := recorded(graph, node)) is not None:
            known.setdefault(node.step, []).append(float(there.details["seconds"]))
    seconds = sum(sum(known[n.step]) / len(known[n.step]) for n in plan.todo if n.step in known)
    new = len({n.step for n in plan.todo} - set(known))
    time_words = f"up to {seconds:.0f} s going by last time" if seconds >= 1 or not new else ""
    if new:
        time_words = " and ".join(w for w in (time_words, f"{new} steps never timed here") if w)
    return f"takes: download {download / 1e9:.2f} GB, {time_words}"


def _show_leaderboard(graph: Graph, out: Console) -> None:
    rows = query(
        graph.layout,
        "SELECT * FROM leaderboard WHERE study = ? ORDER BY rank NULLS LAST, accuracy DESC NULLS LAST, classifier",
        [graph.study.name],
    ).to_pylist()
    if rows:
        title = f"{graph.study.name}: {graph.study.description}" if graph.study.description else graph.study.name
        tell(out, leaderboard_table(rows, title))
    declared = query(graph.layout, "SELECT * FROM contrasts WHERE study = ? ORDER BY position", [graph.study.name])
    if declared.num_rows:
        tell(out, contrasts_table(declared.to_pylist(), "contrasts"))


def show_fetch(graph: Graph) -> int:
    """Get the dataset and the weights of every model, with progress; what cannot be had does not stop the rest.

    Returns:
        Exit code: 1 where something could not be had.
    """
    graph.layout.made()
    with _displayed() as display:
        display.name = f"datasets/{graph.study.dataset.asset_name}"
        dataset = graph.dataset(display.progress)
    tell(console(), Text(f"{len(dataset.clips)} clips of {dataset.card.title} in {dataset.root}"))
    refused: dict[str, None] = {}
    for name, encoder in graph.study.encoders.items():
        if encoder.weights is None and encoder.unavailable() is None:
            continue
        try:
            with _displayed() as display:
                display.name = name
                encoder.fetch(graph.layout, display.progress)
            tell(console(), Text(f"{name}: {encoder.model_id}, revision {encoder.weights_revision}"))
        except NotAvailable as error:
            refused[str(error)] = None
    for name, classifier in graph.study.classifiers.items():
        if classifier.weights is None:
            continue
        try:
            with _displayed() as display:
                display.name = name
                revision = fetch_weights(classifier.weights, display.progress)
            tell(console(), Text(f"{name}: {classifier.weights.model}, revision {revision}"))
        except NotAvailable as error:
            refused[str(error)] = None
    for reason in refused:
        tell(console(stderr=True), Text(reason, style="yellow"))
    return 1 if refused else 0


def show_render(graph: Graph, rendering: str, folder: Path, most: int | None) -> None:
    """Draw clips under one of the study's renderings, or a preset, with progress, and say where they are.

    Raises:
        VlmAudioError: for a name that is neither.
    """
    known = {n: r for n, r in graph.study.renderings.items() if isinstance(r, Recipe)}
    recipe = known.get(rendering) or recipes().get(rendering)
    if recipe is None:
        raise VlmAudioError(
            f"a rendering must be one of the study's or a preset, got '{rendering}'; "
            f"{suggestion(rendering, [*known, *recipes()])}"
        )
    with _displayed() as display:
        display.name = rendering
        dataset = graph.dataset(display.progress)
        files = write_pictures(dataset, chosen_clips(dataset, most), recipe, folder, display.progress)
    tell(console(), Text(f"{len(files) - 1} pictures in {folder}; classes by rows on {files[0]}"))
