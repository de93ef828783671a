"""Mutate bytes at random, reproducibly, and shorten an input that fails."""

import json
import random
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS = (
    *(
        b"0 -1 1 2 7 1e308 -1e308 1e999 NaN Infinity -Infinity null true 1e-320 0x1F 1_000 4294967296 9007199254740993".split()
    ),
    b"9" * 30,
    b"9" * 400,
    b"1" + b"0" * 4500,
)
CHARACTERS = (
    *"\u0000\t\r\n\u0085\u2028\ufeff\u200b\u00a0\u202e\u0301\u0130\u00df\ufb01\u00b2\u0663\u2460\uff24\u3002\u2019\u274c\U0001f415\ud7ff",
    "<|",
    "|>",
    "&lt;",
    "```",
    "~~",
    "\\boxed{",
)
BRACKETS = ((b"[", b"]"), (b"{", b"}"), (b'{"a":', b"}"), (b"(", b")"), (b'"', b'"'), (b"- ", b""), (b"<think>", b""))


def mutate(data: bytes, corpus: Sequence[bytes], words: Sequence[str], max_bytes: int, rng: random.Random) -> bytes:
    """Return bytes after one to six random changes.

    Args:
        data: the bytes to change.
        corpus: other inputs, of which pieces are inserted.
        words: pieces of the reader's language.
        max_bytes: the result is cut to this size.
        rng: source of all randomness.
    """
    for _ in range(min(1 + int(rng.expovariate(0.7)), 6)):
        if data[:1] in (b"{", b"[") and rng.random() < 0.6:
            data = _change_json(data, words, rng)[:max_bytes]
            continue
        data = _change(data, corpus, words, max_bytes, rng)[:max_bytes]
    return data


def _change(data: bytes, corpus: Sequence[bytes], words: Sequence[str], max_bytes: int, rng: random.Random) -> bytes:
    i = rng.randrange(len(data) + 1)
    k = min(len(data), i + min(int(rng.expovariate(0.1)) + 1, 200))
    before, piece, after = data[:i], data[i:k], data[k:]
    match rng.randrange(14):
        case 0 if data:
            i = min(i, len(data) - 1)
            return data[:i] + bytes([data[i] ^ (1 << rng.randrange(8))]) + data[i + 1 :]
        case 1:
            return before + rng.randbytes(rng.randrange(1, 9)) + data[i + rng.randrange(9) :]
        case 2:
            return before + after
        case 3:
            return before + piece * rng.choice((2, 3, 10, 100, max_bytes // max(len(piece), 1) + 1)) + after
        case 4 if words:
            return before + rng.choice(words).encode() + data[i:]
        case 5 if words:
            return before + rng.choice(words).encode() + after
        case 6:
            other = rng.choice(corpus)
            start = rng.randrange(len(other) + 1)
            return before + other[start : start + rng.randrange(1, 200)] + data[rng.choice((i, k)) :]
        case 7:
            numbers = list(re.finditer(rb"-?\d[\d.eE+-]*", data))
            if numbers:
                number = rng.choice(numbers)
                return data[: number.start()] + rng.choice(NUMBERS) + data[number.end() :]
        case 8:
            return before + rng.choice(CHARACTERS).encode() + data[i:]
        case 9:
            opening, closing = rng.choice(BRACKETS)
            depth = rng.choice((1, 2, 5, 60, rng.randrange(100, 1100)))
            return before + opening * depth + piece + closing * depth + after
        case 10:
            lines = data.split(b"\n")
            a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[a], lines[b] = lines[b], lines[rng.choice((a, b))]
            return b"\n".join(lines)
        case 11:
            tokens = re.split(rb"(\W+)", data)
            a, b = rng.randrange(len(tokens)), rng.randrange(len(tokens))
            tokens[a] = tokens[b]
            return b"".join(tokens)
        case 12:
            return before
        case 13:
            values = list(re.finditer(rb'(?<=: )[^\n,}]+|"[^"]*"|(?<=,)[^,\n]*', data))
            if values:
                value, other = rng.choice(values), rng.choice(values)
                new = rng.choice((other[0], rng.choice(NUMBERS), b"[]", b"{}", b'""', b"[" + value[0] + b"]"))
                return data[: value.start()] + new + data[value.end() :]
    return before + rng.randbytes(1) + after


def _change_json(data: bytes, words: Sequence[str], rng: random.Random) -> bytes:
    """Replace one value of a JSON text, so that it stays JSON; bytes that are not JSON are returned unchanged."""
    try:
        root = json.loads(data)
    except (ValueError, RecursionError):
        return data
    places: list[tuple[Any, Any]] = []
    todo = [root]
    while todo:
        value = todo.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
        places += [(value, key) for key in keys]
        todo += [value[key] for key in keys]
    if not places:
        return data
    (parent, key), (other_parent, other_key) = rng.choice(places), rng.choice(places)
    other = other_parent[other_key]
    match rng.randrange(6):
        case 0:
            parent[key] = json.loads(
                rng.choice([n for n in NUMBERS if n[:1] not in b"0" and b"_" not in n and len(n) < 4000])
            )
        case 1:
            parent[key] = rng.choice(
                ([], {}, "", None, True, [parent[key]], {"text": parent[key]}, str(parent[key])[:50])
            )
        case 2:
            parent[key] = rng.choice((*words, *CHARACTERS, "dog")).strip('"')
        case 3:
            del parent[key]
        case 4 if other is not parent:
            parent[key] = json.loads(json.dumps(other))
        case 5 if isinstance(parent, dict):
            parent[rng.choice((*words, "a")).strip('"')] = json.loads(json.dumps(other))
    return json.dumps(root).encode()


def shorten(data: bytes, still_fails: Callable[[bytes], bool], seconds: float = 20.0) -> bytes:
    """Delete as much of a failing input as possible while it fails in the same way, within a time limit, s."""
    deadline = time.monotonic() + seconds
    size = max(len(data) // 2, 1)
    while size and time.monotonic() < deadline:
        start, was_cut = 0, False
        while start < len(data) and time.monotonic() < deadline:
            candidate = data[:start] + data[start + size :]
            if still_fails(candidate):
                data, was_cut = candidate, True
            else:
                start += size
        if not was_cut or size > 1:
            size //= 2
    return data
