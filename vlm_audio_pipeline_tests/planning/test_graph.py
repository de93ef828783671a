"""The graph of a study with images, controls and models."""

import numpy as np
import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset, BadStudy, MissingInput
from vlm_audio_pipeline.contracts.specs import refers_to
from vlm_audio_pipeline.encoders.base import ENCODERS, EncoderSpec
from vlm_audio_pipeline.encoders.weights import Weights
from vlm_audio_pipeline.planning.execution import execute_node
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.storage.catalogue import query

FOLDS = (1, 2, 3)


def nodes_of(step):
    return {f"{step}|{f}" for f in FOLDS}


@pytest.fixture
def image_bench(bench):
    """The bench with an image encoder without weights: the mean grey level of 4 x 4 fields."""

    @ENCODERS.register("fields")
    class Fields(EncoderSpec):
        """Grey level in 4 x 4 fields of the image."""

        takes_images = True
        rendering: str = refers_to("renderings")
        """Rendering of the images."""

        @property
        def sample_rate_hz(self):
            return 0

        def load(self):
            def mean_fields(image):
                grey = np.asarray(image.convert("L").resize((64, 64)), np.float32)
                return grey.reshape(4, 16, 4, 16).mean(axis=(1, 3)).ravel()

            return lambda images: [mean_fields(p) for p in images]

    bench.study["renderings"] = {
        "small": {"transform": "stft", "rate": 8000, "n_fft": 256, "hop_length": 64, "size": 64}
    }
    bench.study["encoders"]["fields"] = {"kind": "fields", "rendering": "small"}
    bench.study["classifiers"] = {
        "image_knn": {"kind": "knn", "encoder": "fields", "k": 1, "controls": ["blank", "time_shuffled", "other_clip"]},
    }
    return bench


def test_controls_have_their_own_images_and_embeddings(image_bench):
    result = image_bench.run()
    assert not result.report.failed and not result.report.failed_checks
    derived = [
        f"{kind}/{name}__{control}"
        for kind, name in (("spectrograms", "small"), ("embeddings", "fields"))
        for control in ("blank", "time_shuffled", "other_clip")
    ]
    assert set().union(*map(nodes_of, derived)) <= set(result.steps)
    rows = {
        r["control"]: r
        for r in query(image_bench.data_folder, "SELECT * FROM leaderboard WHERE kind <> 'reference'").to_pylist()
    }
    assert set(rows) == {"none", "blank", "time_shuffled", "other_clip"}
    assert {r["predictions"] for r in rows.values()} == {12}
    assert rows["none"]["rank"] == 1 and rows["blank"]["rank"] is None
    # the images of the two classes differ: high tones at the top, low tones at the bottom
    assert rows["none"]["accuracy"] == 1.0
    # all blank images are equal: one prediction for all clips of a fold, correct for half of them
    assert rows["blank"]["accuracy"] == 0.5
    # the image of the other class gets the other class
    assert rows["other_clip"]["accuracy"] == 0.0


def test_a_blank_image_is_embedded_once(image_bench):
    result = image_bench.run()
    # 12 clips by `bands`; 12 images, 1 blank one, 12 shuffled ones; those of other clips are among the 12
    assert result.vectors == 12 + 12 + 1 + 12


def test_a_changed_rendering_recomputes_only_its_own_steps(image_bench):
    image_bench.study["classifiers"]["audio_knn"] = {"kind": "knn", "encoder": "bands", "k": 1}
    image_bench.run()
    result = image_bench.run(image_bench.changed_study("renderings", "small", colormap="magma"))
    steps = {step.split("|")[0] for step in result.steps}
    assert {step for step in steps if "bands" in step or "audio_knn" in step or step == "clips"} == set()
    assert {"spectrograms/small", "embeddings/fields", "predictions/image_knn"} <= steps
    assert image_bench.run(image_bench.changed_study("renderings", "small", colormap="magma")).steps == []


def test_a_new_fold_while_a_study_is_loaded_is_reported(bench):
    """In a service that runs for months, partitions are created when it starts."""
    graph = bench.graph()
    graph.reload_dataset()
    bench.record("4-low-0", "low", seed=40)
    bench.rows.append({**bench.rows[0], "id": "4-low-0", "path": "audio/4-low-0.wav", "fold": 4, "source": "4-low"})
    bench.write()
    with pytest.raises(
        BadDataset, match=r"changed from \[1, 2, 3\] to \[1, 2, 3, 4\] while bench was loaded; reload the code location"
    ):
        graph.reload_dataset()


def test_a_removed_fold_while_a_study_is_loaded_is_reported(bench):
    graph = bench.graph()
    bench.rows = [row for row in bench.rows if row["fold"] != 3]
    bench.write()
    with pytest.raises(MissingInput, match=r"folds \[3\] of .*, which no longer exist"):
        execute_node(graph, Node("clips", 3))


def test_a_control_of_an_audio_encoder_is_refused(bench):
    study = bench.changed_study("classifiers", "knn", controls=["blank"])
    with pytest.raises(BadStudy, match=r"classifiers\.knn\.controls: need an encoder of images"):
        bench.graph(study)


def test_a_group_of_presets_makes_steps_for_each_preset(image_bench):
    image_bench.study["renderings"] = {"ablation": {"preset": "paper_ablation"}}
    image_bench.study["encoders"] = {"fields": {"kind": "fields", "rendering": "ablation"}}
    graph = image_bench.graph()
    assert sum(name.startswith("spectrograms/") for name in graph.steps) == 9 * (1 + 3)
    assert sum(name.startswith("metrics/") for name in graph.steps) == 9
    assert "predictions/image_knn_fields_ablation_linear_frequency" in graph.steps


@pytest.fixture
def weights_bench(bench, tmp_path):
    """The bench with an encoder whose weights are one number in a file."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "gain.pt").write_text("1.0")

    @ENCODERS.register("weighed")
    class Weighed(EncoderSpec):
        """Mean and standard deviation of the samples, times the number in the weights file."""

        model: str = ""
        """Folder of the weights."""

        @property
        def sample_rate_hz(self):
            return 8000

        @property
        def weights(self):
            return Weights(self.model, needs=("config.json",), tensors=("gain.pt",))

        def load(self):
            gain = float((folder / "gain.pt").read_text())
            return lambda clips: [np.array([c.mean(), c.std()], np.float32) * gain for c in clips]

    bench.study["encoders"]["weighed"] = {"kind": "weighed", "model": str(folder)}
    bench.study["classifiers"] = {"knn": {"kind": "knn", "encoder": "weighed", "k": 1}}
    return bench, folder


def test_changed_weights_recompute_only_their_own_steps(weights_bench):
    bench, folder = weights_bench
    assert bench.run().vectors == 24  # 12 of `bands`, 12 of the model
    (folder / "gain.pt").write_text("2.0")
    result = bench.run()
    assert result.vectors == 12
    assert nodes_of("embeddings/weighed") <= set(result.steps)
    assert [step for step in result.steps if "bands" in step or "clips" in step] == []


def test_deleted_weights_leave_their_results_fresh(weights_bench):
    bench, folder = weights_bench
    bench.run()
    (folder / "gain.pt").unlink()
    result = bench.run()
    assert (result.steps, result.report.not_run) == ([], {})
    # a step that needs them is not run, with the reason
    next(iter(bench.graph().partition_files(Node("embeddings/weighed", 1)).values())).unlink()
    graph = bench.graph()
    graph.result_store.path.unlink()
    not_run = bench.run().report.not_run
    assert Node("embeddings/weighed", 1) in not_run
    assert "weights of" in not_run[Node("embeddings/weighed", 1)]


@pytest.fixture
def laion_cache(tmp_path, monkeypatch):
    """A hub cache with one of the seven checkpoints of a repository."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--lukewys--laion_clap"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "630k-best.pt").write_text("weights")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)


def test_checkpoints_of_one_repository_are_separate_models(bench, laion_cache):
    for name, checkpoint in {"local": "630k-best.pt", "missing": "630k-fusion-best.pt"}.items():
        bench.study["encoders"][name] = {"kind": "laion_clap", "checkpoint": checkpoint}
    graph = bench.graph()
    assert graph.unavailable("models/lukewys/laion_clap/630k-best.pt") is None
    assert "no 630k-fusion-best.pt" in (graph.unavailable("models/lukewys/laion_clap/630k-fusion-best.pt") or "")
    assert ("models", "lukewys", "laion_clap", "630k-best.pt") in {s.key for s in graph.input_assets.values()}


def test_a_model_that_lacks_a_file_for_one_encoder_is_available_for_the_others(weights_bench):
    bench, folder = weights_bench
    weighted_encoder = ENCODERS.get("weighed")

    @ENCODERS.register("demanding")
    class Demanding(weighted_encoder):
        """Needs a file that does not exist."""

        @property
        def weights(self):
            return Weights(self.model, needs=("config.json", "vocabulary.txt"), tensors=("gain.pt",))

    bench.study["encoders"]["demanding"] = {"kind": "demanding", "model": str(folder)}
    result = bench.run()
    assert nodes_of("embeddings/weighed") <= set(result.steps)
    assert {node.step for node in result.report.not_run} == {"embeddings/demanding"}


def test_each_model_is_an_input_asset_with_its_own_name(bench):
    bench.study["encoders"]["clap"] = {"kind": "clap", "model": "laion/clap-htsat-unfused"}
    bench.study["classifiers"]["clap"] = {"kind": "zero_shot", "encoder": "clap"}
    graph = bench.graph()
    assert ("models", "laion", "clap-htsat-unfused") in {s.key for s in graph.input_assets.values()}
    assert "weights of laion/clap-htsat-unfused missing" in (graph.unavailable("predictions/clap") or "")
