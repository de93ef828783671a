"""The endpoint backend with a server on this machine: requests, replies and concurrency."""

import base64
import contextlib
import itertools
import logging
import math
import statistics
import threading

import pytest

from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import EndpointBackend
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart, Message, Request, Sampling
from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, completion, serving
from vlm_audio_pipeline_tests.classifiers.language_models.test_endpoint_store import PRICES, ask

KEY = "sk-test-Zx81Yw72Vu63Ts54Rq45Po36"


def backend(server, **values):
    return EndpointBackend("m", Endpoint(url=server.url, **({"timeout_s": 5, "retries": 3} | values)), None, "c")


def replies(backend, count):
    """Send "clip 0", "clip 1", ...; return the replies in order, and the reason of a stop."""
    replies_by_position = {}
    stop_reason = backend.ask([ask(f"clip {i}") for i in range(count)], replies_by_position.__setitem__)
    return [replies_by_position.get(i) for i in range(count)], stop_reason


def connection_attempts(caplog) -> int:
    """Return how often a connection was begun. A server that does not run cannot count them; the HTTP library logs each."""
    return sum(record.getMessage().startswith("connect_tcp.started") for record in caplog.records)


def error(message, **other):
    return {"error": {"message": message, **other}}


def test_an_image_arrives_unchanged_and_the_reply_has_model_and_usage():
    image = ImagePart(bytes(range(256)), "image/png", "00")
    request = Request((Message("user", ("Look:", image, "What?")),), ("dog",), frozenset({"generation"}), Sampling())
    replies_by_position = []
    with serving(ServerScript()) as server:
        assert (
            backend(server, detail="high").ask([request], lambda i, reply: replies_by_position.append((i, reply)))
            is None
        )
    (body,) = server.bodies
    sent = body["messages"][0]["content"][1]["image_url"]
    assert sent["detail"] == "high"
    assert base64.b64decode(sent["url"].removeprefix("data:image/png;base64,")) == image.data
    assert {k: body[k] for k in ("model", "temperature", "top_p", "max_tokens", "seed", "n")} == {
        "model": "m",
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 32,
        "seed": 0,
        "n": 1,
    }
    ((position, reply),) = replies_by_position
    assert (position, reply.outcome, reply.text) == (0, "answered", "dog")
    assert reply.model == "m-2026-01-01 fp_scripted"
    assert (reply.usage.input_tokens, reply.usage.cached_tokens, reply.usage.output_tokens) == (40, 16, 5)
    assert 0 < reply.usage.seconds < 5
    assert reply.usage.usd is None  # no price is declared


def test_declared_prices_of_a_loopback_server_are_counted(tmp_path):
    """40 x 10 + 5 x 100 = 900 millionths of a USD."""
    with serving(ServerScript()) as server, contextlib.closing(ResultStore(tmp_path / "results.sqlite")) as store:
        ledger = Ledger(store, "study", Budget(usd=1))
        replies_by_position = {}
        endpoint = Endpoint(url=server.url, prices=PRICES)
        EndpointBackend("m", endpoint, ledger, "c").ask([ask("clip 0")], replies_by_position.__setitem__)
        ledger.close()
    assert replies_by_position[0].usage.usd == pytest.approx(0.0009)


def test_loopback_requests_do_not_use_a_proxy(monkeypatch):
    with serving(ServerScript()) as proxy, serving(ServerScript()) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        (reply,), _ = replies(backend(server), 1)
    assert reply.outcome == "answered"
    assert (len(server.bodies), len(proxy.bodies)) == (1, 0)


def test_requests_are_sent_in_order():
    with serving(ServerScript()) as server:
        replies(backend(server, concurrency=1), 30)
    assert [b["messages"][0]["content"] for b in server.bodies] == [f"clip {i}" for i in range(30)]


def test_replies_are_reported_in_the_calling_thread_while_others_are_in_flight():
    reported = []
    with serving(ServerScript(play=lambda q, n: "hang" if q == "clip 0" else "response")) as server:
        asking = backend(server, timeout_s=0.5, retries=0)
        asking.ask([ask(f"clip {i}") for i in range(5)], lambda i, r: reported.append((i, threading.current_thread())))
    assert reported[-1][0] == 0
    assert {thread for _, thread in reported} == {threading.current_thread()}


def test_an_exception_in_the_callback_stops_all_requests():
    """For example a full disk: responses that cannot be stored must not be requested."""

    def full(position, reply):
        raise OSError("disk full")

    with serving(ServerScript()) as server, pytest.raises(OSError, match="disk full"):
        backend(server, concurrency=2).ask([ask(f"clip {i}") for i in range(100)], full)
    assert len(server.bodies) <= 4


def test_an_endpoint_refuses_likelihood_scoring():
    request = ask("clip").with_scorings("likelihood", "generation")
    with serving(ServerScript()) as server, pytest.raises(VlmAudioError, match="must be generation, got likelihood"):
        backend(server).ask([request], lambda i, r: None)
    assert not server.bodies


class TestFatalErrors:
    """After a refused key or an unknown model the classifier is "not run"; its predictions are not counted as wrong."""

    @pytest.mark.parametrize(
        ("status", "body", "reason"),
        [
            (401, error("Incorrect API key provided"), r"m at 127\.0\.0\.1 rejects the key: HTTP 401 \(Incorr"),
            (403, error("no access to model m"), "does not exist or is not available to the key"),
            (404, error("The model `m` does not exist", code="model_not_found"), "model_not_found: The model `m`"),
            (
                400,
                [{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}],
                "API key not",
            ),
            (400, error("nonsense/nothing is not a valid model ID"), "check `model`, `url` and the key"),
            (402, error("Insufficient Balance"), "needs credit"),
            (429, error("You exceeded your current quota", code="insufficient_quota"), "top up the account"),
        ],
    )
    def test_it_stops_before_all_requests_are_sent(self, status, body, reason):
        play = ServerScript(play=lambda q, n: (status, body))
        with serving(play) as server, pytest.raises(NotAvailable, match=reason):
            replies(backend(server, retries=1), 100)
        assert len(server.attempts) <= 4  # requests that were in flight at the first error

    def test_requests_in_flight_are_reported_and_failed_ones_are_not(self):
        reported = {}

        def play(question, attempt):
            return (401, error("revoked")) if int(question.split()[1]) >= 10 else "response"

        with serving(ServerScript(play=play)) as server, pytest.raises(NotAvailable, match="revoked"):
            backend(server, concurrency=4).ask([ask(f"clip {i}") for i in range(50)], reported.__setitem__)
        assert sorted(reported) == list(range(10))
        assert {r.outcome for r in reported.values()} == {"answered"}

    def test_one_forbidden_request_does_not_stop_the_others(self):
        def play(question, attempt):
            return (403, error("no access to this image")) if question == "clip 9" else "response"

        with serving(ServerScript(play=play)) as server:
            replies_by_position, stop_reason = replies(backend(server, concurrency=1), 12)
        assert stop_reason is None
        assert [r.outcome for r in replies_by_position].count("answered") == 11
        assert replies_by_position[9].error == "HTTP 403 (no access to this image)"

    def test_a_server_that_does_not_run_makes_the_model_not_available_at_once(self, caplog):
        with serving(ServerScript()) as server:
            pass
        with (
            caplog.at_level(logging.DEBUG),
            pytest.raises(NotAvailable, match=r"m at 127\.0\.0\.1 must accept connections, got: .*; start the server"),
        ):
            replies(backend(server, retries=5), 100)
        assert 1 <= connection_attempts(caplog) <= 4  # of 100 requests: those that are sent together at the start


class TestRefusals:
    def test_a_filtered_request_is_a_refusal(self):
        with serving(ServerScript(play=lambda q, n: (400, error("filtered", code="content_filter")))) as server:
            (reply,), _ = replies(backend(server), 1)
        assert (reply.outcome, reply.error) == ("refused", None)

    def test_a_refusal_message_is_the_text_of_the_reply(self):
        response = (200, completion(None, {"model": "m"}, None, refusal="I cannot help."))
        with serving(ServerScript(play=lambda q, n: response)) as server:
            (reply,), _ = replies(backend(server), 1)
        assert (reply.outcome, reply.text) == ("refused", "I cannot help.")


class TestUnsupportedParameters:
    def test_a_refused_parameter_is_left_out_afterwards_and_noted_in_every_reply(self, caplog):
        """The server needs another name for max_tokens and supports neither seed nor temperature."""

        def play(question, attempt):
            body = next(b for b in reversed(server.bodies) if b["messages"][0]["content"] == question)
            for name in ("max_tokens", "seed", "temperature"):
                if name in body:
                    return 400, error(f"Unsupported parameter: '{name}'", param=name, code="unsupported_parameter")
            return "response"

        with serving(ServerScript(play=play)) as server, caplog.at_level(logging.WARNING):
            asking = backend(server, concurrency=4)
            replies_by_position, stop_reason = replies(asking, 40)
            assert stop_reason is None
            assert {r.text for r in replies_by_position} == {"dog"}
            assert {r.model for r in replies_by_position} == {"m-2026-01-01 fp_scripted without seed, temperature"}
            assert server.bodies[-1].keys() == {"messages", "model", "top_p", "n", "max_completion_tokens"}
            assert len(server.bodies) <= 40 + 4 * 3  # only requests in flight were repeated
        assert [r.getMessage().split(" now use ")[0] for r in caplog.records] == ["requests to m at 127.0.0.1"] * 3

    def test_any_other_bad_request_is_an_error_of_that_request_and_is_not_repeated(self):
        response = (400, error("This model's maximum context length is 8192 tokens", code="context_length_exceeded"))
        with serving(ServerScript(play=lambda q, n: response if q == "clip 1" else "response")) as server:
            replies_by_position, _ = replies(backend(server), 3)
        assert (
            replies_by_position[1].error
            == "HTTP 400 (context_length_exceeded: This model's maximum context length is 8192 tokens)"
        )
        assert [r.outcome for r in replies_by_position] == ["answered", "error", "answered"]
        assert server.attempts["clip 1"] == 1

    def test_errors_in_other_formats_are_parsed(self):
        for body in ([error("list")], {"detail": "list"}, {"message": "list"}, {"error": "list"}, "list"):
            with serving(ServerScript(play=lambda q, n, body=body: (400, body))) as server:
                (reply,), _ = replies(backend(server), 1)
            assert "list" in reply.error

    def test_redirections_are_not_followed(self):
        with serving(ServerScript()) as other:
            moved = (307, {}, {"location": other.url + "/chat/completions"})
            with serving(ServerScript(play=lambda q, n: moved)) as server:
                (reply,), _ = replies(backend(server), 1)
        assert reply.error.startswith("HTTP 307")
        assert not other.bodies


class TestConcurrency:
    def test_concurrency_follows_the_capacity_of_the_server(self):
        with serving(ServerScript(capacity=5, seconds=0.01)) as server:
            asking = backend(server, concurrency=64, retries=8)
            # halved to 5 or 6 at the first rejection, then + 1 / limit per response: at most sqrt(36 + 2 x 100) = 15.4
            replies_by_position, _ = replies(asking, 100)
            assert {r.outcome for r in replies_by_position} == {"answered"}
            assert server.rejected > 0
            assert asking.concurrency_limit.limit < 16
            low_limit, server.capacity, server.rejected = asking.concurrency_limit.limit, 1000, 0
            server.attempts.clear()
            replies_by_position, _ = replies(asking, 400)
            assert {r.outcome for r in replies_by_position} == {"answered"}
            assert server.rejected == 0
            assert asking.concurrency_limit.limit > max(12, 2 * low_limit)
            assert asking.concurrency_limit.limit == pytest.approx(math.sqrt(low_limit**2 + 2 * 400), rel=0.05)

    def test_concurrency_starts_low_and_grows_to_the_maximum(self):
        with serving(ServerScript(seconds=0.3)) as server:
            asking = backend(server, concurrency=12)
            replies(asking, 48)
        assert server.max_in_flight == 12
        assert asking.concurrency_limit.limit == 12

    def test_retry_after_is_respected(self):
        def play(question, attempt):
            return "429" if question == "clip 2" and attempt == 0 else "response"

        with serving(ServerScript(play=play, retry_after=0.5)) as server:
            replies_by_position, _ = replies(backend(server, concurrency=1), 6)
        assert {r.outcome for r in replies_by_position} == {"answered"}
        contents = [body["messages"][0]["content"] for body in server.bodies]
        assert contents == [f"clip {i}" for i in (0, 1, 2, 2, 3, 4, 5)]
        pause, *other_gaps = sorted((b - a for a, b in itertools.pairwise(server.arrivals)), reverse=True)
        assert server.arrivals[3] - server.arrivals[2] == pause >= 0.5  # after the rejected request
        assert statistics.median(other_gaps) < pause / 2, "the others do not wait"

    def test_it_stops_if_retry_after_is_one_hour(self):
        """For example a daily quota: otherwise each of 400 requests would wait for two minutes."""
        with serving(
            ServerScript(play=lambda q, n: "429" if q == "clip 3" else "response", retry_after=3600)
        ) as server:
            replies_by_position, stop_reason = replies(backend(server, concurrency=1), 400)
        assert stop_reason == "127.0.0.1 asks for a pause of 3600 s; run again later"
        assert [r and r.outcome for r in replies_by_position[:5]] == ["answered"] * 3 + ["error", None]
        assert len(server.bodies) == 4

    def test_timeouts_lower_the_concurrency(self):
        with serving(
            ServerScript(play=lambda q, n: "hang" if n == 0 and q in ("clip 8", "clip 9") else "response")
        ) as server:
            asking = backend(server, concurrency=8, timeout_s=0.5)
            replies_by_position, _ = replies(asking, 10)
        assert {r.outcome for r in replies_by_position} == {"answered"}
        assert asking.concurrency_limit.limit < 8


class TestKey:
    """The key is sent to the server and nowhere else."""

    def text_of_exceptions(self, error):
        chain = []
        while error is not None and error not in chain:
            chain.append(error)
            error = error.__cause__ or error.__context__
        return " ".join(repr(e) + str(e) + repr(vars(e)) for e in chain)

    def test_the_key_is_in_no_log_error_reply_or_file(self, monkeypatch, caplog, tmp_path):
        monkeypatch.setenv("TEST_KEY", KEY)
        quoted = f"bad key {KEY} ({KEY[4:16]}...) in Authorization: Bearer {KEY}"
        plays = {
            "clip 0": "response",
            "clip 1": (400, error(quoted, code=KEY, param=KEY)),
            "clip 2": (500, error(quoted)),
            "clip 3": "type",
            "clip 4": (200, {"error": quoted}),
            "clip 5": "cut",
            "clip 6": "hang",
            "clip 7": "reset",
            "clip 8": (422, [quoted]),
        }
        rows = ResultStore(tmp_path / "results.sqlite")
        ledger = Ledger(rows, "study", Budget(usd=100))
        endpoint_values = {"key": "TEST_KEY", "timeout_s": 0.5, "retries": 1, "prices": PRICES}
        with serving(ServerScript(play=lambda q, n: plays[q])) as server, caplog.at_level(logging.DEBUG):
            endpoint = Endpoint(url=server.url, **endpoint_values)
            asking = EndpointBackend("m", endpoint, ledger, "c")
            replies_by_position, _ = replies(asking, len(plays))
            assert {h.get("authorization") or h.get("Authorization") for h in server.headers} == {f"Bearer {KEY}"}
            plays["clip 0"] = (401, error(quoted))
            with pytest.raises(NotAvailable, match="correct the key in TEST_KEY") as caught:
                replies(asking, 1)
        assert [r.outcome for r in replies_by_position] == ["answered"] + ["error"] * 8
        logs = "\n".join(f"{r.getMessage()} {r.args} {r.exc_info} {r.exc_text}" for r in caplog.records)
        assert "chat/completions" in logs  # the log is not empty
        ledger.close()
        rows.close()
        written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        response = [
            logs,
            repr(replies_by_position),
            self.text_of_exceptions(caught.value),
            repr(asking.__dict__),
            repr(endpoint),
        ]
        for text in (*response, written.decode("latin-1"), endpoint.model_dump_json()):
            assert not [KEY[i : i + 8] for i in range(len(KEY) - 7) if KEY[i : i + 8] in text]

    def test_a_key_in_a_returned_content_type_is_redacted(self, monkeypatch):
        monkeypatch.setenv("TEST_KEY", KEY)
        with serving(ServerScript(play=lambda q, n: (200, b"busy", {"kind": f"a/{KEY}"}))) as server:
            (reply,), _ = replies(backend(server, key="TEST_KEY", prices={"input": 0, "output": 0}), 1)
        assert reply.error.endswith("bytes of …)")

    def test_a_loopback_endpoint_receives_no_key_unless_one_is_named(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        with serving(ServerScript()) as server:
            replies(backend(server), 1)
        assert KEY not in repr(server.headers)
