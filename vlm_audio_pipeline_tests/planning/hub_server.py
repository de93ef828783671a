"""A small model hub on loopback with the endpoints that huggingface_hub uses: model information and files.

Paths and headers as on https://huggingface.co: `/api/models/<repo>/revision/<revision>?blobs=true`, and HEAD and
GET of `/<repo>/resolve/<revision>/<file>` with X-Repo-Commit, ETag and ranges.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub:
    """Models by name, each with its files. Every change of a file is a new commit of `main`."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.delay_s = 0.0
        self.status = 200
        self.damaged: set[str] = set()  # models whose large files arrive with another first byte
        self.url = ""

    def publish(self, model: str, **files: bytes | str) -> str:
        """Set files of a model and return the commit. The last `_` of a keyword stands for the dot of the file name."""
        model_files = self.models.setdefault(model, {})
        for name, content in files.items():
            stem, _, suffix = name.rpartition("_")
            model_files[f"{stem}.{suffix}"] = content if isinstance(content, bytes) else content.encode()
        return self.commit(model)

    def commit(self, model: str) -> str:
        lines = [f"{n} {hashlib.sha1(c).hexdigest()}" for n, c in sorted(self.models[model].items())]
        return hashlib.sha1("\n".join(lines).encode()).hexdigest()

    @staticmethod
    def etag(content: bytes) -> str:
        """Return the git hash of a file's contents."""
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @contextmanager
    def running(self) -> Iterator["Hub"]:
        """Serve until the block ends."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    stopping = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            with suppress(ConnectionError):  # the client has closed the connection after its timeout
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        def respond(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            if hub.delay_s:
                stopping.wait(hub.delay_s)
            if hub.delay_s:
                return self.answer(500)
            if hub.status != 200:
                return self.answer(hub.status, b'{"error":"out of order"}', X_Error_Message="out of order")
            for model, files in hub.models.items():
                commit = hub.commit(model)
                for revision in ("main", commit):
                    if path == f"/api/models/{model}/revision/{revision}":
                        return self.answer(200, _info(model, commit, files), Content_Type="application/json")
                    name = path.removeprefix(f"/{model}/resolve/{revision}/")
                    if name in files:
                        content = files[name]
                        if model in hub.damaged and _lfs(content):
                            return self.file(content, commit, body=b"?" + content[1:])
                        return self.file(content, commit)
            text = b'{"error":"Repository not found"}'
            return self.answer(404, text, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")

        def file(self, content: bytes, commit: str, body: bytes | None = None) -> None:
            headers = {"X_Repo_Commit": commit, "ETag": f'"{hub.etag(content)}"', "Accept_Ranges": "bytes"}
            if self.command == "GET":
                hub.ranges.append(self.headers.get("Range", ""))
            if lfs := _lfs(content):
                headers |= {"X_Linked_ETag": f'"{lfs["lfs"]["sha256"]}"', "X_Linked_Size": str(len(content))}
            start = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
            if start.isdigit() and int(start) >= len(content):
                return self.answer(416, Content_Range=f"bytes */{len(content)}")
            if start.isdigit() and self.command == "GET":
                range_ = f"bytes {start}-{len(content) - 1}/{len(content)}"
                return self.answer(206, content[int(start) :], Content_Range=range_, **headers)
            return self.answer(200, body or content, Content_Length=str(len(content)), **headers)

        do_GET = do_HEAD = respond

    return Handler


def _lfs(content: bytes) -> dict:
    """Return the LFS entry of a file of 1 MB or more, else an empty dict."""
    if len(content) < 1_000_000:
        return {}
    return {"lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}}


def _info(model: str, commit: str, files: dict[str, bytes]) -> bytes:
    siblings = [{"rfilename": n, "size": len(c), "blobId": Hub.etag(c), **_lfs(c)} for n, c in sorted(files.items())]
    info = {
        "_id": "0",
        "id": model,
        "modelId": model,
        "sha": commit,
        "siblings": siblings,
        "private": False,
        "tags": [],
    }
    return json.dumps(info | {"downloads": 0, "likes": 0, "gated": False, "disabled": False}).encode()
