"""demo-clap and demo-aimv2 through the pipeline's own encoders, on clips that were not in their training."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vlm_audio_pipeline.classifiers.zero_shot import ZeroShot
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.encoders.clap import Clap
from vlm_audio_pipeline.encoders.vision import Vision
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.demo_models.held_out import accuracy, decode, flip

pytestmark = pytest.mark.slow

CLAP = Clap(model="demo-clap", device="cpu")
AIMV2 = Vision(model="demo-aimv2", rendering="demo", device="cpu")


@pytest.fixture(scope="module")
def audio_vectors(held_out) -> np.ndarray:
    return np.stack(CLAP.load()(held_out.audio(CLAP.sample_rate_hz)))


@pytest.fixture(scope="module")
def encode():
    return AIMV2.load()


@pytest.fixture(scope="module")
def image_vectors(held_out, encode) -> np.ndarray:
    return np.stack(encode([decode(p) for p in held_out.images]))


def predict(audio_vectors: np.ndarray, result_store: ResultStore, **spec) -> list[str]:
    texts = ZeroShot(encoder="clap", **spec).class_vectors_and_scale(CLAP, ESC10, result_store, LocalEngine())[0]
    return [ESC10[i] for i in (audio_vectors @ texts.T).argmax(axis=1)]


@pytest.fixture
def result_store(tmp_path) -> ResultStore:
    return ResultStore(tmp_path / "results.sqlite")


def test_clap_takes_48_khz_and_returns_unit_vectors(audio_vectors):
    assert CLAP.sample_rate_hz == 48000
    assert audio_vectors.shape == (100, 64)
    np.testing.assert_allclose(np.linalg.norm(audio_vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    "spec",
    [{}, {"label_form": "human"}, {"label_form": "description"}, {"templates": ("{label}", "a sound of {label}")}],
)
def test_clap_finds_the_sentence_of_a_sound(audio_vectors, held_out, result_store, spec):
    assert accuracy(predict(audio_vectors, result_store, **spec), held_out.labels) >= 0.9


def test_clap_needs_the_right_rate_and_the_right_sentences(audio_vectors, held_out, result_store):
    wrong = np.stack(CLAP.load()([s[:120000] for s in held_out.audio(24000)[::4]]))  # half the pitch, twice as long
    right = accuracy(predict(audio_vectors[::4], result_store), held_out.labels[::4])
    assert accuracy(predict(wrong, result_store), held_out.labels[::4]) < right - 0.2
    next_class = [ESC10[(ESC10.index(n) + 1) % 10] for n in predict(audio_vectors, result_store)]
    assert accuracy(next_class, held_out.labels) < 0.1


def probe(vectors: np.ndarray, labels: list[str], others: np.ndarray | None = None) -> float:
    """Accuracy of a linear probe: cross-validated, or trained on `vectors` and tested on `others` of the same clips."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    if others is None:
        return accuracy(cross_val_predict(model, vectors, labels, cv=5).tolist(), labels)
    return accuracy(model.fit(vectors, labels).predict(others).tolist(), labels)


def test_a_probe_on_the_vectors_of_aimv2_predicts_classes_and_is_at_chance_for_blank_images(
    image_vectors, held_out, encode
):
    assert image_vectors.shape == (100, 128)
    assert probe(image_vectors, held_out.labels) >= 0.7
    [blank] = encode([decode(held_out.blank)])
    assert probe(image_vectors, held_out.labels, np.tile(blank, (100, 1))) == pytest.approx(0.1, abs=0.01)


def test_aimv2_needs_the_order_in_time_and_images_the_right_way_up(image_vectors, held_out, encode):
    shuffled = np.stack(encode([decode(p) for p in held_out.shuffled]))
    turned = np.stack(encode([decode(flip(p)) for p in held_out.images]))
    whole = probe(image_vectors, held_out.labels, image_vectors)
    assert probe(image_vectors, held_out.labels, shuffled) < whole - 0.25
    assert probe(image_vectors, held_out.labels, turned) < whole - 0.1
