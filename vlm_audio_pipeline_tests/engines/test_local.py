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
def result_store(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    yield store
    store.close()


def payload(item: int) -> bytes:
    return f"<{item}>".encode()


class Counting:
    """A computation that records its batches and raises an error at one item."""

    def __init__(self, failing_at: int | None = None, error: BaseException | None = None):
        self.batches: list[list[int]] = []
        self.failing_at, self.error = failing_at, error
        self.lock = threading.Lock()

    def __call__(self, items: list[int]) -> list[bytes | Failure]:
        with self.lock:
            self.batches.append(list(items))
        if self.error is not None and self.failing_at in items:
            raise self.error
        return [payload(i) for i in items]

    @property
    def items(self) -> list[int]:
        return sorted(i for batch in self.batches for i in batch)


def run(numbers, compute, result_store, **options) -> list[bytes | Failure]:
    return compute_results([f"k{n}" for n in numbers], numbers, compute, result_store, **{"kind": "test"} | options)


@pytest.mark.parametrize("max_parallel", [1, 2, None])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_payloads_are_in_the_order_of_keys_and_each_is_computed_once(result_store, max_parallel, batch_size):
    numbers = [5, 3, 9, 3, 1, 5, 5, 0, 2, 7]
    compute = Counting()
    assert run(numbers, compute, result_store, max_parallel=max_parallel, batch_size=batch_size) == [
        payload(n) for n in numbers
    ]
    assert compute.items == [0, 1, 2, 3, 5, 7, 9]
    assert max(map(len, compute.batches)) <= batch_size
    assert result_store.get([f"k{n}" for n in numbers]) == {f"k{n}": payload(n) for n in numbers}
    assert result_store.count("test") == 7


@given(
    st.lists(st.integers(0, 20)),
    st.sets(st.integers(0, 20)),
    st.sets(st.integers(0, 20)),
    st.integers(1, 5),
    st.sampled_from([1, 2, 3]),
)
def test_any_combination_of_stored_and_failing_items(
    tmp_path_factory, numbers, stored, failing, batch_size, max_parallel
):
    store = ResultStore(tmp_path_factory.mktemp("rows") / "results.sqlite")
    store.put("before", [(f"k{n}", payload(n)) for n in stored])
    computed: list[int] = []

    def compute(items):
        computed.extend(items)
        return [Failure(f"no {i}") if i in failing else payload(i) for i in items]

    results = run(numbers, compute, store, batch_size=batch_size, max_parallel=max_parallel)
    expected = [Failure(f"no {n}") if n in failing - stored else payload(n) for n in numbers]
    assert results == expected
    assert sorted(computed) == sorted(set(numbers) - stored)
    assert store.count() == len(stored | (set(numbers) - failing))
    store.close()


def test_only_missing_results_are_computed(result_store):
    run(range(4), Counting(), result_store)
    compute = Counting()
    assert run(range(6), compute, result_store) == [payload(n) for n in range(6)]
    assert compute.items == [4, 5]
    compute = Counting()
    run(range(6), compute, result_store)
    assert compute.batches == []


def test_failures_are_returned_and_computed_again_in_the_next_call(result_store):
    first = run([1, 2], lambda items: [Failure("no weights") for _ in items], result_store)
    assert first == [Failure("no weights")] * 2
    assert result_store.count() == 0
    assert run([1, 2], Counting(), result_store) == [b"<1>", b"<2>"]


def test_an_empty_payload_is_stored(result_store):
    assert run([1], lambda items: [b""], result_store) == [b""]
    assert set(result_store.get(["k1"])) == {"k1"}


def test_no_keys_give_no_results(result_store):
    progress_calls = []
    assert run([], Counting(), result_store, progress=lambda *a: progress_calls.append(a)) == []
    assert progress_calls == [(0, 0, "test")]


@pytest.mark.parametrize("max_parallel", [1, 2])
def test_batches_before_an_error_are_stored(result_store, max_parallel):
    compute = Counting(failing_at=6, error=ZeroDivisionError("broken"))
    with pytest.raises(ZeroDivisionError, match="broken"):
        run(range(100), compute, result_store, batch_size=2, max_parallel=max_parallel)
    assert set(result_store.get([f"k{n}" for n in range(100)])) >= {f"k{n}" for n in range(6)}
    assert not result_store.get(["k6", "k7"])
    assert len(compute.batches) < 20  # the remaining batches were not started
    compute = Counting()
    run(range(100), compute, result_store)
    assert not set(compute.items) & set(range(6))


def test_a_batch_in_flight_is_stored_when_another_batch_fails(result_store):
    """A response may have been paid for. Here batch 1 is still being computed when batch 0 fails."""
    started, failed = threading.Event(), threading.Event()

    def compute(items):
        if items == [0]:
            started.wait(20)
            failed.set()
            raise ZeroDivisionError
        started.set()
        failed.wait(20)
        time.sleep(0.2)
        return [payload(i) for i in items]

    with pytest.raises(ZeroDivisionError):
        run([0, 1], compute, result_store, max_parallel=2)
    assert result_store.get(["k0", "k1"]) == {"k1": b"<1>"}


@pytest.mark.parametrize("max_parallel", [1, 2])
def test_an_interrupt_stops_soon_and_stores_finished_batches(result_store, max_parallel):
    compute = Counting()

    def slow(items):
        time.sleep(0.02)
        return compute(items)

    def interrupt(done, total, what):
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(range(1000), slow, result_store, max_parallel=max_parallel, progress=interrupt)
    assert 3 <= len(compute.items) < 20  # of 1000
    assert result_store.count() == len(compute.items)


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
compute_results([str(i) for i in range(2000)], range(2000), compute, ResultStore(Path(sys.argv[1])), kind="t", max_parallel=2, progress=progress)
"""


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_ctrl_c_keeps_every_result_that_was_reported(tmp_path):
    import signal

    path = tmp_path / "results.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while process.stdout.readline() != b"8\n":
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in errors
    last = max([8, *map(int, out.split())])
    store = ResultStore(path)
    assert last <= store.count() < 200
    store.close()


@pytest.mark.parametrize("max_parallel", [1, 2])
def test_progress_never_decreases_and_ends_at_the_total(result_store, max_parallel):
    run([3, 4], Counting(), result_store)
    progress_calls = []
    run(
        [0, 1, 2, 3, 4, 4, 0],
        Counting(),
        result_store,
        max_parallel=max_parallel,
        progress=lambda *a: progress_calls.append(a),
    )
    assert progress_calls == [(n, 5, "test") for n in (2, 3, 4, 5)]


@pytest.mark.parametrize("max_parallel", [1, 2])
@pytest.mark.parametrize("payload_count", [0, 1, 3])
def test_too_few_or_too_many_payloads_are_refused(result_store, max_parallel, payload_count):
    with pytest.raises(ValueError, match=f"got {payload_count} for 2"):
        run(range(4), lambda items: [b"x"] * payload_count, result_store, batch_size=2, max_parallel=max_parallel)
    assert result_store.count() == 0


def test_keys_without_items_are_refused(result_store):
    with pytest.raises(ValueError, match="got 2 and 1"):
        compute_results(["a", "b"], [1], Counting(), result_store, kind="test")


def test_a_batch_size_of_zero_is_refused(result_store):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        run([1], Counting(), result_store, batch_size=0)


def test_the_payload_that_another_process_stored_first_is_returned(result_store):
    """A model may return another response each time; with its own one the partition file would differ from the store."""

    def compute(items):
        result_store.put("other process", [("k1", b"first")])
        return [b"second" for _ in items]

    assert run([1, 2], compute, result_store, batch_size=2) == [b"first", b"second"]


@pytest.mark.parametrize("max_parallel", [1, 2])
def test_a_full_disk_is_reported(result_store, max_parallel):
    pages = result_store._db.execute("PRAGMA page_count").fetchone()[0]
    result_store._db.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(VlmAudioError, match="full"):
        run(range(20), lambda items: [b"x" * 5000 for _ in items], result_store, max_parallel=max_parallel)


def test_batches_run_at_the_same_time(result_store):
    barrier = threading.Barrier(2, timeout=20)

    def compute(items):
        barrier.wait()  # fails if only one batch runs at a time
        return [payload(i) for i in items]

    assert run([1, 2], compute, result_store, max_parallel=2) == [b"<1>", b"<2>"]


def test_with_one_worker_everything_runs_in_the_calling_thread(result_store):
    thread_ids = set()

    def compute(items):
        thread_ids.add(threading.get_ident())
        return [payload(i) for i in items]

    run(range(5), compute, result_store, max_parallel=1)
    assert thread_ids == {threading.get_ident()}


def test_only_a_few_batches_are_computed_ahead_of_the_store(result_store):
    """Payloads that wait for storing are in memory and lost in a kill: at most two batches for each worker."""
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

    run(range(200), compute, result_store, batch_size=2, max_parallel=2, progress=progress)
    assert peak <= 4
    assert waiting == 0


def test_two_thousand_rows_take_little_memory(result_store):
    tracemalloc.start()
    try:
        run(range(2000), Counting(), result_store, max_parallel=2)
        assert tracemalloc.get_traced_memory()[1] < 20e6  # bytes
    finally:
        tracemalloc.stop()


def test_core_count_is_the_number_of_usable_cores():
    assert 1 <= core_count() <= os.cpu_count()
    output = subprocess.run(
        [sys.executable, "-c", "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
         "from vlm_audio_pipeline.engines import core_count; print(core_count())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert output.stdout == "1\n"


def test_the_number_of_remaining_batches_does_not_change_the_last_digits(tmp_path):
    """After a kill a single batch may remain. BLAS uses one thread for it too and adds in the same order."""
    from threadpoolctl import threadpool_info

    np.ones((8, 8)) @ np.ones((8, 8))  # BLAS is loaded
    thread_counts = []

    def compute(items):
        thread_counts.append({library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"})
        return [b"x"] * len(items)

    store = ResultStore(tmp_path / "results.sqlite")
    for n in (1, 3):
        compute_results([f"{n} {i}" for i in range(n)], range(n), compute, store, kind="test")
    store.close()
    assert len(thread_counts) == 4 and all(threads == {1} for threads in thread_counts)
