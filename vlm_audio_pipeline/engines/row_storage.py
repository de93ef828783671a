"""Find the rows of a map that are not stored yet, cut them into batches, and store their results; every engine uses this."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from vlm_audio_pipeline.contracts.work import Failure, Rows
from vlm_audio_pipeline.storage.result_store import ResultStore


class RowStorage:
    """The results of a group of rows: those of the result store, and those that are computed.

    Args:
        rows: the rows.
        result_store: the result store.

    Attributes:
        items: item of each key that is not stored, in order.
        results: payload or failure of each key so far.
    """

    def __init__(self, rows: Rows, result_store: ResultStore):
        keys, sizes = rows.keys, rows.sizes
        if len(keys) != len(rows.items):
            raise ValueError(f"keys and items must have the same length, got {len(keys)} and {len(rows.items)}")
        if sizes is not None and len(sizes) != len(keys):
            raise ValueError(f"keys and sizes must have the same length, got {len(keys)} and {len(sizes)}")
        if rows.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {rows.batch_size}")
        self._rows = rows
        self._result_store = result_store
        self._sizes = dict(zip(keys, sizes or [0.0] * len(keys), strict=True))
        self.results: dict[str, bytes | Failure] = dict(result_store.get(list(dict.fromkeys(keys))))
        if (is_readable := rows.is_readable) is not None:
            unreadable = [k for k, p in self.results.items() if isinstance(p, bytes) and not is_readable(p)]
            result_store.report_unreadable(unreadable)
            for key in unreadable:
                del self.results[key]
        self.items: dict[str, Any] = {k: i for k, i in zip(keys, rows.items, strict=True) if k not in self.results}

    def batches(self, leave_out: Collection[str] = ()) -> list[list[str]]:
        """Return the keys to compute, in batches; `leave_out` are keys that are computed elsewhere."""
        todo = [key for key in self.items if key not in leave_out]
        return list(cut_batches(todo, self._rows.batch_size, self._sizes, self._rows.max_total_size))

    def store(self, batch: Sequence[str], payloads: Sequence[bytes | Failure]) -> None:
        """Store the payloads of a batch; failures are in `results`, but not in the result store.

        Raises:
            ValueError: if there is not one payload for each key.
        """
        if len(payloads) != len(batch):
            raise ValueError(f"compute must return one payload per item, got {len(payloads)} for {len(batch)}")
        computed = dict(zip(batch, payloads, strict=True))
        self._result_store.put(self._rows.kind, [(k, p) for k, p in computed.items() if not isinstance(p, Failure)])
        self.results.update(computed)
        # Another process may have stored this key first; use its value so that both runs agree.
        self.results.update(self._result_store.get(batch))


def cut_batches(
    keys: Iterable[str], max_size: int, sizes: Mapping[str, float], max_total: float
) -> Iterator[list[str]]:
    """Yield batches of consecutive keys, each as large as its limits allow."""
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
