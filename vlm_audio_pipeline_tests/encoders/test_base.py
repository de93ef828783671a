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
from vlm_audio_pipeline.datasets.base import Clip, Dataset, RecordingChanged
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.encoders.base import EncoderSpec, TextSide, decode_image
from vlm_audio_pipeline.encoders.clap import Clap
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.scripted import Scripted
from vlm_audio_pipeline.encoders.texts import embed_texts, logit_scale
from vlm_audio_pipeline.encoders.vectors import pack_vector, vector_matrix
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.encoders import checkpoints


@pytest.fixture
def rows(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    yield store
    store.close()


class Looks(EncoderSpec):
    """The mean colour of an image."""

    kind: ClassVar[str] = "looks"
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


class Reads(Scripted):
    """An encoder with a text side."""

    kind: ClassVar[str] = "reads"
    has_text_side: ClassVar[bool] = True

    def load_text(self) -> TextSide:
        LOADED.append(self.dimensions)
        return TextSide(lambda texts: [np.eye(4, dtype=np.float32)[len(t) % 4] for t in texts], 12.5)


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


def ran(stage, rows, samples=None, **inputs) -> pa.Table:
    given = {key.replace("__of__", "/"): table for key, table in inputs.items()}
    dataset = SimpleNamespace(samples=samples)
    context = StageContext("s", "e", 1, ("a",), given, dataset, rows)
    return stage.run(context)["embeddings"]


def test_images_are_encoded_and_keyed_by_their_bytes_not_by_the_renderings_name(rows):
    images = {"a": png("red"), "b": png("black"), "c": png("red")}
    [stage] = Looks().stages("e")
    assert stage.inputs == (Input("clips"), Input("spectrograms", "paper"))
    made = ran(stage, rows, clips=clips(["b", "a", "c"]), spectrograms__of__paper=spectrograms(images))
    assert made["clip"].to_pylist() == ["b", "a", "c"]
    np.testing.assert_array_equal(vector_matrix(made), [[0, 0, 0], [255, 0, 0], [255, 0, 0]])
    assert rows.count("vector") == 2  # the same bytes are encoded once

    loads = len(LOADED)
    [other] = Looks(rendering="copy").stages("e")
    again = ran(other, rows, clips=clips(["b", "a", "c"]), spectrograms__of__copy=spectrograms(images))
    assert again["result_key"].to_pylist() == made["result_key"].to_pylist() and len(LOADED) == loads
    assert Looks(power=2).result_key("x") != Looks().result_key("x") == Looks(batch_size=3).result_key("x")


def test_a_control_is_the_same_computation_on_other_images(rows):
    stage = Looks().controlled_stage("e", "blank")
    assert stage.inputs == (Input("clips"), Input("spectrograms", "paper__blank"))
    made = ran(stage, rows, clips=clips(["a"]), spectrograms__of__paper__blank=spectrograms({"a": png("white")}))
    assert vector_matrix(made).tolist() == [[255, 255, 255]]
    [plain] = Looks().stages("e")
    assert (stage.asset, stage.version, stage.parameters) == (plain.asset, plain.version, plain.parameters)
    with pytest.raises(VlmAudioError, match="replaces images, but encoder 'e' of kind scripted takes none"):
        Scripted().controlled_stage("e", "blank")


def test_a_clip_without_a_image_is_named(rows):
    with pytest.raises(VlmAudioError, match=r"every clip must have an image, got none for \['b'\]"):
        ran(Looks().stages("e")[0], rows, clips=clips(["a", "b"]), spectrograms__of__paper=spectrograms({"a": b""}))


def test_any_image_becomes_rgb():
    out = io.BytesIO()
    Image.new("P", (2, 2), 3).save(out, "png")
    assert decode_image(out.getvalue()).mode == "RGB"


def test_samples_are_decoded_at_the_encoders_rate_and_only_what_is_new(rows):
    asked = []

    def samples(clip, rate):
        asked.append((clip.file, rate))
        return np.ones(100, np.float32)

    [stage] = Scripted().stages("e")
    first = ran(stage, rows, samples, clips=clips(["a", "b"]))
    assert sorted(asked) == [("a", 16000), ("b", 16000)] and vector_matrix(first).shape == (2, 8)
    second = ran(stage, rows, samples, clips=clips(["a", "b", "c"]))
    assert len(asked) == 3 and second["result_key"].to_pylist()[:2] == first["result_key"].to_pylist()
    assert set(second["model"].to_pylist()) == {"scripted"} and second["revision"].to_pylist() == [None] * 3


def test_a_recording_replaced_since_it_was_looked_at_leaves_no_row(rows, tmp_path):
    def write(values):
        soundfile.write(tmp_path / "a.wav", np.array(values), 16000, subtype="FLOAT")

    def sha(values):  # 16000 Hz behind the samples
        return hashlib.sha256(struct.pack("<4fI", *values, 16000)).hexdigest()

    first, second = [0.5, -0.25, 0.0, 0.75], [0.5, -0.25, 0.0, 0.5]
    files = tuple(Clip(f"{i}", "a", i, f"{i}", "a.wav") for i in (1, 2))
    samples = Dataset(tmp_path, ("a",), files, DatasetCard("t")).samples
    [stage] = Scripted().stages("e")
    write(second)
    with pytest.raises(RecordingChanged, match=r"a\.wav changed while the study was running"):
        ran(stage, rows, samples, clips=clips(["a.wav"], samples_sha256=[sha(first)]))
    assert rows.count() == 0
    assert ran(stage, rows, samples, clips=clips(["a.wav"], samples_sha256=[sha(second)])).num_rows == 1
    assert rows.count("vector") == 1


def test_missing_weights_name_model_revision_command_and_asset(rows, cache):
    [stage] = Clap().stages("clap")
    words = r"weights of laion/clap-htsat-unfused missing \(revision main\): .*`vlm-audio fetch STUDY`"
    with pytest.raises(NotAvailable, match=words + ".*needed by embeddings/e"):
        ran(stage, rows, lambda *_: np.ones(9, np.float32), clips=clips(["a"]))
    assert stage.unavailable().startswith("weights of laion/clap-htsat-unfused missing")
    assert rows.count() == 0


def test_weights_that_move_while_they_are_loaded_leave_no_row(rows, cache, monkeypatch):
    first = checkpoints.publish(cache, checkpoints.CLAP, lambda folder: (folder / "config.json").write_text("1"))

    def load(self):
        checkpoints.publish(cache, checkpoints.CLAP, lambda folder: (folder / "config.json").write_text("2"))
        return lambda clips: [np.ones(2) for _ in clips]

    monkeypatch.setattr(Clap, "load", load)
    with pytest.raises(VlmAudioError, match=f"changed from revision {first} to .* while they were loaded"):
        ran(Clap().stages("e")[0], rows, lambda *_: np.ones(9, np.float32), clips=clips(["a"]))
    assert rows.count() == 0


@pytest.mark.parametrize("wrong", [np.array([1, np.nan]), np.array([np.inf]), np.ones((2, 2))])
def test_no_wrong_vector_is_stored(wrong):
    with pytest.raises(VlmAudioError, match="a vector must be one-dimensional and finite"):
        pack_vector(wrong)
    assert pack_vector(np.array([1.0, 2.0])) == np.array([1, 2], "<f4").tobytes()


def test_texts_are_embedded_once(rows):
    LOADED.clear()
    spec = Reads()
    vectors = embed_texts(spec, ["ab", "abc", "ab"], rows)
    np.testing.assert_array_equal(vectors, np.eye(4, dtype=np.float32)[[2, 3, 2]])
    assert vectors.dtype == np.float32
    assert logit_scale(spec, rows) == 12.5 and len(LOADED) == 1  # the scale came with the texts
    np.testing.assert_array_equal(embed_texts(spec, ["abc"], rows), vectors[1:2])
    assert len(LOADED) == 1
    embed_texts(spec, ["abcd"], rows)
    assert len(LOADED) == 2


def test_the_scale_alone_is_loaded_once(rows):
    LOADED.clear()
    assert logit_scale(Reads(), rows) == logit_scale(Reads(), rows) == 12.5
    assert len(LOADED) == 1


def test_an_encoder_that_cannot_read_says_which_can(rows):
    for call in (
        lambda: embed_texts(Scripted(), ["a"], rows),
        lambda: logit_scale(Scripted(), rows),
        Scripted().load_text,
    ):
        with pytest.raises(
            VlmAudioError, match=r"encoder of kind 'scripted' .* has no text encoder; use `clap`, or `vision`"
        ):
            call()


def test_every_encoder_has_a_card():
    assert Scripted().card == ModelCard("scripted: computed, without weights", training_data="none")
    assert "FreeSound" in Clap().card.overlaps
