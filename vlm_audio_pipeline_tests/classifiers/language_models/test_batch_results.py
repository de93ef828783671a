"""Results of batches: keys are removed, failures follow the rules for live requests, and files have a maximum size."""

import pytest

from vlm_audio_pipeline.classifiers.language_models.endpoint.batches import protocol as batch_protocol
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.protocol import (
    BatchResult,
    OversizedResultsError,
    split_lines,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.results import read_result
from vlm_audio_pipeline.classifiers.language_models.endpoint.calls import first_dialect
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline_tests.classifiers.language_models.batch_client import (
    CLIPS,
    EXACT_USD,
    PROTOCOLS,
    make_client,  # noqa: F401
    outcomes,
    without_grace,  # noqa: F401
)
from vlm_audio_pipeline_tests.classifiers.language_models.batch_server import BatchServer, serving_batches

KEY = "sk-test-Zx81Yw72Vu63Ts54"


def has_key(text):
    return any(KEY[i : i + 8] in text for i in range(len(KEY) - 7))


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)


def read(protocol, status, body, model="m", **endpoint):
    endpoint = Endpoint(url="http://127.0.0.1:1/v1", protocol=protocol, batch=True, key="TEST_KEY", **endpoint)
    return read_result(BatchResult("t-0", status, body), first_dialect(endpoint), model, endpoint, None)


CHAT = {
    "model": f"m {KEY}",
    "choices": [{"finish_reason": "stop", "message": {"content": f"dog {KEY}", "reasoning_content": KEY}}],
}
MESSAGE = {
    "model": f"m {KEY}",
    "stop_reason": "end_turn",
    "content": [
        {"type": "thinking", "thinking": KEY},
        {"type": "text", "text": f"dog {KEY[:6]}"},
        {"type": "text", "text": KEY[6:]},
    ],
}


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    ("protocol", "body", "text"), [("openai", CHAT, "dog …"), ("anthropic", MESSAGE, "dog sk-tes…")]
)
def test_a_key_in_a_result_is_removed(protocol, body, text):
    result = read(protocol, 200, body)
    assert (result.reply.outcome, result.reply.text, result.reply.model) == ("answered", text, "m …")
    assert not has_key(repr(result))


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_key_in_the_error_of_a_request_is_removed(status):
    result = read("openai", status, {"error": {"message": f"the key {KEY} is odd", "code": KEY}})
    assert result.reply.error == f"HTTP {status} (… the key … is odd)" and not has_key(repr(result))


@pytest.mark.usefixtures("key")
def test_a_key_in_the_message_of_a_rejected_parameter_is_removed_from_the_reply():
    result = read("openai", 400, {"error": {"message": f"`temperature` is deprecated for {KEY}."}})
    assert result.rejection is not None and not has_key(repr(result.reply))


@pytest.mark.usefixtures("key")
def test_a_key_as_the_id_of_another_model_is_removed():
    result = read("openai", 200, {**CHAT, "model": f"claude-{KEY}"}, model="gpt-4o", accept=["other"])
    assert result.other_model == "claude-…"


@pytest.mark.slow
@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_repeats_the_key_in_every_text_leaves_it_nowhere(make_client, protocol, caplog):  # noqa: F811
    """In answers, in errors of requests, in a 5xx of the whole call, and in the reason why a batch failed."""
    words = f"told by {KEY}"

    def outcome(batch, item, failures):
        return (400, {"message": words}) if item == 0 else "answer"

    script = BatchServer(
        answer=lambda content: words,
        outcome=outcome,
        fault=lambda call, n: (500, words) if n == 1 and call.startswith("GET") else None,
    )
    with serving_batches(script) as server:
        client = make_client(server, protocol, key="TEST_KEY", retries=0)
        texts = []
        for _ in range(8):
            result = client.run(CLIPS[:3])
            texts += [*result.unfinished, *result.table["text"].to_pylist(), *result.table["error"].to_pylist()]
    assert sorted(outcomes(result).values()) == ["answered", "answered", "error"]
    assert any("HTTP 500" in str(text) for text in texts) and any("HTTP 400" in str(text) for text in texts)
    assert not has_key(repr(texts)) and not has_key(caplog.text)
    client.store.close()
    stored = b"".join(path.read_bytes() for path in client.store.path.parent.iterdir() if path.is_file())
    assert not has_key(stored.decode(errors="replace"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (402, {"message": "no money"}, "needs credit: HTTP 402"),
        (429, {"message": "You exceeded your quota", "code": "insufficient_quota"}, "needs credit: HTTP 4"),
        (401, {"message": "bad key", "type": "authentication_error"}, "rejects the key: HTTP 401"),
        (404, {"message": "no model m"}, "does not exist or is not available to the key"),
        (400, {"message": "The model m does not exist"}, "rejects the key or the model"),
        (400, {"message": "Your credit balance is too low"}, "needs credit: HTTP 400"),
    ],
)
def test_a_failure_of_every_request_stops_as_with_live_requests(make_client, status, error, message):  # noqa: F811
    """It is not sent again by itself, and a run after the cause was removed sends it."""

    def outcome(batch, item, failures):
        return (status, error) if batch == 0 else "answer"

    with serving_batches(BatchServer(outcome=outcome)) as server:
        client = make_client(server, "anthropic" if "type" in error else "openai")
        client.run(CLIPS[:2])
        client.run(CLIPS[:2])
        with pytest.raises(NotAvailable, match=message):
            client.run(CLIPS[:2])
        assert len(server.batches) == 1 and client.ledger.spent_usd() == 0
        done = client.run_until_done(CLIPS[:2])
        assert set(outcomes(done).values()) == {"answered"} and len(server.batches) == 2


@pytest.mark.slow
def test_without_credit_the_responses_before_it_are_stored_and_paid(make_client):  # noqa: F811
    def outcome(batch, item, failures):
        return "answer" if item else (402, {"message": "no money"})

    with serving_batches(BatchServer(outcome=outcome)) as server:
        client = make_client(server)
        client.run(), client.run()
        with pytest.raises(NotAvailable, match="needs credit"):
            client.run()
        assert client.store.count("response") == len(CLIPS) - 1
        assert client.ledger.spent_usd() == pytest.approx((len(CLIPS) - 1) * EXACT_USD)


def test_lines_are_read_as_their_chunks_arrive():
    chunks = [b"a", b"b\n\nc", b"", b"d\n", b"e"]
    assert list(split_lines(iter(chunks), 100)) == [b"ab", b"", b"cd", b"e"]
    assert next(split_lines(iter([b"first\n", b"x" * 10]), 8)) == b"first"  # not the whole text is read


@pytest.mark.parametrize(("chunks", "max_bytes"), [([b"a\n"] * 6, 10), ([b"x" * 6, b"x" * 6], 100)])
def test_too_long_texts_and_lines_are_not_read_further(chunks, max_bytes, monkeypatch):
    monkeypatch.setattr(batch_protocol, "MAX_BODY_BYTES", 10)
    with pytest.raises(OversizedResultsError):
        list(split_lines(iter(chunks), max_bytes))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_results_larger_than_the_requests_allow_stop_and_nothing_is_sent_again(make_client, protocol, monkeypatch):  # noqa: F811
    with serving_batches(BatchServer(answer=lambda content: "x" * 30_000)) as server:
        client = make_client(server, protocol)
        client.run(CLIPS[:2])
        client.run(CLIPS[:2])
        with monkeypatch.context() as patch:
            patch.setattr(batch_protocol, "MAX_BODY_BYTES", 20_000)
            for _ in range(2):
                with pytest.raises(NotAvailable, match=r"were not read further.*--forget batch_0"):
                    client.run(CLIPS[:2])
        assert len(server.batches) == 1 and client.store.count("response") == 0
        assert set(outcomes(client.run_until_done(CLIPS[:2])).values()) == {"answered"}
