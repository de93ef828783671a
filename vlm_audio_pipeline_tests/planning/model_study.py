"""A small study with the demo's models: audio, images, and a few-shot language model. Its data versions are compared between engines.

As a program, the module runs the study in the data folder of its argument and prints the data version of every node as JSON.
"""

import json
import sys
from pathlib import Path

from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.planning.staleness import read_node_provenance
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import parse_study

STUDY = """
name: models
dataset: {kind: synthetic, clips: 50}
renderings:
  demo: {transform: mel, n_mels: 64, colormap: magma, resampling: area, size: 96}
encoders:
  clap: {kind: clap, model: demo-clap}
  aimv2: {kind: vision, model: demo-aimv2, rendering: demo}
  classical: {kind: features}
classifiers:
  janus: {kind: language_model, model: demo-janus, rendering: demo, prompt: plain, shots: 1, encoder: classical, draws: 2, batch_size: 8}
  clap_zero_shot: {kind: zero_shot, encoder: clap}
  aimv2_knn: {kind: knn, encoder: aimv2, k: 3}
  classical_probe: {kind: probe, encoder: classical}
"""


def model_study_graph(folder: Path) -> Graph:
    return Graph(parse_study(STUDY, folder), DataFolder(folder / "data"))


def data_versions(graph: Graph) -> dict[str, str]:
    """Return the data version of each node that was computed, without `history`, which contains dates."""
    provenances = {str(node): read_node_provenance(graph, node) for node in graph.nodes if node.step != "history"}
    return {node: provenance.data_version for node, provenance in provenances.items() if provenance is not None}


def expected_nodes(graph: Graph) -> set[str]:
    """Return the names of the nodes that `data_versions` has after a run of the whole study."""
    return {str(n) for n in graph.nodes if n.step != "history" and not graph.steps[n.step].stage.on_demand}


if __name__ == "__main__":
    graph = model_study_graph(Path(sys.argv[1]))
    summary = run_study(graph)
    assert not summary.failed, summary.failed
    print(json.dumps(data_versions(graph)))  # noqa: T201
