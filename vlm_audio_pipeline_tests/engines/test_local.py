import os
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.engines import Failure, compute_results, core_count
from vlm_audio_pipeline.storage.result_store import ResultStore


@pytest.fixture
def rows(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    yield store
    store.close()


def payload(item: int) -> bytes:
    return f"<{item}>".encode()


class Counting:
    """A computation that remembers what it was asked, and fails at one item."""

    def __init__(self, failing_at: int | None = None, error: BaseException | None = None):
        self.asked: list[list[int]] = []
        self.failing_at, self.error = failing_at, error
        self.lock = threading.Lock()

    def __call__(self, items: list[int]) -> list[bytes | Failure]:
        with self.lock:
            self.asked.append(list(items))
        if self.error is not None and self.failing_at in items:
            raise self.error
        return [payload(i) for i in items]

    @property
    def items(self) -> list[int]:
        return sorted(i for batch in self.asked for i in batch)


def run(numbers, compute, rows, **how) -> list[bytes | Failure]:
    return compute_results([f"k{n}" for n in numbers], numbers, compute, rows, **{"kind": "test"} | how)


@pytest.mark.parametrize("workers", [1, 2, None])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_payloads_come_in_the_order_of_keys_each_computed_once(rows, workers, batch_size):
    numbers = [5, 3, 9, 3, 1, 5, 5, 0, 2, 7]
    compute = Counting()
    assert run(numbers, compute, rows, workers=workers, batch_size=batch_size) == [payload(n) for n in numbers]
    assert compute.items == [0, 1, 2, 3, 5, 7, 9]
    assert max(map(len, compute.asked)) <= batch_size
    assert rows.get([f"k{n}" for n in numbers]) == {f"k{n}": payload(n) for n in numbers}
    assert rows.count("test") == 7


@given(
    st.lists(st.integers(0, 20)),
    st.sets(st.integers(0, 20)),
    st.sets(st.integers(0, 20)),
    st.integers(1, 5),
    st.sampled_from([1, 2, 3]),
)
def test_whatever_is_stored_and_fails(tmp_path_factory, numbers, stored, failing, batch_size, workers):
    store = ResultStore(tmp_path_factory.mktemp("rows") / "results.sqlite")
    store.put("before", [(f"k{n}", payload(n)) for n in stored])
    asked: list[int] = []

    def compute(items):
        asked.extend(items)
        return [Failure(f"no {i}") if i in failing else payload(i) for i in items]

    given = run(numbers, compute, store, batch_size=batch_size, workers=workers)
    want = [Failure(f"no {n}") if n in failing - stored else payload(n) for n in numbers]
    assert given == want
    assert sorted(asked) == sorted(set(numbers) - stored)
    assert store.count() == len(stored | (set(numbers) - failing))
    store.close()


def test_only_what_is_missing_is_computed(rows):
    run(range(4), Counting(), rows)
    compute = Counting()
    assert run(range(6), compute, rows) == [payload(n) for n in range(6)]
    assert compute.items == [4, 5]
    compute = Counting()
    run(range(6), compute, rows)
    assert compute.asked == []


def test_failures_are_handed_back_and_tried_again(rows):
    first = run([1, 2], lambda items: [Failure("no weights") for _ in items], rows)
    assert first == [Failure("no weights")] * 2
    assert rows.count() == 0
    assert run([1, 2], Counting(), rows) == [b"<1>", b"<2>"]


def test_an_empty_payload_is_a_payload(rows):
    assert run([1], lambda items: [b""], rows) == [b""]
    assert rows.stored_keys(["k1"]) == {"k1"}


def test_nothing_to_do(rows):
    told = []
    assert run([], Counting(), rows, progress=lambda *a: told.append(a)) == []
    assert told == [(0, 0, "test")]


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_before_an_error_are_kept(rows, workers):
    compute = Counting(failing_at=6, error=ZeroDivisionError("broken"))
    with pytest.raises(ZeroDivisionError, match="broken"):
        run(range(100), compute, rows, batch_size=2, workers=workers)
    assert set(rows.get([f"k{n}" for n in range(100)])) >= {f"k{n}" for n in range(6)}
    assert not rows.stored_keys(["k6", "k7"])
    assert len(compute.asked) < 20  # and the rest was not begun
    compute = Counting()
    run(range(100), compute, rows)
    assert not set(compute.items) & set(range(6))


def test_what_is_in_flight_when_another_batch_fails_is_kept(rows):
    """An answer may have been paid for: here batch 1 is still at work when batch 0 fails."""
    begun, failed = threading.Event(), threading.Event()

    def compute(items):
        if items == [0]:
            begun.wait(20)
            failed.set()
            raise ZeroDivisionError
        begun.set()
        failed.wait(20)
        time.sleep(0.2)
        return [payload(i) for i in items]

    with pytest.raises(ZeroDivisionError):
        run([0, 1], compute, rows, workers=2)
    assert rows.get(["k0", "k1"]) == {"k1": b"<1>"}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_stops_soon_and_keeps_what_is_finished(rows, workers):
    compute = Counting()

    def slow(items):
        time.sleep(0.02)
        return compute(items)

    def interrupt(done, total, what):
        if done >= 3:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(range(1000), slow, rows, workers=workers, progress=interrupt)
    assert time.monotonic() - began < 10  # s; all of it would take 20 s with one worker
    assert 3 <= len(compute.items) < 20
    assert rows.count() == len(compute.items)


INTERRUPTED = """
import sys, time
from pathlib import Path
from vlm_audio_pipeline.engines import compute_results
from vlm_audio_pipeline.storage.result_store import ResultStore
def compute(items):
    time.sleep(0.05)
    return [b"x" for _ in items]
def progress(done, total, what):
    print(done, flush=True)
compute_results([str(i) for i in range(2000)], range(2000), compute, ResultStore(Path(sys.argv[1])), kind="t", workers=2, progress=progress)
"""


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_ctrl_c_keeps_all_that_was_told(tmp_path):
    import signal

    path = tmp_path / "results.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while process.stdout.readline() != b"8\n":
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in said
    last = max([8, *map(int, out.split())])
    store = ResultStore(path)
    assert last <= store.count() < 200
    store.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_never_goes_back_and_ends_complete(rows, workers):
    run([3, 4], Counting(), rows)
    told = []
    run([0, 1, 2, 3, 4, 4, 0], Counting(), rows, workers=workers, progress=lambda *a: told.append(a))
    assert told == [(n, 5, "test") for n in (2, 3, 4, 5)]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("given", [0, 1, 3])
def test_too_few_or_too_many_payloads_are_refused(rows, workers, given):
    with pytest.raises(ValueError, match=f"got {given} for 2"):
        run(range(4), lambda items: [b"x"] * given, rows, batch_size=2, workers=workers)
    assert rows.count() == 0


def test_keys_without_items_are_refused(rows):
    with pytest.raises(ValueError, match="got 2 and 1"):
        compute_results(["a", "b"], [1], Counting(), rows, kind="test")


def test_batches_of_nothing_are_refused(rows):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        run([1], Counting(), rows, batch_size=0)


def test_what_another_process_stored_first_is_what_counts(rows):
    """Otherwise the part made here would differ from the store, for what a model says is not always the same."""

    def compute(items):
        rows.put("other process", [("k1", b"first")])
        return [b"second" for _ in items]

    assert run([1, 2], compute, rows, batch_size=2) == [b"first", b"second"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_said(rows, workers):
    pages = rows._db.execute("PRAGMA page_count").fetchone()[0]
    rows._db.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(VlmAudioError, match="full"):
        run(range(20), lambda items: [b"x" * 5000 for _ in items], rows, workers=workers)


def test_batches_are_at_work_at_the_same_time(rows):
    together = threading.Barrier(2, timeout=20)

    def compute(items):
        together.wait()  # would break, were there one at a time
        return [payload(i) for i in items]

    assert run([1, 2], compute, rows, workers=2) == [b"<1>", b"<2>"]


def test_with_one_worker_nothing_leaves_the_thread(rows):
    seen = set()

    def compute(items):
        seen.add(threading.get_ident())
        return [payload(i) for i in items]

    run(range(5), compute, rows, workers=1)
    assert seen == {threading.get_ident()}


def test_only_a_few_batches_are_computed_ahead_of_the_store(rows):
    """Payloads that wait to be stored lie in memory, and are lost in a kill: at most twice as many as workers."""
    waiting = peak = 0
    lock = threading.Lock()

    def compute(items):
        nonlocal waiting, peak
        with lock:
            waiting += 1
            peak = max(peak, waiting)
        return [payload(i) for i in items]

    def progress(done, total, what):
        nonlocal waiting
        with lock:
            waiting -= done > 0
        time.sleep(0.002)  # a store slower than the computation

    run(range(200), compute, rows, batch_size=2, workers=2, progress=progress)
    assert peak <= 4
    assert waiting == 0


def test_two_thousand_rows_take_little_memory(rows):
    tracemalloc.start()
    try:
        run(range(2000), Counting(), rows, workers=2)
        assert tracemalloc.get_traced_memory()[1] < 20e6  # bytes
    finally:
        tracemalloc.stop()


def test_cores_are_those_we_may_use():
    assert 1 <= core_count() <= os.cpu_count()
    one = subprocess.run(
        [sys.executable, "-c", "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
         "from vlm_audio_pipeline.engines import core_count; print(core_count())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert one.stdout == "1\n"


def test_the_last_digits_do_not_hang_on_how_much_is_left_to_do(tmp_path):
    """After a kill a single batch may be left: BLAS has one thread there, too, and sums in the same order."""
    from threadpoolctl import threadpool_info

    np.ones((8, 8)) @ np.ones((8, 8))  # BLAS is loaded
    seen = []

    def compute(items):
        seen.append({library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"})
        return [b"x"] * len(items)

    store = ResultStore(tmp_path / "results.sqlite")
    for n in (1, 3):
        compute_results([f"{n} {i}" for i in range(n)], range(n), compute, store, kind="test")
    store.close()
    assert len(seen) == 4 and all(threads == {1} for threads in seen)
