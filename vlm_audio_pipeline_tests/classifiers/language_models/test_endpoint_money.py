"""The backend and the ledger: the server never charges more than the budget."""

import json
import time

import pytest

from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import EndpointBackend
from vlm_audio_pipeline.classifiers.language_models.endpoint.cost_bounds import (
    RequestSize,
    cost_bound,
    max_prompt_tokens,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, serving
from vlm_audio_pipeline_tests.classifiers.language_models.test_endpoint_store import PRICES, ask, drive, start

ANYWHERE = Endpoint(url="http://127.0.0.1:1/v1", prices=PRICES)
MAX_PRICE = cost_bound(ask("clip 10"), "m", ANYWHERE)[1]  # of a question of two digits, USD
FULL = {"prompt_tokens": max_prompt_tokens(RequestSize.of(ask("clip 10")), "m", ANYWHERE), "completion_tokens": 10}
"""The server takes all that a request can take, at 10 and 100 USD a million."""
QUESTIONS = [f"clip {i}" for i in range(10, 90)]


@pytest.fixture
def rows(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    yield store
    store.close()


@pytest.fixture
def make_backend(rows):
    """Return a function that makes a backend with a budget, and its ledger."""
    ledgers = []

    def make(server, usd, who="gpt", first=("gpt",), **values):
        ledgers.append(Ledger(rows, "study", Budget(usd=usd, first=first)))
        endpoint = Endpoint(url=server.url, prices=PRICES, **({"timeout_s": 10, "retries": 1} | values))
        return EndpointBackend("m", endpoint, ledgers[-1], who), ledgers[-1]

    yield make
    for ledger in ledgers:
        ledger.close()


def charged_usd(server) -> float:
    """Return an upper bound of what the server charged, USD."""
    return server.charged * MAX_PRICE


def test_the_most_is_what_the_server_takes():
    """7 bytes, 2 x 16 around; 39 x 10 + 10 x 100 millionths."""
    assert FULL["prompt_tokens"] == 39
    assert pytest.approx(0.00139) == MAX_PRICE


def test_it_stops_cleanly_with_what_it_has_and_goes_on_when_the_budget_is_raised(rows, make_backend):
    with serving(ServerScript(usage=FULL)) as server:
        backend, ledger = make_backend(server, 20.5 * MAX_PRICE)
        outcomes, stopped = drive(rows, backend, QUESTIONS)
        assert set(outcomes) == set(QUESTIONS[:20])
        assert {r.outcome for r in outcomes.values()} == {"answered"}
        assert server.charged == 20
        assert stopped.startswith(
            "the budget of 0.028495 USD does not allow the next request, which can cost 0.0014: 0.0278 "
        )
        assert ledger.spent() == pytest.approx(20 * MAX_PRICE)

        backend, ledger = make_backend(server, 20.5 * MAX_PRICE)
        assert drive(rows, backend, QUESTIONS) == ({}, stopped)  # and nothing was sent
        assert server.charged == 20

        backend, ledger = make_backend(server, 81 * MAX_PRICE)
        outcomes, stopped = drive(rows, backend, QUESTIONS)
        assert (len(outcomes), stopped) == (60, None)
        assert server.charged == 80
        assert set(server.attempts.values()) == {1}


def test_what_is_settled_for_less_is_spent_again(rows, make_backend):
    """An answer costs a quarter of the most at most: 24 x 10 + 1 x 100 against 1,390 millionths."""
    usage = {"prompt_tokens": 24, "completion_tokens": 1}
    with serving(ServerScript(usage=usage)) as server:
        backend, ledger = make_backend(server, 5 * MAX_PRICE)
        outcomes, _ = drive(rows, backend, QUESTIONS)
        # the n-th leaves while (n - 1) x 340 + 1390 <= 5 x 1390 millionths: n = 17
        assert len(outcomes) == server.charged == 17
        assert ledger.spent() == pytest.approx(17 * 340e-6)


@pytest.mark.parametrize("fault", ["hang", "cut", "truncate", "type", "empty", "drip"])
def test_what_may_have_been_charged_counts_as_charged(rows, make_backend, fault):
    """Every attempt is worked on by the server, the client's own second ones included."""
    usage = None if fault == "empty" else FULL
    with serving(ServerScript(play=lambda q, n: fault, usage=usage)) as server:
        backend, ledger = make_backend(server, 4.5 * MAX_PRICE, concurrency=3, timeout_s=0.4)
        outcomes, stopped = drive(rows, backend, QUESTIONS)
        assert {r.outcome for r in outcomes.values()} == {"error"}
        assert server.charged == 4
        assert "does not allow the next request" in stopped
        assert ledger.spent() == ledger.by_classifier()["gpt"].reserved_usd == pytest.approx(4 * MAX_PRICE)


@pytest.mark.parametrize("fault", ["429", "503"])
def test_what_was_turned_away_costs_nothing(rows, make_backend, fault):
    def play(question, attempt):
        return fault if attempt == 0 else "response"

    with serving(ServerScript(play=play, usage=FULL, retry_after=0.001)) as server:
        backend, ledger = make_backend(server, 10.5 * MAX_PRICE, retries=3)
        outcomes, _ = drive(rows, backend, QUESTIONS[:20])
        assert server.charged == 10
        assert [r.outcome for r in outcomes.values()].count("answered") == 10
        assert ledger.spent() == pytest.approx(10 * MAX_PRICE)
    ledger.close()


def test_a_server_that_is_not_there_costs_nothing(rows, make_backend):
    with serving(ServerScript()) as server:
        pass
    backend, ledger = make_backend(server, 2.5 * MAX_PRICE, retries=0)
    outcomes, stopped = drive(rows, backend, QUESTIONS)
    assert (len(outcomes), stopped, ledger.spent()) == (80, None, 0)


def test_a_refused_parameter_costs_nothing(rows, make_backend):
    refused = (400, {"error": {"message": 'Unknown name "seed": Cannot find field.'}})
    with serving(
        ServerScript(play=lambda q, n: refused if "seed" in server.bodies[-1] else "response", usage=FULL)
    ) as server:
        backend, ledger = make_backend(server, 3.5 * MAX_PRICE, concurrency=1)
        outcomes, _ = drive(rows, backend, QUESTIONS[:3])
        assert [r.outcome for r in outcomes.values()] == ["answered"] * 3
        assert ledger.spent() == pytest.approx(3 * MAX_PRICE)


def test_who_comes_later_leaves_what_the_first_need(rows, make_backend):
    with serving(ServerScript(usage=FULL)) as server:
        backend, ledger = make_backend(server, 12.5 * MAX_PRICE, who="oth")
        ledger.expect("gpt", 10, MAX_PRICE)
        outcomes, stopped = drive(rows, backend, [f"oth {q}" for q in ("10", "11", "12", "13", "14")])
        assert len(outcomes) == 2
        assert "kept for gpt" in stopped
        backend, ledger = make_backend(server, 12.5 * MAX_PRICE)
        outcomes, stopped = drive(rows, backend, QUESTIONS[:10])
        assert (len(outcomes), stopped) == (10, None)


@pytest.mark.parametrize(
    ("attempts", "spent", "needed"),
    [
        (["response"], 1, 4),
        (["500", "500", "response"], 3, 4),
        (["500", "500", "500"], 3, 4),
        (["cut", "429", "response"], 2, 4),
        (["429", "500", "response"], 2, 4),
        (["500", "429", "429"], 1, 4),
        (["429", "429", "response"], 1, 4),
        (["429", "429", "429"], 0, 5),
    ],
)
def test_a_request_is_needed_once_however_often_it_is_tried(rows, make_backend, attempts, spent, needed):
    """Of 20, what the first spent and what it still needs; one of its 5 requests is asked, and every 500 stays reserved."""
    with serving(ServerScript(play=lambda q, n: attempts[n], usage=FULL, retry_after=0.001)) as server:
        backend, ledger = make_backend(server, 20 * MAX_PRICE, retries=2)
        ledger.expect("gpt", 5, MAX_PRICE)
        drive(rows, backend, QUESTIONS[:1])
        assert server.attempts["clip 10"] == len(attempts)
        assert ledger.spent() == pytest.approx(spent * MAX_PRICE)
        assert ledger.left("oth") == pytest.approx((20 - spent - needed) * MAX_PRICE)


class TestFailuresOfOurs:
    """Whoever is told of answers fails, or the ledger does: what has left stays reserved, and nothing else does."""

    @staticmethod
    def full(position, reply):
        raise VlmAudioError("the disk is full")

    def test_what_waited_for_its_turn_was_not_reserved(self, make_backend):
        """One at a time: the first was answered, the second would have been next."""
        with serving(ServerScript(usage=FULL)) as server:
            backend, ledger = make_backend(server, 20 * MAX_PRICE, concurrency=1)
            with pytest.raises(VlmAudioError, match="the disk is full"):
                backend.ask([ask(q) for q in QUESTIONS[:5]], self.full)
            assert set(server.attempts) == {"clip 10"}
            assert ledger.spent() == pytest.approx(1 * MAX_PRICE)
            assert ledger.by_classifier()["gpt"].requests == 1

    def test_what_waited_for_money_was_not_reserved(self, make_backend):
        """Money for one, and room for more of them: the second waits for what the first gives back."""
        usage = {"prompt_tokens": 24, "completion_tokens": 1}  # 340 of 1390 millionths

        def options(position, reply):
            backend._account.ledger.budget = Budget(usd=20 * MAX_PRICE)  # now there is enough
            self.full(position, reply)

        with serving(ServerScript(usage=usage)) as server:
            backend, ledger = make_backend(server, 1.5 * MAX_PRICE, concurrency=4)
            with pytest.raises(VlmAudioError, match="the disk is full"):
                backend.ask([ask(q) for q in QUESTIONS[:2]], options)
            assert set(server.attempts) == {"clip 10"}
            assert ledger.spent() == pytest.approx(1 * MAX_PRICE)

    def test_what_had_not_begun_is_given_back(self, make_backend, monkeypatch):
        """Three are on their way to be sent when the fourth cannot be reserved."""
        with serving(ServerScript(usage=FULL)) as server:
            backend, ledger = make_backend(server, 20 * MAX_PRICE, concurrency=4)
            ledger.expect("gpt", 7, MAX_PRICE)
            reserve, outcomes_made = ledger.reserve, []

            def fails_later(*args, **kwargs):
                if len(outcomes_made) == 3:
                    raise VlmAudioError("the ledger cannot be written")
                outcomes_made.append(reserve(*args, **kwargs))
                return outcomes_made[-1]

            monkeypatch.setattr(ledger, "reserve", fails_later)
            with pytest.raises(VlmAudioError, match="the ledger cannot be written"):
                backend.ask([ask(q) for q in QUESTIONS[:5]], self.full)
            assert len(outcomes_made) == 3
            assert not server.attempts
            assert ledger.spent() == 0
            assert ledger.left("oth") == pytest.approx((20 - 7) * MAX_PRICE)

    def test_what_may_have_reached_the_endpoint_stays_reserved(self, make_backend):
        """The first is answered once the second is at work; the third waits for its turn."""

        def play(question, attempt):
            until = time.monotonic() + 10
            while question == "clip 10" and not server.attempts["clip 11"] and time.monotonic() < until:
                time.sleep(0.002)
            return "response" if question == "clip 10" else "hang"

        with serving(ServerScript(play=play, usage=FULL)) as server:
            backend, ledger = make_backend(server, 20 * MAX_PRICE, concurrency=2, retries=0)
            with pytest.raises(VlmAudioError, match="the disk is full"):
                backend.ask([ask(q) for q in QUESTIONS[:5]], self.full)
            assert set(server.attempts) == {"clip 10", "clip 11"}
            assert ledger.spent() == ledger.by_classifier()["gpt"].reserved_usd == pytest.approx(2 * MAX_PRICE)


def test_more_than_was_reckoned_is_counted_and_more_is_reserved_from_then_on(rows, make_backend, caplog):
    """A server that takes twice the bound: the first is over, the others are reserved at what it was."""
    usage = {k: 2 * v for k, v in FULL.items()}
    with serving(ServerScript(usage=usage)) as server:
        backend, ledger = make_backend(server, 10.5 * MAX_PRICE, concurrency=1)
        outcomes, _ = drive(rows, backend, QUESTIONS)
        assert len(outcomes) == server.charged == 5  # 5 x 2
        assert ledger.spent() == pytest.approx(10 * MAX_PRICE)
    assert [r.getMessage() for r in caplog.records] == [
        "m cost more than was reserved; from now on 2.00 times the bound is reserved"
    ]


@pytest.mark.slow
def test_several_processes_at_once_never_spend_more_than_the_budget(rows):
    """Three processes, a server that fails every third attempt in one of seven ways, and money for a part of it."""
    faults = ("hang", "cut", "truncate", "500", "429", "503", "empty")

    def play(question, attempt):
        number = int(question.split()[-1])
        return faults[(number // 3) % 7] if (number + attempt) % 3 == 0 else "response"

    budget = 60 * MAX_PRICE
    with serving(ServerScript(play=play, usage=FULL, seconds=0.01)) as server:
        runs = [start(server.url, rows.path, budget, 100, who=f"p{i}") for i in range(3)]
        ends = [json.loads(run.communicate(timeout=120)[0]) for run in runs]
        ledger = Ledger(rows, "study", Budget(usd=budget))
        max_price = MAX_PRICE * 43 / 39  # questions have three characters more; the till cannot tell
        assert charged_usd(server) <= ledger.spent() + 1e-9 <= budget + 2e-9
        assert ledger.left() < max_price
        assert all("does not allow the next request" in stopped for _, stopped in ends)
        ledger.close()
