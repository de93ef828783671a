"""Cut a list of requests into chunks: requests that a backend computes together, always with the same neighbours."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def cut_chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield consecutive chunks of `size` items; a single item at the end joins the chunk before it.

    A single request shares no prefix with a neighbour, so it would be computed in another way than the others.

    >>> [len(chunk) for chunk in cut_chunks(range(17), 8)]
    [8, 9]
    """
    start = 0
    while start < len(items):
        stop = start + size
        if len(items) - stop == 1 < size:
            stop += 1
        yield items[start:stop]
        start = stop
