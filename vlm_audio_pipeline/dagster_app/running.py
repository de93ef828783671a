"""The loop behind `vlm-audio run`: observe, plan, run one wave through Dagster, plan again until nothing is left."""

import logging
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.dagster_app.assets import graph_assets, report_observations
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.planning.execution import DamagedInput, Outcome, execute, telling
from vlm_audio_pipeline.planning.graph import Graph, Node
from vlm_audio_pipeline.planning.planner import Plan, make_plan
from vlm_audio_pipeline.planning.publishing import publish
from vlm_audio_pipeline.planning.staleness import observe
from vlm_audio_pipeline.storage.disk_errors import disk_troubles

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
MOST_TRIES = (
    25  # of one node in one call: other processes may add a fold at a time; more would mean a change without end
)


@dataclass
class Report:
    """What a call did: steps and runs, what failed or could not be run and why, checks that failed, and what steps counted."""

    steps: int = 0
    runs: int = 0
    reused: int = 0
    failed: dict[Node, str] = field(default_factory=dict)
    blocked: dict[Node, str] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)


def run_study(
    graph: Graph,
    wanted: set[Node] | None = None,
    *,
    first: Plan | None = None,
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_step: Callable[[Node, bool], None] = lambda node, started: None,
    progress: Progress = silent,
) -> Report:
    """Bring a study up to date.

    Args:
        graph: the study.
        wanted: nodes asked for; None: all.
        first: the plan already made, if any.
        on_plan: told each plan, before its wave runs.
        on_step: told each step, when it starts and when it is done.
        progress: told how far a step is.

    Returns:
        What was done. Steps that fail do not stop those that do not need them.

    Raises:
        KeyboardInterrupt: after Ctrl-C; what was finished is kept.
        VlmAudioError: where the disk is full, read-only or gone.
    """
    with disk_troubles(graph.layout):
        return _waves(graph, wanted, first, on_plan, on_step, progress)


def _waves(
    graph: Graph,
    wanted: set[Node] | None,
    first: Plan | None,
    on_plan: Callable[[Plan], None],
    on_step: Callable[[Node, bool], None],
    progress: Progress,
) -> Report:
    report = Report()
    instance: dg.DagsterInstance | None = None
    tries: dict[Node, int] = {}
    again: set[Node] = set()  # failed for damaged inputs, which the next plan makes anew

    def executing(graph: Graph, node: Node) -> Outcome:
        on_step(node, True)
        try:
            outcome = execute(graph, node, unless_made=True)
        except DamagedInput:
            again.add(node)
            raise
        except VlmAudioError as error:
            report.failed[node] = str(error)
            raise
        report.reused += outcome.reused
        report.steps += not outcome.reused
        if counted := outcome.provenance.details.get("counts"):
            report.counts.setdefault(node.step, Counter()).update({} if outcome.reused else counted)
        on_step(node, False)
        return outcome

    while True:
        plan = first or make_plan(graph, observe(graph), wanted, report.failed, tries)
        first = None
        on_plan(plan)
        report.blocked = {n: why for n, why in plan.blocked.items() if n not in report.failed}
        if not plan.wave:
            break
        if instance is None:
            instance = open_instance(graph.layout)
            report_observations(graph, observe(graph), instance)
            assets = graph_assets(graph, executing)
            publish(graph, rebuild=False)  # who reads meanwhile, or after a kill, finds what is finished
        for run in plan.wave:
            report.runs += 1
            before = set(report.failed)
            again.clear()
            for node in run.nodes:
                tries[node] = tries.get(node, 0) + 1
                if tries[node] > MOST_TRIES:
                    raise VlmAudioError(
                        f"{node} must settle, but its inputs changed {MOST_TRIES} times while this ran; is something "
                        "writing to the dataset or the data folder?"
                    )
            with telling(progress), _interruptible():
                result = dg.materialize(
                    assets,
                    selection=[dg.AssetKey(graph.steps[n.step].key) for n in run.nodes],
                    partition_key=None if run.fold is None else str(run.fold),
                    instance=instance,
                    run_config=QUIET,
                    raise_on_error=False,
                )
            report.doubts += [
                f"{'/'.join(e.asset_key.path)}{'' if run.fold is None else f' (fold {run.fold})'}: {e.check_name}: "
                f"{e.metadata['found'].value}"
                for e in result.get_asset_check_evaluations()
                if not e.passed
            ]
            if not result.success:
                _note_failures(graph, run.fold, result, report, before, again)
        publish(graph)
        if any(node.step == "clips" for node in report.failed):
            break  # nothing can be said of a study whose recordings cannot be used
    return report


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt after a run during which Ctrl-C was pressed.

    Dagster takes the signal for itself: within a step it becomes a failure of the run, between steps it may be forgotten.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        with _silence_about(KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
            yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        with open(reading, "rb") as file:
            pressed = {signal.SIGINT, signal.SIGTERM} & set(file.read() or b"")
    if pressed:
        raise KeyboardInterrupt


@contextmanager
def _silence_about(*interrupts: type[BaseException]) -> Iterator[None]:
    """Print no traceback of an interrupt that comes where it cannot be raised: in a finaliser, in closing a connection."""
    hook = sys.unraisablehook

    def unheard(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, interrupts):
            hook(unraisable)

    def of_something_else(record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or not issubclass(kind, interrupts)

    sys.unraisablehook = unheard
    if logging.lastResort:
        logging.lastResort.addFilter(of_something_else)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if logging.lastResort:
            logging.lastResort.removeFilter(of_something_else)


def _note_failures(
    graph: Graph,
    fold: int | None,
    result: dg.ExecuteInProcessResult,
    report: Report,
    before: set[Node],
    again: set[Node],
) -> None:
    """Record why steps of a run failed; what did not start because of them is left for the plan to judge."""
    by_op = {dg.AssetKey(step.key).to_python_identifier(): name for name, step in graph.steps.items()}
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        node = Node(by_op.get(event.step_key or "", event.step_key or "?"), fold)
        if node in report.failed or node in again:
            continue
        data = event.step_failure_data
        error = data.error
        cause = error.cause or error if error else None
        meant = data.user_failure_data.description if data.user_failure_data else None
        report.failed[node] = meant or (cause.to_string() if cause else "unknown")
    if set(report.failed) == before and not again:
        raise VlmAudioError(f"run {result.run_id} failed before any step did; look at it with `vlm-audio ui`")
