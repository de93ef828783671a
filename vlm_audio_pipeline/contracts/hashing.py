"""Stable hashes of plain values: the same value gives the same hash on every machine and in every process."""

import hashlib
import json
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Write a plain value (dicts, lists, strings, numbers, booleans, None) as JSON with sorted keys.

    Raises:
        TypeError: for other values, because their text can contain a memory address, and for keys that are not text,
            because JSON writes 1 and "1" in the same way.
        ValueError: for NaN and infinities, which JSON does not have.
    """
    _require_text_keys(value)
    return _ENCODER.encode(value)


def _require_text_keys(value: Any) -> None:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"dictionary keys must be text to be hashed, got {key!r}; use str(key)")
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for nested in value:
        if isinstance(nested, (dict, list, tuple)):  # without a call for each text or number
            _require_text_keys(nested)


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
