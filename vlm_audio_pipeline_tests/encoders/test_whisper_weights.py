"""Whisper base with its real weights on real recordings. Needs WHISPER_HUB: a folder in the layout of the hub's cache."""

import os
from pathlib import Path

import numpy as np
import pytest

from vlm_audio_pipeline.datasets.audio import decode, resample
from vlm_audio_pipeline.encoders.audio import Audio
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import load_study
from vlm_audio_pipeline_tests.readme import README, RESULTS, assert_figures_agree

MODEL = "openai/whisper-base"
WHISPER_HUB = os.environ.get("WHISPER_HUB")
ESC10_DIR = os.environ.get("ESC10_DIR")  # at import, because tests run without the user's environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not WHISPER_HUB or not ESC10_DIR,
        reason=f"WHISPER_HUB must name a cache of the hub with {MODEL}, and ESC10_DIR a copy of ESC-10",
    ),
]


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Three recordings of three classes at 16 kHz: 5 s, 5 s and the first 1.23 s of one."""
    files = sorted(Path(str(ESC10_DIR)).glob("*/*.ogg"))[3::150][:3]
    samples = [resample(*decode(file)[:2], 16000) for file in files]
    return [*samples[:2], samples[2][:19_680]]


def test_vectors_are_the_mean_of_a_direct_forward_pass_over_the_clip_s_own_frames(clips, monkeypatch):
    import torch
    from transformers import WhisperFeatureExtractor, WhisperModel

    monkeypatch.setenv("HF_HUB_CACHE", str(WHISPER_HUB))
    vectors = Audio(model=MODEL).load()(clips)
    folder = Audio(model=MODEL).weights.snapshot()
    encoder = WhisperModel.from_pretrained(folder, dtype=torch.float32).eval().get_encoder()
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    for clip, vector in zip(clips, vectors, strict=True):
        features = extractor(clip, sampling_rate=16000, return_tensors="pt").input_features
        with torch.no_grad():
            [hidden] = encoder(features).last_hidden_state.numpy()
        assert hidden.shape == (1500, 512)  # 30 s, a frame every 20 ms, which are 320 samples
        frames = int(np.ceil(len(clip) / 320))  # 250 for 5 s, 62 for 1.23 s
        np.testing.assert_allclose(vector, hidden[:frames].mean(axis=0), atol=8e-6)


@pytest.mark.timeout(1800)
def test_the_figures_of_the_results_are_those_of_the_study(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(WHISPER_HUB))
    monkeypatch.setenv("ESC10_DIR", str(ESC10_DIR))
    data_folder = DataFolder(tmp_path / "data")
    assert not run_study(Graph(load_study("whisper"), data_folder)).failed
    leaderboard = query(data_folder, "SELECT * FROM leaderboard WHERE study = 'whisper'").to_pylist()
    rows = {row["classifier"]: row for row in leaderboard}
    figures = {"linear probe": rows["whisper_probe"], "k-NN": rows["whisper_knn"]}
    assert_figures_agree(RESULTS, "| Whisper base on ESC-10, 400 clips |", figures)
    figures = {"Whisper base": rows["whisper_probe"], "linear probe on MFCC": rows["classical_probe"]}
    others = ["crowd", "BirdNET 2.4", "the same with C", "linear probe on the pixels"]
    assert_figures_agree(README, "| ESC-10, 400 clips |", figures, other_rows=others)
