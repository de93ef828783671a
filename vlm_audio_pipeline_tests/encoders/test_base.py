import hashlib
import io
import struct
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from PIL import Image

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.specs import refers_to
from vlm_audio_pipeline.contracts.stages import Input, StageContext
from vlm_audio_pipeline.datasets.audio import peak_normalise as peak_normalise_int16
from vlm_audio_pipeline.datasets.base import Clip, Dataset, RecordingChanged
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.encoders.base import ENCODERS, EncoderSpec, TextEncoder, decode_image
from vlm_audio_pipeline.encoders.clap import Clap
from vlm_audio_pipeline.encoders.features import Features
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.scripted import Scripted
from vlm_audio_pipeline.encoders.texts import embed_texts
from vlm_audio_pipeline.encoders.vectors import pack_vector, vector_matrix
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.encoders import checkpoints


@pytest.fixture
def rows(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    yield store
    store.close()


class MeanColour(EncoderSpec):
    """An image encoder that returns the mean colour."""

    kind: ClassVar[str] = "mean_colour"
    takes_images: ClassVar[bool] = True
    rendering: str = refers_to("renderings", "paper")
    power: int = 1

    @property
    def sample_rate_hz(self) -> int:
        return 0

    def load(self):
        LOADED.append("images")
        return lambda images: [np.asarray(p, np.float32).mean((0, 1)) ** self.power for p in images]


LOADED: list[str] = []


class ScriptedWithTexts(Scripted):
    """A scripted encoder with a text encoder."""

    kind: ClassVar[str] = "scripted_with_texts"
    has_text_encoder: ClassVar[bool] = True

    def load_text_encoder(self) -> TextEncoder:
        LOADED.append(self.dimensions)
        return TextEncoder(lambda texts: [np.eye(4, dtype=np.float32)[len(t) % 4] for t in texts], 12.5)


LOADED: list[int] = []


def png(colour) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(out, "png")
    return out.getvalue()


def clips(ids, **columns) -> pa.Table:
    n = len(ids)
    return pa.table(
        {
            "clip": ids,
            "file": ids,
            "start_s": pa.nulls(n, pa.float64()),
            "end_s": pa.nulls(n, pa.float64()),
            "samples_sha256": [f"sha-{i}" for i in ids],
            "duration_s": [1.0] * n,
            "sample_rate_hz": [16000] * n,
        }
        | columns
    )


def spectrograms(images: dict[str, bytes]) -> pa.Table:
    return pa.table(
        {
            "clip": list(images),
            "image": pa.array(images.values(), pa.binary()),
            "image_sha256": [hashlib.sha256(p).hexdigest() for p in images.values()],
        }
    )


def run_stage(stage, rows, samples=None, **inputs) -> pa.Table:
    tables = {key.replace("__of__", "/"): table for key, table in inputs.items()}
    recordings = SimpleNamespace(samples=samples, content_sha256=lambda clip: clip.samples_sha256)
    dataset = SimpleNamespace(recordings=recordings)
    context = StageContext("s", "e", 1, ("a",), tables, dataset, rows, engine=LocalEngine())
    return stage.run(context)["embeddings"]


def test_images_are_encoded_and_keyed_by_their_bytes_not_by_the_name_of_the_rendering(rows):
    images = {"a": png("red"), "b": png("black"), "c": png("red")}
    [stage] = MeanColour().stages("e")
    assert stage.inputs == (Input("clips"), Input("spectrograms", "paper"))
    first = run_stage(stage, rows, clips=clips(["b", "a", "c"]), spectrograms__of__paper=spectrograms(images))
    assert first["clip"].to_pylist() == ["b", "a", "c"]
    np.testing.assert_array_equal(vector_matrix(first), [[0, 0, 0], [255, 0, 0], [255, 0, 0]])
    assert rows.count("vector") == 2  # the same bytes are encoded once

    loads = len(LOADED)
    [other] = MeanColour(rendering="copy").stages("e")
    again = run_stage(other, rows, clips=clips(["b", "a", "c"]), spectrograms__of__copy=spectrograms(images))
    assert again["result_key"].to_pylist() == first["result_key"].to_pylist() and len(LOADED) == loads
    assert (
        MeanColour(power=2).result_key("x") != MeanColour().result_key("x") == MeanColour(batch_size=3).result_key("x")
    )


def test_a_control_is_the_same_computation_on_other_images(rows):
    stage = MeanColour().controlled_stage("e", "blank")
    assert stage.inputs == (Input("clips"), Input("spectrograms", "paper__blank"))
    first = run_stage(stage, rows, clips=clips(["a"]), spectrograms__of__paper__blank=spectrograms({"a": png("white")}))
    assert vector_matrix(first).tolist() == [[255, 255, 255]]
    [plain] = MeanColour().stages("e")
    assert (stage.asset, stage.version, stage.parameters) == (plain.asset, plain.version, plain.parameters)
    with pytest.raises(VlmAudioError, match="replaces images, but encoder 'e' of kind scripted takes no images"):
        Scripted().controlled_stage("e", "blank")


@pytest.mark.parametrize("peak_normalise", [False, True])
def test_the_peak_of_clips_is_normalised_if_the_encoder_says_so(rows, peak_normalise):
    """A clip and the same clip 20 dB louder: only their recorded levels differ."""
    quiet = np.random.default_rng(0).uniform(-0.05, 0.05, 4000).astype(np.float32)
    recordings = {"quiet": quiet, "loud": np.float32(10) * quiet}

    def samples(clip, sample_rate_hz, normalises_peak=False):
        recorded = recordings[clip.clip]
        return (peak_normalise_int16(recorded) / 32768).astype(np.float32) if normalises_peak else recorded

    spec = Features(rate=8000, features=("logmel",), peak_normalise=peak_normalise)
    vectors = vector_matrix(run_stage(spec.stages("e")[0], rows, samples, clips=clips(["quiet", "loud"])))
    mean_difference_db = float((vectors[1] - vectors[0])[: spec.n_mels].mean())
    assert mean_difference_db == pytest.approx(0 if peak_normalise else 20, abs=0.1)
    other = Features(rate=8000, features=("logmel",), peak_normalise=not peak_normalise)
    assert other.result_key("x") != spec.result_key("x")


@pytest.mark.parametrize("kind", ENCODERS.all())
def test_every_encoder_of_audio_with_weights_can_normalise_the_peak(kind):
    spec_class = ENCODERS.get(kind)
    has_option = "peak_normalise" in spec_class.model_fields
    assert has_option == (not spec_class.takes_images and kind != "scripted")


def test_a_clip_without_an_image_is_named(rows):
    with pytest.raises(VlmAudioError, match=r"these clips have no image: \['b'\]"):
        run_stage(
            MeanColour().stages("e")[0], rows, clips=clips(["a", "b"]), spectrograms__of__paper=spectrograms({"a": b""})
        )


def test_any_image_becomes_rgb():
    out = io.BytesIO()
    Image.new("P", (2, 2), 3).save(out, "png")
    assert decode_image(out.getvalue()).mode == "RGB"


def test_only_new_clips_are_decoded_at_the_sample_rate_of_the_encoder(rows):
    decoded = []

    def samples(clip, rate):
        decoded.append((clip.file, rate))
        return np.ones(100, np.float32)

    [stage] = Scripted().stages("e")
    first = run_stage(stage, rows, samples, clips=clips(["a", "b"]))
    assert sorted(decoded) == [("a", 16000), ("b", 16000)] and vector_matrix(first).shape == (2, 8)
    second = run_stage(stage, rows, samples, clips=clips(["a", "b", "c"]))
    assert len(decoded) == 3 and second["result_key"].to_pylist()[:2] == first["result_key"].to_pylist()
    assert set(second["model"].to_pylist()) == {"scripted"} and second["revision"].to_pylist() == [None] * 3


def test_a_recording_that_changes_during_a_run_leaves_no_row(rows, tmp_path):
    def write(values):
        soundfile.write(tmp_path / "a.wav", np.array(values), 16000, subtype="FLOAT")

    def sha(values):  # the sample rate follows the samples
        return hashlib.sha256(struct.pack("<4fI", *values, 16000)).hexdigest()

    first, second = [0.5, -0.25, 0.0, 0.75], [0.5, -0.25, 0.0, 0.5]
    files = tuple(Clip(f"{i}", "a", i, f"{i}", "a.wav") for i in (1, 2))
    samples = Dataset(tmp_path, ("a",), files, DatasetCard("t")).samples
    [stage] = Scripted().stages("e")
    write(second)
    with pytest.raises(RecordingChanged, match=r"a\.wav changed while the study was running"):
        run_stage(stage, rows, samples, clips=clips(["a.wav"], samples_sha256=[sha(first)]))
    assert rows.count() == 0
    assert run_stage(stage, rows, samples, clips=clips(["a.wav"], samples_sha256=[sha(second)])).num_rows == 1
    assert rows.count("vector") == 1


def test_missing_weights_name_model_revision_command_and_asset(rows, cache):
    [stage] = Clap().stages("clap")
    message = r"weights of laion/clap-htsat-unfused missing \(revision main\): .*`vlm-audio fetch STUDY`"
    with pytest.raises(NotAvailable, match=message + ".*needed by embeddings/e"):
        run_stage(stage, rows, lambda *_: np.ones(9, np.float32), clips=clips(["a"]))
    assert stage.unavailable().startswith("weights of laion/clap-htsat-unfused missing")
    assert rows.count() == 0


def test_weights_that_change_while_they_are_loaded_leave_no_row(rows, cache, monkeypatch):
    first = checkpoints.publish(cache, checkpoints.CLAP, lambda folder: (folder / "config.json").write_text("1"))

    def load(self):
        checkpoints.publish(cache, checkpoints.CLAP, lambda folder: (folder / "config.json").write_text("2"))
        return lambda clips: [np.ones(2) for _ in clips]

    monkeypatch.setattr(Clap, "load", load)
    with pytest.raises(VlmAudioError, match=f"changed from revision {first} to .* while they were loaded"):
        run_stage(Clap().stages("e")[0], rows, lambda *_: np.ones(9, np.float32), clips=clips(["a"]))
    assert rows.count() == 0


@pytest.mark.parametrize("wrong", [np.array([1, np.nan]), np.array([np.inf]), np.ones((2, 2))])
def test_an_invalid_vector_is_not_stored(wrong):
    with pytest.raises(VlmAudioError, match="a vector must be one-dimensional and finite"):
        pack_vector(wrong)
    assert pack_vector(np.array([1.0, 2.0])) == np.array([1, 2], "<f4").tobytes()


def test_texts_are_embedded_once(rows):
    LOADED.clear()
    spec = ScriptedWithTexts()
    vectors, scale = embed_texts(spec, ["ab", "abc", "ab"], rows, LocalEngine())
    np.testing.assert_array_equal(vectors, np.eye(4, dtype=np.float32)[[2, 3, 2]])
    assert vectors.dtype == np.float32
    assert scale == 12.5 and len(LOADED) == 1
    again, stored_scale = embed_texts(spec, ["abc"], rows, LocalEngine())
    np.testing.assert_array_equal(again, vectors[1:2])
    assert stored_scale == 12.5 and len(LOADED) == 1
    embed_texts(spec, ["abcd"], rows, LocalEngine())
    assert len(LOADED) == 2


def test_an_encoder_without_a_text_encoder_is_refused_with_the_names_of_those_that_have_one(rows):
    for call in (
        lambda: embed_texts(Scripted(), ["a"], rows, LocalEngine()),
        Scripted().load_text_encoder,
    ):
        with pytest.raises(
            VlmAudioError, match=r"encoder of kind 'scripted' .* has no text encoder; use `clap`, or `vision`"
        ):
            call()


def test_every_encoder_has_a_card():
    assert Scripted().card == ModelCard("scripted: computed, without weights", training_data="none")
    assert "FreeSound" in Clap().card.overlaps
