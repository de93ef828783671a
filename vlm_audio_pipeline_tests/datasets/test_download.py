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
    """/whole ignores ranges, /ranges honours them, /cut stops half way, /endless declares no length."""

    asked: list[tuple[str, str | None]]

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


def test_whole_file_with_progress(server, tmp_path):
    progress_calls = []
    to = tmp_path / "deep" / "file.zip"
    assert download(f"{server}/whole", to, SHA256, 5, lambda *p: progress_calls.append(p)) == to
    assert to.read_bytes() == BODY
    assert progress_calls[0] == (0, len(BODY), "download file.zip")
    assert progress_calls[-1] == (len(BODY), len(BODY), "download file.zip")
    assert [p.name for p in to.parent.iterdir()] == ["file.zip"]


def test_without_a_declared_length_progress_goes_by_the_expected_size(server, tmp_path):
    progress_calls = []
    download(f"{server}/endless", tmp_path / "f", None, 2 * len(BODY), lambda *p: progress_calls.append(p))
    assert progress_calls[-1][:2] == (len(BODY), 2 * len(BODY))
    assert (tmp_path / "f").read_bytes() == BODY


def test_resumes_where_it_broke_off(server, tmp_path):
    with pytest.raises(
        NotAvailable, match=r"the download of .*/cut stopped after .*run again to continue, or download it by hand"
    ):
        download(f"{server}/cut", tmp_path / "f", SHA256, 0)
    assert not (tmp_path / "f").exists()
    have = (tmp_path / "f.part").stat().st_size
    assert 0 < have <= len(BODY) // 2
    download(f"{server}/ranges", tmp_path / "f", SHA256, 0)
    assert (tmp_path / "f").read_bytes() == BODY
    assert Handler.requests == [("/cut", None), ("/ranges", f"bytes={have}-")]


def test_starts_again_where_the_server_knows_no_ranges(server, tmp_path):
    (tmp_path / "f.part").write_bytes(b"an older beginning")
    download(f"{server}/whole", tmp_path / "f", SHA256, 0)
    assert (tmp_path / "f").read_bytes() == BODY


def test_starts_again_where_the_beginning_is_longer_than_the_file(server, tmp_path):
    (tmp_path / "f.part").write_bytes(BODY + b"more")
    download(f"{server}/ranges", tmp_path / "f", SHA256, 0)
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_wrong_beginning_is_found_by_the_checksum_and_deleted(server, tmp_path):
    (tmp_path / "f.part").write_bytes(b"an older beginning")
    with pytest.raises(BadDataset, match=f"/ranges must have the SHA-256 {SHA256}, got [0-9a-f]{{64}}; it was deleted"):
        download(f"{server}/ranges", tmp_path / "f", SHA256, 0)
    assert list(tmp_path.iterdir()) == []


def test_missing_address(server, tmp_path):
    with pytest.raises(NotAvailable, match=r"/none cannot be downloaded: HTTP 404 .*; download it by hand .*ESC10_DIR"):
        download(f"{server}/none", tmp_path / "f", None, 0)


def test_no_network(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        port = httpd.server_port  # closed again at once: nobody listens
    with pytest.raises(NotAvailable, match=r"cannot be downloaded: .*refused; run again .*`path`.*ESC10_DIR"):
        download(f"http://127.0.0.1:{port}/x", tmp_path / "f", None, 0)


def write_zip(path, *members: tuple[str | zipfile.ZipInfo, bytes]):
    with zipfile.ZipFile(path, "w") as file:
        for member, data in members:
            file.writestr(member, data)
    return path


def test_extracts_into_place(tmp_path):
    archive = write_zip(tmp_path / "a.zip", ("top/one.txt", b"1"), ("top/deep/two.txt", b"2"))
    assert extract_zip(archive, tmp_path / "new" / "out") == tmp_path / "new" / "out"
    assert (tmp_path / "new/out/top/deep/two.txt").read_bytes() == b"2"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out"]


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("top/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ("../evil.txt", "a name that leaves the folder"),
        ("top/../../evil.txt", "a name that leaves the folder"),
        ("top\\..\\..\\evil.txt", "a name that leaves the folder"),
        ("/tmp/evil.txt", "an absolute name"),
        ("C:\\evil.txt", "an absolute name"),
        (link(), "a link or special file"),
    ],
)
def test_dangerous_members_are_refused(tmp_path, member, why):
    archive = write_zip(tmp_path / "a.zip", ("top/good.txt", b"1"), (member, b"/etc/passwd"))
    with pytest.raises(BadDataset, match=f"must contain plain files only, got .*: {why}; discard it"):
        extract_zip(archive, tmp_path / "in" / "out")
    assert list((tmp_path / "in").iterdir()) == []
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize("damage", ["text", "half", "flipped"])
def test_damaged_zips_leave_nothing(tmp_path, damage):
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
    with pytest.raises(BadDataset, match="must be a complete zip file, got: "):
        extract_zip(tmp_path / "a.zip", tmp_path / "in" / "out")
    assert list((tmp_path / "in").iterdir()) == []


def test_never_unpacks_over_something(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(BadDataset, match="must not exist"):
        extract_zip(write_zip(tmp_path / "a.zip", ("one", b"1")), tmp_path / "out")


def test_contents_digest_by_hand(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b").write_bytes(b"2")
    (tmp_path / "a").write_bytes(b"1")
    # What `sha256sum a sub/b`, in the form "path<tab>digest", hashes to.
    lines = "".join(f"{name}\t{hashlib.sha256(data).hexdigest()}\n" for name, data in [("a", b"1"), ("sub/b", b"2")])
    assert contents_digest(tmp_path, ["sub/b", "a"]) == hashlib.sha256(lines.encode()).hexdigest()
