"""Odd responses of servers in use: what becomes of each, whether it is stored, and what a second run requests again."""

import contextlib
import json

import pytest

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, serving
from vlm_audio_pipeline_tests.classifiers.language_models.test_endpoint_failures import UPSTREAM, chat, rows, send
from vlm_audio_pipeline_tests.classifiers.language_models.test_endpoint_store import PRICES

COUNT = 2


def body(finish="stop", **changes):
    """Return a response with other values of the body; None removes a key."""
    status, reply = chat(finish=finish)
    return status, {key: value for key, value in (reply | changes).items() if value is not None}


def without(*path):
    """Return a response without one of its keys."""
    status, reply = chat()
    inner = reply["choices"][0] if path[0] == "choice" else reply["choices"][0]["message"]
    del inner[path[-1]]
    return status, reply


def failure(status, message, **details):
    return status, {"error": {"message": message, **details}}


def refuses(parameters, status, reply):
    """Answer unless the request contains all these parameters."""
    return lambda request: (status, reply) if set(parameters) <= request.keys() else chat()


THINKING = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "could be rain"}]},
    {"type": "text", "text": "dog"},
]
HARMONY = "<|channel|>analysis<|message|>It may be rain.<|end|><|start|>assistant<|channel|>final<|message|>dog"
EXTRA_FORBIDDEN = {
    "detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
}
FILTERED = failure(400, "The response was filtered", code="content_filter", param="prompt")

# name -> (reply or function of the request, outcome, text, reasoning, end of the revision)
STORED = {
    "claude_both": (refuses(["temperature", "top_p"], *failure(400, "`temperature` and `top_p` cannot both be specified for this model. Please use only one.")), "answered", "dog", None, "without top_p"),
    "deprecated_temp": (refuses(["temperature"], *failure(400, "`temperature` is deprecated for this model.")), "answered", "dog", None, "without temperature"),
    "seed_extra": (refuses(["seed"], 422, EXTRA_FORBIDDEN), "answered", "dog", None, "without seed"),
    "n_unsupported": (refuses(["n"], *failure(400, "property 'n' is unsupported")), "answered", "dog", None, "without n"),
    "max_completion": (refuses(["max_tokens"], *failure(400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", code="unsupported_parameter", param="max_tokens")), "answered", "dog", None, "served"),
    "reasoning_len": (chat(None, finish="length", reasoning_content="thin lines "), "truncated", "", "thin lines ", "served"),
    "reasoning_empty_len": (chat("", finish="length"), "truncated", "", None, "served"),
    "gemini_safety": (chat(None, finish="SAFETY"), "refused", None, None, "served"),
    "content_filter": (chat(None, finish="content_filter"), "refused", None, None, "served"),
    "azure_filter": (FILTERED, "refused", None, None, None),
    "text_plain": ((*chat(), {"kind": "text/plain; charset=utf-8"}), "answered", "dog", None, "served"),
    "bom": ((200, b"\xef\xbb\xbf" + json.dumps(chat()[1]).encode()), "answered", "dog", None, "served"),
    "harmony": (chat(HARMONY), "answered", "dog", "It may be rain.", "served"),
    "parts_thinking": (chat(THINKING), "answered", "dog", "could be rain", "served"),
    "think_block": (chat("<think>could be rain</think>\n\ndog"), "answered", "dog", "could be rain", "served"),
    "no_usage": (body(usage=None), "answered", "dog", None, "served"),
    "usage_float": (body(usage={"prompt_tokens": 300.0, "completion_tokens": 5.0}), "answered", "dog", None, "served"),
    "usage_str": (body(usage={"prompt_tokens": "300"}), "answered", "dog", None, "served"),
    "extra_keys": (body(provider="p", timings={"a": 1}), "answered", "dog", None, "served"),
    "finish_missing": (without("choice", "finish_reason"), "answered", "dog", None, "served"),
    "two_choices": (body(choices=[*chat()[1]["choices"], *chat("rain")[1]["choices"]]), "answered", "dog", None, "served"),
}  # fmt: skip

# name -> (reply, words of the error)
NOT_STORED = {
    "or_choice_error_empty": (chat("", finish="error", error=UPSTREAM), "Upstream provider went away"),
    "or_choice_error_partial": (chat("I think it is ", finish="error", error=UPSTREAM), "Upstream provider went away"),
    "vllm_abort": (chat("", finish="abort"), "'abort'"),
    "or_body_error": (failure(200, "Daily free limit reached", code=429), "HTTP 429 (Daily free limit reached)"),
    "reasoning_stop_null": (chat(None, reasoning_content="dog"), "the answer stands in the reasoning field"),
    "content_missing": (without("message", "content"), "without text"),
    "too_large": (failure(413, "Request Entity Too Large"), "Request Entity Too Large"),
    "no_vision": (failure(400, "Invalid content type. image_url is only supported by certain models."), "image_url"),
    "stream": ((200, b'data: {"choices": []}\n\n', {"kind": "text/event-stream"}), "not JSON"),
    "empty_choices": (body(choices=[]), "no choice"),
    "tool_calls": (chat(None, finish="tool_calls", tool_calls=[{"id": "1"}]), "'tool_calls'"),
}


@pytest.fixture
def store(tmp_path):
    with contextlib.closing(ResultStore(tmp_path / "results.sqlite")) as store:
        yield store


def serve_reply(reply):
    """Return a script in which a function gets each request in turn."""
    script = ServerScript()
    script.play = lambda question, attempt: reply(script.bodies[-1]) if callable(reply) else reply
    return serving(script)


@pytest.mark.parametrize("name", STORED)
def test_a_response_is_stored_and_not_requested_again(store, name):
    reply, outcome, text, reasoning, revision = STORED[name]
    with serve_reply(reply) as server:
        first = send(store, server, count=COUNT, concurrency=1)
        requests = len(server.bodies)
        second = send(store, server, count=COUNT, concurrency=1)
        assert len(server.bodies) == requests
    assert set(rows(first, "outcome", "text", "reasoning")) == {(outcome, text, reasoning)}
    assert rows(second, "outcome", "text", "reasoning") == rows(first, "outcome", "text", "reasoning")
    assert first.unfinished == []
    assert all((name or "").endswith(revision or "") for (name,) in rows(first, "revision"))


@pytest.mark.parametrize("name", NOT_STORED)
def test_a_failure_keeps_the_words_of_the_provider_and_is_requested_again(store, name):
    reply, words = NOT_STORED[name]
    with serve_reply(reply) as server:
        failed = send(store, server, count=COUNT, concurrency=1)
    assert {outcome for (outcome,) in rows(failed, "outcome")} == {"error"}
    assert all(words in error for (error,) in rows(failed, "error"))
    assert len(failed.unfinished) == 1
    with serve_reply(chat()) as server:
        recovered = send(store, server, count=COUNT, concurrency=1)
        assert len(server.bodies) == COUNT
    assert set(rows(recovered, "outcome", "text")) == {("answered", "dog")}


def test_the_reserved_money_of_a_limit_inside_a_200_is_returned_in_every_run(store):
    """It was 0.0200 USD before, and 0.0092 USD after three runs."""
    ledger = Ledger(store, "study", Budget(usd=0.02))
    for _ in range(3):
        with serve_reply(NOT_STORED["or_body_error"][0]) as server:
            send(store, server, count=COUNT, ledger=ledger, prices=PRICES, image_tokens=10)
    assert (ledger.spent_usd(), ledger.remaining_usd()) == (0, 0.02)
    ledger.close()


def test_a_model_whose_template_refuses_every_request_is_not_available(store):
    with (
        serve_reply(failure(400, "System role not supported")) as server,
        pytest.raises(NotAvailable, match="System role"),
    ):
        send(store, server, count=COUNT, concurrency=1)


def test_a_model_that_is_not_loaded_is_not_available(store):
    reply = failure(404, "No models loaded. Please load a model.", code="model_not_found")
    with serve_reply(reply) as server, pytest.raises(NotAvailable, match="No models loaded"):
        send(store, server, count=COUNT)


def test_a_pause_of_a_day_ends_the_run_after_one_attempt(store):
    reply = (
        *failure(429, "Rate limit reached: try again in 24h"),
        {"retry_after": "86400", "retry_after_ms": "86400000"},
    )
    with serve_reply(reply) as server:
        result = send(store, server, count=20, concurrency=1)
        assert len(server.bodies) == 1
    assert "asks for a pause" in str(result.stop_reason)
