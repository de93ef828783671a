"""Atomic writes of files and folders: all or nothing, without leftover files."""

import os
import resource
import stat

import pytest

from vlm_audio_pipeline.storage.atomic import atomic_path, delete, write_atomically


def test_text_and_bytes_are_written_unchanged(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    write_atomically(path, "é\r\n")
    assert path.read_bytes() == "é\r\n".encode()
    write_atomically(path, b"\0\xff")
    assert path.read_bytes() == b"\0\xff"
    assert os.listdir(path.parent) == ["a.txt"]


def test_the_old_file_stays_until_the_block_ends(tmp_path):
    path = tmp_path / "a"
    write_atomically(path, "old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path and temporary.name.startswith(".a.") and temporary.suffix == ".tmp"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_keeps_the_old_file_and_deletes_the_temporary_one(tmp_path, error):
    path = tmp_path / "a"
    write_atomically(path, "old")

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_writing_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        pass


def test_the_file_is_flushed_to_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append(("fsync", os.fstat(file).st_size)), fsync(file))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(("replace", b)), replace(a, b))[1])
    write_atomically(tmp_path / "a", b"12345")
    assert calls == [("fsync", 5), ("replace", tmp_path / "a")]


def test_a_folder_is_moved_to_its_path_in_one_step(tmp_path):
    with atomic_path(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "inside").write_text("x")
    assert (tmp_path / "folder" / "inside").read_text() == "x"
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "other") as temporary:
        (temporary.mkdir(), (temporary / "missing").read_text())
    assert os.listdir(tmp_path) == ["folder"]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "a", "")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_delete_removes_files_folders_and_links_but_not_the_target_of_a_link(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").write_text("x")
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    for name in ("link", "folder", "missing"):
        delete(tmp_path / name)
    assert os.listdir(tmp_path) == ["target"] and (target / "file").exists()


def test_an_error_of_a_full_disk_names_the_file_and_leaves_nothing(tmp_path):
    """A limit of the file size is a disk that is full after 100 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            write_atomically(tmp_path / "a" / "file.txt", "x" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.filename == str(tmp_path / "a" / "file.txt")
    assert not list((tmp_path / "a").iterdir())
