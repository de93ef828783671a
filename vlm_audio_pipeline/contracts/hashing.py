"""Stable hashes of plain values: the same value gives the same hash on every machine and in every process."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """Write a plain value (dicts, lists, strings, numbers, booleans, None) as JSON with sorted keys.

    Raises:
        TypeError: for anything else, so that no memory address enters a hash, and for keys that are not text: JSON
            writes 1 and "1" in the same way.
        ValueError: for NaN and infinities, which JSON does not have.
    """
    _refuse_other_keys(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _refuse_other_keys(value: Any) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"dictionary keys must be text to be hashed, got {key!r}; use str(key)")
            _refuse_other_keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_other_keys(inner)


def fingerprint(*values: Any, length: int = 16) -> str:
    """Hash plain values to `length` hexadecimal digits (SHA-256, truncated).

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()[:length]


def digest(*chunks: bytes | memoryview) -> str:
    """Hash bytes: SHA-256, 64 hexadecimal digits."""
    h = hashlib.sha256()
    for chunk in chunks:
        h.update(chunk)
    return h.hexdigest()
