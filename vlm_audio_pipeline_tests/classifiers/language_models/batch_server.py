"""A server over real sockets with OpenAI's files and batches, Anthropic's message batches, and live requests of both.

Batches take simulated time, which passes with each question about their state. The server charges each request that it
answers, and counts how often. It ignores idempotency keys, as some providers do.
"""

import hashlib
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

HOUR = 3600.0
USAGE = {"prompt_tokens": 40, "completion_tokens": 5, "total_tokens": 45}


@dataclass
class Item:
    """A request of a batch: its id, its content as in `content_of`, and its parameters."""

    custom_id: str
    content: str
    body: dict
    result: Any = None


@dataclass
class Batch:
    id: str
    number: int
    items: list[Item]
    created_at: float  # simulated s
    real_created_at: float  # s since 1970
    file: str = ""
    metadata: dict = field(default_factory=dict)
    state: str = "running"  # ended, expired, failed
    visible_from: float = 0.0  # real monotonic s: before it, the list does not contain the batch


@dataclass
class BatchServer:
    """The script of the server, and what it received and charged.

    Attributes:
        answer: content of a request -> text, or "!filter" or "!length" for a response that a filter or the limit ended.
        outcome: (number of the batch, number of the request, how often this content failed) -> "answer", "expire", a
            status, or a (status, error) with the details.
        duration_s: simulated time that a batch takes, s.
        expires_s: simulated time after which the rest of a batch expires, s.
        poll_s: simulated time that passes with each question about a batch, s.
        fault: (method and path, number of the call of this kind) -> None, "lost" (the connection ends before the call has
            an effect), "unanswered" (after it), a status, or a status with a message.
        before: called with the method and path of each call before the call has an effect; it may block.
        model: the returned model; None: the requested one.
        page: longest page of a list.
        hidden_s: real time before a new batch is in the list, s.
        fails_with: code and message with which the next batches fail as a whole, in order.
        submitted, charged: number of times that each content was part of a batch, and was answered.
    """

    answer: Callable[[str], str] = lambda content: "dog"
    outcome: Callable[[int, int, int], Any] = lambda batch, item, failures: "answer"
    duration_s: float = 2 * HOUR
    expires_s: float = 24 * HOUR
    poll_s: float = HOUR
    fault: Callable[[str, int], Any] = lambda call, number: None
    before: Callable[[str], None] = lambda call: None
    model: str | None = None
    page: int = 100
    hidden_s: float = 0.0
    fails_with: list[tuple[str, str]] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=lambda: dict(USAGE))
    now: float = 0.0
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    uploads: int = 0
    batches: dict[str, Batch] = field(default_factory=dict)
    submitted: Counter = field(default_factory=Counter)
    charged: Counter = field(default_factory=Counter)
    failures: Counter = field(default_factory=Counter)
    calls: Counter = field(default_factory=Counter)
    live: Counter = field(default_factory=Counter)
    headers: list[dict] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    url: str = ""

    def create(self, items: list[Item], file: str = "", metadata: dict | None = None) -> Batch:
        number = len(self.batches)
        batch = Batch(f"batch_{number}", number, items, self.now, time.time(), file, metadata or {})
        batch.visible_from = time.monotonic() + self.hidden_s
        self.batches[batch.id] = batch
        if self.fails_with:
            batch.state = "failed"
            batch.metadata = batch.metadata | {"failure": self.fails_with.pop(0)}
        else:
            self.submitted.update(item.content for item in items)
        return batch

    def poll(self) -> None:
        """Advance the clock and process the batches."""
        self.now += self.poll_s
        for batch in self.batches.values():
            self.process(batch)

    def process(self, batch: Batch) -> None:
        age = self.now - batch.created_at
        if batch.state != "running" or age < min(self.duration_s, self.expires_s):
            return
        for i, item in enumerate(batch.items):
            outcome = self.outcome(batch.number, i, self.failures[item.content])
            if age >= self.expires_s and outcome == "answer" and self.duration_s > self.expires_s:
                outcome = "expire"
            if outcome == "answer":
                self.charged[item.content] += 1
            else:
                self.failures[item.content] += 1
            item.result = outcome
        batch.state = "expired" if any(item.result == "expire" for item in batch.items) else "ended"

    def charged_tokens(self) -> tuple[int, int]:
        """Return the prompt and completion tokens of everything that was charged."""
        n = sum(self.charged.values())
        return n * self.usage["prompt_tokens"], n * self.usage["completion_tokens"]

    def completion(self, body: dict, content: str) -> dict:
        text = self.answer(content)
        reason = {"!filter": "content_filter", "!length": "length"}.get(text, "stop")
        return {
            "model": self.model or body["model"],
            "choices": [{"index": 0, "finish_reason": reason, "message": {"content": "" if text[0] == "!" else text}}],
            "usage": self.usage,
        }

    def message(self, body: dict, content: str) -> dict:
        text = self.answer(content)
        reason = {"!filter": "refusal", "!length": "max_tokens"}.get(text, "end_turn")
        return {
            "type": "message",
            "role": "assistant",
            "model": self.model or body["model"],
            "stop_reason": reason,
            "content": [{"type": "text", "text": "" if text[0] == "!" else text}],
            "usage": {"input_tokens": self.usage["prompt_tokens"], "output_tokens": self.usage["completion_tokens"]},
        }


def content_of(body: dict) -> str:
    """Return the texts and images of a request, of either protocol, as one text."""
    messages = body["messages"]
    if "system" in body:
        messages = [{"role": "system", "content": body["system"]}, *messages]
    parts = []
    for message in messages:
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            data = part.get("text") or (
                part["source"]["data"] if part["type"] == "image" else part["image_url"]["url"].partition(",")[2]
            )
            parts.append(f"{message['role']}: {data if len(data) < 200 else hashlib.sha256(data.encode()).hexdigest()}")
    return "\n".join(parts)


def openai_view(server: BatchServer, batch: Batch) -> dict:
    answered = sum(item.result == "answer" for item in batch.items)
    ended = batch.state in ("ended", "expired")
    failure = batch.metadata.get("failure")
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "created_at": int(batch.real_created_at),
        "input_file_id": batch.file,
        "status": {"running": "in_progress", "ended": "completed"}.get(batch.state, batch.state),
        "metadata": {k: v for k, v in batch.metadata.items() if k != "failure"},
        "errors": {"object": "list", "data": [{"code": failure[0], "message": failure[1]}]} if failure else None,
        "output_file_id": f"{batch.id}-output" if ended and answered else None,
        "error_file_id": f"{batch.id}-errors" if ended and answered < len(batch.items) else None,
        "request_counts": {
            "total": len(batch.items),
            "completed": answered,
            "failed": sum(item.result is not None for item in batch.items) - answered,
        },
    }


def openai_lines(server: BatchServer, batch: Batch, answered: bool) -> bytes:
    lines = []
    for item in batch.items:
        if (item.result == "answer") != answered:
            continue
        line: dict[str, Any] = {"id": "x", "custom_id": item.custom_id, "response": None, "error": None}
        if answered:
            line["response"] = {"status_code": 200, "body": server.completion(item.body, item.content)}
        elif item.result == "expire":
            line["error"] = {"code": "batch_expired", "message": "This request could not be executed in time."}
        else:
            status, error = item.result if isinstance(item.result, tuple) else (item.result, {"message": "failed"})
            line["response"] = {"status_code": status, "body": {"error": error}}
        lines.append(json.dumps(line))
    random.Random(batch.number).shuffle(lines)
    return "\n".join(lines).encode()


def anthropic_view(server: BatchServer, batch: Batch) -> dict:
    counts = Counter(
        {"answer": "succeeded", "expire": "expired", None: "processing"}.get(
            i.result if not isinstance(i.result, tuple) else "x", "errored"
        )
        for i in batch.items
    )
    created_at = datetime.fromtimestamp(batch.real_created_at, UTC).isoformat()
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "in_progress" if batch.state == "running" else "ended",
        "request_counts": {k: counts[k] for k in ("processing", "succeeded", "errored", "canceled", "expired")},
        "created_at": created_at,
        "expires_at": created_at,
        "results_url": None if batch.state == "running" else f"https://elsewhere.example/{batch.id}/results",
    }


def anthropic_lines(server: BatchServer, batch: Batch) -> bytes:
    types = {429: "rate_limit_error", 500: "api_error", 400: "invalid_request_error", 404: "not_found_error"}
    lines = []
    for item in batch.items:
        if item.result == "answer":
            result = {"type": "succeeded", "message": server.message(item.body, item.content)}
        elif item.result == "expire":
            result = {"type": "expired"}
        else:
            status, error = item.result if isinstance(item.result, tuple) else (item.result, {"message": "failed"})
            result = {
                "type": "errored",
                "error": {"type": "error", "error": {"type": types.get(status, "api_error"), **error}},
            }
        lines.append(json.dumps({"custom_id": item.custom_id, "result": result}))
    random.Random(batch.number).shuffle(lines)
    return "\n".join(lines).encode()


def read_multipart(content_type: str, body: bytes) -> dict[str, tuple[str, bytes]]:
    """Return name -> (file name, content) of a form."""
    form = message_from_bytes(f"content-type: {content_type}\r\n\r\n".encode() + body)
    return {
        str(part.get_param("name", header="content-disposition")): (
            part.get_filename() or "",
            part.get_payload(decode=True) or b"",
        )
        for part in form.get_payload()
    }


@contextmanager
def serving_batches(server: BatchServer) -> Iterator[BatchServer]:
    """Serve on a port of this machine until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def reset(self) -> None:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()

        def handle_call(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            path = urlsplit(self.path)
            call = f"{self.command} {re.sub(r'(batch|file)_[0-9]+[-a-z]*', 'ID', path.path)}"
            server.before(call)
            with server.lock:
                server.headers.append(dict(self.headers))
                fault = server.fault(call, server.calls[call])
                server.calls[call] += 1
                if fault == "lost":
                    return self.reset()
                if isinstance(fault, int | tuple):
                    status, words = fault if isinstance(fault, tuple) else (fault, f"told to answer {fault}")
                    return self.send(status, {"error": {"message": words}})
                query = {k: v[0] for k, v in parse_qs(path.query).items()}
                result = self.respond(self.command, path.path.removeprefix("/v1"), query, body)
            if fault == "unanswered":
                return self.reset()
            status, data = (404, {"error": {"message": f"no {self.path}"}}) if result is None else (200, result)
            return self.send(status, data)

        do_GET = do_POST = do_DELETE = handle_call

        def send(self, status: int, data: Any) -> None:
            data = data if isinstance(data, bytes) else json.dumps(data).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def respond(self, method: str, path: str, query: dict, body: bytes) -> Any:
            if path in ("/chat/completions", "/messages"):
                request = json.loads(body)
                content = content_of(request)
                server.live[content] += 1
                form = server.message if path == "/messages" else server.completion
                return form(request, content)
            if (method, path) == ("POST", "/files"):
                form = read_multipart(self.headers["content-type"], body)
                server.uploads += 1  # an id is never used twice
                file_id = f"file_{server.uploads}"
                server.files[file_id] = form["file"]
                return {"id": file_id, "object": "file", "filename": form["file"][0], "purpose": "batch"}
            if (method, path) == ("GET", "/files"):
                files = [{"id": k, "object": "file", "filename": v[0]} for k, v in server.files.items()]
                return {"object": "list", "data": files, "has_more": False}
            if method == "DELETE":
                server.files.pop(path.rsplit("/", 1)[-1], None)
                return {"id": "x", "deleted": True}
            if match := re.fullmatch(r"/files/(batch_\d+)-(output|errors)/content", path):
                return openai_lines(server, server.batches[match[1]], match[2] == "output")
            view = anthropic_view if path.startswith("/messages") else openai_view
            path = path.removeprefix("/messages")
            if (method, path) == ("POST", "/batches"):
                request = json.loads(body)
                if "requests" in request:
                    items = [Item(r["custom_id"], content_of(r["params"]), r["params"]) for r in request["requests"]]
                    return view(server, server.create(items))
                lines = [json.loads(line) for line in server.files[request["input_file_id"]][1].splitlines()]
                items = [Item(line["custom_id"], content_of(line["body"]), line["body"]) for line in lines]
                return view(server, server.create(items, request["input_file_id"], request.get("metadata")))
            if path == "/batches":
                server.poll()
                visible = [b for b in reversed(server.batches.values()) if b.visible_from <= time.monotonic()]
                ids = [b.id for b in visible]
                after = query.get("after") or query.get("after_id")
                start = ids.index(after) + 1 if after else 0
                stop = start + min(server.page, int(query.get("limit", 20)))
                data = [view(server, b) for b in visible[start:stop]]
                last = data[-1]["id"] if data else None
                return {"object": "list", "data": data, "has_more": stop < len(ids), "first_id": None, "last_id": last}
            if match := re.fullmatch(r"/batches/(batch_\d+)(/results)?", path):
                batch = server.batches.get(match[1])
                if batch is None:
                    return None
                if match[2]:
                    return anthropic_lines(server, batch)
                server.poll()
                return view(server, batch)
            return None

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *args: Any) -> None:
            pass

    http = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
