"""The backend against a server on this machine: what arrives, what comes back, and at what pace."""

import base64
import logging
import math
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
    """Ask "clip 0", "clip 1", ...; gives the replies in order, and why it stopped."""
    replies_by_position = {}
    stopped = backend.ask([ask(f"clip {i}") for i in range(count)], replies_by_position.__setitem__)
    return [replies_by_position.get(i) for i in range(count)], stopped


def error(message, **other):
    return {"error": {"message": message, **other}}


def test_an_image_arrives_as_it_is_and_the_reply_says_who_answered_at_what_cost():
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
    assert reply.usage.usd is None  # nobody said what it costs


def test_prices_of_a_server_on_this_machine_are_counted_where_they_are_declared():
    """40 x 10 + 5 x 100 millionths."""
    with serving(ServerScript()) as server:
        (reply,), _ = replies(backend(server, prices=PRICES), 1)
    assert reply.usage.usd == pytest.approx(0.0009)


def test_what_is_for_this_machine_does_not_go_through_a_proxy(monkeypatch):
    with serving(ServerScript()) as proxy, serving(ServerScript()) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        (reply,), _ = replies(backend(server), 1)
    assert reply.outcome == "answered"
    assert (len(server.bodies), len(proxy.bodies)) == (1, 0)


def test_requests_leave_in_order():
    with serving(ServerScript()) as server:
        replies(backend(server, concurrency=1), 30)
    assert [b["messages"][0]["content"] for b in server.bodies] == [f"clip {i}" for i in range(30)]


def test_answers_are_told_while_others_are_under_way_from_the_thread_that_asked():
    options = []
    with serving(ServerScript(play=lambda q, n: "hang" if q == "clip 0" else "response")) as server:
        asking = backend(server, timeout_s=0.5, retries=0)
        asking.ask([ask(f"clip {i}") for i in range(5)], lambda i, r: options.append((i, threading.current_thread())))
    assert options[-1][0] == 0
    assert {thread for _, thread in options} == {threading.current_thread()}


def test_a_failure_of_who_is_told_ends_it_all():
    """A full disk, say: what cannot be stored must not be asked for."""

    def full(position, reply):
        raise OSError("disk full")

    with serving(ServerScript()) as server, pytest.raises(OSError, match="disk full"):
        backend(server, concurrency=2).ask([ask(f"clip {i}") for i in range(100)], full)
    assert len(server.bodies) <= 4


def test_likelihoods_are_not_asked_of_an_endpoint():
    request = ask("clip").with_scorings("likelihood", "generation")
    with serving(ServerScript()) as server, pytest.raises(VlmAudioError, match="must be generation, got likelihood"):
        backend(server).ask([request], lambda i, r: None)
    assert not server.bodies


class TestWhatIsPointless:
    """A refused key or a model that is not there: the classifier is "not run", not wrong in every answer."""

    @pytest.mark.parametrize(
        ("status", "body", "reason"),
        [
            (401, error("Incorrect API key provided"), r"m at 127\.0\.0\.1 must accept the key, got HTTP 401 \(Incorr"),
            (403, error("no access to model m"), "must exist and be available to the key"),
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
    def test_it_ends_before_all_are_asked(self, status, body, reason):
        play = ServerScript(play=lambda q, n: (status, body))
        with serving(play) as server, pytest.raises(NotAvailable, match=reason):
            replies(backend(server, retries=1), 100)
        assert len(server.attempts) <= 4  # what had started when the first came back

    def test_what_had_started_is_told_and_what_failed_is_not(self):
        options = {}

        def play(question, attempt):
            return (401, error("revoked")) if int(question.split()[1]) >= 10 else "response"

        with serving(ServerScript(play=play)) as server, pytest.raises(NotAvailable, match="revoked"):
            backend(server, concurrency=4).ask([ask(f"clip {i}") for i in range(50)], options.__setitem__)
        assert sorted(options) == list(range(10))
        assert {r.outcome for r in options.values()} == {"answered"}

    def test_one_forbidden_question_among_answers_is_its_own_affair(self):
        def play(question, attempt):
            return (403, error("input was flagged")) if question == "clip 9" else "response"

        with serving(ServerScript(play=play)) as server:
            replies_by_position, stopped = replies(backend(server, concurrency=1), 12)
        assert stopped is None
        assert [r.outcome for r in replies_by_position].count("answered") == 11
        assert replies_by_position[9].error == "HTTP 403 (input was flagged)"

    def test_a_server_that_is_not_there_gives_errors_that_a_later_run_asks_again(self):
        with serving(ServerScript()) as server:
            pass
        replies_by_position, stopped = replies(backend(server, retries=0), 3)
        assert stopped is None
        assert {r.error for r in replies_by_position} == {"the connection failed (ConnectError)"}


class TestRefusals:
    def test_a_filtered_question_is_a_refusal(self):
        with serving(ServerScript(play=lambda q, n: (400, error("filtered", code="content_filter")))) as server:
            (reply,), _ = replies(backend(server), 1)
        assert (reply.outcome, reply.error) == ("refused", None)

    def test_a_refusal_in_words(self):
        log_text = (200, completion(None, {"model": "m"}, None, refusal="I cannot help."))
        with serving(ServerScript(play=lambda q, n: log_text)) as server:
            (reply,), _ = replies(backend(server), 1)
        assert (reply.outcome, reply.text) == ("refused", "I cannot help.")


class TestDialects:
    def test_what_a_server_refuses_is_learnt_once_and_said_beside_every_answer(self, caplog):
        """It wants another name for the longest answer, and knows neither seed nor temperature."""

        def play(question, attempt):
            body = next(b for b in reversed(server.bodies) if b["messages"][0]["content"] == question)
            for name in ("max_tokens", "seed", "temperature"):
                if name in body:
                    return 400, error(f"Unsupported parameter: '{name}'", param=name, code="unsupported_parameter")
            return "response"

        with serving(ServerScript(play=play)) as server, caplog.at_level(logging.WARNING):
            asking = backend(server, concurrency=4)
            replies_by_position, stopped = replies(asking, 40)
            assert stopped is None
            assert {r.text for r in replies_by_position} == {"dog"}
            assert {r.model for r in replies_by_position} == {"m-2026-01-01 fp_scripted without seed, temperature"}
            assert server.bodies[-1].keys() == {"messages", "model", "top_p", "n", "max_completion_tokens"}
            assert len(server.bodies) <= 40 + 4 * 3  # only those that had started
        assert [r.getMessage().split(" now use ")[0] for r in caplog.records] == ["requests to m at 127.0.0.1"] * 3

    def test_another_bad_request_is_an_error_of_that_request_and_is_not_repeated(self):
        log_text = (400, error("This model's maximum context length is 8192 tokens", code="context_length_exceeded"))
        with serving(ServerScript(play=lambda q, n: log_text if q == "clip 1" else "response")) as server:
            replies_by_position, _ = replies(backend(server), 3)
        assert (
            replies_by_position[1].error
            == "HTTP 400 (context_length_exceeded: This model's maximum context length is 8192 tokens)"
        )
        assert [r.outcome for r in replies_by_position] == ["answered", "error", "answered"]
        assert server.attempts["clip 1"] == 1

    def test_errors_in_other_shapes_are_read(self):
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


class TestPace:
    def test_it_backs_off_from_a_server_that_bears_little_and_comes_back_when_it_bears_more(self):
        with serving(ServerScript(capacity=5, seconds=0.01)) as server:
            asking = backend(server, concurrency=64, retries=8)
            # halved to 5 or 6 when the first is turned away, then 1 / limit more an answer: at most sqrt(36 + 2 x 100) = 15.4
            replies_by_position, _ = replies(asking, 100)
            assert {r.outcome for r in replies_by_position} == {"answered"}
            assert server.rejected > 0
            assert asking.concurrency_limit.limit < 16
            small, server.capacity, server.rejected = asking.concurrency_limit.limit, 1000, 0
            server.attempts.clear()
            replies_by_position, _ = replies(asking, 400)
            assert {r.outcome for r in replies_by_position} == {"answered"}
            assert server.rejected == 0
            assert asking.concurrency_limit.limit > max(12, 2 * small)
            assert asking.concurrency_limit.limit == pytest.approx(math.sqrt(small**2 + 2 * 400), rel=0.05)

    def test_it_starts_small_and_grows_to_the_most(self):
        with serving(ServerScript(seconds=0.3)) as server:
            asking = backend(server, concurrency=12)
            replies(asking, 48)
        assert server.max_in_flight == 12
        assert asking.concurrency_limit.limit == 12

    def test_it_waits_as_long_as_it_is_told_to(self):
        def play(question, attempt):
            return "429" if question == "clip 2" and attempt == 0 else "response"

        with serving(ServerScript(play=play, retry_after=0.5)) as server:
            replies_by_position, _ = replies(backend(server, concurrency=1), 6)
        assert {r.outcome for r in replies_by_position} == {"answered"}
        gaps = [b - a for a, b in zip(server.arrivals, server.arrivals[1:], strict=False)]
        assert gaps[2] >= 0.5  # after the one that was turned away
        assert sum(gap >= 0.4 for gap in gaps) == 1

    def test_it_ends_when_told_to_come_back_in_an_hour(self):
        """A daily quota: 400 requests would otherwise wait for two minutes each."""
        with serving(
            ServerScript(play=lambda q, n: "429" if q == "clip 3" else "response", retry_after=3600)
        ) as server:
            replies_by_position, stopped = replies(backend(server, concurrency=1), 400)
        assert stopped == "127.0.0.1 asks for a pause of 3600 s; run again later"
        assert [r and r.outcome for r in replies_by_position[:5]] == ["answered"] * 3 + ["error", None]
        assert len(server.bodies) == 4

    def test_it_backs_off_from_a_server_that_does_not_answer_in_time(self):
        with serving(
            ServerScript(play=lambda q, n: "hang" if n == 0 and q in ("clip 8", "clip 9") else "response")
        ) as server:
            asking = backend(server, concurrency=8, timeout_s=0.5)
            replies_by_position, _ = replies(asking, 10)
        assert {r.outcome for r in replies_by_position} == {"answered"}
        assert asking.concurrency_limit.limit < 8


class TestTheKey:
    """Sent to the server, and nowhere else."""

    def everything_raised(self, error):
        sent_clips = []
        while error is not None and error not in sent_clips:
            sent_clips.append(error)
            error = error.__cause__ or error.__context__
        return " ".join(repr(e) + str(e) + repr(vars(e)) for e in sent_clips)

    def test_it_is_in_no_log_error_reply_or_file(self, monkeypatch, caplog, tmp_path):
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
        assert "chat/completions" in logs  # they were written
        ledger.close()
        rows.close()
        written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        log_text = [
            logs,
            repr(replies_by_position),
            self.everything_raised(caught.value),
            repr(asking.__dict__),
            repr(endpoint),
        ]
        for text in (*log_text, written.decode("latin-1"), endpoint.model_dump_json()):
            assert not [KEY[i : i + 8] for i in range(len(KEY) - 7) if KEY[i : i + 8] in text]

    def test_a_key_sent_back_as_a_content_type_is_not_told(self, monkeypatch):
        monkeypatch.setenv("TEST_KEY", KEY)
        with serving(ServerScript(play=lambda q, n: (200, {}, {"kind": f"a/{KEY}"}))) as server:
            (reply,), _ = replies(backend(server, key="TEST_KEY"), 1)
        assert reply.error == "the content type must be application/json, got …"

    def test_this_machine_is_sent_no_key_unless_one_is_named(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        with serving(ServerScript()) as server:
            replies(backend(server), 1)
        assert KEY not in repr(server.headers)
