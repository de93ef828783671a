"""A study as a graph: images, controls and models beside what the bench has."""

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


def each(step):
    return {f"{step}|{f}" for f in FOLDS}


@pytest.fixture
def seeing(bench):
    """The bench with an encoder of images that needs no weights: the mean of each of 4 x 4 fields, in grey."""

    @ENCODERS.register("fields")
    class Fields(EncoderSpec):
        """Grey level in 4 x 4 fields of the image."""

        takes_images = True
        rendering: str = refers_to("renderings")
        """The images looked at."""

        @property
        def sample_rate_hz(self):
            return 0

        def load(self):
            def one(image):
                grey = np.asarray(image.convert("L").resize((64, 64)), np.float32)
                return grey.reshape(4, 16, 4, 16).mean(axis=(1, 3)).ravel()

            return lambda images: [one(p) for p in images]

    bench.study["renderings"] = {
        "small": {"transform": "stft", "rate": 8000, "n_fft": 256, "hop_length": 64, "size": 64}
    }
    bench.study["encoders"]["fields"] = {"kind": "fields", "rendering": "small"}
    bench.study["classifiers"] = {
        "looker": {"kind": "knn", "encoder": "fields", "k": 1, "controls": ["blank", "time_shuffled", "other_clip"]},
    }
    return bench


def test_controls_are_images_and_vectors_of_their_own(seeing):
    ran = seeing.run()
    assert not ran.report.failed and not ran.report.failed_checks
    derived = [
        f"{kind}/{name}__{control}"
        for kind, name in (("spectrograms", "small"), ("embeddings", "fields"))
        for control in ("blank", "time_shuffled", "other_clip")
    ]
    assert set().union(*map(each, derived)) <= set(ran.steps)
    rows = {
        r["control"]: r
        for r in query(seeing.data_folder, "SELECT * FROM leaderboard WHERE kind <> 'reference'").to_pylist()
    }
    assert set(rows) == {"none", "blank", "time_shuffled", "other_clip"}
    assert {r["predictions"] for r in rows.values()} == {12}
    assert rows["none"]["rank"] == 1 and rows["blank"]["rank"] is None
    # two classes that an image tells apart: high tones above, low tones below
    assert rows["none"]["accuracy"] == 1.0
    # one blank image for all clips of one length: one answer for all of a fold, right for half of its clips
    assert rows["blank"]["accuracy"] == 0.5
    # the image of the other class is answered with the other class
    assert rows["other_clip"]["accuracy"] == 0.0


def test_a_blank_image_is_embedded_once(seeing):
    ran = seeing.run()
    # 12 clips by `bands`; 12 images, 1 blank one, 12 shuffled ones; those of other clips are among the 12
    assert ran.vectors == 12 + 12 + 1 + 12


def test_a_rendering_changed_redoes_its_chain_alone(seeing):
    seeing.study["classifiers"]["listener"] = {"kind": "knn", "encoder": "bands", "k": 1}
    seeing.run()
    ran = seeing.run(seeing.changed("renderings", "small", colormap="magma"))
    touched = {step.split("|")[0] for step in ran.steps}
    assert "embeddings/bands" not in touched and "predictions/listener" not in touched
    assert {"spectrograms/small", "embeddings/fields", "predictions/looker"} <= touched
    assert seeing.run(seeing.changed("renderings", "small", colormap="magma")).steps == []


def test_a_fold_that_comes_while_a_study_is_loaded_is_said(bench):
    """A service that runs for months: partitions are made when it starts."""
    graph = bench.graph()
    graph.reload_dataset()
    bench.record("4-low-0", "low", seed=40)
    bench.rows.append({**bench.rows[0], "id": "4-low-0", "path": "audio/4-low-0.wav", "fold": 4, "source": "4-low"})
    bench.write()
    with pytest.raises(
        BadDataset, match=r"changed from \[1, 2, 3\] to \[1, 2, 3, 4\] while bench was loaded; reload the code location"
    ):
        graph.reload_dataset()


def test_a_fold_that_goes_while_a_study_is_loaded_is_said(bench):
    graph = bench.graph()
    bench.rows = [row for row in bench.rows if row["fold"] != 3]
    bench.write()
    with pytest.raises(MissingInput, match=r"folds \[3\] of .*, which no longer exist"):
        execute_node(graph, Node("clips", 3))


def test_a_control_of_what_only_hears_is_refused(bench):
    study = bench.changed("classifiers", "knn", controls=["blank"])
    with pytest.raises(BadStudy, match=r"classifiers\.knn\.controls: must be of an encoder of images"):
        bench.graph(study)


def test_a_group_of_presets_makes_a_chain_of_each(seeing):
    seeing.study["renderings"] = {"ablation": {"preset": "paper_ablation"}}
    seeing.study["encoders"] = {"fields": {"kind": "fields", "rendering": "ablation"}}
    graph = seeing.graph()
    assert sum(name.startswith("spectrograms/") for name in graph.steps) == 9 * (1 + 3)
    assert sum(name.startswith("metrics/") for name in graph.steps) == 9
    assert "predictions/looker_fields_ablation_linear_frequency" in graph.steps


@pytest.fixture
def weighed(bench, tmp_path):
    """The bench with an encoder whose weights are a folder with one number in a file."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "gain.pt").write_text("1.0")

    @ENCODERS.register("weighed")
    class Weighed(EncoderSpec):
        """Mean and level of the samples, times a number that lies in a file."""

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


def test_changed_weights_redo_what_stands_on_them(weighed):
    bench, folder = weighed
    assert bench.run().vectors == 24  # 12 of `bands`, 12 of the model
    (folder / "gain.pt").write_text("2.0")
    ran = bench.run()
    assert ran.vectors == 12
    assert each("embeddings/weighed") <= set(ran.steps) and not each("embeddings/bands") & set(ran.steps)


def test_weights_that_went_away_leave_their_results_fresh(weighed):
    bench, folder = weighed
    bench.run()
    (folder / "gain.pt").unlink()
    ran = bench.run()
    assert (ran.steps, ran.report.not_run) == ([], {})
    # but what would need them says so
    next(iter(bench.graph().partition_files(Node("embeddings/weighed", 1)).values())).unlink()
    graph = bench.graph()
    graph.result_store.path.unlink()
    not_run = bench.run().report.not_run
    assert Node("embeddings/weighed", 1) in not_run
    assert "weights of" in not_run[Node("embeddings/weighed", 1)]


@pytest.fixture
def laion_cache(tmp_path, monkeypatch):
    """A hub's cache with one of the seven checkpoints of one repository."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--lukewys--laion_clap"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "630k-best.pt").write_text("weights")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)


def test_checkpoints_of_one_repository_are_models_of_their_own(bench, laion_cache):
    for name, checkpoint in {"here": "630k-best.pt", "away": "630k-fusion-best.pt"}.items():
        bench.study["encoders"][name] = {"kind": "laion_clap", "checkpoint": checkpoint}
    graph = bench.graph()
    assert graph.unavailable("models/lukewys/laion_clap/630k-best.pt") is None
    assert "no 630k-fusion-best.pt" in (graph.unavailable("models/lukewys/laion_clap/630k-fusion-best.pt") or "")
    assert ("models", "lukewys", "laion_clap", "630k-best.pt") in {s.key for s in graph.input_assets.values()}


def test_a_model_some_need_more_of_is_there_for_the_others(weighed):
    bench, folder = weighed
    plain = ENCODERS.get("weighed")

    @ENCODERS.register("demanding")
    class Demanding(plain):
        """Wants a file that is not there."""

        @property
        def weights(self):
            return Weights(self.model, needs=("config.json", "vocabulary.txt"), tensors=("gain.pt",))

    bench.study["encoders"]["demanding"] = {"kind": "demanding", "model": str(folder)}
    ran = bench.run()
    assert each("embeddings/weighed") <= set(ran.steps)
    assert {node.step for node in ran.report.not_run} == {"embeddings/demanding"}


def test_models_are_assets_under_their_own_names(bench):
    bench.study["encoders"]["clap"] = {"kind": "clap", "model": "laion/clap-htsat-unfused"}
    bench.study["classifiers"]["clap"] = {"kind": "zero_shot", "encoder": "clap"}
    graph = bench.graph()
    assert ("models", "laion", "clap-htsat-unfused") in {s.key for s in graph.input_assets.values()}
    assert "weights of laion/clap-htsat-unfused missing" in (graph.unavailable("predictions/clap") or "")
