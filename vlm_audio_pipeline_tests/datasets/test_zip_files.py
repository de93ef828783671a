"""Zip files that are made to fill the disk or the memory, or to write where they must not."""

import random
import struct
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets import download as download_module
from vlm_audio_pipeline.datasets import zip_files
from vlm_audio_pipeline.datasets.download import download, extract_zip
from vlm_audio_pipeline.datasets.esc10 import read_annotations


def write_zip(path: Path, *members, method=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for member, data in members:
            file.writestr(member, data)
    return path


def assert_refused(archive: Path, words: str, **limits) -> None:
    folder = archive.parent / "in"
    with pytest.raises(BadDataset, match=words) as caught:
        extract_zip(archive, folder / "out", **limits)
    assert str(archive) in str(caught.value)
    assert not folder.exists() or list(folder.iterdir()) == []


def test_an_archive_that_unpacks_to_too_much_is_refused_before_anything_is_written(tmp_path):
    archive = write_zip(tmp_path / "a.zip", *((f"{i}", bytes(1_000_000)) for i in range(6)))
    assert archive.stat().st_size < 10_000
    assert_refused(archive, r"unpacks to 0\.0 GB, at most 0\.0 GB are allowed", max_bytes=5_000_000)
    extract_zip(archive, tmp_path / "out", max_bytes=6_000_000)


def test_a_member_never_unpacks_to_more_than_it_declares(tmp_path):
    """The declared sizes are checked before unpacking, so a wrong one must not help."""
    archive = write_zip(tmp_path / "a.zip", ("bomb", bytes(1_000_000)))
    content = archive.read_bytes().replace(struct.pack("<I", 1_000_000), struct.pack("<I", 10))
    archive.write_bytes(content)
    assert_refused(archive, "is not a complete zip file", max_bytes=100)


def test_the_number_of_members_and_the_table_of_contents_are_limited(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "a.zip", *((f"{i}", b"") for i in range(20)))
    monkeypatch.setattr(zip_files, "MAX_MEMBERS", 19)
    assert_refused(archive, "it has 20 members, at most 19 are allowed")
    monkeypatch.setattr(zip_files, "MAX_DIRECTORY_BYTES", 100)
    assert_refused(archive, "its table of contents has more than")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("a", b"1"), ("a", b"2")], "'a' occurs twice"),
        ([("a", b"1"), ("a/b", b"2")], "'a' is a file and a folder"),
        ([("a/b", b"1"), ("a", b"2")], "'a' occurs twice|'a' is a file and a folder"),
        ([("a/", b""), ("a", b"2")], "'a' occurs twice"),
        ([("x" * 300, b"1")], "has a name that no file can have"),
        ([("ü" * 200, b"1")], "has a name that no file can have"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_cannot_all_be_files_are_refused(tmp_path, members, words):
    assert_refused(write_zip(tmp_path / "a.zip", *members), words)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_than_deflate_are_refused(tmp_path, method):
    assert_refused(write_zip(tmp_path / "a.zip", ("a", b"1" * 100), method=method), "by another method than deflate")


@pytest.mark.parametrize(("system", "mode"), [(3, 0o010644), (3, 0o020644), (3, 0o140644)])
def test_special_files_are_refused(tmp_path, system, mode):
    member = zipfile.ZipInfo("special")
    member.create_system, member.external_attr = system, mode << 16
    assert_refused(write_zip(tmp_path / "a.zip", (member, b"")), "is a link or special file")


def test_an_archive_with_flipped_bits_is_unpacked_or_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", ("top/one", b"1" * 500), ("top/two", random.Random(1).randbytes(200)))
    content, rng = archive.read_bytes(), random.Random(2)
    for number in range(300):
        damaged = bytearray(content)
        for _ in range(3):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        archive.write_bytes(damaged)
        try:
            extract_zip(archive, tmp_path / f"out{number}")
        except BadDataset:
            assert not (tmp_path / f"out{number}").exists()


def test_a_spreadsheet_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("vlm_audio_pipeline.datasets.esc10.MAX_SPREADSHEET_BYTES", 1_000_000)
    archive = write_zip(tmp_path / "a.xlsx", ("xl/workbook.xml", bytes(2_000_000)))
    with pytest.raises(BadDataset, match="unpacks to"):
        read_annotations(archive)


@pytest.mark.parametrize("declares_length", [True, False])
def test_a_download_that_is_much_larger_than_expected_is_stopped_and_deleted(tmp_path, monkeypatch, declares_length):
    monkeypatch.setattr(download_module, "_MARGIN_BYTES", 1_000_000)

    class Endless(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            self.send_response(200)
            if declares_length:
                self.send_header("Content-Length", str(10**12))
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(100_000))
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with pytest.raises(BadDataset, match=r"sends at least .* about 0 MB were expected"):
            download(f"http://127.0.0.1:{server.server_port}/a.zip", tmp_path / "a.zip", None, 1000)
        server.shutdown()
        thread.join()
    assert list(tmp_path.iterdir()) == []
