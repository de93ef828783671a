import hashlib
import json
import os
import shutil
import struct

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.contracts.regular_files import digest_file, file_stamp
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.contracts.work import Failure
from vlm_audio_pipeline.datasets import inspection
from vlm_audio_pipeline.datasets.audio import decode
from vlm_audio_pipeline.datasets.base import Clip, Dataset
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.datasets.inspection import InspectionWork, clips_stage, inspect, sources_in_several_folds
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.storage.schemas import TABLES


def dataset(root, on_bad_clip="stop", **more: Clip) -> Dataset:
    """Return a dataset of four clips, two classes and two folds; `more` replaces or adds clips by id."""
    clips = {
        "a1": Clip("a1", "a", 1, "s1", "a1.wav", extra={"take": "A"}),
        "a2": Clip("a2", "a", 2, "s2", "a2.wav"),
        "b1": Clip("b1", "b", 1, "s3", "b1.wav"),
        "b2": Clip("b2", "b", 2, "s4", "b2.wav", 0.1, 0.3),
    } | more
    return Dataset(
        root, ("a", "b"), tuple(sorted(clips.values(), key=lambda c: c.id)), DatasetCard("Test"), on_bad_clip
    )


@pytest.fixture
def root(tmp_path, tone):
    for seconds, name in enumerate(["a1", "a2", "b1", "b2"], start=1):
        tone(tmp_path / "clips" / f"{name}.wav", seconds / 2, 8000)
    return tmp_path / "clips"


@pytest.fixture
def run(result_store):
    def run(data: Dataset, fold: int = 1, progress=lambda done, total, what: None) -> dict[str, pa.Table]:
        stage = clips_stage(data.on_bad_clip)
        tables = stage.run(
            StageContext("study", "", fold, data.classes, {}, data, result_store, progress, engine=LocalEngine())
        )
        assert tuple(tables) == stage.tables
        return {name: TABLES[name].conform(table, study="study", fold=fold) for name, table in tables.items()}

    return run


def test_clips_are_measured_by_hand(tmp_path):
    # Peak 0.75; rms = sqrt((0.25 + 0.0625 + 0.5625 + 0) / 4) = sqrt(0.21875) = 0.467707; 4 samples / 8 Hz = 0.5 s
    values = [0.5, -0.25, -0.75, 0.0]
    soundfile.write(tmp_path / "a.wav", np.array([values, values]).T, 8, subtype="FLOAT")
    measured = json.loads(inspect(tmp_path / "a.wav"))
    sha256 = hashlib.sha256(struct.pack("<4fI", *values, 8)).hexdigest()
    assert measured.pop("rms") == pytest.approx(0.467707, abs=1e-6)
    assert measured == {"samples_sha256": sha256, "duration_s": 0.5, "sample_rate_hz": 8, "channels": 2, "peak": 0.75}


def test_the_same_samples_at_another_sample_rate_have_another_hash(tmp_path):
    for sample_rate_hz in (8000, 16000):
        soundfile.write(tmp_path / f"{sample_rate_hz}.wav", np.full(100, 0.5), sample_rate_hz)
    hashes = {json.loads(inspect(tmp_path / f"{r}.wav"))["samples_sha256"] for r in (8000, 16000)}
    assert len(hashes) == 2


def test_the_same_samples_in_another_file_format_have_the_same_hash(tmp_path):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 1000).astype(np.int16)
    hashes = set()
    for name in ("a.wav", "a.flac", "a.aiff"):
        soundfile.write(tmp_path / name, samples, 8000, subtype="PCM_16")
        hashes.add(json.loads(inspect(tmp_path / name))["samples_sha256"])
    assert len(hashes) == 1


def test_the_clips_of_a_fold_are_measured(root, run):
    tables = run(dataset(root), fold=2)
    a2, b2 = tables["clips"].to_pylist()
    assert (a2["clip"], a2["label"], a2["source"], a2["file"], a2["fold"]) == ("a2", "a", "s2", "a2.wav", 2)
    assert (a2["start_s"], a2["end_s"], a2["duration_s"], a2["sample_rate_hz"]) == (None, None, 1.0, 8000)
    assert (b2["start_s"], b2["end_s"], b2["duration_s"]) == (0.1, 0.3, pytest.approx(0.2))
    # A sine of amplitude 0.5: rms 0.5 / sqrt(2)
    assert a2["rms"] == pytest.approx(0.35355, abs=1e-3)
    assert a2["peak"] == pytest.approx(0.5, abs=1e-3)
    assert tables["rejected_clips"].num_rows == 0
    assert run(dataset(root), fold=1)["clips"]["extra"].to_pylist() == [[("take", "A")], []]


def test_a_silent_recording_is_a_valid_clip(root, run):
    soundfile.write(root / "a1.wav", np.zeros(8), 8000)  # 8 samples at 8 kHz: 1 ms
    a1 = run(dataset(root))["clips"].to_pylist()[0]
    assert (a1["duration_s"], a1["peak"], a1["rms"]) == (0.001, 0.0, 0.0)


def test_one_error_names_all_bad_clips_of_all_folds(root, run):
    (root / "a1.wav").unlink()
    (root / "b2.wav").write_bytes(b"")
    soundfile.write(root / "a2.wav", np.array([0.0, np.nan]), 8000, subtype="FLOAT")
    with pytest.raises(BadClips) as error:
        run(dataset(root), fold=1)
    assert str(error.value) == (
        "3 of 4 recordings cannot be used:\n"
        "  a1 (a1.wav): missing: the file cannot be read\n"
        "  a2 (a2.wav): not finite: 1 of 2 samples are NaN or infinite\n"
        "  b2 (b2.wav): empty: the file has 0 bytes\n"
        "repair or remove them, or set `on_bad_clip: skip` to go on without them"
    )


def test_skipped_clips_are_recorded_in_their_own_fold(root, run):
    extra = Clip("a3", "a", 1, "s5", "none.wav")
    data = dataset(root, "skip", a3=extra)
    first, second = run(data, fold=1), run(data, fold=2)
    assert first["rejected_clips"].to_pylist() == [
        {
            "study": "study",
            "fold": 1,
            "clip": "a3",
            "label": "a",
            "file": "none.wav",
            "reason": "missing: the file cannot be read",
        }
    ]
    assert first["clips"]["clip"].to_pylist() == ["a1", "b1"]
    assert second["rejected_clips"].num_rows == 0
    assert second["clips"].num_rows == 2


def test_skipping_all_clips_of_a_class_is_refused(root, run):
    (root / "b1.wav").unlink()
    (root / "b2.wav").unlink()
    with pytest.raises(
        BadClips, match=r"there is none for class b; repair their recordings .*2 of 4 recordings cannot be used"
    ):
        run(dataset(root, "skip"))


def test_skipping_all_clips_of_a_fold_is_refused(root, run):
    (root / "a2.wav").unlink()
    (root / "b2.wav").unlink()
    with pytest.raises(BadClips, match="there is none for fold 2; repair their recordings"):
        run(dataset(root, "skip"))


def test_files_are_decoded_once_and_failures_are_retried(root, run, result_store):
    progress_calls = []
    (root / "a1.wav").write_bytes(b"not audio")
    with pytest.raises(BadClips):
        run(dataset(root))
    assert result_store.count("inspection") == 3
    soundfile.write(root / "a1.wav", np.zeros(8), 8000)
    assert run(dataset(root), progress=lambda *p: progress_calls.append(p))["clips"].num_rows == 2
    assert progress_calls == [(3, 4, "inspection"), (4, 4, "inspection")]


@pytest.mark.parametrize("change", ["replaced", "written over", "taken away"])
def test_no_result_is_stored_for_a_file_that_changes_while_it_is_read(root, run, result_store, monkeypatch, change):
    file_digests = result_store.file_digests

    def digests_then_change(paths):
        digests = file_digests(paths)
        if change != "written over":
            (root / "a1.wav").unlink()
        if change != "taken away":
            soundfile.write(root / "a1.wav", np.full(24, 0.25), 8000)
        return digests

    monkeypatch.setattr(result_store, "file_digests", digests_then_change)
    reason = "missing: the file does not exist" if change == "taken away" else "changed after it was listed; run again"
    with pytest.raises(BadClips, match=rf"1 of 4 recordings cannot be used:\n  a1 \(a1.wav\): {reason}"):
        run(dataset(root))
    assert result_store.count("inspection") == 3
    monkeypatch.undo()
    soundfile.write(root / "a1.wav", np.full(24, 0.25), 8000)
    assert run(dataset(root))["clips"].to_pylist()[0]["duration_s"] == 0.003  # 24 samples at 8 kHz


def segments(root, name, *bounds):
    """Return items of an inspection, as the driver makes them from the file that it hashed."""
    status = os.stat(root / name)
    sha256 = hashlib.sha256((root / name).read_bytes()).hexdigest()
    return [(name, start_s, end_s, sha256, file_stamp(status)) for start_s, end_s in bounds]


def test_a_copy_on_another_node_has_another_stamp_and_is_measured(root, tmp_path):
    items = segments(root, "a1.wav", (None, None))
    copy = tmp_path / "other node"
    shutil.copytree(root, copy)
    expected = InspectionWork(root).open()(items)
    assert InspectionWork(copy).open()(items) == expected
    assert isinstance(expected[0], bytes)


def test_a_file_that_was_replaced_between_listing_and_work_is_detected(root):
    """The other content has the same size and the same time of change."""
    items, status = segments(root, "a1.wav", (None, None)), os.stat(root / "a1.wav")
    content = bytearray((root / "a1.wav").read_bytes())
    content[-1] ^= 1
    (root / "a1.wav").write_bytes(content)
    os.utime(root / "a1.wav", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert os.stat(root / "a1.wav").st_size == status.st_size
    assert InspectionWork(root).open()(items) == [Failure("changed after it was listed; run again")]


def test_a_file_that_changes_while_it_is_decoded_is_detected(root, monkeypatch):
    def decode_slowly(path, start_s, end_s):
        samples = decode(path, start_s, end_s)
        os.utime(path)
        return samples

    monkeypatch.setattr(inspection, "decode", decode_slowly)
    [result] = InspectionWork(root).open()(segments(root, "a1.wav", (None, None)))
    assert result == Failure("changed after it was listed; run again")


def test_a_file_of_many_segments_is_hashed_once(root, tmp_path, monkeypatch):
    items = segments(root, "b2.wav", *((n / 10, (n + 1) / 10) for n in range(15)))
    copy = tmp_path / "other node"
    shutil.copytree(root, copy)
    hashed = []
    monkeypatch.setattr(inspection, "digest_file", lambda path: hashed.append(path) or digest_file(path))
    compute = InspectionWork(copy).open()
    assert all(isinstance(result, bytes) for result in [*compute(items[:8]), *compute(items[8:])])
    assert hashed == [copy / "b2.wav"]


def test_the_work_of_one_folder_is_not_that_of_another(root, tmp_path):
    """A worker keeps a work open that has the same key."""
    assert InspectionWork(root).key != InspectionWork(tmp_path).key


def test_the_stage_depends_on_on_bad_clip_only():
    assert clips_stage("stop").parameters == {"on_bad_clip": "stop"}
    assert [i.key for i in clips_stage("skip").inputs] == ["dataset"]


def test_sources_in_several_folds_are_listed():
    clips = [Clip(str(i), "a", fold, source, "f") for i, (fold, source) in enumerate([(1, "y"), (2, "y"), (1, "z")])]
    assert sources_in_several_folds(clips) == ["y"]
    assert sources_in_several_folds(clips[1:]) == []


def test_the_first_fold_inspects_all_clips_and_the_others_their_own(root, run, result_store, monkeypatch):
    file_digests, looked_up = result_store.file_digests, []
    monkeypatch.setattr(result_store, "file_digests", lambda paths: looked_up.append(len(paths)) or file_digests(paths))
    data = dataset(root)
    assert [run(data, fold)["clips"]["clip"].to_pylist() for fold in (1, 2)] == [["a1", "b1"], ["a2", "b2"]]
    assert looked_up == [4, 2]
    run(dataset(root), 2)  # opened again
    assert looked_up == [4, 2, 4]


def test_a_later_fold_sees_that_its_recording_was_replaced_and_remembers_those_of_other_folds(root, run):
    (root / "a1.wav").write_bytes(b"not audio")
    data = dataset(root, "skip", a3=Clip("a3", "a", 1, "s5", "b1.wav", 0.0, 0.2))
    assert run(data, 1)["rejected_clips"]["clip"].to_pylist() == ["a1"]
    (root / "b2.wav").write_bytes(b"not audio, either")
    with pytest.raises(BadClips, match="2 of 5 recordings"):
        run(dataset(root, "stop", a3=data.clips[2]), 2)
    assert run(data, 2)["rejected_clips"]["clip"].to_pylist() == ["b2"]
