"""Ask a language model again on purpose: `vlm-audio run STUDY --again STEP`."""

from collections.abc import Collection, Iterable

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import select_nodes
from vlm_audio_pipeline.planning.staleness import (
    nodes_to_ask_again,
    read_node_provenance,
    times_asked_again,
    unfinished_reasons,
)
from vlm_audio_pipeline.storage.asked_again import supersede
from vlm_audio_pipeline.storage.partition_files import read_partition
from vlm_audio_pipeline.storage.schemas import TABLES

CONTINUED_AGAIN = (
    "an unfinished run with --again continues; responses that it has already received are not requested again"
)
"""The warning of a run for which `ask_again` returned False."""


def select_nodes_again(graph: Graph, steps: Iterable[str], fold: int | None = None) -> set[Node]:
    """Select the nodes that have responses and whose model is to be asked again.

    Args:
        graph: the study.
        steps: shell patterns over step names, or names of classifiers; see `select_nodes`.
        fold: only this fold; None: all folds.

    Raises:
        VlmAudioError: for a name that matches no step with requests to a language model.
    """
    nodes: set[Node] = set()
    for name in steps:
        matches = select_nodes(graph, [name], fold, option="--again")
        selected = {node for node in matches if graph.steps[node.step].stage.asks_model}
        if not selected:
            names = [step for step in graph.steps if graph.steps[step].stage.asks_model]
            raise VlmAudioError(
                f"--again must name a step that asks a language model, got '{name}'; {suggestion(name, names)}"
            )
        nodes |= selected
    return nodes


def ask_again(graph: Graph, nodes: Collection[Node]) -> bool:
    """Record that the responses of nodes are asked for again; the next run sends their requests.

    Responses to questions of other settings (another prompt) are not shown, and are not asked for again.
    A run with `--again` that was interrupted, or that waits for a batch, money or a server, is continued: responses that it has already
    received are not asked for again.

    Returns:
        Whether it was recorded now; False if an unfinished run is continued.
    """
    counts = times_asked_again(graph, nodes)
    is_unfinished = any(counts[node] and unfinished_reasons(read_node_provenance(graph, node)) for node in nodes)
    if is_unfinished or nodes_to_ask_again(graph) & set(nodes):
        return False
    keys: dict[str, list[str]] = {}
    for node in nodes:
        provenance = read_node_provenance(graph, node)
        if provenance is not None and provenance.version == graph.steps[node.step].version:
            table = read_partition(graph.partition_files(node)["responses"], TABLES["responses"])[0]
            answered = [row for row in table.select(["result_key", "outcome"]).to_pylist() if row["outcome"] != "error"]
            keys[graph.node_name(node)] = [row["result_key"] for row in answered]
    supersede(graph.result_store, keys)
    return True
