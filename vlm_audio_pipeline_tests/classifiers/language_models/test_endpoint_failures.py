"""A failure that a server reports in an unusual form is never a response, and is never stored."""

import contextlib
import logging

import pytest

from vlm_audio_pipeline.classifiers.language_models.asking import Question, ask_all
from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import EndpointBackend, not_run_reason
from vlm_audio_pipeline.classifiers.language_models.endpoint.embedded_failures import embedded_failure
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.language_models.first_trial import FIRST_TRIAL
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, serving
from vlm_audio_pipeline_tests.classifiers.language_models.test_endpoint import backend, connection_attempts, replies
from vlm_audio_pipeline_tests.classifiers.language_models.test_endpoint_store import PRICES, ask

USAGE = {"prompt_tokens": 300, "completion_tokens": 5, "total_tokens": 305}
UPSTREAM = {"code": 502, "message": "Upstream provider went away"}


def chat(content="dog", finish="stop", error=None, **message):
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content} | message}
    return 200, {"model": "served", "choices": [choice | ({"error": error} if error else {})], "usage": USAGE}


@pytest.fixture
def store(tmp_path):
    with contextlib.closing(ResultStore(tmp_path / "results.sqlite")) as store:
        yield store


def send(store, server, count=8, retries=0, ledger=None, **endpoint):
    """Ask about clips and store the responses, as a step does; return the result."""
    backend = EndpointBackend("m", Endpoint(url=server.url, retries=retries, timeout_s=5, **endpoint), ledger, "c")
    questions = [Question({**FIRST_TRIAL, "clip": f"clip {i}"}, ask(f"clip {i}"), ("dog",)) for i in range(count)]
    return ask_all(questions, {"model": "m"}, store, lambda: backend, model="m", revision=None)


def rows(result, *columns):
    return [tuple(row[c] for c in columns) for row in result.table.to_pylist()]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (chat("", finish="error", error=UPSTREAM), "HTTP 502 (Upstream provider went away)"),
        (chat("I think it is ", finish="error", error=UPSTREAM), "HTTP 502 (Upstream provider went away)"),
        (chat("", finish="abort"), "the endpoint ended the response for the reason 'abort'"),
        ((200, {"error": {"code": 503, "message": "No capacity"}, "user_id": "u"}), "HTTP 503 (No capacity)"),
        ((200, {"error": "out of memory"}), "HTTP 502 (out of memory)"),
    ],
    ids=["choice error", "choice error after text", "abort", "body error", "text error"],
)
def test_a_failure_is_an_error_that_is_not_stored_and_is_requested_again(store, reply, message):
    with serving(ServerScript(play=lambda q, n: reply)) as server:
        failed = send(store, server)
    assert set(rows(failed, "outcome", "text", "error")) == {("error", None, message)}
    assert len(failed.unfinished) == 1
    with serving(ServerScript(play=lambda q, n: chat())) as server:
        recovered = send(store, server)
        assert len(server.bodies) == 8
    assert set(rows(recovered, "outcome", "text", "error")) == {("answered", "dog", None)}


def test_a_rate_limit_inside_a_200_is_retried_slowly_and_costs_nothing(store):
    limit = (200, {"error": {"code": 429, "message": "Daily free limit reached"}})
    with serving(ServerScript(play=lambda q, n: limit if n == 0 else chat())) as server:
        ledger = Ledger(store, "study", Budget(usd=1))
        result = send(store, server, retries=2, ledger=ledger, prices=PRICES)
        assert set(rows(result, "outcome")) == {("answered",)}
        # 300 x 10 + 5 x 100 = 3500 millionths of a USD for each of 8 responses; the 8 rejected attempts cost nothing
        assert ledger.spent_usd() == pytest.approx(8 * 0.0035)
        ledger.close()


def test_no_credit_inside_a_200_makes_the_model_not_available(store):
    body = {"error": {"code": 402, "message": "Insufficient credits"}}
    with (
        serving(ServerScript(play=lambda q, n: (200, body))) as server,
        pytest.raises(NotAvailable, match="needs credit"),
    ):
        send(store, server)


@pytest.mark.parametrize("reason", ["SAFETY", "RECITATION", "content_filter"])
def test_a_safety_filter_is_a_refusal_that_is_stored(store, reason):
    with serving(ServerScript(play=lambda q, n: chat(None, finish=reason))) as server:
        assert set(rows(send(store, server), "outcome")) == {("refused",)}
        send(store, server)
        assert len(server.bodies) == 8


@pytest.mark.parametrize(
    "reply",
    [chat(None, finish="length", reasoning_content="The picture shows thin lines "), chat("", finish="length")],
    ids=["while reasoning", "empty"],
)
def test_a_truncated_response_is_stored(store, reply):
    with serving(ServerScript(play=lambda q, n: reply)) as server:
        result = send(store, server)
        assert set(rows(result, "outcome")) == {("truncated",)} and result.unfinished == []
        send(store, server)
        assert len(server.bodies) == 8


@pytest.mark.parametrize(
    ("reply", "reasoning"),
    [
        (chat("dog", reasoning_content="could be rain"), "could be rain"),
        (chat("dog", reasoning="could be rain"), "could be rain"),
        (chat("<think>could be rain</think>\n\ndog"), "could be rain"),
        (
            chat(
                [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "could be rain"}]},
                    {"type": "text", "text": "dog"},
                ]
            ),
            "could be rain",
        ),
    ],
    ids=["reasoning_content", "reasoning", "tags", "parts"],
)
def test_reasoning_is_stored_apart_from_the_answer(store, reply, reasoning):
    with serving(ServerScript(play=lambda q, n: reply)) as server:
        assert set(rows(send(store, server), "outcome", "text", "reasoning")) == {("answered", "dog", reasoning)}


def test_the_tokens_of_the_reasoning_are_stored(store):
    usage = {"prompt_tokens": 9, "completion_tokens": 40, "completion_tokens_details": {"reasoning_tokens": 37}}
    with serving(ServerScript(usage=usage)) as server:
        assert rows(send(store, server, count=1), "output_tokens", "reasoning_tokens") == [(40, 37)]


@pytest.mark.parametrize(
    ("message", "refused"),
    [
        ("`temperature` and `top_p` cannot both be specified for this model. Please use only one.", ("top_p",)),
        ("`temperature` is deprecated for this model.", ("temperature",)),
        ("Invalid value for n: only 1 is allowed", ("n",)),
        ("seed is no longer supported", ("seed",)),
    ],
)
def test_a_refused_parameter_is_left_out_and_the_record_says_so(store, message, refused):
    error = {"error": {"message": message, "type": "invalid_request_error"}}
    with serving(ServerScript()) as server:
        server.play = lambda q, n: chat() if not set(refused) & server.bodies[-1].keys() else (400, error)
        result = send(store, server, count=1)
    (row,) = result.table.to_pylist()
    assert (row["outcome"], row["revision"]) == ("answered", f"served without {', '.join(refused)}")


def test_json_of_another_content_type_is_json(store):
    with serving(ServerScript(play=lambda q, n: (*chat(), {"kind": "text/plain; charset=utf-8"}))) as server:
        assert set(rows(send(store, server), "outcome")) == {("answered",)}


def test_with_a_server_that_does_not_run_nothing_is_stored_and_few_of_400_requests_are_tried(store, caplog):
    with serving(ServerScript()) as server:
        pass
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(NotAvailable, match="must accept connections"),
    ):
        send(store, server, count=400, retries=5)
    assert 1 <= connection_attempts(caplog) <= 4
    assert store.count() == 0


class TestReturnedModel:
    def send(self, store, returned, **endpoint):
        reply = (200, chat()[1] | {"model": returned})
        with serving(ServerScript(play=lambda q, n: reply)) as server:
            backend = EndpointBackend("gpt-4o", Endpoint(url=server.url, **endpoint), None, "c")
            replies = {}
            backend.ask([ask(f"clip {i}") for i in range(20)], replies.__setitem__)
        return replies

    def test_another_model_stops_the_classifier(self, store):
        with pytest.raises(NotAvailable, match="got a response of gpt-4o-mini-2024-07-18, which is not stored"):
            self.send(store, "gpt-4o-mini-2024-07-18")

    def test_an_accepted_model_may_answer(self, store):
        replies = self.send(store, "gpt-4o-mini", accept=("gpt-4o-mini",))
        assert {r.outcome for r in replies.values()} == {"answered"}


class TestMoney:
    """Who may charge: prices or a key decide, not the address."""

    URL = "http://127.0.0.1:4000/v1"

    def test_prices_on_this_machine_need_a_budget(self):
        endpoint = Endpoint(url=self.URL, prices=PRICES)
        assert "needs a `budget" in not_run_reason("m", endpoint, has_budget=False)
        assert not_run_reason("m", endpoint, has_budget=True) is None

    def test_a_key_on_this_machine_needs_a_budget_and_prices(self, monkeypatch):
        monkeypatch.setenv("PROXY_KEY", "k" * 20)
        endpoint = Endpoint(url=self.URL, key="PROXY_KEY")
        assert "needs a `budget" in not_run_reason("m", endpoint, has_budget=False)
        assert "must be declared" in not_run_reason("m", endpoint, has_budget=True)

    def test_prices_of_0_on_this_machine_need_nothing(self, monkeypatch):
        monkeypatch.setenv("LOCAL_KEY", "k" * 20)
        endpoint = Endpoint(url=self.URL, key="LOCAL_KEY", prices={"input": 0, "output": 0})
        assert not_run_reason("m", endpoint, has_budget=False) is None

    def test_a_server_on_this_machine_never_exceeds_the_budget(self, store):
        usage = {"prompt_tokens": 40, "completion_tokens": 5, "total_tokens": 45}  # 40 x 10 + 5 x 100 = 900 millionths
        ledger = Ledger(store, "study", Budget(usd=0.01))
        with serving(ServerScript(usage=usage)) as server:
            result = send(store, server, count=100, ledger=ledger, prices=PRICES)
            assert server.charged * 0.0009 <= 0.01
        assert result.stop_reason is not None and 0 < ledger.spent_usd() <= 0.01
        ledger.close()


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"error": {"code": "429", "message": "x"}}', 429),
        (b'{"error": {"code": "rate_limit_exceeded"}}', 429),
        (b'{"error": {"type": "overloaded_error"}}', 503),
        (b'{"error": {"code": 7}}', 502),
        (b'{"error": {"code": 1e999}}', 502),
        (b'{"error": {"code": 1%s}}' % (b"0" * 400), 502),  # a float has at most 308 digits
        (b'{"error": ["x"]}', 502),
        (b'{"choices": [{"error": {"code": 401}}]}', 401),
    ],
)
def test_the_status_of_an_embedded_failure(content, status):
    assert embedded_failure(content)[0] == status


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"error": null}', b'{"choices": [{"error": null}]}', b'{"error'])
def test_a_body_without_a_failure(content):
    assert embedded_failure(content) is None


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            400,
            "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template",
        ),
        (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
        (500, "chat_template error: 'str' object has no attribute 'items'"),
    ],
)
def test_a_server_whose_template_fails_is_not_run(status, message):
    body = {"error": {"message": message}}
    script = ServerScript(play=lambda question, attempt: (status, body))
    with serving(script) as server, pytest.raises(NotAvailable, match="chat template fails"):
        replies(backend(server, retries=0), 4)
