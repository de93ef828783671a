"""`map_rows`: the one way in which costly rows are computed on this machine.

Threads, not processes: decoding (libsndfile), resampling (soxr), FFTs (pocketfft), compression (zlib) and linear algebra
all release the interpreter lock, so threads use every core without start-up cost or copies. BLAS is held to one thread a
worker, or the workers would fight over the cores.
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
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.storage.result_store import RowStore

Item = TypeVar("Item")


@dataclass(frozen=True)
class Failure:
    """A row that could not be computed, and why; it is handed back, never stored, so a later run tries again."""

    reason: str


def cores() -> int:
    """Count the processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_rows(
    keys: Sequence[str],
    items: Sequence[Item],
    compute: Callable[[list[Any]], Sequence[bytes | Failure]],
    rows: RowStore,
    *,
    kind: str,
    batch_size: int = 1,
    workers: int | None = None,
    prepare: Callable[[Item], Any] | None = None,
    sizes: Sequence[float] | None = None,
    largest: float = math.inf,
    progress: Progress = silent,
) -> list[bytes | Failure]:
    """Give the payload of every key, computing only those that are not stored.

    Each batch is stored as soon as it is computed, so that a kill loses at most the batches in flight. Keys that occur
    twice are computed once.

    Args:
        keys: row keys: a hash of everything that determines the payload.
        items: what `compute` needs, one for each key.
        compute: items of a batch -> payloads, in order; a `Failure` for a row that cannot be had.
        rows: the row store.
        kind: what the rows are, for people who look into the store.
        batch_size: items a call.
        workers: batches at a time; by default one a core. Use 1 for work that fills the machine by itself.
        prepare: makes of an item what `compute` is handed in its place (decodes a file). With one worker the next batch
            is prepared in other threads while this one is computed: at most one batch is ahead.
        sizes: how large each item is once prepared (seconds, bytes), where they differ much.
        largest: sum of sizes at which a batch is full before it has `batch_size` items; a larger item goes alone.
        progress: told after each batch.

    Returns:
        Payloads in the order of `keys`.

    Raises:
        Whatever `compute` raises; batches finished before, and those in flight that still finish, are kept.
    """
    if len(keys) != len(items):
        raise ValueError(f"keys and items must be equally many, got {len(keys)} and {len(items)}")
    if sizes is not None and len(sizes) != len(keys):
        raise ValueError(f"keys and sizes must be equally many, got {len(keys)} and {len(sizes)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    found: dict[str, bytes | Failure] = dict(rows.get(list(dict.fromkeys(keys))))
    todo = {k: item for k, item in zip(keys, items, strict=True) if k not in found}
    done, total = len(set(keys)) - len(todo), len(set(keys))
    progress(done, total, kind)
    waiting = list(_batches(todo, batch_size, dict(zip(keys, sizes or [0.0] * len(keys), strict=True)), largest))

    def keep(batch: list[str], payloads: Sequence[bytes | Failure]) -> None:
        if len(payloads) != len(batch):
            raise ValueError(f"compute must give one payload an item, got {len(payloads)} for {len(batch)}")
        result = dict(zip(batch, payloads, strict=True))
        rows.put(kind, [(k, p) for k, p in result.items() if not isinstance(p, Failure)])
        found.update(result)
        found.update(rows.get(batch))  # another process may have been first, and what is stored is what counts

    def finish(batch: list[str], payloads: Sequence[bytes | Failure]) -> None:
        nonlocal done
        keep(batch, payloads)
        done += len(batch)
        progress(done, total, kind)

    def whole(batch: list[Item]) -> Sequence[bytes | Failure]:
        return compute([prepare(item) for item in batch] if prepare else batch)

    if workers == 1:  # by wish: work that takes all cores by itself
        with closing(_one_ahead(waiting, todo, prepare)) as batches:
            for batch, ready in batches:
                finish(batch, compute(ready))
                if prepare:
                    ready.clear()  # before the next batch is waited for: two are in memory, not three
    elif waiting:
        queue = iter(waiting)
        running: dict[Future[Sequence[bytes | Failure]], list[str]] = {}
        workers = min(workers or cores(), len(waiting))
        # one BLAS thread also where a single batch is left: sums in another order would give other last digits
        with threadpool_limits(limits=1), ThreadPoolExecutor(workers) as pool:
            try:
                while True:
                    while len(running) < 2 * workers and (more := next(queue, None)) is not None:
                        running[pool.submit(whole, [todo[k] for k in more])] = more
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        finish(running.pop(future), future.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)  # waits for what is in flight: it may have been paid for
                for future, batch in running.items():
                    if not future.cancelled() and future.exception() is None:
                        with suppress(VlmAudioError, ValueError):
                            keep(batch, future.result())
                raise
    return [found[k] for k in keys]


def _batches(keys: Iterable[str], most: int, sizes: Mapping[str, float], largest: float) -> Iterator[list[str]]:
    batch: list[str] = []
    filled = 0.0
    for key in keys:
        if batch and (len(batch) == most or filled + sizes[key] > largest):
            yield batch
            batch, filled = [], 0.0
        batch.append(key)
        filled += sizes[key]
    if batch:
        yield batch


def _one_ahead(
    batches: Sequence[list[str]], items: Mapping[str, Item], prepare: Callable[[Item], Any] | None
) -> Generator[tuple[list[str], list[Any]], None, None]:
    """Give each batch with its prepared items, while the one after it is being prepared."""
    if prepare is None:
        for batch in batches:
            yield batch, [items[k] for k in batch]
        return
    with ThreadPoolExecutor(cores()) as pool:
        try:
            coming: list[Future[Any]] = []
            for i, batch in enumerate(batches):
                ready = [f.result() for f in (coming or [pool.submit(prepare, items[k]) for k in batch])]
                coming = [pool.submit(prepare, items[k]) for k in (batches[i + 1] if i + 1 < len(batches) else ())]
                yield batch, ready
        finally:
            pool.shutdown(cancel_futures=True)
