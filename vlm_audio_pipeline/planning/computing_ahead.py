"""Compute the expensive rows of all folds of a step in one map, before the first fold is executed.

A fold has too few batches for many workers. Result keys hash content, so that a row computed ahead is the row that the fold finds.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from vlm_audio_pipeline.contracts.progress import Progress
from vlm_audio_pipeline.contracts.stages import Stage
from vlm_audio_pipeline.planning.execution import matching_provenance, read_inputs, stage_context
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import PlannedRun
from vlm_audio_pipeline.storage.disk_errors import convert_disk_errors
from vlm_audio_pipeline.storage.locks import file_lock
from vlm_audio_pipeline.storage.scratch import Scratch


def cut_wave(graph: Graph, wave: Sequence[PlannedRun]) -> Iterator[tuple[str | None, tuple[PlannedRun, ...]]]:
    """Cut the runs of a wave so that all folds reach a step that computes ahead, or asks a local language model, at the same time.

    A worker has one model in memory. If each fold asked all models in turn, every worker would load every model for each fold.

    Yields:
        The step at which all folds of these runs begin (None: the wave begins with other steps), and the parts of the runs from that
        step to the next one.
    """
    in_wave = {node.step for run in wave for node in run.nodes}
    borders = [name for name, step in graph.steps.items() if _is_border(step.stage) and name in in_wave]
    order = {name: position for position, name in enumerate(graph.steps)}
    for step, next_step in zip([None, *borders], [*borders, None], strict=True):
        first = order[step] if step is not None else -1
        end = order[next_step] if next_step is not None else len(order)
        parts = (PlannedRun(r.fold, tuple(n for n in r.nodes if first <= order[n.step] < end)) for r in wave)
        if runs := tuple(part for part in parts if part.nodes):
            yield step, runs


def _is_border(stage: Stage) -> bool:
    return stage.run_ahead is not None or (stage.asks_model and not stage.paid)


def compute_ahead(graph: Graph, nodes: Sequence[Node], progress: Progress) -> None:
    """Compute the rows of nodes of one step, and store them; do nothing for a step without such rows.

    Nodes that another process has executed meanwhile are left out. The locks of all nodes are held, so that two processes do not compute the same rows.

    Raises:
        DamagedInput: if an input cannot be read; the next run recomputes it.
        VlmAudioError: if a row cannot be computed, or the disk cannot be written.
    """
    run_ahead = graph.steps[nodes[0].step].stage.run_ahead
    if run_ahead is None:
        return
    data_folder = graph.data_folder.create()
    with convert_disk_errors(data_folder), ExitStack() as stack:
        # Every process takes the locks in the order of the graph, so none waits for one that waits for it.
        for node in sorted(nodes, key=graph.nodes.index):
            stack.enter_context(file_lock(data_folder.lock(graph.node_name(node))))
        contexts = []
        for node in nodes:
            inputs, versions = read_inputs(graph, node)
            if matching_provenance(graph, node, versions) is None:
                scratch = Scratch(data_folder.scratch(graph.node_name(node)))
                stack.callback(scratch.close)
                contexts.append(stage_context(graph, node, inputs, progress, scratch))
        if contexts:
            run_ahead(contexts)
