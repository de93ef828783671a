"""The spending ledger: no order of events and no number of processes spends more than the budget."""

import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_store import PAGE_SIZE_BYTES, ResultStore
from vlm_audio_pipeline_tests.storage.ledger_spending import Spending, spending_by_classifier


@pytest.fixture
def result_store(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    yield store
    store.close()


@pytest.fixture
def ledger(result_store):
    """Return a function that opens a ledger with a budget; all ledgers are closed after the test."""
    ledgers = []

    def make(usd, *first, study="study"):
        ledgers.append(Ledger(result_store, study, Budget(usd=usd, first=first)))
        return ledgers[-1]

    yield make
    for opened in ledgers:
        opened.close()


def test_amounts_are_reserved_settled_and_released(ledger):
    account = ledger(1.0)
    a, b = account.reserve("gpt", 0.4), account.reserve("gpt", 0.5)
    assert (account.spent_usd(), account.remaining_usd()) == (0.9, 0.1)
    assert account.reserve("gpt", 0.2) is None
    account.settle(a, 0.15)  # 0.15 + 0.5
    assert (account.spent_usd(), account.remaining_usd()) == (0.65, 0.35)
    account.release(b)
    assert (account.spent_usd(), account.remaining_usd()) == (0.15, 0.85)
    assert spending_by_classifier(account) == {"gpt": Spending(requests=1, usd=0.15, reserved_usd=0.0)}


def test_a_budget_can_be_spent_exactly_but_not_exceeded(ledger):
    """Ten times 0.1 is 1 here, though not in floats; a nano-dollar more is refused."""
    account = ledger(1.0)
    assert all(account.reserve("gpt", 0.1) for _ in range(10))
    assert account.remaining_usd() == 0
    assert account.reserve("gpt", 1e-9) is None
    assert account.reserve("gpt", 0.0) is not None
    assert ledger(0.0, study="poor").reserve("gpt", 1e-12) is None  # less than a nano-dollar is rounded up


def test_a_reservation_ends_once(ledger):
    account = ledger(1.0)
    a, b = account.reserve("gpt", 0.1), account.reserve("gpt", 0.1)
    account.settle(a, 0.1)
    account.release(b)
    for ended in (a, b, 12345):
        for end in (account.release, lambda i: account.settle(i, 0.0)):
            with pytest.raises(ValueError, match=f"reservation {ended} is not open"):
                end(ended)
    c = account.reserve("gpt", 0.1)
    with pytest.raises(ValueError, match="is not open"):
        ledger(1.0, study="another").settle(c, 0.0)
    assert account.spent_usd() == 0.2


@pytest.mark.parametrize("usd", [-0.1, float("nan"), float("inf")])
def test_an_amount_must_be_finite_and_not_negative(ledger, usd):
    with pytest.raises(ValueError, match="at least 0 USD"):
        ledger(1.0).reserve("gpt", usd)


def test_a_cost_above_the_reservation_is_counted_and_stops_further_requests(ledger):
    account = ledger(1.0)
    account.settle(account.reserve("gpt", 0.1), 1.5)
    assert (account.spent_usd(), account.remaining_usd()) == (1.5, 0.0)
    assert account.reserve("gpt", 0.0) is None


def test_spending_is_kept_between_runs_and_a_raised_budget_allows_more(result_store, ledger):
    account = ledger(1.0)
    account.settle(account.reserve("gpt", 1.0), 0.9)
    account.close()
    assert ledger(1.0).reserve("gpt", 0.2) is None
    assert ledger(1.5).reserve("gpt", 0.2) is not None
    assert ledger(1.5).spent_usd() == 1.1
    assert ledger(0.5).remaining_usd() == 0
    assert ledger(1.0, study="another").remaining_usd() == 1.0
    result_store.put("answer", [("key", b"payload")])
    assert result_store.get(["key"]) == {"key": b"payload"}  # ledger and results are in one file


def test_reservations_are_on_the_disk_before_the_request_is_sent(ledger):
    assert ledger(1.0)._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


class TestPriorities:
    def test_later_classifiers_leave_the_budget_that_earlier_ones_need(self, ledger):
        """1 USD; `first` still needs 3 x 0.2, so others may have 0.4."""
        account = ledger(1.0, "first", "second")
        account.expect("first", 3, 0.2)
        assert (
            account.remaining_usd(),
            account.remaining_usd("first"),
            account.remaining_usd("second"),
            account.remaining_usd("other"),
        ) == (1.0, 1.0, 0.4, 0.4)
        account.expect("second", 1, 0.3)
        assert account.remaining_usd("second") == 0.4
        assert account.remaining_usd("other") == 0.1
        assert account.reserve("other", 0.2) is None
        assert account.reserve("other", 0.1) is not None
        assert account.reserve("second", 0.3) is not None
        assert account.reserve("second", 1e-9) is None
        assert [account.reserve("first", 0.2) is not None for _ in range(4)] == [True, True, True, False]

    def test_a_reservation_reduces_the_expected_requests_and_a_release_adds_one(self, ledger):
        account = ledger(1.0, "first")
        account.expect("first", 2, 0.25)
        a = account.reserve("first", 0.2)  # 0.2 + 0.25
        assert account.remaining_usd("other") == 0.55
        account.settle(a, 0.05)  # 0.05 + 0.25
        assert account.remaining_usd("other") == 0.7
        b = account.reserve("first", 0.2)  # 0.05 + 0.2
        assert account.remaining_usd("other") == 0.75
        account.release(b)
        assert account.remaining_usd("other") == 0.7
        c, d = account.reserve("first", 0.25), account.reserve("first", 0.25)  # one more than expected
        account.release(d)
        assert account.remaining_usd("other") == 0.7
        account.release(c)
        assert account.remaining_usd("other") == 0.7

    def test_the_last_expectation_counts_and_each_scope_is_separate(self, ledger):
        account = ledger(1.0, "first")
        account.expect("first", 3, 0.1, scope="fold 1")
        account.expect("first", 3, 0.1, scope="fold 2")
        assert account.remaining_usd("other") == 0.4
        account.reserve("first", 0.1, scope="fold 2")
        assert account.remaining_usd("other") == 0.4
        account.expect("first", 0, 0, scope="fold 1")
        assert account.remaining_usd("other") == 0.7
        account.expect("first", 1, 0.1, scope="fold 2")
        assert account.remaining_usd("other") == 0.8

    def test_expectations_of_classifiers_not_in_the_order_reserve_nothing(self, ledger):
        account = ledger(1.0, "first")
        account.expect("a", 100, 1.0)
        assert account.remaining_usd("b") == account.remaining_usd("first") == 1.0
        account.expect("first", 1, 0.5, scope="x")
        assert ledger(1.0, "first", study="another").remaining_usd("b") == 1.0

    def test_the_refusal_reason_names_the_amounts_and_the_earlier_classifiers(self, ledger):
        account = ledger(1.0, "first")
        account.expect("first", 2, 0.25)
        account.reserve("other", 0.45)
        assert account.refusal_reason("other", 0.1) == (
            "the budget of 1 USD does not allow the next request, which can cost 0.1000: 0.4500 spent or reserved, 0.5000 kept "
            "for first; raise `budget: {usd: ...}` in the study to continue"
        )
        assert "kept" not in account.refusal_reason("first", 0.1)


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"usd": -1}, "greater than or equal to 0"),
        ({"usd": float("nan")}, "finite number"),
        ({"usd": float("inf")}, "finite number"),
        ({"usd": 2e6}, "1000000"),
        ({}, "Field required"),
        ({"usd": 1, "first": ["a", "b", "a"]}, "must occur only once"),
        ({"usd": 1, "frist": []}, "Extra inputs"),
    ],
)
def test_a_wrong_budget_is_refused(values, wrong):
    with pytest.raises(ValidationError, match=wrong):
        Budget(**values)


def test_a_ledger_path_that_is_a_folder_is_refused(result_store, tmp_path):
    result_store.path = tmp_path / "folder"
    result_store.path.mkdir()
    with pytest.raises(VlmAudioError, match="Without it no paid request is sent"):
        Ledger(result_store, "study", Budget(usd=1))


def test_a_damaged_database_is_named(result_store, ledger):
    account = ledger(1.0)
    for _ in range(500):
        account.reserve("gpt", 1e-9)
    account.close()
    result_store.close()
    content = bytearray(result_store.path.read_bytes())
    content[PAGE_SIZE_BYTES:] = b"\x5a" * (len(content) - PAGE_SIZE_BYTES)
    result_store.path.write_bytes(content)
    with pytest.raises(
        VlmAudioError, match=r"the spending ledger in .*malformed. Without it no paid request is sent.*\.recover"
    ):
        ledger(1.0)


@pytest.mark.parametrize(
    "damage",
    [
        "nano_usd = nano_usd - 268435456",  # one bit: 2**28
        "nano_usd = 0",
        "study = 'studx'",
        "settled = 1",
        "checksum = ''",
        "scope = CAST(x'ff' AS TEXT)",
    ],
)
def test_a_damaged_amount_is_refused_and_named(result_store, ledger, damage):
    account = ledger(1.0)
    account.settle(account.reserve("gpt", 0.1), 0.05)
    account.reserve("gpt", 0.8)
    with account._transaction() as db:
        db.execute(f"UPDATE spending SET {damage} WHERE id = 2")
    message = r"the checksums of the rows 2 differ.*no paid request is sent.*DELETE FROM spending WHERE id IN \(2\)"
    for study in ("study", "another"):
        with pytest.raises(VlmAudioError, match=message):
            ledger(1.0, study=study)
    with account._transaction() as db:
        db.execute("DELETE FROM spending WHERE id IN (2)")
    assert ledger(1.0).spent_usd() == 0.05


def test_a_damaged_index_of_the_amounts_is_made_again(result_store, ledger):
    account = ledger(1.0)
    account.reserve("gpt", 0.75)
    account.close()
    result_store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = result_store.path.read_bytes()
    amount = (750_000_000).to_bytes(4, "big")
    index = content.rfind(b"studygpt" + amount)  # settled = 0 needs no byte in a row of SQLite
    assert index > 0
    result_store.close()
    damaged = content[: index + 8] + bytes(4) + content[index + 12 :]
    result_store.path.write_bytes(damaged)
    assert ledger(1.0).spent_usd() == 0.75


def spend(account) -> None:
    """Spend 0.3 USD: 20 * 0.01 are reserved, and 20 * 0.005 are settled."""
    for i in range(40):
        reservation = account.reserve("gpt", 0.01, f"fold {i % 5}")
        if i % 2:
            account.settle(reservation, 0.005)


@pytest.mark.parametrize(("step", "start"), [(401, 0), pytest.param(29, 7, marks=pytest.mark.slow)])
def test_no_flipped_bit_anywhere_in_the_file_gives_another_amount(tmp_path, step, start):
    path = tmp_path / "store" / "results.sqlite"
    store = ResultStore(path)
    account = Ledger(store, "study", Budget(usd=1))
    spend(account)
    account.close()
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    content, rng, outcomes = path.read_bytes(), random.Random(3), Counter()
    for position in range(start, len(content), step):
        for file in path.parent.iterdir():
            file.unlink()
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            with closing(ResultStore(path)) as store, closing(Ledger(store, "study", Budget(usd=1))) as account:
                outcomes[account.spent_usd()] += 1
        except VlmAudioError:
            outcomes["refused"] += 1
    assert outcomes.keys() == {0.3, "refused"}, outcomes


def test_no_flipped_bit_gives_another_amount_while_the_ledger_is_open(result_store, ledger):
    account = ledger(1.0)
    spend(account)
    result_store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    rng, outcomes = random.Random(3), Counter()
    with result_store.path.open("r+b", buffering=0) as file:
        for position in range(7, result_store.path.stat().st_size, 11):
            file.seek(position)
            byte = file.read(1)
            file.seek(position)
            file.write(bytes([byte[0] ^ 1 << rng.randrange(8)]))
            account._db.execute("PRAGMA shrink_memory")  # the next query reads the file again
            try:
                outcomes[account.spent_usd()] += 1
            except VlmAudioError as error:
                assert "Without it no paid request is sent" in str(error)
                outcomes["refused"] += 1
            file.seek(position)
            file.write(byte)
    assert outcomes.keys() == {0.3, "refused"}, outcomes
    account._db.execute("PRAGMA shrink_memory")
    assert account.spent_usd() == 0.3, "the file without damage is used again"


def test_nothing_is_reserved_once_the_open_ledger_is_damaged(result_store, ledger):
    account = ledger(1.0)
    account.reserve("gpt", 0.75)
    result_store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = result_store.path.read_bytes()
    row = content.find(b"studygpt" + (750_000_000).to_bytes(4, "big"))
    assert row > 0 and content.count(b"studygpt") == 2, "the row and the index"
    with result_store.path.open("r+b") as file:
        file.seek(row + 8)
        file.write(bytes(4))
    account._db.execute("PRAGMA shrink_memory")
    for use in (lambda: account.reserve("gpt", 0.9), account.spent_usd, account.remaining_usd, account.excess_usd):
        with pytest.raises(
            VlmAudioError, match=r"its amounts and their index differ\. Without it no paid request is sent"
        ):
            use()


def test_amounts_of_an_older_version_get_checksums(result_store, ledger):
    account = ledger(1.0)
    account.reserve("gpt", 0.75)
    with account._transaction() as db:
        db.execute("ALTER TABLE spending DROP COLUMN checksum")
    assert ledger(1.0).spent_usd() == 0.75
    with account._transaction() as db:
        db.execute("UPDATE spending SET nano_usd = 1")
    with pytest.raises(VlmAudioError, match="rows 1 differ"):
        ledger(1.0)


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
        for ledger in self.ledgers:
            ledger._db.execute("PRAGMA synchronous = OFF")  # arithmetic is tested here, not disks
        self.open, self.settled, self.needs = {}, 0, {}

    def teardown(self):
        for ledger in self.ledgers:
            ledger.close()

    def reserved_for_earlier(self, classifier):
        earlier = self.FIRST[: self.FIRST.index(classifier)] if classifier in self.FIRST else self.FIRST
        return sum(n * each for c, (n, each) in self.needs.items() if c in earlier)

    @rule(classifier=st.sampled_from("abcd"), requests=st.integers(0, 5), each=NANO)
    def expect(self, classifier, requests, each):
        self.ledgers[0].expect(classifier, requests, each / 1e9)
        self.needs[classifier] = (requests, each)

    @rule(target=ids, classifier=st.sampled_from("abcd"), amount=NANO, ledger=st.integers(0, 1))
    def reserve(self, classifier, amount, ledger):
        reservation = self.ledgers[ledger].reserve(classifier, amount / 1e9)
        allowed = (
            self.settled + sum(a for _, a, _ in self.open.values()) + self.reserved_for_earlier(classifier) + amount
            <= self.BUDGET
        )
        assert (reservation is not None) == allowed
        if reservation is not None:
            requests, each = self.needs.get(classifier, (0, 0))
            self.needs[classifier] = (max(requests - 1, 0), each)
            self.open[reservation] = (classifier, amount, requests > 0)
        return reservation

    @rule(reservation=consumes(ids), share=st.fractions(0, 1), ledger=st.integers(0, 1))
    def settle(self, reservation, share, ledger):
        if reservation is not None:
            cost = int(self.open.pop(reservation)[1] * share)
            self.ledgers[ledger].settle(reservation, cost / 1e9)
            self.settled += cost

    @rule(reservation=consumes(ids), ledger=st.integers(0, 1))
    def release(self, reservation, ledger):
        if reservation is not None:
            classifier, _, expected = self.open.pop(reservation)
            self.ledgers[ledger].release(reservation)
            if expected:
                requests, each = self.needs[classifier]
                self.needs[classifier] = (requests + 1, each)

    @invariant()
    def never_too_much(self):
        total = self.settled + sum(a for _, a, _ in self.open.values())
        assert total <= self.BUDGET
        assert Decimal(repr(self.ledgers[1].spent_usd())) == Decimal(total) / self.BUDGET


def test_no_order_of_events_spends_more_than_the_budget(result_store):
    Spenders.store = result_store
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
rng = random.Random(me)
print("ready", flush=True)
sys.stdin.readline()
refused = 0
while refused < 3:
    time.sleep(0.003)  # SQLite's lock is not fair: let the other processes get it
    amount = rng.randrange(1, 10_000_000)
    reservation = ledger.reserve(me, amount / 1e9)
    if reservation is None:
        refused += 1
    elif rng.random() < 0.2:
        ledger.release(reservation)
    elif rng.random() < 0.7:
        ledger.settle(reservation, rng.randrange(amount + 1) / 1e9)
print("done", flush=True)
sys.stdin.readline()
"""


def test_several_processes_one_of_them_killed_never_spend_more_than_the_budget(result_store):
    spenders = [
        subprocess.Popen(
            [sys.executable, "-c", SPENDER, f"p{i}", str(result_store.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(3)
    ]
    for process in spenders:
        assert process.stdout.readline() == "ready\n"
    for process in spenders:
        process.stdin.write("\n")
        process.stdin.flush()
    query = "SELECT coalesce(sum(nano_usd), 0), count(*), count(DISTINCT classifier) FROM spending"
    max_spent = 0
    with sqlite3.connect(result_store.path) as db:
        while all(process.poll() is None for process in spenders):
            spent, requests, spending = db.execute(query).fetchone()
            max_spent = max(max_spent, spent)
            if requests > 30 and spending == 3:
                os.kill(spenders[1].pid, signal.SIGKILL)
        for process in (spenders[0], spenders[2]):
            assert process.stdout.readline() == "done\n"
        spent, requests, _ = db.execute(query).fetchone()
    for process in spenders:
        process.communicate()
    assert requests > 30
    assert max(max_spent, spent) <= 500_000_000
    assert spent > 480_000_000  # the rest is smaller than a few random amounts
    ledger = Ledger(result_store, "study", Budget(usd=0.5))
    assert ledger.spent_usd() == spent / 1e9
    assert set(spending_by_classifier(ledger)) == {"p0", "p1", "p2"}
    ledger.close()
