"""A study with the demo's models on a few synthetic sounds of many sample rates, run once."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile

from vlm_audio_pipeline.datasets.synthesis import synthesise
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.planner import select_nodes
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import load_study

RATES_HZ = (8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000)
FORMATS = ("wav", "flac")
CLASSES = ("dog", "rain")

STUDY = """
name: sounds
dataset: {kind: csv, path: clips.csv}
renderings:
  demo: {transform: mel, n_mels: 64, colormap: magma, resampling: area, size: 96}
  native: {preset: scipy, size: 320}  # at the sample rate of the recording
  jpeg: {preset: plain, size: 64, format: jpeg}
encoders:
  clap: {kind: clap, model: demo-clap}
  aimv2: {kind: vision, model: demo-aimv2, rendering: demo}
  classical: {kind: features}
classifiers:
  zero_shot: {kind: zero_shot, encoder: clap}
  janus: {kind: language_model, model: demo-janus, rendering: demo, controls: [blank], calibrate: [contextual], orders: 2}
  janus_one_shot: {like: janus, controls: [], calibrate: [], orders: 1, shots: 1, encoder: classical}
  knn: {kind: knn, encoder: classical, k: 1}
"""


@dataclass(frozen=True)
class Sounds:
    """The study file, its data folder, and its recordings in the order of their clip ids."""

    study: Path
    data: Path
    files: list[Path]

    def rows(self, sql: str) -> list[dict]:
        return query(DataFolder(self.data), sql).to_pylist()


@pytest.fixture(scope="session")
def sounds(tmp_path_factory) -> Sounds:
    folder = tmp_path_factory.mktemp("sounds")
    lines, files = ["path,label,fold"], []
    for i, rate in enumerate(RATES_HZ):
        name = f"{i}_{rate}.{FORMATS[i % 2]}"
        label = CLASSES[i // 2 % 2]
        soundfile.write(folder / name, synthesise(label, 5, i, 0, duration_s=1, sample_rate_hz=rate), rate)
        lines.append(f"{name},{label},{1 + i // 4}")
        files.append(folder / name)
    (folder / "clips.csv").write_text("\n".join(lines))
    (folder / "sounds.yaml").write_text(STUDY)
    graph = Graph(load_study(folder / "sounds.yaml"), DataFolder(folder / "data"))
    steps = [n for n, s in graph.steps.items() if not (s.stage.on_demand or s.stage.asset == "projections")]
    summary = run_study(graph, select_nodes(graph, steps))
    assert not summary.failed and not summary.not_run
    return Sounds(folder / "sounds.yaml", folder / "data", files)
