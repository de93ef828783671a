"""The endpoint backend with the ledger: the server never charges more than the budget."""

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
from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, serving
from vlm_audio_pipeline_tests.classifiers.language_models.test_endpoint_store import PRICES, ask, drive, start
from vlm_audio_pipeline_tests.storage.ledger_spending import spending_by_classifier

UNUSED_ENDPOINT = Endpoint(url="http://127.0.0.1:1/v1", prices=PRICES)
MAX_PRICE = cost_bound(ask("clip 10"), "m", UNUSED_ENDPOINT)[1]  # cost bound of a question with a two-digit number, USD
FULL = {
    "prompt_tokens": max_prompt_tokens(RequestSize.from_request(ask("clip 10")), "m", UNUSED_ENDPOINT),
    "completion_tokens": 10,
}
"""Usage of a server that charges the whole cost bound, at 10 and 100 USD per million tokens."""
QUESTIONS = [f"clip {i}" for i in range(10, 90)]


@pytest.fixture
def rows(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    yield store
    store.close()


@pytest.fixture
def make_backend(rows):
    """Return a function that creates a backend with a budget, and its ledger."""
    ledgers = []

    def make(server, usd, classifier="gpt", first=("gpt",), **values):
        ledgers.append(Ledger(rows, "study", Budget(usd=usd, first=first)))
        endpoint = Endpoint(url=server.url, prices=PRICES, **({"timeout_s": 10, "retries": 1} | values))
        return EndpointBackend("m", endpoint, ledgers[-1], classifier), ledgers[-1]

    yield make
    for ledger in ledgers:
        ledger.close()


def charged_usd(server) -> float:
    """Return an upper bound of what the server charged, USD."""
    return server.charged * MAX_PRICE


def test_the_cost_bound_equals_the_maximum_charge_of_the_server():
    """7 bytes and 2 x 16 tokens of the chat template are 39 tokens; 39 x 10 + 10 x 100 = 1390 millionths of a USD."""
    assert FULL["prompt_tokens"] == 39
    assert pytest.approx(0.00139) == MAX_PRICE


def test_a_spent_budget_keeps_the_replies_and_a_higher_budget_continues(rows, make_backend):
    with serving(ServerScript(usage=FULL)) as server:
        backend, ledger = make_backend(server, 20.5 * MAX_PRICE)
        outcomes, stop_reason = drive(rows, backend, QUESTIONS)
        assert set(outcomes) == set(QUESTIONS[:20])
        assert {r.outcome for r in outcomes.values()} == {"answered"}
        assert server.charged == 20
        assert stop_reason.startswith(
            "the budget of 0.028495 USD does not allow the next request, which can cost 0.0014: 0.0278 "
        )
        assert ledger.spent_usd() == pytest.approx(20 * MAX_PRICE)

        backend, ledger = make_backend(server, 20.5 * MAX_PRICE)
        assert drive(rows, backend, QUESTIONS) == ({}, stop_reason)  # and nothing was sent
        assert server.charged == 20

        backend, ledger = make_backend(server, 81 * MAX_PRICE)
        outcomes, stop_reason = drive(rows, backend, QUESTIONS)
        assert (len(outcomes), stop_reason) == (60, None)
        assert server.charged == 80
        assert set(server.attempts.values()) == {1}


def test_the_unused_part_of_a_reservation_can_be_spent(rows, make_backend):
    """A response costs less than a quarter of the bound: 24 x 10 + 1 x 100 = 340 of 1390 millionths of a USD."""
    usage = {"prompt_tokens": 24, "completion_tokens": 1}
    with serving(ServerScript(usage=usage)) as server:
        backend, ledger = make_backend(server, 5 * MAX_PRICE)
        outcomes, _ = drive(rows, backend, QUESTIONS)
        # the n-th request is sent while (n - 1) x 340 + 1390 <= 5 x 1390 millionths: n = 17
        assert len(outcomes) == server.charged == 17
        assert ledger.spent_usd() == pytest.approx(17 * 340e-6)


@pytest.mark.parametrize("fault", ["hang", "cut", "truncate", "type", "empty", "drip"])
def test_an_attempt_that_may_have_been_charged_counts_as_charged(rows, make_backend, fault):
    """The server processes every attempt, also the retries of the client."""
    usage = None if fault == "empty" else FULL
    with serving(ServerScript(play=lambda q, n: fault, usage=usage)) as server:
        backend, ledger = make_backend(server, 4.5 * MAX_PRICE, concurrency=3, timeout_s=0.4)
        outcomes, stop_reason = drive(rows, backend, QUESTIONS)
        assert {r.outcome for r in outcomes.values()} == {"error"}
        assert server.charged == 4
        assert "does not allow the next request" in stop_reason
        assert ledger.spent_usd() == spending_by_classifier(ledger)["gpt"].reserved_usd == pytest.approx(4 * MAX_PRICE)


@pytest.mark.parametrize("fault", ["429", "503"])
def test_a_rejected_attempt_costs_nothing(rows, make_backend, fault):
    def play(question, attempt):
        return fault if attempt == 0 else "response"

    with serving(ServerScript(play=play, usage=FULL, retry_after=0.001)) as server:
        backend, ledger = make_backend(server, 10.5 * MAX_PRICE, retries=3)
        outcomes, _ = drive(rows, backend, QUESTIONS[:20])
        assert server.charged == 10
        assert [r.outcome for r in outcomes.values()].count("answered") == 10
        assert ledger.spent_usd() == pytest.approx(10 * MAX_PRICE)
    ledger.close()


def test_an_unreachable_server_costs_nothing(rows, make_backend):
    with serving(ServerScript()) as server:
        pass
    backend, ledger = make_backend(server, 2.5 * MAX_PRICE, retries=0)
    with pytest.raises(NotAvailable, match="must accept connections"):
        drive(rows, backend, QUESTIONS)
    assert ledger.spent_usd() == 0


def test_a_refused_parameter_costs_nothing(rows, make_backend):
    refused = (400, {"error": {"message": 'Unknown name "seed": Cannot find field.'}})
    with serving(
        ServerScript(play=lambda q, n: refused if "seed" in server.bodies[-1] else "response", usage=FULL)
    ) as server:
        backend, ledger = make_backend(server, 3.5 * MAX_PRICE, concurrency=1)
        outcomes, _ = drive(rows, backend, QUESTIONS[:3])
        assert [r.outcome for r in outcomes.values()] == ["answered"] * 3
        assert ledger.spent_usd() == pytest.approx(3 * MAX_PRICE)


def test_a_later_classifier_keeps_the_reserve_of_the_first(rows, make_backend):
    with serving(ServerScript(usage=FULL)) as server:
        backend, ledger = make_backend(server, 12.5 * MAX_PRICE, classifier="oth")
        ledger.expect("gpt", 10, MAX_PRICE)
        outcomes, stop_reason = drive(rows, backend, [f"oth {q}" for q in ("10", "11", "12", "13", "14")])
        assert len(outcomes) == 2
        assert "kept for gpt" in stop_reason
        backend, ledger = make_backend(server, 12.5 * MAX_PRICE)
        outcomes, stop_reason = drive(rows, backend, QUESTIONS[:10])
        assert (len(outcomes), stop_reason) == (10, None)


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
def test_a_repeated_request_reduces_the_reserve_once(rows, make_backend, attempts, spent, needed):
    """The budget is 20 requests and "gpt" reserves 5. One of the 5 is sent; each status 500 stays reserved."""
    with serving(ServerScript(play=lambda q, n: attempts[n], usage=FULL, retry_after=0.001)) as server:
        backend, ledger = make_backend(server, 20 * MAX_PRICE, retries=2)
        ledger.expect("gpt", 5, MAX_PRICE)
        drive(rows, backend, QUESTIONS[:1])
        assert server.attempts["clip 10"] == len(attempts)
        assert ledger.spent_usd() == pytest.approx(spent * MAX_PRICE)
        assert ledger.remaining_usd("oth") == pytest.approx((20 - spent - needed) * MAX_PRICE)


class TestLocalFailures:
    """The callback or the ledger fails: only requests that were sent stay reserved."""

    @staticmethod
    def raise_disk_full(position, reply):
        raise VlmAudioError("the disk is full")

    def test_a_request_that_waits_for_its_turn_is_not_reserved(self, make_backend):
        """With a concurrency of 1, the first request is answered and the second waits."""
        with serving(ServerScript(usage=FULL)) as server:
            backend, ledger = make_backend(server, 20 * MAX_PRICE, concurrency=1)
            with pytest.raises(VlmAudioError, match="the disk is full"):
                backend.ask([ask(q) for q in QUESTIONS[:5]], self.raise_disk_full)
            assert set(server.attempts) == {"clip 10"}
            assert ledger.spent_usd() == pytest.approx(1 * MAX_PRICE)
            assert spending_by_classifier(ledger)["gpt"].requests == 1

    def test_a_request_that_waits_for_budget_is_not_reserved(self, make_backend):
        """The budget allows one request, the concurrency several: the second waits for the unused part of the first."""
        usage = {"prompt_tokens": 24, "completion_tokens": 1}  # 340 of 1390 millionths

        def raise_budget_then_fail(position, reply):
            backend._account.ledger.budget = Budget(usd=20 * MAX_PRICE)  # enough for all
            self.raise_disk_full(position, reply)

        with serving(ServerScript(usage=usage)) as server:
            backend, ledger = make_backend(server, 1.5 * MAX_PRICE, concurrency=4)
            with pytest.raises(VlmAudioError, match="the disk is full"):
                backend.ask([ask(q) for q in QUESTIONS[:2]], raise_budget_then_fail)
            assert set(server.attempts) == {"clip 10"}
            assert ledger.spent_usd() == pytest.approx(1 * MAX_PRICE)

    def test_reservations_of_unsent_requests_are_released(self, make_backend, monkeypatch):
        """Three requests are reserved and not yet sent when the fourth cannot be reserved."""
        with serving(ServerScript(usage=FULL)) as server:
            backend, ledger = make_backend(server, 20 * MAX_PRICE, concurrency=4)
            ledger.expect("gpt", 7, MAX_PRICE)
            reserve, reservations = ledger.reserve, []

            def fails_later(*args, **kwargs):
                if len(reservations) == 3:
                    raise VlmAudioError("the ledger cannot be written")
                reservations.append(reserve(*args, **kwargs))
                return reservations[-1]

            monkeypatch.setattr(ledger, "reserve", fails_later)
            with pytest.raises(VlmAudioError, match="the ledger cannot be written"):
                backend.ask([ask(q) for q in QUESTIONS[:5]], self.raise_disk_full)
            assert len(reservations) == 3
            assert not server.attempts
            assert ledger.spent_usd() == 0
            assert ledger.remaining_usd("oth") == pytest.approx((20 - 7) * MAX_PRICE)

    def test_a_request_that_may_have_reached_the_endpoint_stays_reserved(self, make_backend):
        """The first request is answered when the second has been sent; the third waits for its turn."""

        def play(question, attempt):
            until = time.monotonic() + 10
            while question == "clip 10" and not server.attempts["clip 11"] and time.monotonic() < until:
                time.sleep(0.002)
            return "response" if question == "clip 10" else "hang"

        with serving(ServerScript(play=play, usage=FULL)) as server:
            backend, ledger = make_backend(server, 20 * MAX_PRICE, concurrency=2, retries=0)
            with pytest.raises(VlmAudioError, match="the disk is full"):
                backend.ask([ask(q) for q in QUESTIONS[:5]], self.raise_disk_full)
            assert set(server.attempts) == {"clip 10", "clip 11"}
            assert (
                ledger.spent_usd() == spending_by_classifier(ledger)["gpt"].reserved_usd == pytest.approx(2 * MAX_PRICE)
            )


def test_a_charge_above_the_bound_is_recorded_and_raises_later_reservations(rows, make_backend, caplog):
    """The server charges twice the bound: after the first response, later reservations are doubled."""
    usage = {k: 2 * v for k, v in FULL.items()}
    with serving(ServerScript(usage=usage)) as server:
        backend, ledger = make_backend(server, 10.5 * MAX_PRICE, concurrency=1)
        outcomes, _ = drive(rows, backend, QUESTIONS)
        assert len(outcomes) == server.charged == 5  # 5 x 2
        assert ledger.spent_usd() == pytest.approx(10 * MAX_PRICE)
    assert [r.getMessage() for r in caplog.records] == [
        "m cost more than was reserved; from now on 2.00 times the bound is reserved"
    ]


@pytest.mark.slow
def test_concurrent_processes_never_exceed_the_budget(rows):
    """Three processes and a server with seven kinds of faults in every third attempt; the budget covers a part of the requests."""
    faults = ("hang", "cut", "truncate", "500", "429", "503", "empty")

    def play(question, attempt):
        number = int(question.split()[-1])
        return faults[(number // 3) % 7] if (number + attempt) % 3 == 0 else "response"

    budget = 60 * MAX_PRICE
    with serving(ServerScript(play=play, usage=FULL, seconds=0.01)) as server:
        runs = [start(server.url, rows.path, budget, 100, classifier=f"p{i}") for i in range(3)]
        results = [json.loads(run.communicate(timeout=120)[0]) for run in runs]
        ledger = Ledger(rows, "study", Budget(usd=budget))
        max_price = MAX_PRICE * 43 / 39  # these questions have three characters more
        assert charged_usd(server) <= ledger.spent_usd() + 1e-9 <= budget + 2e-9
        assert ledger.remaining_usd() < max_price
        assert all("does not allow the next request" in stop_reason for _, stop_reason in results)
        ledger.close()
