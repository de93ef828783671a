"""The progress bars of running commands."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import Plan


class ProgressBars:
    """One bar for all steps and one for the current step, on stderr; hidden if stderr is not a terminal.

    Attributes:
        name: name of the current step.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._steps_bar: TaskID | None = None
        self._step_bar: TaskID | None = None
        self._done: set[Node] = set()

    def on_plan(self, plan: Plan) -> None:
        """Set the number of steps that are planned so far."""
        total = len(self._done | set(plan.todo))
        if self._steps_bar is None:
            self._steps_bar = self.bars.add_task("steps", total=total)
        self.bars.update(self._steps_bar, total=total)

    def on_step(self, node: Node, started: bool) -> None:
        """Show that a step starts or ends."""
        if started:
            self.name = str(node)
            self.progress(0, 1, "")
        else:
            self._done.add(node)
            if self._steps_bar is not None:
                self.bars.update(self._steps_bar, completed=len(self._done))

    def progress(self, done: int, total: int, description: str) -> None:
        """Show the progress of the current step."""
        if self._step_bar is None:
            self._step_bar = self.bars.add_task(self.name)
        self.bars.update(
            self._step_bar, description=f"{self.name} {description}".strip(), completed=done, total=max(total, 1)
        )


@contextmanager
def progress_bars(name: str = "") -> Iterator[ProgressBars]:
    """Show progress bars during the block."""
    display = ProgressBars(name)
    with display.bars:
        yield display
