"""The plan of a study, as a table and as the command prints it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlm_audio_pipeline.api.tables import ResultTable, printed_text, table_of

if TYPE_CHECKING:
    from rich.console import Console

    from vlm_audio_pipeline.planning.contrast_power import DeclaredContrast
    from vlm_audio_pipeline.planning.graph import Graph
    from vlm_audio_pipeline.planning.nodes import Node
    from vlm_audio_pipeline.planning.planner import Plan


@dataclass(frozen=True, repr=False)
class StudyPlan:
    """The plan of a study; printed as `vlm-audio plan` prints it.

    Attributes:
        plan: the steps to do with reasons, those that cannot run, and those that are fresh.
        contrasts: the declared contrasts with their sizes; [] if the dataset is not on this machine.
    """

    plan: "Plan"
    contrasts: "list[DeclaredContrast]"
    _graph: "Graph"
    _difference: float | None

    @property
    def steps(self) -> ResultTable:
        """The steps to do and those that cannot run: step, fold, state, reason."""
        states: list[tuple[str, Mapping[Node, str]]] = [
            ("to do", {node: ", ".join(reasons) for node, reasons in self.plan.todo.items()}),
            ("cannot run", self.plan.not_run),
        ]
        rows = [(node, state, reason) for state, nodes in states for node, reason in nodes.items()]
        return table_of(
            {
                "step": [node.step for node, _, _ in rows],
                "fold": [node.fold for node, _, _ in rows],
                "state": [state for _, state, _ in rows],
                "reason": [reason for _, _, reason in rows],
            }
        )

    def __repr__(self) -> str:
        from vlm_audio_pipeline.cli.plan_view import show_plan
        from vlm_audio_pipeline.cli.power_view import show_power

        def show(out: "Console") -> None:
            show_plan(self._graph, self.plan, out)
            show_power(self.contrasts, out, self._difference)

        return printed_text(show)
