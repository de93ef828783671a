"""Rebuilt requests are compared with the keys of the stored responses."""

import pytest

from vlm_audio_pipeline.classifiers.language_models.messages import Message, Request, Sampling
from vlm_audio_pipeline.classifiers.language_models.response_keys import response_key, truncated_key
from vlm_audio_pipeline.classifiers.language_models.stored_requests import _has_key
from vlm_audio_pipeline.storage.asked_again import successor_key

IDENTITY = {"backend": "scripted"}
REQUEST = Request((Message("user", ("Which?",)),), ("dog", "rain"), frozenset({"generation"}), Sampling(max_tokens=5))
OTHER = Request((Message("user", ("What?",)),), ("dog", "rain"), frozenset({"generation"}), Sampling(max_tokens=5))
KEY = response_key(REQUEST, "generation", IDENTITY)


@pytest.mark.parametrize(
    ("outcome", "key"),
    [
        ("answered", KEY),
        ("answered", successor_key(successor_key(KEY))),
        ("truncated", truncated_key(KEY, 5)),
        ("truncated", truncated_key(successor_key(KEY), 5)),
        ("truncated", successor_key(truncated_key(KEY, 5))),  # a truncated response that was asked for again
    ],
)
def test_the_keys_of_a_request(outcome, key):
    row = {"scoring": "generation", "outcome": outcome, "result_key": key}
    assert _has_key(REQUEST, row, IDENTITY, 5)
    assert not _has_key(OTHER, row, IDENTITY, 5)
