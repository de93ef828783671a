"""The endpoint backend with a server that speaks Anthropic's Messages API."""

import contextlib

import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import EndpointBackend
from vlm_audio_pipeline.classifiers.language_models.endpoint.language_model import EndpointLanguageModel
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, serving
from vlm_audio_pipeline_tests.classifiers.language_models.test_endpoint_store import ask

MODEL = "claude-sonnet-4-6"
KEY = "sk-ant-test-Zx81Yw72Vu63"


def message(text="dog", stop_reason="end_turn", **values):
    usage = {"input_tokens": 40, "output_tokens": 5, "cache_read_input_tokens": 16}
    content = [{"type": "thinking", "thinking": "Barks?", "signature": "x"}, {"type": "text", "text": text}]
    return {"type": "message", "model": MODEL, "content": content, "stop_reason": stop_reason, "usage": usage} | values


def error(status, kind, text):
    return status, {"type": "error", "error": {"type": kind, "message": text}}


def answering(*actions):
    """Return a server that gives these answers to the attempts of each question, and the last of them from then on."""
    return ServerScript(play=lambda question, attempt: actions[min(attempt, len(actions) - 1)])


@pytest.fixture
def replies(monkeypatch):
    """Return a function that sends questions to a server and returns their replies."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)

    def send(server, count=1, ledger=None, **values):
        prices = {"input": 10, "output": 100, "cached_input": 1}
        endpoint = Endpoint(url=server.url, protocol="anthropic", key="ANTHROPIC_API_KEY", prices=prices, **values)
        replies_by_position = {}
        EndpointBackend(MODEL, endpoint, ledger, "c").ask(
            [ask(f"clip {i}") for i in range(count)], replies_by_position.__setitem__
        )
        return [replies_by_position[i] for i in range(count)]

    return send


@pytest.fixture
def ledger(tmp_path):
    with contextlib.closing(ResultStore(tmp_path / "results.sqlite")) as store:
        ledger = Ledger(store, "study", Budget(usd=1))
        yield ledger
        ledger.close()


def test_a_message_is_sent_with_its_own_headers_and_charged(replies, ledger):
    """40 + 16 tokens of the prompt, 16 of them cached: 40 x 10 + 16 x 1 + 5 x 100 = 916 millionths of a USD."""
    with serving(answering((200, message()))) as server:
        (reply,) = replies(server, ledger=ledger)
    assert (reply.outcome, reply.text, reply.reasoning, reply.model) == ("answered", "dog", "Barks?", MODEL)
    assert (reply.usage.input_tokens, reply.usage.cached_tokens, reply.usage.output_tokens) == (56, 16, 5)
    assert reply.usage.usd == pytest.approx(0.000916)
    assert ledger.spent_usd() == pytest.approx(0.000916)
    assert server.paths == ["/v1/messages"]
    headers = {name.lower(): value for name, value in server.headers[0].items()}
    assert (headers["x-api-key"], headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert "authorization" not in headers
    assert server.bodies[0]["max_tokens"] == 10


def test_a_refused_parameter_is_left_out_and_recorded(replies, ledger):
    refusal = error(400, "invalid_request_error", "`temperature` is deprecated for this model.")
    with serving(answering(refusal, (200, message()))) as server:
        (reply,) = replies(server, ledger=ledger)
    assert reply.model == f"{MODEL} without temperature"
    assert ["temperature" in body for body in server.bodies] == [True, False]


def test_an_overloaded_server_is_asked_again_and_charges_nothing(replies, ledger):
    with serving(answering(error(529, "overloaded_error", "Overloaded"), (200, message()))) as server:
        (reply,) = replies(server, ledger=ledger)
    assert reply.outcome == "answered"
    assert len(server.bodies) == 2
    assert ledger.spent_usd() == pytest.approx(0.000916)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (error(401, "authentication_error", "invalid x-api-key"), "rejects the key"),
        (
            error(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
            "needs credit",
        ),
        (error(404, "not_found_error", "model: claude-nothing"), "does not exist"),
        ((200, message(model="claude-haiku-4-5")), "must answer itself, got a response of claude-haiku-4-5"),
    ],
)
def test_a_failure_of_every_request_stops_the_classifier(replies, ledger, failure, reason):
    with serving(answering(failure)) as server, pytest.raises(NotAvailable, match=reason):
        replies(server, ledger=ledger, retries=0)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((200, message(f"dog {KEY}", stop_reason="max_tokens")), "truncated"),
        ((200, message(f"no {KEY}", stop_reason="refusal")), "refused"),
        ((200, message(f"dog {KEY}", stop_reason="pause_turn")), "error"),
        ((200, {"type": "error", "error": {"type": "api_error", "message": f"Internal {KEY}"}}), "error"),
        (error(400, "invalid_request_error", f"image exceeds 5 MB maximum {KEY}"), "error"),
    ],
)
def test_other_ends_are_no_answers_and_a_returned_key_is_removed(replies, ledger, answer, outcome):
    with serving(answering(answer)) as server:
        (reply,) = replies(server, ledger=ledger, retries=0)
    assert reply.outcome == outcome
    assert KEY not in str(reply)


def test_the_protocol_needs_an_address_and_takes_neither_audio_nor_likelihoods():
    with pytest.raises(ValidationError, match="url must be that of a Messages API"):
        Endpoint(protocol="anthropic")
    anthropic = {"url": "https://api.anthropic.com/v1", "protocol": "anthropic", "key": "ANTHROPIC_API_KEY"}
    with pytest.raises(ValidationError, match="likelihood must be left out"):
        Endpoint(**anthropic, likelihood="prompt_logprobs", end_token="x")
    with pytest.raises(ValidationError, match="max_tokens must be above thinking_budget"):
        EndpointLanguageModel(model=MODEL, rendering="r", endpoint=anthropic | {"thinking_budget": 1024})
    with pytest.raises(ValidationError, match="input must be image"):
        EndpointLanguageModel(model=MODEL, input="audio", endpoint=anthropic)
