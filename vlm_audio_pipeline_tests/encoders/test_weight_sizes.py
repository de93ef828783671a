"""Sizes of weights: measured on this machine, else as published; unknown stays unknown."""

import pytest

from vlm_audio_pipeline.cli.weights_view import describe_missing_weights, missing_weights
from vlm_audio_pipeline.encoders.weight_sizes import local_size, published_size
from vlm_audio_pipeline.encoders.weights import DEMO_MODELS, Weights
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import parse_study

STUDY = """
dataset: {kind: synthetic, clips: 40}
renderings: {paper: {preset: paper}}
encoders:
  clap: {kind: clap, model: demo-clap}
  whisper: {kind: audio, model: openai/whisper-base}
  other: {kind: audio, model: nobody/other}
classifiers:
  probe: {kind: probe, encoder: whisper}
  janus: {kind: language_model, model: deepseek-community/Janus-Pro-1B, rendering: paper}
"""


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def test_the_published_size_is_that_of_the_model_and_the_file():
    assert published_size(Weights("openai/whisper-base")) == 290_000_000
    assert published_size(Weights("lukewys/laion_clap", tensors=("630k-audioset-best.pt",))) == 1_860_000_000
    assert published_size(Weights("lukewys/laion_clap", tensors=("other.pt",))) is None
    assert published_size(Weights("nobody/other")) is None


def test_the_local_size_is_that_of_the_files(no_weights):
    files = [path for path in (DEMO_MODELS / "demo-clap").rglob("*") if path.is_file()]
    assert local_size(Weights("demo-clap")) == sum(path.stat().st_size for path in files) > 1_000_000
    assert local_size(Weights("openai/whisper-base")) is None


def test_a_study_lists_the_models_to_download(no_weights, tmp_path):
    graph = Graph(parse_study(STUDY, tmp_path / "s.yaml"), DataFolder(tmp_path / "data"))
    assert missing_weights(graph) == [
        ("openai/whisper-base", 290_000_000),
        ("nobody/other", None),
        ("deepseek-community/Janus-Pro-1B", 4_180_000_000),
    ]
    # 0.29 GB + 4.18 GB
    assert describe_missing_weights(graph) == (
        "openai/whisper-base (290.0 MB), nobody/other (size unknown), deepseek-community/Janus-Pro-1B (4.2 GB); "
        "together 4.5 GB and 1 of unknown size"
    )
