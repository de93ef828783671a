"""A chat server over real sockets that follows a script, including faults."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("429", "500", "503", "hang", "truncate", "cut", "empty", "type", "drip", "reset")
"""Faults of an attempt; every other attempt gets a response."""


@dataclass
class ServerScript:
    """The script of the server, and a record of its requests.

    Attributes:
        play: (question, attempt from 0) -> "response", a fault, or a (status, body) or (status, body, headers) to send as
            it is; a body is JSON or bytes.
        capacity: more requests than this at once are rejected with 429.
        seconds: time of a response, s.
        retry_after: sent with 429 and 503, s.
        usage: tokens of each response.
        attempts: number of attempts of each question.
        charged: number of attempts that it answered in any form or had begun to answer.
        rejected, in_flight, max_in_flight: numbers of attempts.
        arrivals, paths, bodies, headers: of every request, in the order of arrival; monotonic s.
    """

    play: Callable[[str, int], Any] = lambda question, attempt: "response"
    capacity: int = 1000
    seconds: float = 0.0
    retry_after: float = 0.02
    usage: dict[str, Any] | None = field(
        default_factory=lambda: {
            "prompt_tokens": 40,
            "completion_tokens": 5,
            "total_tokens": 45,
            "prompt_tokens_details": {"cached_tokens": 16},
        }
    )
    attempts: Counter = field(default_factory=Counter)
    charged: int = 0
    rejected: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    arrivals: list[float] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    bodies: list[dict] = field(default_factory=list)
    headers: list[dict] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)
    url: str = ""


def question_of(body: dict) -> str:
    """Return the last text of a conversation."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else [p["text"] for p in content if p["type"] == "text"][-1]


def completion(text: str | None, body: dict, usage: dict | None, **message: Any) -> dict:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"] + "-2026-01-01",
        "system_fingerprint": "fp_scripted",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text} | message}],
    } | ({"usage": usage} if usage else {})


@contextmanager
def serving(scripted: ServerScript) -> Iterator[ServerScript]:
    """Serve on a port of this machine until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def send_bytes(self, status: int, data: bytes, kind: str = "application/json", **headers: str) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", headers.pop("length", str(len(data))))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            question = question_of(body)
            with scripted.lock:
                attempt = scripted.attempts[question]
                scripted.attempts[question] += 1
                scripted.arrivals.append(time.monotonic())
                scripted.paths.append(self.path)
                scripted.bodies.append(body)
                scripted.headers.append(dict(self.headers))
                is_full = scripted.in_flight >= scripted.capacity
                scripted.rejected += is_full
                scripted.in_flight += 1
                scripted.max_in_flight = max(scripted.max_in_flight, scripted.in_flight)
            try:
                self.act("429" if is_full else scripted.play(question, attempt), body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with scripted.lock:
                    scripted.in_flight -= 1

        def act(self, action: Any, body: dict) -> None:
            if isinstance(action, tuple):
                status, reply_text, *headers = action
                data = reply_text if isinstance(reply_text, bytes) else json.dumps(reply_text).encode()
                self.send_bytes(status, data, **{"retry_after_ms": "5"} | (headers[0] if headers else {}))
                return
            if action in ("429", "500", "503"):
                error = json.dumps({"error": {"message": f"told to answer {action}", "type": "scripted"}}).encode()
                if action == "500":
                    self.send_bytes(500, error, retry_after_ms="10")
                else:
                    self.send_bytes(int(action), error, retry_after=str(scripted.retry_after))
                return
            if action == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                self.close_connection = True
                self.connection.close()
                return
            scripted.over.wait(scripted.seconds)
            with scripted.lock:
                scripted.charged += 1
            if action == "hang":
                scripted.over.wait(60)
                self.close_connection = True
                return
            reply_text = completion("dog", body, scripted.usage)
            if action == "empty":
                reply_text["choices"] = []
            data = json.dumps(reply_text).encode()
            if action == "truncate":  # correct content length, but not JSON
                self.send_bytes(200, data[: len(data) // 2])
            elif action == "cut":  # shorter than its content length
                self.send_bytes(200, data[: len(data) // 2], length=str(len(data)))
                self.close_connection = True
            elif action == "type":
                self.send_bytes(200, b"<html>busy</html>", kind="text/html; charset=utf-8")
            elif action == "drip":  # each byte arrives before the timeout, the complete body does not
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                for i in range(len(data)):
                    self.wfile.write(data[i : i + 1])
                    self.wfile.flush()
                    if scripted.over.wait(0.05):
                        break
                self.close_connection = True
            else:
                self.send_bytes(200, data)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *args: Any) -> None:  # a client that disconnects is expected
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    scripted.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield scripted
    finally:
        scripted.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
        until = time.monotonic() + 5
        while scripted.in_flight and time.monotonic() < until:
            time.sleep(0.005)
