"""The scripted model: deterministic, and as unwilling as it is told to be."""

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


def request(which: object, scorings=BOTH, answers: str = "Which sound?") -> Request:
    return Request((Message("user", (answers, ImagePart(b"", "image/png", f"{which}"))),), LABELS, scorings)


def replies(script: Script, requests: list[Request]) -> list[Reply]:
    by_position: dict[int, Reply] = {}
    assert ScriptedBackend(script).ask(requests, by_position.__setitem__) is None
    return [by_position[i] for i in range(len(requests))]


def test_the_same_request_is_answered_alike_and_another_image_may_not_be():
    sent = [request(i) for i in range(60)]
    first = replies(Script(), sent)
    assert replies(Script(), sent) == first
    assert {r.text for r in first} == set(LABELS)
    assert replies(Script(seed=1), sent) != first


def test_a_model_that_does_not_look_says_the_same_of_every_image():
    answers = replies(Script(uses_query=False), [request(i) for i in range(20)])
    assert {r.text for r in answers} == {"dog"}


def test_likelihoods_are_probabilities_and_the_likeliest_class_is_the_one_said():
    for reply in replies(Script(), [request(i) for i in range(30)]):
        assert reply.log_probabilities is not None and reply.label_tokens is not None
        assert sum(map(math.exp, reply.log_probabilities)) == pytest.approx(1)
        assert LABELS[max(range(3), key=reply.log_probabilities.__getitem__)] == reply.text
        assert reply.label_tokens == (2, 2, 3)  # one token a word, and the end


def test_only_what_is_wanted_is_given():
    [likelihood_only] = replies(Script(), [request(0, frozenset({"likelihood"}))])
    other = replies(Script(), [request(0, frozenset({"generation"}))])[0]
    assert likelihood_only.text is None and likelihood_only.log_probabilities is not None
    assert other.text is not None and other.log_probabilities is None and other.label_tokens is None


def test_shares_of_refusals_prose_and_errors_are_about_those_asked_for():
    answers = replies(Script(refuses=0.2, rambles=0.1, fails=0.3), [request(i) for i in range(1000)])
    count = Counter(
        "error"
        if r.outcome == "error"
        else {REFUSAL_TEXT: "refused", UNRELATED_TEXT: "prose"}.get(str(r.text), "label")
        for r in answers
    )
    for outcome, share in {"refused": 200, "prose": 100, "error": 300, "label": 400}.items():
        assert abs(count[outcome] - share) < 5 * math.sqrt(1000 * 0.25), outcome  # five standard deviations, at most
    assert all(r.error and r.text is None for r in answers if r.outcome == "error")


def test_shares_of_more_than_everything_are_refused():
    with pytest.raises(ValidationError, match=r"refuses \+ rambles \+ fails must be at most 1, got 1.5"):
        Script(refuses=0.5, rambles=0.5, fails=0.5)
