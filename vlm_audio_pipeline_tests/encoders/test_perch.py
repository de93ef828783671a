"""Perch with a small computation instead of the runtime, and against perch-hoplite with random weights (network lane)."""

import subprocess
from pathlib import Path

import librosa
import numpy as np
import pytest

from vlm_audio_pipeline.encoders.isolated import Environment
from vlm_audio_pipeline.encoders.perch import ENVIRONMENT, FILE, Perch
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline_tests.encoders.audio_samples import noise, tone
from vlm_audio_pipeline_tests.encoders.checkpoints import PERCH, publish
from vlm_audio_pipeline_tests.encoders.window_environments import embedding, perch_file, write_perch


@pytest.fixture
def located(data_folder, cache, monkeypatch) -> DataFolder:
    """The data folder of the test, as commands locate it, and an empty cache folder."""
    monkeypatch.setenv("VLM_AUDIO_DATA", str(data_folder.root))
    return data_folder


def test_a_window_has_mean_zero_and_the_peak_of_perch_hoplite():
    window = Perch().prepare_window(noise(5, 32000) + np.float32(0.3))
    assert window.dtype == np.float32 and window.shape == (160_000,)
    assert abs(window.mean()) < 1e-6 and np.abs(window).max() == pytest.approx(0.25)
    silence = Perch().prepare_window(np.zeros(160_000, np.float32))
    assert not silence.any()


@pytest.mark.parametrize("samples", [0, 1, 99_999, 159_999])
def test_a_shorter_clip_is_padded_on_both_sides(samples):
    clip = noise(5, 32000)[:samples]
    padded = librosa.util.pad_center(clip, size=160_000)  # what perch-hoplite calls
    centred = padded - padded.mean()
    peak = np.abs(centred).max()
    np.testing.assert_allclose(Perch().prepare_window(clip), centred / (peak or 1) * 0.25, atol=1e-6)


def test_the_vector_is_the_mean_over_windows_of_which_the_last_ends_with_the_clip(located, cache):
    write_perch(located)
    publish(cache, PERCH, perch_file)
    spec = Perch(batch_size=2)
    clip = noise(11, 32000)  # 352,000 samples: windows begin at 0, 160,000 and 192,000
    [vector] = spec.load()([clip])
    windows = [spec.prepare_window(clip[i : i + 160_000]) for i in (0, 160_000, 192_000)]
    np.testing.assert_allclose(vector, np.mean([embedding(w, 1536) for w in windows], axis=0), atol=1e-6)


def test_missing_parts_are_reported_with_the_command_that_gets_them(located, cache):
    assert str(Perch().unavailable()).startswith("weights of justinchuby/Perch-onnx missing (revision main)")
    publish(cache, PERCH, perch_file)
    assert Perch().unavailable() == "environment of perch missing: create it with `vlm-audio fetch STUDY`"
    write_perch(located)
    assert Perch().unavailable() is None


def test_a_folder_is_identified_by_the_contents_of_its_onnx_file(tmp_path):
    (tmp_path / FILE).write_bytes(b"one")
    spec = Perch(model=str(tmp_path))
    revision = spec.weights_revision
    (tmp_path / FILE).write_bytes(b"other")
    assert revision is not None and spec.weights_revision not in (None, revision)
    assert spec.fingerprint() == Perch(model=str(tmp_path / "elsewhere")).fingerprint() != Perch().fingerprint()


WRITE = """
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
rng = np.random.default_rng(0)
shape = {{"embedding": ["batch", 1536], "label": ["batch", 7]}}
weights = {{"filters": rng.standard_normal((32, 1, 400)), "matrix": rng.standard_normal((32, 1536)), "head": rng.standard_normal((1536, 7)),
            "channel": np.array([1])}}
nodes = [
    helper.make_node("Unsqueeze", ["inputs", "channel"], ["audio"]),
    helper.make_node("Conv", ["audio", "filters"], ["filtered"], strides=[160]),
    helper.make_node("Relu", ["filtered"], ["rectified"]),
    helper.make_node("GlobalAveragePool", ["rectified"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["flat"]),
    helper.make_node("MatMul", ["flat", "matrix"], ["embedding"]),
    helper.make_node("MatMul", ["embedding", "head"], ["label"]),
]
initialisers = [numpy_helper.from_array(w.astype(np.int64 if name == "channel" else np.float32), name) for name, w in weights.items()]
graph = helper.make_graph(
    nodes, "perch",
    [helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["batch", 160000])],
    [helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in shape.items()],
    initialisers,
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
onnx.checker.check_model(model)
onnx.save(model, {path!r})
"""

CALL = """
import sys, types
class Stub(types.ModuleType):
    __path__ = []
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(name)
for name in ("kagglehub", "ml_collections", "ml_collections.config_dict", "huggingface_hub", "etils", "etils.epath", "pandas"):
    sys.modules[name] = Stub(name)  # downloads and configurations; not used here
import numpy as np
from perch_hoplite.zoo.models_onnx import TaxonomyModelOnnx
# the settings of its preset perch_v2_onnx
model = TaxonomyModelOnnx(sample_rate=32000, model_path={path!r}, target_peak=0.25, output_map={{"embedding": "embedding", "logits": "label"}})
with np.load({clips!r}) as clips:
    vectors = [model.embed(clips[name]).embeddings.mean(axis=(0, 1)) for name in clips.files]
np.save({answer!r}, vectors)
"""


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(1800)
def test_vectors_equal_those_of_perch_hoplite_on_random_weights(located, tmp_path):
    """perch-hoplite is the package of the authors. Clips of whole windows, because it drops the rest of a clip, and shorter ones."""
    reference = Environment(
        "perch_hoplite",
        ("onnxruntime==1.32.0", "numpy==2.4.6", "onnx==1.23.2", "absl-py<2", "librosa==0.11.0"),
        ("perch-hoplite==1.0.2",),
        (3, 15),
    )
    python = reference.create(located)
    folder = tmp_path / "model"
    folder.mkdir()
    clips = [noise(5, 32000), tone(2.345, 32000), noise(10, 32000, seed=1)]
    np.savez(tmp_path / "clips.npz", *clips)
    paths = {"path": str(folder / FILE), "clips": str(tmp_path / "clips.npz"), "answer": str(tmp_path / "answer.npy")}
    for program in (WRITE, CALL):
        done = subprocess.run(
            [python, "-I", "-c", program.format(**paths)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    ENVIRONMENT.create(located)
    expected = np.load(Path(paths["answer"]))
    assert expected.shape == (3, 1536) and expected.std(axis=0).min() > 1e-4
    np.testing.assert_allclose(Perch(model=str(folder)).load()(clips), expected, atol=1e-5)
