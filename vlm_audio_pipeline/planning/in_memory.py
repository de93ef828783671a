"""Compute a step of a study in memory, for clips that are in no study: no partition file is read or written.

Results that are too costly to compute twice (vectors, responses) come from the result store, and are kept there.
"""

from collections.abc import Mapping

import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.planning.execution import compute_tables
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node


def compute_in_memory(
    graph: Graph, step: str, fold: int, tables: Mapping[str, pa.Table], progress: Progress = no_progress
) -> pa.Table:
    """Compute the first table of a step, and before it the steps that it reads.

    Args:
        graph: the study.
        step: name of the step, such as "embeddings/clap".
        fold: the fold.
        tables: tables that exist already, by step: at least `clips`.
        progress: called with the progress of each step.

    Raises:
        NotAvailable: if weights, keys or a budget are missing.
        VlmAudioError: if a step could not finish.
    """
    if (reason := graph.unavailable(step)) is not None:
        raise NotAvailable(f"{graph.steps[step].component} cannot run: {reason}")
    inputs = dict(tables)
    return _compute(graph, step, fold, inputs, progress)


def _compute(graph: Graph, step: str, fold: int, tables: dict[str, pa.Table], progress: Progress) -> pa.Table:
    if step in tables:
        return tables[step]
    inputs = {
        stage_input.key: _compute(graph, stage_input.key, fold, tables, progress)
        for stage_input in graph.steps[step].stage.inputs
        if stage_input.key not in graph.input_assets
    }
    context, outputs = compute_tables(graph, Node(step, fold), inputs, progress)
    if context.unfinished:
        raise VlmAudioError("; ".join(dict.fromkeys(context.unfinished)))
    tables[step] = next(iter(outputs.values()))
    return tables[step]
