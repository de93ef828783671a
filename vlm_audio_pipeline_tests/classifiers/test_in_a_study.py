"""Zero-shot classifiers and controls in a whole study, with tiny checkpoints under the models' real names."""

import importlib.util

import pytest

from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.studies.loading import parse_study
from vlm_audio_pipeline_tests.encoders.checkpoints import AIMV2, CLAP, checkpoint, publish

STUDY = """
name: small
dataset: {kind: synthetic, clips: 30, n_folds: 2, duration_s: 1}
renderings: {plain: {preset: plain, width: 64, height: 64}}
encoders:
  clap: {kind: clap, device: cpu}
  aimv2: {kind: vision, rendering: plain, device: cpu}
  music2latent: {kind: music2latent, device: cpu}
classifiers:
  zero_shot_clap: {kind: zero_shot, encoder: clap}
  probed: {kind: probe, encoder: aimv2, c: 0.1, controls: [blank, time_shuffled]}
  nearest: {kind: knn, encoder: aimv2, controls: [other_clip]}
  not_available: {kind: probe, encoder: music2latent}
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for model in (CLAP, AIMV2):
        publish(tmp_path / "hub", model, checkpoint(model))
    return tmp_path / "hub"


@pytest.mark.slow
def test_every_control_has_rows_and_components_that_are_not_run_have_a_reason(hub, data_folder, tmp_path):
    study = parse_study(STUDY, tmp_path / "small.yaml")
    assert not run_study(Graph(study, data_folder)).failed
    counted = query(data_folder, "SELECT classifier, control, count(*) AS n FROM predictions GROUP BY ALL ORDER BY ALL")
    assert [tuple(r.values()) for r in counted.to_pylist()] == [
        ("nearest", "none", 30),
        ("nearest", "other_clip", 30),
        ("probed", "blank", 30),
        ("probed", "none", 30),
        ("probed", "time_shuffled", 30),
        ("zero_shot_clap", "none", 30),
    ]
    answers = "SELECT count(DISTINCT predicted) AS n FROM predictions WHERE classifier = 'probed' AND control = 'blank' GROUP BY fold"
    assert set(query(data_folder, answers)["n"].to_pylist()) == {1}, "one image gives one prediction per fold"
    ranked = query(data_folder, "SELECT classifier, control, rank, note FROM leaderboard").to_pylist()
    assert {(r["classifier"], r["control"]) for r in ranked if r["rank"] is not None} == {
        ("zero_shot_clap", "none"),
        ("nearest", "none"),
        ("probed", "none"),
    }
    [missing] = [r for r in ranked if r["classifier"] == "not_available"]
    assert missing["note"].startswith("not run: ")
    assert "weights of SonyCSLParis/music2latent missing" in missing["note"]
    if importlib.util.find_spec("music2latent") is None:
        assert "package music2latent missing" in missing["note"]

    # other texts change the classifier; the vectors of the clips stay, and stored text vectors are used again
    other = parse_study(STUDY.replace("encoder: clap}", "encoder: clap, label_form: human}"), tmp_path / "small.yaml")
    before = query(
        data_folder, "SELECT clip, scores FROM predictions WHERE classifier = 'zero_shot_clap' ORDER BY clip"
    ).to_pylist()
    summary = run_study(Graph(other, data_folder))
    assert not summary.failed
    after = query(
        data_folder, "SELECT clip, scores FROM predictions WHERE classifier = 'zero_shot_clap' ORDER BY clip"
    ).to_pylist()
    assert after != before

    # new weights of CLAP: only the results that depend on them are computed again
    image_vectors = "SELECT clip, scores FROM predictions WHERE classifier = 'probed' ORDER BY ALL"
    images = query(data_folder, image_vectors).to_pylist()
    publish(hub, CLAP, checkpoint(CLAP, seed=1))
    assert not run_study(Graph(other, data_folder)).failed
    audio = query(data_folder, "SELECT DISTINCT revision FROM predictions WHERE classifier = 'zero_shot_clap'")[
        "revision"
    ].to_pylist()
    assert audio == [(hub / f"models--{CLAP.replace('/', '--')}" / "refs" / "main").read_text()]
    assert query(data_folder, image_vectors).to_pylist() == images
