"""Look up values of a sorted stream by ascending keys, without keeping the stream in memory."""

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class SortedLookup(Generic[Value]):
    """Finds the value of each key in a stream of (key, value), both in ascending order.

    Args:
        pairs: keys, each at most once, and values.
    """

    def __init__(self, pairs: Iterable[tuple[Any, Value]]):
        self._pairs: Iterator[tuple[Any, Value]] = iter(pairs)
        self._next = next(self._pairs, None)

    def get(self, key: Any) -> Value | None:
        """Return the value of a key that is not below the previous one; None if the stream has no such key.

        >>> lookup = SortedLookup([(1, "dog"), (3, "rain")])
        >>> lookup.get(1), lookup.get(1), lookup.get(2), lookup.get(3), lookup.get(4)
        ('dog', 'dog', None, 'rain', None)
        """
        while self._next is not None and self._next[0] < key:
            self._next = next(self._pairs, None)
        return self._next[1] if self._next is not None and self._next[0] == key else None
