"""The scripted model: deterministic, with the shares of refusals, prose and errors of its script."""

import math
from collections import Counter

import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart, Message, Reply, Request
from vlm_audio_pipeline.classifiers.language_models.scripted import (
    REFUSAL_TEXT,
    UNRELATED_TEXT,
    Script,
    ScriptedBackend,
)

LABELS = ("dog", "rain", "sea_waves")
BOTH = frozenset({"likelihood", "generation"})


def request(image_id: object, scorings=BOTH, text: str = "Which sound?") -> Request:
    return Request((Message("user", (text, ImagePart(b"", "image/png", f"{image_id}"))),), LABELS, scorings)


def replies(script: Script, requests: list[Request]) -> list[Reply]:
    by_position: dict[int, Reply] = {}
    assert ScriptedBackend(script).ask(requests, by_position.__setitem__) is None
    return [by_position[i] for i in range(len(requests))]


def test_responses_depend_only_on_the_request_and_the_seed():
    sent = [request(i) for i in range(60)]
    first = replies(Script(), sent)
    assert replies(Script(), sent) == first
    assert {r.text for r in first} == set(LABELS)
    assert replies(Script(seed=1), sent) != first


def test_a_script_that_ignores_the_query_returns_the_same_text_for_every_image():
    script_replies = replies(Script(uses_query=False), [request(i) for i in range(20)])
    assert {r.text for r in script_replies} == {"dog"}


def test_likelihoods_sum_to_1_and_the_most_likely_class_is_the_generated_text():
    for reply in replies(Script(), [request(i) for i in range(30)]):
        assert reply.log_probabilities is not None and reply.label_tokens is not None
        assert sum(map(math.exp, reply.log_probabilities)) == pytest.approx(1)
        assert LABELS[max(range(3), key=reply.log_probabilities.__getitem__)] == reply.text
        assert reply.label_tokens == (2, 2, 3)  # one token per word, and the end token


def test_only_the_requested_scorings_are_returned():
    [likelihood_only] = replies(Script(), [request(0, frozenset({"likelihood"}))])
    generation_only = replies(Script(), [request(0, frozenset({"generation"}))])[0]
    assert likelihood_only.text is None and likelihood_only.log_probabilities is not None
    assert (
        generation_only.text is not None
        and generation_only.log_probabilities is None
        and generation_only.label_tokens is None
    )


def test_shares_of_refusals_prose_and_errors_are_close_to_those_of_the_script():
    script_replies = replies(Script(refuses=0.2, unparseable=0.1, fails=0.3), [request(i) for i in range(1000)])
    count = Counter(
        "error"
        if r.outcome == "error"
        else {REFUSAL_TEXT: "refused", UNRELATED_TEXT: "prose"}.get(str(r.text), "label")
        for r in script_replies
    )
    for outcome, share in {"refused": 200, "prose": 100, "error": 300, "label": 400}.items():
        assert abs(count[outcome] - share) < 5 * math.sqrt(1000 * 0.25), outcome  # five standard deviations, at most
    assert all(r.error and r.text is None for r in script_replies if r.outcome == "error")


def test_shares_whose_sum_exceeds_1_are_refused():
    with pytest.raises(ValidationError, match=r"refuses \+ unparseable \+ fails must be at most 1, got 1.5"):
        Script(refuses=0.5, unparseable=0.5, fails=0.5)
