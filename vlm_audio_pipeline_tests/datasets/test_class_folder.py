"""Folders as people have them: other formats, links, pipes, names in other encodings."""

import os
import socket
import unicodedata

import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.datasets.audio_suffixes import has_av
from vlm_audio_pipeline.datasets.folder import FolderDataset
from vlm_audio_pipeline.datasets.inspection import clips_stage
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline_tests.datasets.odd_recordings import encoded, sine


@pytest.fixture
def folder(tmp_path):
    """Two classes, `high` and `low`, of four recordings each."""
    root = tmp_path / "rec"
    for label, hz in (("high", 3000.0), ("low", 300.0)):
        (root / label).mkdir(parents=True)
        for i in range(4):
            (root / label / f"{label}{i}.wav").write_bytes(encoded("WAV", "PCM_16", sine(hz=hz + i)))
    return root


def open_folder(root, data_folder, **fields):
    return FolderDataset(path=root, n_folds=2, **fields).open(data_folder)


def clips_of(dataset, label="low"):
    return sorted(c.file for c in dataset.clips if c.label == label)


def test_every_format_that_can_be_decoded_is_used_and_the_rest_is_counted_and_named(folder, data_folder, result_store):
    low = folder / "low"
    for i in range(3):
        (low / f"song{i}.wma" if has_av() else low / f"m{i}.m4a").write_bytes(os.urandom(400))
        (low / f"aiff{i}.aiff").write_bytes(encoded("AIFF", "PCM_16", sine(hz=310.0 + i)))
    (low / "old.AMR").write_bytes(b"#!AMR\n")
    (low / "x.wave").write_bytes(encoded("WAV", "PCM_16", sine(hz=320.0)))
    (low / "y.oga").write_bytes(encoded("OGG", "VORBIS", sine(hz=330.0)))
    (low / "z.opus").write_bytes(encoded("OGG", "OPUS", sine(hz=340.0)))
    (low / "nosuffix").write_bytes(encoded("FLAC"))
    (low / "notes.txt").write_text("These are notes.")
    (folder / "loose.wav").write_bytes(encoded("WAV"))
    dataset = open_folder(folder, data_folder)
    used = [f"low/{n}" for n in ("x.wave", "y.oga", "z.opus")] + [f"low/aiff{i}.aiff" for i in range(3)]
    assert set(used) < set(clips_of(dataset))
    left_out = {left.file: (left.label, left.reason) for left in dataset.left_out}
    if not has_av():
        assert [f for f in left_out if f.endswith("m4a")] == ["low/m0.m4a", "low/m1.m4a", "low/m2.m4a"]
        assert left_out["low/m0.m4a"][1].startswith("not decoded: install the extra `av`")
        assert len(left_out) == 6
    assert left_out["low/old.AMR"] == ("low", "not decoded: convert it to WAV or FLAC")
    assert left_out["low/nosuffix"][1].startswith("not decoded: it begins like a recording, but its name has no suffix")
    assert left_out["loose.wav"] == ("", "not used: it is in no folder of a class; move it into one")
    text = dataset.describe_left_out()
    assert text is not None and text.startswith(f"{len(left_out)} files or folders in {folder} are left out:\n")
    assert "\n  low/old.AMR: not decoded: convert it" in text

    stage = clips_stage("skip")
    rejected = []
    for fold in dataset.folds:
        context = StageContext(
            "s", "", fold, dataset.classes, {}, dataset, result_store, lambda *_: None, engine=LocalEngine()
        )
        rejected += stage.run(context)["rejected_clips"].to_pylist()
    assert {r["file"] for r in rejected} >= set(left_out)
    assert {"clip": "low/nosuffix", "label": "low", "file": "low/nosuffix", "reason": left_out["low/nosuffix"][1]} in rejected  # fmt: skip


def test_a_recording_that_is_left_out_changes_the_data_version_of_one_fold(folder, data_folder, result_store):
    before = open_folder(folder, data_folder).fold_versions(result_store)
    (folder / "low" / "old.amr").touch()
    after = open_folder(folder, data_folder).fold_versions(result_store)
    assert [before[f] == after[f] for f in (1, 2)] == [False, True]


def test_long_lists_of_recordings_that_are_left_out_are_shortened(folder, data_folder):
    for i in range(12):
        (folder / "low" / f"{i:02}.amr").touch()
    text = open_folder(folder, data_folder).describe_left_out()
    assert text is not None and text.count("\n") == 11
    assert text.endswith(
        "low/09.amr: not decoded: convert it to WAV or FLAC\n  and 2 more: see the table rejected_clips"
    )
    (folder / "low" / "00.amr").unlink()


@pytest.mark.parametrize("name", ["more.zip", "more.tar.gz", "more.7z"])
def test_archives_in_the_folder_of_a_class_are_named(folder, data_folder, name):
    (folder / "low" / name).touch()
    (folder / "download.zip").touch()  # what the dataset was unpacked from
    text = open_folder(folder, data_folder).describe_left_out()
    assert text is not None and text.count("\n") == 1
    assert f"low/{name}: not read: it is an archive; unpack it if it contains recordings, or remove it" in text


def test_a_class_of_recordings_that_cannot_be_decoded_is_refused(folder, data_folder):
    (folder / "mid").mkdir()
    (folder / "mid" / "a.amr").touch()
    with pytest.raises(BadDataset, match=r"mid contains no recordings \(.*\); 1 others cannot be decoded; add"):
        open_folder(folder, data_folder)


def test_linked_folders_are_read(folder, data_folder, tmp_path):
    (tmp_path / "other" / "deep").mkdir(parents=True)
    (folder / "low" / "low2.wav").rename(tmp_path / "other" / "low2.wav")
    (folder / "low" / "low3.wav").rename(tmp_path / "other" / "deep" / "low3.wav")
    (folder / "low" / "more").symlink_to(tmp_path / "other")
    dataset = open_folder(folder, data_folder)
    assert clips_of(dataset) == ["low/low0.wav", "low/low1.wav", "low/more/deep/low3.wav", "low/more/low2.wav"]
    assert dataset.left_out == ()


def test_links_to_the_dataset_itself_end_and_are_named(folder, data_folder, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.wav").write_bytes(encoded("WAV"))
    (folder / "low" / "a_up").symlink_to(folder)
    (folder / "low" / "b_far_up").symlink_to(tmp_path)
    (folder / "low" / "c_high").symlink_to(folder / "high")
    (folder / "low" / "d_self").symlink_to(folder / "low")
    (folder / "low" / "e_other").symlink_to(tmp_path / "other")
    (folder / "low" / "f_other_again").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "itself").symlink_to(tmp_path / "other")
    dataset = open_folder(folder, data_folder)
    assert clips_of(dataset) == ["low/e_other/x.wav", *(f"low/low{i}.wav" for i in range(4))]
    assert not any(left.is_recording for left in dataset.left_out)
    reasons = {left.file: left.reason for left in dataset.left_out}
    itself = "not followed: it links to a folder of the dataset itself; remove the link"
    again = "not followed: the folder was read already under another name; remove one of them"
    assert reasons == {
        **dict.fromkeys(("low/a_up", "low/b_far_up", "low/c_high", "low/d_self"), itself),
        "low/e_other/itself": again,
        "low/f_other_again": again,
    }


def test_two_classes_that_are_one_folder_are_refused(folder, data_folder):
    (folder / "mid").symlink_to(folder / "low")
    with pytest.raises(BadDataset, match="the classes 'low' and 'mid' are the same folder; remove the link"):
        open_folder(folder, data_folder)
    (folder / "mid").unlink()
    (folder / "up").symlink_to(folder)
    with pytest.raises(BadDataset, match="up links to a folder that contains the dataset; remove the link"):
        open_folder(folder, data_folder)


def test_a_name_that_is_not_utf_8_is_refused_or_set_aside_and_shown_escaped(folder, data_folder):
    (folder / "low" / os.fsdecode(b"k\xfcche.wav")).write_bytes(encoded("WAV"))
    with pytest.raises(BadDataset, match=r"1 files in .* cannot be used:\n  low/k\\xfcche.wav: its name is not UTF-8;"):
        open_folder(folder, data_folder)
    dataset = open_folder(folder, data_folder, on_bad_clip="skip")
    assert [left.file for left in dataset.left_out] == ["low/k\\xfcche.wav"] and len(dataset.clips) == 8


def test_folders_whose_names_are_not_utf_8_are_refused(folder, data_folder, tmp_path):
    (folder / os.fsdecode(b"k\xfcche")).mkdir()
    with pytest.raises(BadDataset, match=r"the name of the folder .*k\\xfcche is not UTF-8; rename it"):
        open_folder(folder, data_folder)
    (folder / os.fsdecode(b"k\xfcche")).rename(tmp_path / os.fsdecode(b"r\xe9c"))
    with pytest.raises(ValueError, match=r"the path '.*r\\xe9c' contains bytes that are not UTF-8"):
        open_folder(tmp_path / os.fsdecode(b"r\xe9c"), data_folder)


def test_pipes_and_sockets_are_refused_by_name(folder, data_folder, tmp_path, monkeypatch):
    os.mkfifo(folder / "low" / "pipe.wav")
    monkeypatch.chdir(folder / "high")  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock.wav")
        with pytest.raises(
            BadDataset, match=r"2 files in .*\n  high/sock.wav: a socket, not a .*\n  low/pipe.wav: a named"
        ):
            open_folder(folder, data_folder)
        dataset = open_folder(folder, data_folder, on_bad_clip="skip")
    assert len(dataset.clips) == 8 and len(dataset.left_out) == 2


def test_a_link_to_nothing_is_listed_so_that_decoding_names_it(folder, data_folder):
    (folder / "low" / "gone.wav").symlink_to(folder / "nowhere.wav")
    assert "low/gone.wav" in clips_of(open_folder(folder, data_folder))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (unicodedata.normalize("NFC", "k\xfche"), unicodedata.normalize("NFD", "k\xfche")),
        ("low", "Low"),
        ("low", "low\u200b"),
        ("low tone", "low\xa0tone"),
        ("low", "low "),
        ("low", "lo\xadw"),
        ("file", "\ufb01le"),
    ],
)
def test_two_classes_that_look_equal_are_refused_and_both_are_shown(folder, data_folder, first, second):
    if first != "low":
        (folder / "low").rename(folder / first)
    (folder / second).mkdir()
    (folder / second / "x.wav").write_bytes(encoded("WAV"))
    (folder / second / "y.wav").write_bytes(encoded("WAV"))
    with pytest.raises(BadDataset) as error:
        open_folder(folder, data_folder)
    assert str(error.value).startswith("labels must look different, got ")
    assert ascii(first) in str(error.value) and ascii(second) in str(error.value)
