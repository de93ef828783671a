import hashlib
import io
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset, NotAvailable
from vlm_audio_pipeline.datasets.download import contents_digest, download, extract_zip

BODY = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """/whole ignores ranges, /ranges supports them, /cut stops after half, /endless declares no length."""

    requests: list[tuple[str, str | None]]

    def do_GET(self):
        byte_range = self.headers.get("Range")
        self.requests.append((self.path, byte_range))
        first = int(byte_range.removeprefix("bytes=").rstrip("-")) if byte_range and self.path != "/whole" else 0
        if self.path == "/none":
            return self.send_error(404)
        if first >= len(BODY):
            return self.send_error(416)
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(BODY) - 1}/{len(BODY)}")
        if self.path != "/endless":
            self.send_header("Content-Length", str(len(BODY) - first))
        self.end_headers()
        return self.wfile.write(BODY[first : len(BODY) // 2 if self.path == "/cut" else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Handler.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_a_file_is_downloaded_with_progress(server, tmp_path):
    progress_calls = []
    target = tmp_path / "deep" / "file.zip"
    assert download(f"{server}/whole", target, SHA256, 5, lambda *p: progress_calls.append(p)) == target
    assert target.read_bytes() == BODY
    assert progress_calls[0] == (0, len(BODY), "download file.zip")
    assert progress_calls[-1] == (len(BODY), len(BODY), "download file.zip")
    assert [p.name for p in target.parent.iterdir()] == ["file.zip"]


def test_without_a_declared_length_progress_uses_the_expected_size(server, tmp_path):
    progress_calls = []
    download(f"{server}/endless", tmp_path / "f", None, 2 * len(BODY), lambda *p: progress_calls.append(p))
    assert progress_calls[-1][:2] == (len(BODY), 2 * len(BODY))
    assert (tmp_path / "f").read_bytes() == BODY


def test_an_interrupted_download_is_continued(server, tmp_path):
    with pytest.raises(
        NotAvailable, match=r"the download of .*/cut stopped after .*run again to continue, or download it by hand"
    ):
        download(f"{server}/cut", tmp_path / "f", SHA256, 0)
    assert not (tmp_path / "f").exists()
    downloaded_bytes = (tmp_path / "f.part").stat().st_size
    assert 0 < downloaded_bytes <= len(BODY) // 2
    download(f"{server}/ranges", tmp_path / "f", SHA256, 0)
    assert (tmp_path / "f").read_bytes() == BODY
    assert Handler.requests == [("/cut", None), ("/ranges", f"bytes={downloaded_bytes}-")]


def test_a_download_starts_again_if_the_server_does_not_support_ranges(server, tmp_path):
    (tmp_path / "f.part").write_bytes(b"an older beginning")
    download(f"{server}/whole", tmp_path / "f", SHA256, 0)
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_download_starts_again_if_the_partial_file_is_too_long(server, tmp_path):
    (tmp_path / "f.part").write_bytes(BODY + b"more")
    download(f"{server}/ranges", tmp_path / "f", SHA256, 0)
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_wrong_partial_file_is_detected_by_the_checksum_and_deleted(server, tmp_path):
    (tmp_path / "f.part").write_bytes(b"an older beginning")
    with pytest.raises(
        BadDataset, match=f"the SHA-256 of .*/ranges is [0-9a-f]{{64}}, not {SHA256}; the file was deleted"
    ):
        download(f"{server}/ranges", tmp_path / "f", SHA256, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_url_is_an_error(server, tmp_path):
    with pytest.raises(NotAvailable, match=r"/none cannot be downloaded: HTTP 404 .*; download it by hand .*ESC10_DIR"):
        download(f"{server}/none", tmp_path / "f", None, 0)


def test_a_refused_connection_is_an_error(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        port = httpd.server_port  # closed immediately, so that nothing listens on the port
    with pytest.raises(NotAvailable, match=r"cannot be downloaded: .*refused; run again .*`path`.*ESC10_DIR"):
        download(f"http://127.0.0.1:{port}/x", tmp_path / "f", None, 0)


def write_zip(path, *members: tuple[str | zipfile.ZipInfo, bytes]):
    with zipfile.ZipFile(path, "w") as file:
        for member, data in members:
            file.writestr(member, data)
    return path


def test_a_zip_file_is_extracted(tmp_path):
    archive = write_zip(tmp_path / "a.zip", ("top/one.txt", b"1"), ("top/deep/two.txt", b"2"))
    assert extract_zip(archive, tmp_path / "new" / "out") == tmp_path / "new" / "out"
    assert (tmp_path / "new/out/top/deep/two.txt").read_bytes() == b"2"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out"]


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("top/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        ("../evil.txt", "has a name outside the folder"),
        ("top/../../evil.txt", "has a name outside the folder"),
        ("top\\..\\..\\evil.txt", "has a name outside the folder"),
        ("/tmp/evil.txt", "has an absolute name"),
        ("C:\\evil.txt", "has an absolute name"),
        (link(), "is a link or special file"),
    ],
)
def test_dangerous_zip_members_are_refused(tmp_path, member, reason):
    archive = write_zip(tmp_path / "a.zip", ("top/good.txt", b"1"), (member, b"/etc/passwd"))
    with pytest.raises(BadDataset, match=f"was not unpacked, because .* {reason}; use another archive"):
        extract_zip(archive, tmp_path / "in" / "out")
    assert list((tmp_path / "in").iterdir()) == []
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize("damage", ["text", "half", "flipped"])
def test_a_damaged_zip_file_leaves_no_files(tmp_path, damage):
    buffer = io.BytesIO()
    write_zip(buffer, ("one.bin", BODY[:1000]))
    data = bytearray(buffer.getvalue())
    if damage == "text":
        data = bytearray(b"not a zip")
    elif damage == "half":
        data = data[:500]
    else:
        data[300] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(BadDataset, match="is not a complete zip file: "):
        extract_zip(tmp_path / "a.zip", tmp_path / "in" / "out")
    assert list((tmp_path / "in").iterdir()) == []


def test_an_existing_folder_is_never_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(BadDataset, match="exists already"):
        extract_zip(write_zip(tmp_path / "a.zip", ("one", b"1")), tmp_path / "out")


def test_contents_digest_by_hand(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b").write_bytes(b"2")
    (tmp_path / "a").write_bytes(b"1")
    # The hash of the output of `sha256sum a sub/b`, written as "path<tab>digest".
    lines = "".join(f"{name}\t{hashlib.sha256(data).hexdigest()}\n" for name, data in [("a", b"1"), ("sub/b", b"2")])
    assert contents_digest(tmp_path, ["sub/b", "a"]) == hashlib.sha256(lines.encode()).hexdigest()
