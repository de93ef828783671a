"""Compute expensive results on this machine and store them.

Threads, not processes: decoding (libsndfile), resampling (soxr), FFTs (pocketfft), compression (zlib) and linear algebra
all release the interpreter lock, so threads use every core without start-up cost or copies. BLAS gets one thread per
worker; more would compete for the cores.
"""

import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.storage.result_store import ResultStore

Item = TypeVar("Item")


@dataclass(frozen=True)
class Failure:
    """A result that could not be computed, with the reason. It is returned but not stored, so a later run tries again."""

    reason: str


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
    workers: int | None = None,
    prepare: Callable[[Item], Any] | None = None,
    sizes: Sequence[float] | None = None,
    max_total_size: float = math.inf,
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
        workers: batches at a time; by default one per core. Use 1 for work that uses all cores by itself.
        prepare: maps an item to the input of `compute` (decodes a file). With one worker, the next batch is prepared in
            other threads while this one is computed.
        sizes: size of each prepared item (seconds, bytes), if sizes differ much.
        max_total_size: maximum sum of sizes in a batch; a larger item is a batch of its own.
        progress: called after each batch.

    Returns:
        Payloads in the order of `keys`.

    Raises:
        Whatever `compute` raises; finished batches and those in flight that still finish are stored.
    """
    if len(keys) != len(items):
        raise ValueError(f"keys and items must be equally many, got {len(keys)} and {len(items)}")
    if sizes is not None and len(sizes) != len(keys):
        raise ValueError(f"keys and sizes must be equally many, got {len(keys)} and {len(sizes)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    results: dict[str, bytes | Failure] = dict(result_store.get(list(dict.fromkeys(keys))))
    todo = {k: item for k, item in zip(keys, items, strict=True) if k not in results}
    done, total = len(set(keys)) - len(todo), len(set(keys))
    progress(done, total, kind)
    waiting = list(_batches(todo, batch_size, dict(zip(keys, sizes or [0.0] * len(keys), strict=True)), max_total_size))

    def store(batch: list[str], payloads: Sequence[bytes | Failure]) -> None:
        if len(payloads) != len(batch):
            raise ValueError(f"compute must return one payload per item, got {len(payloads)} for {len(batch)}")
        computed = dict(zip(batch, payloads, strict=True))
        result_store.put(kind, [(k, p) for k, p in computed.items() if not isinstance(p, Failure)])
        results.update(computed)
        # Another process may have stored this key first; use its value so that both runs agree.
        results.update(result_store.get(batch))

    def finish(batch: list[str], payloads: Sequence[bytes | Failure]) -> None:
        nonlocal done
        store(batch, payloads)
        done += len(batch)
        progress(done, total, kind)

    def compute_batch(batch: list[Item]) -> Sequence[bytes | Failure]:
        return compute([prepare(item) for item in batch] if prepare else batch)

    if workers == 1:  # requested: work that uses all cores by itself
        with closing(_one_ahead(waiting, todo, prepare)) as batches:
            for batch, ready in batches:
                finish(batch, compute(ready))
                if prepare:
                    ready.clear()  # before waiting for the next batch, so that two batches are in memory, not three
    elif waiting:
        queue = iter(waiting)
        running: dict[Future[Sequence[bytes | Failure]], list[str]] = {}
        workers = min(workers or core_count(), len(waiting))
        # One BLAS thread even for a single batch: another order of summation would change the last digits.
        with threadpool_limits(limits=1), ThreadPoolExecutor(workers) as pool:
            try:
                while True:
                    while len(running) < 2 * workers and (queued := next(queue, None)) is not None:
                        running[pool.submit(compute_batch, [todo[k] for k in queued])] = queued
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        finish(running.pop(future), future.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)  # waits for running batches: they may have cost money
                for future, batch in running.items():
                    if not future.cancelled() and future.exception() is None:
                        with suppress(VlmAudioError, ValueError):
                            store(batch, future.result())
                raise
    return [results[k] for k in keys]


def _batches(keys: Iterable[str], max_size: int, sizes: Mapping[str, float], max_total: float) -> Iterator[list[str]]:
    batch: list[str] = []
    total = 0.0
    for key in keys:
        if batch and (len(batch) == max_size or total + sizes[key] > max_total):
            yield batch
            batch, total = [], 0.0
        batch.append(key)
        total += sizes[key]
    if batch:
        yield batch


def _one_ahead(
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
