"""Compute expensive results on this machine and store them.

Threads, not processes: decoding (libsndfile), resampling (soxr), FFTs (pocketfft), compression (zlib) and linear algebra
all release the interpreter lock, so threads use every core without start-up cost or copies. BLAS always has one thread: with
more, the order of summation, and so the last digits of a result, would depend on the number of cores.
"""

import math
import os
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, closing, suppress
from typing import Any, TypeVar

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.work import BackendWork, Compute, Failure, NodeCall, Rows
from vlm_audio_pipeline.engines.blas import one_blas_thread
from vlm_audio_pipeline.engines.gpu_lock import exclusive_gpu
from vlm_audio_pipeline.engines.row_storage import RowStorage
from vlm_audio_pipeline.storage.result_store import ResultStore

Item = TypeVar("Item")


Result = TypeVar("Result")


def core_count() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compute_results(
    keys: Sequence[str],
    items: Sequence[Item],
    compute: Callable[[list[Any]], Sequence[bytes | Failure]],
    result_store: ResultStore,
    *,
    kind: str,
    batch_size: int = 1,
    max_parallel: int | None = None,
    prepare: Callable[[Item], Any] | None = None,
    sizes: Sequence[float] | None = None,
    max_total_size: float = math.inf,
    is_readable: Callable[[bytes], bool] | None = None,
    progress: Progress = no_progress,
) -> list[bytes | Failure]:
    """Return the payload of every key; compute only those that are not stored.

    Each batch is stored as soon as it is computed, so a kill loses at most the batches in flight. A key that occurs
    twice is computed once.

    Args:
        keys: result keys: hashes of everything that determines the payload.
        items: the input of `compute` for each key.
        compute: maps the items of a batch to payloads, in order; `Failure` for one that cannot be computed.
        result_store: the result store.
        kind: kind of the results in the store.
        batch_size: items per call.
        max_parallel: number of batches computed at the same time; by default one per core. Use 1 if `compute` uses all cores.
        prepare: maps an item to the input of `compute` (decodes a file). With `max_parallel=1`, the next batch is prepared in
            other threads while this one is computed.
        sizes: size of each prepared item (seconds, bytes), if sizes differ much.
        max_total_size: maximum sum of sizes in a batch; a larger item is a batch of its own.
        is_readable: returns whether a stored payload can be read; others are computed again.
        progress: called after each batch.

    Returns:
        Payloads in the order of `keys`.

    Raises:
        Every exception of `compute`. Finished batches, and batches in flight that still finish, are stored first.
    """
    work: Any = None  # the computation is `compute`
    rows = Rows(keys, items, work, kind, batch_size, sizes, max_total_size, is_readable)
    storage = RowStorage(rows, result_store)
    todo, todo_batches = storage.items, storage.batches()
    done, total = len(set(keys)) - len(todo), len(set(keys))
    progress(done, total, kind)

    def finish(batch: list[str], payloads: Sequence[bytes | Failure]) -> None:
        nonlocal done
        storage.store(batch, payloads)
        done += len(batch)
        progress(done, total, kind)

    def compute_batch(batch: list[Item]) -> Sequence[bytes | Failure]:
        return compute([prepare(item) for item in batch] if prepare else batch)

    if max_parallel == 1:  # `compute` uses all cores
        with one_blas_thread(), closing(_prepare_ahead(todo_batches, todo, prepare)) as batches:
            for batch, ready in batches:
                finish(batch, compute(ready))
                if prepare:
                    ready.clear()  # free it before the next batch is awaited: two batches are in memory, not three
    elif todo_batches:
        queue = iter(todo_batches)
        running: dict[Future[Sequence[bytes | Failure]], list[str]] = {}
        threads = min(max_parallel or core_count(), len(todo_batches))
        # One BLAS thread even for a single batch: another order of summation would change the last digits.
        with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
            try:
                while True:
                    while len(running) < 2 * threads and (batch_keys := next(queue, None)) is not None:
                        running[pool.submit(compute_batch, [todo[k] for k in batch_keys])] = batch_keys
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        finish(running.pop(future), future.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)  # waits for running batches: they may have cost money
                for future, batch in running.items():
                    if not future.cancelled() and future.exception() is None:
                        with suppress(VlmAudioError, ValueError):
                            storage.store(batch, future.result())
                raise
    return [storage.results[k] for k in keys]


def map_ordered(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    progress: Progress,
    on_result: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Map a function over items on every core of this machine, with one BLAS thread per worker.

    Args:
        function: maps an item to its result.
        items: n items.
        progress: called after each item, which is an image.
        on_result: called with each result, in the order of `items`.

    Returns:
        The results, in the order of `items`.
    """
    with one_blas_thread(), ThreadPoolExecutor(core_count()) as pool:
        results = []
        for result in pool.map(function, items):
            results.append(result)
            on_result(result)
            progress(len(results), len(items), "image")
        return results


class LocalEngine:
    """The engine of this machine; see `contracts.work.Engine`."""

    maps_all_folds = False  # a fold keeps every core busy, and its results appear early

    def map_rows(
        self, rows: Sequence[Rows], result_store: ResultStore, progress: Progress
    ) -> list[list[bytes | Failure]]:
        """Compute rows in threads; see `Engine.map_rows`."""
        opened: list[Compute] = []  # at the first batch, and only if there is one
        lock = threading.Lock()

        def compute(batch: list[Any]) -> Sequence[bytes | Failure]:
            with lock:
                if not opened:
                    opened.append(rows[0].work.open())
            return opened[0](batch)

        return [
            compute_results(
                group.keys,
                group.items,
                compute,
                result_store,
                kind=group.kind,
                batch_size=group.batch_size,
                max_parallel=group.work.max_parallel,
                prepare=group.work.prepare,
                sizes=group.sizes,
                max_total_size=group.max_total_size,
                is_readable=group.is_readable,
                progress=progress,
            )
            for group in rows
        ]

    def map_ordered(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        progress: Progress,
        on_result: Callable[[Result], None] = lambda result: None,
    ) -> list[Result]:
        """Map a function over items in threads; see `map_ordered`."""
        return map_ordered(function, items, progress, on_result)

    def open_backend(self, work: BackendWork) -> Any:
        """Load the language model in this process."""
        return work.open()

    def has_gpu(self) -> bool | None:
        """Return None: works run in this process."""
        return None

    def call_everywhere(self, function: Callable[[], Result]) -> list[NodeCall[Result]]:
        """Return []: there is no other machine."""
        return []

    def exclusive_gpu(self, progress: Progress) -> AbstractContextManager[None]:
        """Hold the accelerator; see `gpu_lock.exclusive_gpu`."""
        return exclusive_gpu(progress)

    def close(self) -> None:
        """Do nothing: threads end with each map."""


def _prepare_ahead(
    batches: Sequence[list[str]], items: Mapping[str, Item], prepare: Callable[[Item], Any] | None
) -> Generator[tuple[list[str], list[Any]], None, None]:
    """Yield each batch with its prepared items, while the next batch is being prepared."""
    if prepare is None:
        for batch in batches:
            yield batch, [items[k] for k in batch]
        return
    with ThreadPoolExecutor(core_count()) as pool:
        try:
            next_batch: list[Future[Any]] = []
            for i, batch in enumerate(batches):
                ready = [f.result() for f in (next_batch or [pool.submit(prepare, items[k]) for k in batch])]
                next_batch = [pool.submit(prepare, items[k]) for k in (batches[i + 1] if i + 1 < len(batches) else ())]
                yield batch, ready
        finally:
            pool.shutdown(cancel_futures=True)
