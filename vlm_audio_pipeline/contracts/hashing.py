"""Stable hashes of plain values: the same value gives the same hash on every machine and in every process."""

import hashlib
import json
from typing import Any


def canonical(value: Any) -> str:
    """Write a plain value (dicts, lists, strings, numbers, booleans, None) as JSON with sorted keys.

    Raises:
        TypeError: for anything else, so that no object's address can slip into a hash.
        ValueError: for NaN and infinities, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(*values: Any, length: int = 16) -> str:
    """Hash plain values to `length` hexadecimal digits (SHA-256, cut).

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(canonical(values).encode()).hexdigest()[:length]


def digest(*chunks: bytes | memoryview) -> str:
    """Hash bytes (SHA-256, 64 hexadecimal digits); used for the contents of files, samples and pictures."""
    h = hashlib.sha256()
    for chunk in chunks:
        h.update(chunk)
    return h.hexdigest()
