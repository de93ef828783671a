"""Recordings of a batch: the worker reads them at the same path, or gets them with the batch."""

import hashlib
import pickle
import tempfile
from dataclasses import replace
from types import SimpleNamespace

import pytest

from vlm_audio_pipeline.classifiers.language_models.local.language_model import LocalLanguageModel
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, Message, Request
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.file_copies import readable_path
from vlm_audio_pipeline.engines.ray_files import ShippedFile, files_for_batch, files_of_batch
from vlm_audio_pipeline.engines.ray_pool import files_of_items
from vlm_audio_pipeline.engines.ray_worker import Worker, WorkError

CONTENT = b"RIFF"


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "folder" / "dog.wav"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


def test_a_shipped_file_is_read_from_a_copy_with_its_name_which_is_deleted_afterwards(recording, tmp_path):
    other = tmp_path / "dog.wav"
    other.write_bytes(b"another")
    files = pickle.loads(pickle.dumps(files_for_batch([recording, recording, other], "shipped")))
    recording.unlink()
    with files_of_batch(files, "b"):
        copy = readable_path(recording)
        assert (copy.name, copy.read_bytes()) == ("dog.wav", CONTENT)
        assert readable_path(other).read_bytes() == b"another"
    assert not copy.exists()
    assert readable_path(recording) == recording


def test_a_shared_file_is_read_at_its_path(recording):
    files = files_for_batch([recording], "shared")
    assert files == {recording: None}
    with files_of_batch(files, "b"):
        assert readable_path(recording) == recording


def test_a_shared_file_that_a_node_does_not_have_is_told_with_what_to_do(recording):
    files = files_for_batch([recording], "shared")
    recording.unlink()
    result = Worker().apply(str, ["item"], files)
    assert isinstance(result, WorkError)
    assert str(result.error).startswith(f"{recording} does not exist on node ")
    assert str(result.error).endswith(
        "use a folder that every node has at the same path, or write `files: shipped` into engine.yaml"
    )


@pytest.mark.parametrize("files", ["shared", "shipped"])
def test_a_file_that_the_driver_cannot_read_is_left_to_the_work(tmp_path, files):
    """The work gives the reason, in the same words as on one machine."""
    assert files_for_batch([tmp_path / "missing.wav"], files) == {}


def test_content_that_changed_on_its_way_is_refused(recording):
    files = files_for_batch([recording], "shipped")
    shipped = files[recording]
    assert shipped == ShippedFile(CONTENT, hashlib.sha256(CONTENT).hexdigest())
    with (
        pytest.raises(VlmAudioError, match=r"dog\.wav was changed on its way to node b; run the command again"),
        files_of_batch({recording: replace(shipped, content=b"RIFX")}, "b"),
    ):
        pass


def test_a_node_whose_disk_is_full_is_named(recording, tmp_path, monkeypatch):
    """Not the disk of the driver, whose data folder is on another machine."""
    files = files_for_batch([recording], "shipped")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    result = Worker().apply(str, ["item"], files)
    assert isinstance(result.error, VlmAudioError)
    assert "the recordings of a batch cannot be written on node " in str(result.error)
    assert "free space in the temporary folder there" in str(result.error)


def test_an_error_of_the_work_is_not_one_of_its_files(recording):
    def fail(item):
        raise FileNotFoundError("a file of the work")

    result = Worker().apply(fail, ["item"], files_for_batch([recording], "shipped"))
    assert type(result.error) is FileNotFoundError


def test_the_files_of_requests_are_those_of_their_audio(recording):
    spec = LocalLanguageModel(model="demo-janus", rendering="demo")
    parts = (AudioPart(len, "a", 1.0, (recording,)), "text", AudioPart(len, "silence", 1.0))
    request = Request((Message("user", parts),), ("dog",), frozenset())

    engine = SimpleNamespace(open_backend=lambda work: work)
    work = spec.open_backend(SimpleNamespace(engine=engine))
    assert files_of_items(work, [request, request]) == (recording,)


def test_a_function_without_recordings_needs_no_file():
    assert files_of_items(len, ["item"]) == ()
