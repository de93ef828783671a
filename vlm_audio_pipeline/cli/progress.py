"""The progress of running commands on stderr: bars in a terminal, lines elsewhere."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from vlm_audio_pipeline.cli.printing import PlainText, console, print_progress_line, print_view
from vlm_audio_pipeline.cli.settings import settings
from vlm_audio_pipeline.contracts.escapes import escape_terminal
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import Plan

LINE_INTERVAL_S = 60.0
"""Longest time without a line if stderr is not a terminal, s."""


class ProgressBars:
    """One bar for all steps and one for the current step, on stderr.

    With `-q` it shows nothing. If stderr is not a terminal (nohup, a pipe, a batch job), it prints one line per step when the step ends, and one line
    per interval during a long step, also if the step reports no progress.

    Args:
        name: name of the current step.
        line_interval_s: longest time without a line, s.

    Attributes:
        name: name of the current step.
    """

    def __init__(self, name: str = "", line_interval_s: float = LINE_INTERVAL_S) -> None:
        self.name = name
        self.line_interval_s = line_interval_s
        self.is_terminal = sys.stderr.isatty()
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console(stderr=True),
            transient=True,
            disable=not self.is_terminal or settings().quiet,
        )
        self._prints_lines = not settings().quiet and (not self.is_terminal or settings().verbose)
        self._steps_bar: TaskID | None = None
        self._step_bar: TaskID | None = None
        self._done: set[Node] = set()
        self._total = 0
        self._state = ""
        self._started = self._last_line = time.monotonic()
        self._closed = threading.Event()

    def on_plan(self, plan: Plan) -> None:
        """Set the number of steps that are planned so far."""
        self._total = len(self._done | set(plan.todo))
        if self._steps_bar is None:
            self._steps_bar = self.bars.add_task("steps", total=self._total)
        self.bars.update(self._steps_bar, total=self._total)

    def on_step(self, node: Node, started: bool) -> None:
        """Show that a step starts or ends."""
        if started:
            self.name = str(node)
            self._started = time.monotonic()
            self.progress(0, 1, "")
        else:
            self._done.add(node)
            self._print_line(f"{node}: {time.monotonic() - self._started:.1f} s")
            if self._steps_bar is not None:
                self.bars.update(self._steps_bar, completed=len(self._done))

    def progress(self, done: int, total: int, description: str) -> None:
        """Show the progress of the current step."""
        if self._step_bar is None:
            self._step_bar = self.bars.add_task("")
        text = escape_terminal(f"{self.name} {description}".strip())
        self.bars.update(self._step_bar, description=text, completed=done, total=max(total, 1))
        self._state = f" {description}: {done} of {total}," if description else ""

    def print_regularly(self) -> None:
        """Print a line whenever none was printed for the interval, until `close` is called."""
        while not self._closed.wait(max(0.0, self._last_line + self.line_interval_s - time.monotonic())):
            if time.monotonic() - self._last_line >= self.line_interval_s:
                self._print_line(
                    f"{self.name or 'planning'}:{self._state} {time.monotonic() - self._started:.0f} s so far"
                )

    def close(self) -> None:
        """End `print_regularly`."""
        self._closed.set()

    def _print_line(self, text: str) -> None:
        self._last_line = time.monotonic()
        if self._prints_lines:
            count = f"[{len(self._done)}/{self._total}] " if self._total else ""
            line = f"{count}{text}"
            if self.is_terminal:
                print_view(self.bars.console, PlainText(line))  # above the bars
            else:
                print_progress_line(line)


@contextmanager
def progress_bars(name: str = "", line_interval_s: float = LINE_INTERVAL_S) -> Iterator[ProgressBars]:
    """Show progress during the block; see `ProgressBars`."""
    display = ProgressBars(name, line_interval_s)
    if not display.is_terminal:
        threading.Thread(target=display.print_regularly, daemon=True).start()
    try:
        with display.bars:
            yield display
    finally:
        display.close()
