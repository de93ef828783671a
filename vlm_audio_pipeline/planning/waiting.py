"""Wait for batches of requests to language models, which the servers answer within a day.

Nothing is kept in memory: the process may end at any time, and the next run continues. Does not belong here: submitting
batches and storing their responses (`classifiers.language_models.endpoint.batches`).
"""

import time
from collections.abc import Collection

from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.stages import WAITING_FOR_BATCH
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.staleness import read_node_provenance, unfinished_reasons

FIRST_POLL_S = 10.0
"""Time before the servers are asked for the first time, s; each later pause is half as long again."""
MAX_POLL_S = 300.0
"""Longest time between two questions, s."""
MAX_LOST_POLLS = 12
"""A server that cannot be reached this many times in a row ends the wait: about an hour at the longest pause."""


def waiting_nodes(graph: Graph, selected: Collection[Node]) -> dict[Node, tuple[str, ...]]:
    """Return the selected nodes that wait for a batch, with the reasons."""
    nodes = {}
    for node in selected:
        if not graph.steps[node.step].stage.asks_model:
            continue
        reasons = unfinished_reasons(read_node_provenance(graph, node))
        if any(reason.startswith(WAITING_FOR_BATCH) for reason in reasons):
            nodes[node] = tuple(reasons)
    return dict(sorted(nodes.items(), key=lambda item: str(item[0])))


def wait_for_batches(graph: Graph, nodes: Collection[Node], progress: Progress = no_progress) -> None:
    """Wait until a batch of these nodes has ended; report the progress of all of them, as the servers count it.

    Args:
        graph: the study.
        nodes: nodes that wait for a batch; see `waiting_nodes`.
        progress: called after each question to the servers.

    Raises:
        VlmAudioError: if a server cannot be reached for a long time.
    """
    names = {graph.steps[node.step].component for node in nodes}
    specs = [s for name, s in graph.study.classifiers.items() if name in names and isinstance(s, LanguageModel)]
    pause_s, lost_polls = FIRST_POLL_S, 0
    while True:
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, MAX_POLL_S)
        try:
            polls = [spec.poll_batches(graph.result_store) for spec in specs]
        except ConnectionError as error:
            lost_polls += 1
            if lost_polls >= MAX_LOST_POLLS:
                raise VlmAudioError(
                    f"the server of a batch cannot be reached: {error}. Nothing is lost; run the same command again later"
                ) from error
            continue
        lost_polls = 0
        batches = [poll for poll in polls if poll is not None]
        done, total = sum(b.done for b in batches), sum(b.total for b in batches)
        progress(done, total, "requests")
        if not batches or any(b.is_ready for b in batches):
            return
