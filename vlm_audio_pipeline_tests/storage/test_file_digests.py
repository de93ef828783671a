"""Digests of recordings: a file is read again only if it changed."""

import hashlib
import os
import socket
import time
import tracemalloc
from pathlib import Path

import pytest

from vlm_audio_pipeline.storage import result_store as result_store_module
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.storage.test_damaged_results import change

SETTLED_S = 0.15  # s; a file that did not change for this time has its digest stored


@pytest.fixture
def reads(monkeypatch) -> list[Path]:
    """Return a list to which every completely read file is added."""
    read_files: list[Path] = []
    original = result_store_module.digest_file
    monkeypatch.setattr(result_store_module, "digest_file", lambda path: (read_files.append(path), original(path))[1])
    return read_files


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_digests_are_sha256_in_order(result_store, tmp_path):
    files = [write(tmp_path / f"{i}", b"x" * i) for i in (2, 0, 1)]
    assert result_store.file_digests([*files, files[0]]) == [sha256(b"xx"), sha256(b""), sha256(b"x"), sha256(b"xx")]
    assert result_store.file_digests([]) == []


def test_a_path_that_is_not_a_file_has_no_digest(result_store, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert result_store.file_digests([tmp_path / n for n in ("missing", "folder", "dangling")]) == [None] * 3


def test_unchanged_files_are_not_read_again(result_store, tmp_path, path, reads):
    files = [write(tmp_path / f"{i}", b"%d" % i) for i in range(600)]
    time.sleep(SETTLED_S)
    first = result_store.file_digests(files)
    assert len(reads) == 600
    assert result_store.file_digests(files) == first
    other = ResultStore(path)  # another store on the same file does not read them either
    assert other.file_digests(files[::-1]) == first[::-1]
    other.close()
    assert len(reads) == 600


def test_only_a_changed_file_is_read_again(result_store, tmp_path, reads):
    files = [write(tmp_path / f"{i}", b"%d" % i) for i in range(5)]
    time.sleep(SETTLED_S)
    result_store.file_digests(files)
    del reads[:]
    files[3].write_bytes(b"changed")
    assert result_store.file_digests(files)[3] == sha256(b"changed")
    assert reads == [files[3]]


def test_a_change_with_the_same_size_and_time_is_detected(result_store, tmp_path):
    file = write(tmp_path / "a", b"before")
    time.sleep(SETTLED_S)
    assert result_store.file_digests([file]) == [sha256(b"before")]
    old_stat = file.stat()
    file.write_bytes(b"after!")
    os.utime(file, ns=(old_stat.st_atime_ns, old_stat.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (old_stat.st_size, old_stat.st_mtime_ns)
    assert result_store.file_digests([file]) == [sha256(b"after!")]


def test_a_file_that_is_replaced_by_another_is_read_again(result_store, tmp_path):
    file, other = write(tmp_path / "a", b"before"), write(tmp_path / "b", b"after!")
    time.sleep(SETTLED_S)
    assert result_store.file_digests([file]) == [sha256(b"before")]
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    os.replace(other, file)
    assert result_store.file_digests([file]) == [sha256(b"after!")]


def test_the_digest_of_a_file_written_just_now_is_not_stored(result_store, tmp_path, reads):
    """Within one tick of the file system's clock a file can change twice with the same timestamp."""
    file = write(tmp_path / "a", b"x")
    result_store.file_digests([file])
    result_store.file_digests([file])
    assert len(reads) == 2
    time.sleep(SETTLED_S)
    result_store.file_digests([file])
    result_store.file_digests([file])
    assert len(reads) == 3


def test_a_deleted_file_that_is_written_again_is_read_again(result_store, tmp_path):
    file = write(tmp_path / "a", b"1")
    time.sleep(SETTLED_S)
    assert result_store.file_digests([file]) == [sha256(b"1")]
    file.unlink()
    assert result_store.file_digests([file]) == [None]
    write(file, b"2")
    assert result_store.file_digests([file]) == [sha256(b"2")]


def test_a_damaged_digest_of_a_file_is_computed_again(path, tmp_path):
    file = write(tmp_path / "a", b"x")
    time.sleep(SETTLED_S)
    store = ResultStore(path)
    assert store.file_digests([file]) == [sha256(b"x")]
    store.close()
    change(path, "UPDATE file_digests SET sha256 = '0' || substr(sha256, 2)")
    store = ResultStore(path)
    assert store.file_digests([file]) == [sha256(b"x")]
    store.close()


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_only_regular_files_have_a_digest(result_store, tmp_path, kind):
    special = tmp_path / "special"
    if kind == "pipe":
        os.mkfifo(special)
    elif kind == "device":
        special.symlink_to("/dev/zero")
    else:
        socket.socket(socket.AF_UNIX).bind(str(special))
    assert result_store.file_digests([special]) == [None]


def test_a_file_of_20_gb_has_no_digest_and_a_large_file_is_hashed_in_blocks(result_store, tmp_path):
    huge, large = tmp_path / "huge", tmp_path / "large"
    for path, size in ((huge, 20_000_000_000), (large, 40_000_000)):
        path.touch()
        os.truncate(path, size)
    tracemalloc.start()
    digests = result_store.file_digests([huge, large])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert digests == [None, sha256(bytes(40_000_000))]
    assert peak < 5_000_000  # bytes
