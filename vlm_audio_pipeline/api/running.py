"""Run a study and fetch its models, with the progress bars of the command."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError

if TYPE_CHECKING:
    from vlm_audio_pipeline.planning.graph import Graph
    from vlm_audio_pipeline.planning.run import RunSummary


class StepsFailed(VlmAudioError):
    """Steps or checks of a run failed; what succeeded is kept.

    Attributes:
        summary: what ran, and what failed.
    """

    def __init__(self, message: str, summary: "RunSummary"):
        super().__init__(message)
        self.summary = summary


def run_graph(graph: "Graph", only: Iterable[str], fold: int | None, again: Iterable[str], wait: bool) -> "RunSummary":
    """Run the steps that are missing or stale; see `OpenStudy.run`. Dagster is imported only if there are any."""
    import warnings

    from vlm_audio_pipeline.cli import executor
    from vlm_audio_pipeline.cli.progress import progress_bars
    from vlm_audio_pipeline.planning.asking_again import CONTINUED_AGAIN, ask_again, select_nodes_again
    from vlm_audio_pipeline.planning.planner import make_plan, select_nodes
    from vlm_audio_pipeline.planning.run import RunSummary, failure_messages
    from vlm_audio_pipeline.planning.staleness import current_input_versions

    nodes_again = select_nodes_again(graph, again, fold)
    nodes = select_nodes(graph, only, fold) | nodes_again
    with progress_bars(f"datasets/{graph.study.dataset.asset_name}") as display:
        left_out = graph.dataset(display.progress).describe_left_out()
    if left_out:
        warnings.warn(left_out, stacklevel=3)
    if nodes_again and not ask_again(graph, nodes_again):
        warnings.warn(CONTINUED_AGAIN, stacklevel=3)
    plan = make_plan(graph, current_input_versions(graph), nodes)
    if not plan.wave:
        return RunSummary(not_run=plan.not_run)
    summary = executor.run_with_progress(graph, nodes, plan, wait=wait)
    messages = [f"failed {message}" for message in failure_messages(graph, summary.failed)]
    messages += [f"check failed: {check}" for check in summary.failed_checks]
    if messages:
        raise StepsFailed("\n".join(messages), summary)
    return summary


def fetch_graph(graph: "Graph") -> dict[str, str]:
    """Download the dataset and the models of a study; see `OpenStudy.fetch`."""
    from vlm_audio_pipeline.cli.progress import progress_bars
    from vlm_audio_pipeline.planning.fetching import model_downloads

    with progress_bars(f"datasets/{graph.study.dataset.asset_name}") as display:
        graph.dataset(display.progress)
    models: dict[str, str] = {}
    errors: dict[str, None] = {}  # a dictionary, so that the same error of several encoders is reported once
    for name, fetch in model_downloads(graph):
        try:
            with progress_bars(name) as display:
                models[name] = fetch(display.progress)
        except NotAvailable as error:
            errors[str(error)] = None
    if errors:
        raise NotAvailable("\n".join(errors))
    return models
