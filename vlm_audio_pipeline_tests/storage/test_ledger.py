"""Money: whatever happens, in whatever order and from however many processes, no more is spent than a study allows."""

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.ledger import Budget, Ledger, Spending
from vlm_audio_pipeline.storage.result_store import ResultStore


@pytest.fixture
def rows(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    yield store
    store.close()


@pytest.fixture
def ledger(rows):
    """Give ledgers of a budget, closed at the end."""
    made = []

    def make(usd, *first, study="study"):
        made.append(Ledger(rows, study, Budget(usd=usd, first=first)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_money_is_reserved_settled_and_given_back(ledger):
    money = ledger(1.0)
    a, b = money.reserve("gpt", 0.4), money.reserve("gpt", 0.5)
    assert (money.spent(), money.left()) == (0.9, 0.1)
    assert money.reserve("gpt", 0.2) is None
    money.settle(a, 0.15)  # 0.15 + 0.5
    assert (money.spent(), money.left()) == (0.65, 0.35)
    money.release(b)
    assert (money.spent(), money.left()) == (0.15, 0.85)
    assert money.by_classifier() == {"gpt": Spending(requests=1, usd=0.15, reserved_usd=0.0)}


def test_a_budget_can_be_spent_to_the_last_of_it_and_no_further(ledger):
    """Ten times 0.1 is 1 here, though not in floats; a nano-dollar more is refused."""
    money = ledger(1.0)
    assert all(money.reserve("gpt", 0.1) for _ in range(10))
    assert money.left() == 0
    assert money.reserve("gpt", 1e-9) is None
    assert money.reserve("gpt", 0.0) is not None
    assert ledger(0.0, study="poor").reserve("gpt", 1e-12) is None  # less than a nano-dollar is rounded up


def test_a_reservation_ends_once(ledger):
    money = ledger(1.0)
    a, b = money.reserve("gpt", 0.1), money.reserve("gpt", 0.1)
    money.settle(a, 0.1)
    money.release(b)
    for ended in (a, b, 12345):
        for end in (money.release, lambda i: money.settle(i, 0.0)):
            with pytest.raises(ValueError, match=f"reservation {ended} is not open"):
                end(ended)
    c = money.reserve("gpt", 0.1)
    with pytest.raises(ValueError, match="is not open"):
        ledger(1.0, study="another").settle(c, 0.0)
    assert money.spent() == 0.2


@pytest.mark.parametrize("usd", [-0.1, float("nan"), float("inf")])
def test_an_amount_is_an_amount(ledger, usd):
    with pytest.raises(ValueError, match="at least 0 USD"):
        ledger(1.0).reserve("gpt", usd)


def test_what_costs_more_than_was_reserved_is_counted_and_stops_the_rest(ledger):
    money = ledger(1.0)
    money.settle(money.reserve("gpt", 0.1), 1.5)
    assert (money.spent(), money.left()) == (1.5, 0.0)
    assert money.reserve("gpt", 0.0) is None


def test_a_ledger_lasts_as_long_as_the_study_and_goes_on_when_the_budget_is_raised(rows, ledger):
    money = ledger(1.0)
    money.settle(money.reserve("gpt", 1.0), 0.9)
    money.close()
    assert ledger(1.0).reserve("gpt", 0.2) is None
    assert ledger(1.5).reserve("gpt", 0.2) is not None
    assert ledger(1.5).spent() == 1.1
    assert ledger(0.5).left() == 0
    assert ledger(1.0, study="another").left() == 1.0
    rows.put("answer", [("key", b"payload")])
    assert rows.get(["key"]) == {"key": b"payload"}  # one file for both


def test_reservations_are_on_the_disk_before_the_request_leaves(ledger):
    assert ledger(1.0)._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


class TestPriorities:
    def test_who_comes_later_leaves_what_the_first_still_need(self, ledger):
        """1 USD; `first` still needs 3 x 0.2, so others may have 0.4."""
        money = ledger(1.0, "first", "second")
        money.expect("first", 3, 0.2)
        assert (money.left(), money.left("first"), money.left("second"), money.left("other")) == (1.0, 1.0, 0.4, 0.4)
        money.expect("second", 1, 0.3)
        assert money.left("second") == 0.4
        assert money.left("other") == 0.1
        assert money.reserve("other", 0.2) is None
        assert money.reserve("other", 0.1) is not None
        assert money.reserve("second", 0.3) is not None
        assert money.reserve("second", 1e-9) is None
        assert [money.reserve("first", 0.2) is not None for _ in range(4)] == [True, True, True, False]

    def test_every_reservation_takes_one_request_off_and_every_release_puts_it_back(self, ledger):
        money = ledger(1.0, "first")
        money.expect("first", 2, 0.25)
        a = money.reserve("first", 0.2)  # 0.2 + 0.25
        assert money.left("other") == 0.55
        money.settle(a, 0.05)  # 0.05 + 0.25
        assert money.left("other") == 0.7
        b = money.reserve("first", 0.2)  # 0.05 + 0.2
        assert money.left("other") == 0.75
        money.release(b)
        assert money.left("other") == 0.7
        c, d = money.reserve("first", 0.25), money.reserve("first", 0.25)  # one more than expected
        money.release(d)
        assert money.left("other") == 0.7
        money.release(c)
        assert money.left("other") == 0.7

    def test_the_last_word_counts_and_parts_speak_for_themselves(self, ledger):
        money = ledger(1.0, "first")
        money.expect("first", 3, 0.1, scope="fold 1")
        money.expect("first", 3, 0.1, scope="fold 2")
        assert money.left("other") == 0.4
        money.reserve("first", 0.1, scope="fold 2")
        assert money.left("other") == 0.4
        money.expect("first", 0, 0, scope="fold 1")
        assert money.left("other") == 0.7
        money.expect("first", 1, 0.1, scope="fold 2")
        assert money.left("other") == 0.8

    def test_needs_of_those_not_named_hold_nobody_back(self, ledger):
        money = ledger(1.0, "first")
        money.expect("a", 100, 1.0)
        assert money.left("b") == money.left("first") == 1.0
        money.expect("first", 1, 0.5, scope="x")
        assert ledger(1.0, "first", study="another").left("b") == 1.0

    def test_the_reason_names_the_sums_and_who_comes_first(self, ledger):
        money = ledger(1.0, "first")
        money.expect("first", 2, 0.25)
        money.reserve("other", 0.45)
        assert money.refusal_reason("other", 0.1) == (
            "the budget of 1 USD does not allow the next request, which can cost 0.1000: 0.4500 spent or reserved, 0.5000 kept "
            "for first; raise `budget: {usd: ...}` in the study to continue"
        )
        assert "kept" not in money.refusal_reason("first", 0.1)


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"usd": -1}, "greater than or equal to 0"),
        ({"usd": float("nan")}, "finite number"),
        ({"usd": float("inf")}, "finite number"),
        ({"usd": 2e6}, "1000000"),
        ({}, "Field required"),
        ({"usd": 1, "first": ["a", "b", "a"]}, "may occur only once"),
        ({"usd": 1, "frist": []}, "Extra inputs"),
    ],
)
def test_a_wrong_budget_is_refused(values, wrong):
    with pytest.raises(ValidationError, match=wrong):
        Budget(**values)


def test_a_file_that_is_none_is_refused(rows, tmp_path):
    rows.path = tmp_path / "folder"
    rows.path.mkdir()
    with pytest.raises(VlmAudioError, match="Without it no paid request is sent"):
        Ledger(rows, "study", Budget(usd=1))


def test_a_database_damaged_inside_is_named(rows, ledger):
    money = ledger(1.0)
    for _ in range(500):
        money.reserve("gpt", 1e-9)
    money.close()
    rows.close()
    content = bytearray(rows.path.read_bytes())
    content[8192:] = b"\x5a" * (len(content) - 8192)
    rows.path.write_bytes(content)
    damaged = ledger(1.0)
    for use in (damaged.spent, damaged.by_classifier, lambda: damaged.reserve("gpt", 0.1)):
        with pytest.raises(
            VlmAudioError, match=r"the spending ledger in .*malformed. Without it no paid request is sent.*\.recover"
        ):
            use()


NANO = st.integers(0, 400_000_000)


class Spenders(RuleBasedStateMachine):
    """Any order of reserving, settling, releasing and expecting, against exact arithmetic in whole nano-dollars."""

    BUDGET = 1_000_000_000
    FIRST = ("a", "b")
    ids = Bundle("ids")
    numbers = itertools.count()

    def __init__(self):
        super().__init__()
        self.name = f"study {next(self.numbers)}"
        self.ledgers = [Ledger(self.store, self.name, Budget(usd=1.0, first=self.FIRST)) for _ in range(2)]
        for one in self.ledgers:
            one._db.execute("PRAGMA synchronous = OFF")  # arithmetic is tested here, not disks
        self.open, self.settled, self.needs = {}, 0, {}

    def teardown(self):
        for one in self.ledgers:
            one.close()

    def kept(self, who):
        before = self.FIRST[: self.FIRST.index(who)] if who in self.FIRST else self.FIRST
        return sum(n * each for c, (n, each) in self.needs.items() if c in before)

    @rule(who=st.sampled_from("abcd"), requests=st.integers(0, 5), each=NANO)
    def expect(self, who, requests, each):
        self.ledgers[0].expect(who, requests, each / 1e9)
        self.needs[who] = (requests, each)

    @rule(target=ids, who=st.sampled_from("abcd"), amount=NANO, ledger=st.integers(0, 1))
    def reserve(self, who, amount, ledger):
        made = self.ledgers[ledger].reserve(who, amount / 1e9)
        allowed = self.settled + sum(a for _, a, _ in self.open.values()) + self.kept(who) + amount <= self.BUDGET
        assert (made is not None) == allowed
        if made is not None:
            requests, each = self.needs.get(who, (0, 0))
            self.needs[who] = (max(requests - 1, 0), each)
            self.open[made] = (who, amount, requests > 0)
        return made

    @rule(made=consumes(ids), share=st.fractions(0, 1), ledger=st.integers(0, 1))
    def settle(self, made, share, ledger):
        if made is not None:
            cost = int(self.open.pop(made)[1] * share)
            self.ledgers[ledger].settle(made, cost / 1e9)
            self.settled += cost

    @rule(made=consumes(ids), ledger=st.integers(0, 1))
    def release(self, made, ledger):
        if made is not None:
            who, _, expected = self.open.pop(made)
            self.ledgers[ledger].release(made)
            if expected:
                requests, each = self.needs[who]
                self.needs[who] = (requests + 1, each)

    @invariant()
    def never_too_much(self):
        total = self.settled + sum(a for _, a, _ in self.open.values())
        assert total <= self.BUDGET
        assert Decimal(repr(self.ledgers[1].spent())) == Decimal(total) / self.BUDGET


def test_no_order_of_events_spends_too_much(rows):
    Spenders.store = rows
    suppressed = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Spenders,
        settings=settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=suppressed),
    )


SPENDER = """
import random, sys, time
from pathlib import Path
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_store import ResultStore
me, path = sys.argv[1:]
ledger = Ledger(ResultStore(Path(path)), "study", Budget(usd=0.5, first=("p0",)))
draw = random.Random(me)
print("ready", flush=True)
sys.stdin.readline()
refused = 0
while refused < 3:
    time.sleep(0.003)  # SQLite's lock is not fair to who waits for it
    amount = draw.randrange(1, 10_000_000)
    made = ledger.reserve(me, amount / 1e9)
    if made is None:
        refused += 1
    elif draw.random() < 0.2:
        ledger.release(made)
    elif draw.random() < 0.7:
        ledger.settle(made, draw.randrange(amount + 1) / 1e9)
print("done", flush=True)
sys.stdin.readline()
"""


def test_several_processes_at_once_one_of_them_killed_never_spend_too_much(rows):
    spenders = [
        subprocess.Popen(
            [sys.executable, "-c", SPENDER, f"p{i}", str(rows.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(3)
    ]
    for one in spenders:
        assert one.stdout.readline() == "ready\n"
    for one in spenders:
        one.stdin.write("\n")
        one.stdin.flush()
    query = "SELECT coalesce(sum(nano_usd), 0), count(*), count(DISTINCT classifier) FROM spending"
    most = 0
    with sqlite3.connect(rows.path) as db:
        while all(one.poll() is None for one in spenders):
            spent, requests, spending = db.execute(query).fetchone()
            most = max(most, spent)
            if requests > 30 and spending == 3:
                os.kill(spenders[1].pid, signal.SIGKILL)
        for one in (spenders[0], spenders[2]):
            assert one.stdout.readline() == "done\n"
        spent, requests, _ = db.execute(query).fetchone()
    for one in spenders:
        one.communicate()
    assert requests > 30
    assert max(most, spent) <= 500_000_000
    assert spent > 480_000_000  # the rest is less than a few draws
    ledger = Ledger(rows, "study", Budget(usd=0.5))
    assert ledger.spent() == spent / 1e9
    assert set(ledger.by_classifier()) == {"p0", "p1", "p2"}
    ledger.close()
