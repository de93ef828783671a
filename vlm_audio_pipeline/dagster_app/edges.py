"""The edges of a study's graph in Dagster: without those to `clips` that another edge implies.

Nearly every step reads the rows of `clips` (labels, sources). An edge for each of them would hide the flow of the data. A step
that reads the output of a **carrier** needs no edge of its own to `clips`. A carrier reads `clips`, and all steps that read the
carrier read `clips` of the same folds, too. In Dagster, the data version of a carrier also covers the version of `clips`, so
that Dagster and the planner call the same steps stale. Partition files record every input and the data version of the rows alone.
"""

from collections.abc import Iterator

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import Input
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node, Step
from vlm_audio_pipeline.storage.partition_files import Provenance

CLIPS = "clips"


def carriers(graph: Graph) -> set[str]:
    """Return the names of the steps whose Dagster version covers `clips`: `spectrograms/paper`, `embeddings/clap`."""
    names = {name for name, step in graph.steps.items() if _folds_of_clips(step) == "same"}
    for step in graph.steps.values():
        for stage_input in step.stage.inputs:
            if _folds_of_clips(step) not in ("all", stage_input.folds):
                names.discard(stage_input.key)
    return names


def visible_inputs(graph: Graph, step: Step) -> Iterator[Input]:
    """Yield the inputs of a step that are edges in Dagster."""
    names = carriers(graph)
    folds = _folds_of_clips(step)
    is_implied = any(i.key in names and i.folds == folds for i in step.stage.inputs)
    yield from (i for i in step.stage.inputs if i.key != CLIPS or not is_implied)


def dagster_version(graph: Graph, node: Node, provenance: Provenance) -> str:
    """Return the data version of a node for Dagster: that of its rows; for a carrier, with that of the clips it read."""
    if node.step not in carriers(graph):
        return provenance.data_version
    clips = {key: version for key, version in provenance.inputs.items() if key.partition("|")[0] == CLIPS}
    return fingerprint(provenance.data_version, clips, length=64)


def _folds_of_clips(step: Step) -> str | None:
    """Return which folds of `clips` a step reads; None if it does not read them."""
    return next((i.folds for i in step.stage.inputs if i.key == CLIPS), None)
