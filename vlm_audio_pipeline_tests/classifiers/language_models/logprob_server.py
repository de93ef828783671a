"""A loopback server that computes the log-probabilities of prompts with a tiny checkpoint, and answers like vLLM and SGLang.

It converts requests with the processor and calls the model itself; nothing is shared with the package's own scoring.
"""

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class LogprobServer:
    """What the server does, and a record of its requests.

    Attributes:
        model: a conditional generation model of transformers.
        processor: its processor.
        gives_logprobs: whether it returns log-probabilities, as vLLM does; without, it ignores the parameter.
        refuses: text of the error with which it refuses every request, or None.
        failures: number of a call, from 0 -> status with which it fails.
        calls: (path, body) of every request.
        cached: tokens of each SGLang prompt that came from the prefix cache, in order.
    """

    model: Any
    processor: Any
    gives_logprobs: bool = True
    refuses: str | None = None
    failures: dict[int, int] = field(default_factory=dict)
    calls: list[tuple[str, dict]] = field(default_factory=list)
    cached: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""
    _seen: list[list[int]] = field(default_factory=list)

    @property
    def bodies(self) -> list[dict]:
        return [body for _, body in self.calls]

    def log_probabilities(self, text: str, images: list[Any], add_special_tokens: bool) -> tuple[list[int], Any]:
        """Return the token ids of a prompt and the log-probabilities (tokens, vocabulary) after each of them."""
        import torch

        media = {"images": images} if images else {}
        inputs = self.processor(text=[text], return_tensors="pt", add_special_tokens=add_special_tokens, **media)
        with torch.no_grad():
            logits = self.model(**inputs).logits[0]
        return inputs["input_ids"][0].tolist(), torch.log_softmax(logits.float(), -1)

    def chat(self, body: dict) -> dict:
        """Answer a chat completion of vLLM (vllm/entrypoints/openai/chat_completion/protocol.py)."""
        turns, images = [], []
        for message in body["messages"]:
            content = message["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            images += [decode_image(p["image_url"]["url"]) for p in parts if p["type"] == "image_url"]
            parts = [{"type": "image"} if p["type"] == "image_url" else p for p in parts]
            turns.append({"role": message["role"], "content": parts})
        options = {
            name: body.get(name, default)
            for name, default in (("add_generation_prompt", True), ("continue_final_message", False))
        }
        assert not all(options.values()), "vLLM refuses both together"
        text = self.processor.apply_chat_template(turns, tokenize=False, **options)
        ids, log_probabilities = self.log_probabilities(text, images, body.get("add_special_tokens", False))
        decode = self.processor.tokenizer.decode
        entries: list[Any] = [None]
        for position, token in enumerate(ids[1:]):
            value = float(log_probabilities[position, token])
            entries.append({str(token): {"logprob": value, "rank": 1, "decoded_token": decode([token])}})
        best = int(log_probabilities[-1].argmax())
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [
                {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": decode([best])}}
            ],
            "usage": {"prompt_tokens": len(ids), "completion_tokens": 1, "total_tokens": len(ids) + 1},
            "prompt_logprobs": entries if self.gives_logprobs and body.get("prompt_logprobs") is not None else None,
            "prompt_token_ids": ids if body.get("return_token_ids") else None,
        }

    def generate(self, body: dict) -> dict:
        """Answer a native request of SGLang (python/sglang/srt/managers/io_struct.py, GenerateReqInput)."""
        images = [decode_image(url) for url in body.get("image_data", [])]
        ids, log_probabilities = self.log_probabilities(body["text"], images, add_special_tokens=True)
        start = body.get("logprob_start_len", -1)
        # The prefix cache is used only up to the first token whose log-probability is returned.
        limit = start if start >= 0 else len(ids) - 1
        cached = min(max((common(ids, other) for other in self._seen), default=0), limit)
        self._seen.append(ids)
        self.cached.append(cached)
        meta: dict[str, Any] = {
            "id": "1",
            "prompt_tokens": len(ids),
            "cached_tokens": cached,
            "completion_tokens": 0,
            "finish_reason": {"type": "length", "length": 0},
        }
        if body.get("return_logprob") and self.gives_logprobs:
            decode = self.processor.tokenizer.decode
            meta["input_token_logprobs"] = [
                [float(log_probabilities[i - 1, ids[i]]) if i > start else None, ids[i], decode([ids[i]])]
                for i in range(start, len(ids))
            ]
        return {"text": "", "meta_info": meta}


def common(first: list[int], second: list[int]) -> int:
    """Return the number of equal tokens at the beginning."""
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def decode_image(url: str) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1]))).convert("RGB")


@contextmanager
def serving(server: LogprobServer) -> Iterator[LogprobServer]:
    """Serve on a port of this machine until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = {"/v1/chat/completions": server.chat, "/generate": server.generate}[self.path]
            with server.lock:
                status = server.failures.get(len(server.calls), 400 if server.refuses else 200)
                server.calls.append((self.path, body))
                result = answer(body) if status == 200 else {"error": {"message": server.refuses or "told to fail"}}
            data = json.dumps(result).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("retry-after-ms", "5")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
