"""Studies with changed audio: new conditions beside the old results, which stay as they are."""

import numpy as np
import pytest
import soundfile

from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.planner import select_nodes
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import parse_study
from vlm_audio_pipeline_tests.bench import RATE

FOLDS = (1, 2, 3)


def rows(bench, sql):
    return query(bench.data_folder, sql).to_pylist()


def test_changed_audio_adds_conditions_and_leaves_every_other_step_fresh(done):
    originals = "SELECT * EXCLUDE (control) FROM predictions WHERE control = 'none' ORDER BY ALL"
    keys = "SELECT encoder, clip, result_key FROM embeddings WHERE encoder = 'bands' ORDER BY ALL"
    before = rows(done, originals), rows(done, keys)
    study = {**done.study, "perturb": {"noise": "white", "snr_db": [20, -20], "gain_db": [-20]}}
    result = done.run(study)
    assert not result.report.failed
    conditions = ("white_noise_20db", "white_noise_minus_20db", "gain_minus_20db")
    assert set(result.steps) == {
        *(f"embeddings/bands__{condition}|{fold}" for condition in conditions for fold in FOLDS),
        *(f"predictions/{name}|{fold}" for name in ("probe", "knn") for fold in FOLDS),  # no probe is fitted again
        *("metrics/probe", "metrics/knn", "leaderboard", "history"),
    }
    assert result.vectors == 36  # 12 clips, 3 conditions
    assert (rows(done, originals), rows(done, keys)) == before
    for table in ("predictions", "metrics"):
        controls = rows(done, f"SELECT DISTINCT classifier, control FROM {table} ORDER BY ALL")
        assert {row["control"] for row in controls if row["classifier"] == "knn"} == {"none", *conditions}
        assert {row["control"] for row in controls if row["classifier"] == "panel"} == {"none"}
    board = {row["control"]: row for row in rows(done, "SELECT * FROM leaderboard WHERE classifier = 'probe'")}
    assert board["none"]["rank"] is not None and board["white_noise_20db"]["rank"] is None
    assert done.run(study).steps == []
    assert done.run().vectors == 0


@pytest.mark.slow
def test_another_seed_or_file_of_noise_recomputes_only_the_noisy_steps(done):
    for name, seed in (("rain", 1), ("wind", 2)):
        samples = 0.1 * np.random.default_rng(seed).standard_normal(RATE)
        soundfile.write(done.folder / f"{name}.wav", samples, RATE)
    study = {**done.study, "perturb": {"noise": "rain.wav", "snr_db": [0], "low_pass_hz": [1000]}}
    assert done.run(study).vectors == 24
    (done.folder / "rain.wav").write_bytes((done.folder / "wind.wav").read_bytes())
    changed = done.run(study)
    assert changed.vectors == 12
    assert {s for s in changed.steps if s.startswith("embeddings")} == {
        f"embeddings/bands__rain_noise_0db|{f}" for f in FOLDS
    }
    study["perturb"] = {**study["perturb"], "seed": 1}
    assert done.run(study).vectors == 12
    (done.folder / "rain.wav").unlink()
    report = done.run({**study, "perturb": {**study["perturb"], "seed": 2}}).report
    assert "rain.wav is missing" in str(report)


def test_a_classifier_declares_its_own_changes_or_none(done):
    study = done.changed_study("classifiers", "probe", perturb=None)
    study["perturb"] = {"gain_db": [-6]}
    study["classifiers"]["own"] = {"kind": "knn", "encoder": "bands", "perturb": {"low_pass_hz": [500]}}
    classifiers = done.graph(study).study.classifiers
    assert {name: spec.needs().conditions for name, spec in classifiers.items()} == {
        "probe": (),
        "knn": ("gain_minus_6db",),
        "panel": (),
        "own": ("low_pass_500hz",),
    }


def test_one_name_for_two_changes_is_refused(done):
    study = done.changed_study("classifiers", "knn", perturb={"noise": "white", "snr_db": [0], "seed": 3})
    study["perturb"] = {"noise": "white", "snr_db": [0]}
    with pytest.raises(BadStudy, match="'white_noise_0db' stands for two different changes of the audio"):
        done.graph(study)


def test_mistakes_have_line_and_key(done):
    with pytest.raises(BadStudy, match=r"bench.yaml:\d+: perturb.snr_db: must be a list, got 10; write \[10\]"):
        done.graph({**done.study, "perturb": {"noise": "white", "snr_db": 10}})
    with pytest.raises(BadStudy, match=r"bench.yaml:\d+: perturb.snr: unknown key"):
        done.graph({**done.study, "perturb": {"noise": "white", "snr": [10]}})


@pytest.mark.slow
def test_an_image_encoder_gets_images_of_the_changed_audio(done):
    study = done.changed_study()
    study["renderings"] = {"small": {"size": 32}}
    study["encoders"]["dots"] = {"kind": "pixels", "rendering": "small"}
    study["classifiers"] = {"near": {"kind": "knn", "encoder": "dots", "k": 1}}
    study["perturb"] = {"noise": "white", "snr_db": [0], "gain_db": [-20]}
    assert not done.run(study).report.failed
    images = rows(done, "SELECT rendering, clip, image_sha256 FROM spectrograms ORDER BY ALL")
    of = {
        name: [r["image_sha256"] for r in images if r["rendering"] == name] for name in {r["rendering"] for r in images}
    }
    assert set(of) == {"small", "small__white_noise_0db", "small__gain_minus_20db"}
    assert of["small__gain_minus_20db"] == of["small"]  # levels are relative to the maximum of each clip
    assert not set(of["small__white_noise_0db"]) & set(of["small"])


DEMO_MODELS = """
dataset: {kind: synthetic, clips: 20, takes: 1, n_folds: 2, duration_s: 2}
renderings:
  demo: {transform: mel, n_mels: 64, colormap: magma, resampling: area, size: 96}
encoders:
  clap: {kind: clap, model: demo-clap}
perturb: {noise: white, snr_db: [40, -20]}
classifiers:
  janus: {kind: language_model, model: demo-janus, rendering: demo, scoring: [likelihood], folds: [1], batch_size: 8}
  clap: {kind: zero_shot, encoder: clap, folds: [1]}
"""


@pytest.mark.slow
def test_the_demo_models_hear_and_see_less_under_noise(tmp_path):
    graph = Graph(parse_study(DEMO_MODELS, tmp_path / "noisy.yaml"), DataFolder(tmp_path / "data"))
    steps = [f"predictions/{name}" for name in graph.study.classifiers]
    assert not run_study(graph, select_nodes(graph, steps, 1)).failed
    counts = "SELECT classifier, control, sum(correct::INT) AS correct FROM predictions GROUP BY ALL"
    correct = {(r["classifier"], r["control"]): r["correct"] for r in query(graph.data_folder, counts).to_pylist()}
    for name in ("janus", "clap"):
        assert correct[name, "white_noise_minus_20db"] <= 2  # of 10, one per class: near chance
        assert correct[name, "white_noise_40db"] >= correct[name, "none"] - 1 >= 5
