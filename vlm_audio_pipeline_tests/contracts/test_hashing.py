import hashlib
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts.hashing import canonical_json, digest, fingerprint

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
plain = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


def reverse_keys(value):
    """Return the same value with the keys of every dict in reverse order."""
    if isinstance(value, dict):
        return {k: reverse_keys(v) for k, v in reversed(value.items())}
    return [reverse_keys(v) for v in value] if isinstance(value, list) else value


@given(plain)
def test_the_order_of_keys_does_not_change_the_fingerprint(value):
    assert fingerprint(reverse_keys(value)) == fingerprint(value)


def have_equal_types_and_values(a, b) -> bool:
    """Whether value and type are equal: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(have_equal_types_and_values(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(have_equal_types_and_values, a, b))
    return a == b and str(a) == str(b)


@given(plain, plain)
def test_fingerprints_are_equal_only_if_the_values_are(a, b):
    assert (fingerprint(a) == fingerprint(b)) == have_equal_types_and_values(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((1,), (True,)),
        ((1,), (1.0,)),
        ((1,), ("1",)),
        ((None,), ("",)),
        ((None,), ("null",)),
        (([],), ({},)),
        (("a", "b"), ("ab",)),
        (("a", "b"), (["a", "b"],)),
        ((), (None,)),
        (([[1], 2],), ([[1, 2]],)),
        (({"a": None},), ({},)),
    ],
)
def test_similar_values_have_different_fingerprints(a, b):
    assert fingerprint(*a) != fingerprint(*b)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_numbers_that_json_cannot_represent_are_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint(value)


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}, len, [object()], {"a": 1j}])
def test_values_that_json_cannot_represent_are_refused(value):
    with pytest.raises(TypeError):
        fingerprint(value)


@pytest.mark.parametrize("key", [1, None, True, 1.5])
def test_keys_that_are_not_text_are_refused(key):
    with pytest.raises(TypeError, match="must be text"):
        fingerprint([{"a": {key: "a"}}])


def test_a_fingerprint_equals_the_sha256_of_its_json():
    sha256 = hashlib.sha256(b'[{"a":1,"b":[true,null,"\xc3\xa9"]},0.5]').hexdigest()
    assert fingerprint({"b": [True, None, "é"], "a": 1}, 0.5, length=64) == sha256
    assert fingerprint({"b": [True, None, "é"], "a": 1}, 0.5) == sha256[:16]


def test_a_fingerprint_is_the_same_in_every_process():
    code = (
        "import json, sys; from vlm_audio_pipeline.contracts.hashing import fingerprint; "
        "print(fingerprint(json.load(sys.stdin), {k: i for i, k in enumerate(sorted({'x', 'y', 'z'}))}))"
    )
    value = {"labels": ["dog", "rain"], "é": 0.1, "none": None}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(value),
            env={"PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1", "4242")
    ]
    assert outputs == [fingerprint(value, {"x": 0, "y": 1, "z": 2})] * 3


def test_canonical_json_can_be_read_back():
    value = {"b": [1, 2.5, "é"], "a": None}
    assert json.loads(canonical_json(value)) == value


# FIPS 180-2, appendix B.1
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_digest_is_the_sha256_of_the_bytes_in_any_chunks():
    assert digest(b"abc") == digest(b"a", memoryview(b"bc")) == digest(b"", b"abc", b"") == ABC


@given(st.binary(), st.binary())
def test_different_bytes_have_different_digests(a, b):
    assert (digest(a) == digest(b)) == (a == b)
