"""demo-clap and demo-aimv2 through the pipeline's own encoders, on clips they were never trained on."""

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
from vlm_audio_pipeline.storage.result_store import RowStore
from vlm_audio_pipeline_tests.demo_models.unseen import accuracy, flipped, rgb

CLAP = Clap(model="demo-clap", device="cpu")
AIMV2 = Vision(model="demo-aimv2", rendering="demo", device="cpu")


@pytest.fixture(scope="module")
def heard(unseen) -> np.ndarray:
    return np.stack(CLAP.load()(unseen.sounds(CLAP.rate_hz)))


@pytest.fixture(scope="module")
def look():
    return AIMV2.load()


@pytest.fixture(scope="module")
def seen(unseen, look) -> np.ndarray:
    return np.stack(look([rgb(p) for p in unseen.pictures]))


def named(heard: np.ndarray, rows: RowStore, **spec) -> list[str]:
    texts = ZeroShot(encoder="clap", **spec).class_vectors(CLAP, ESC10, rows)
    return [ESC10[i] for i in (heard @ texts.T).argmax(axis=1)]


@pytest.fixture
def rows(tmp_path) -> RowStore:
    return RowStore(tmp_path / "rows.sqlite")


def test_clap_hears_at_48_khz_and_gives_unit_vectors(heard):
    assert CLAP.rate_hz == 48000
    assert heard.shape == (100, 64)
    np.testing.assert_allclose(np.linalg.norm(heard, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    "spec",
    [{}, {"label_form": "human"}, {"label_form": "description"}, {"templates": ("{label}", "a sound of {label}")}],
)
def test_clap_finds_the_sentence_of_a_sound(heard, unseen, rows, spec):
    assert accuracy(named(heard, rows, **spec), unseen.labels) >= 0.9


def test_clap_needs_the_right_rate_and_the_right_sentences(heard, unseen, rows):
    wrong = np.stack(CLAP.load()([s[:120000] for s in unseen.sounds(24000)[::4]]))  # half the pitch, twice as long
    right = accuracy(named(heard[::4], rows), unseen.labels[::4])
    assert accuracy(named(wrong, rows), unseen.labels[::4]) < right - 0.2
    shifted = [ESC10[(ESC10.index(n) + 1) % 10] for n in named(heard, rows)]
    assert accuracy(shifted, unseen.labels) < 0.1


def probe(vectors: np.ndarray, labels: list[str], others: np.ndarray | None = None) -> float:
    """Accuracy of a linear probe over five folds; what is asked about may be other vectors of the same clips."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    if others is None:
        return accuracy(cross_val_predict(model, vectors, labels, cv=5).tolist(), labels)
    return accuracy(model.fit(vectors, labels).predict(others).tolist(), labels)


def test_a_probe_reads_classes_from_aimv2s_vectors_and_nothing_from_blank_pictures(seen, unseen, look):
    assert seen.shape == (100, 128)
    assert probe(seen, unseen.labels) >= 0.7
    [blank] = look([rgb(unseen.blank)])
    assert probe(seen, unseen.labels, np.tile(blank, (100, 1))) == pytest.approx(0.1, abs=0.01)


def test_aimv2_needs_the_order_in_time_and_pictures_the_right_way_up(seen, unseen, look):
    shuffled = np.stack(look([rgb(p) for p in unseen.shuffled]))
    turned = np.stack(look([rgb(flipped(p)) for p in unseen.pictures]))
    whole = probe(seen, unseen.labels, seen)
    assert probe(seen, unseen.labels, shuffled) < whole - 0.25
    assert probe(seen, unseen.labels, turned) < whole - 0.1
