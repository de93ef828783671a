"""In which order the tasks of a map go to the workers."""

from collections import deque
from itertools import pairwise
from typing import Protocol


class TaskQueue(Protocol):
    """Positions of tasks that wait for a worker."""

    def take(self, worker: object) -> int | None:
        """Return the next task for a worker; None if there is none for it."""
        ...

    def put_back(self, task: int) -> None:
        """Return a task whose worker was lost."""
        ...

    def release(self, worker: object) -> None:
        """Make the tasks of a lost worker free for the others."""
        ...

    def __len__(self) -> int: ...


class FirstComeQueue:
    """Every worker takes the next task.

    Args:
        count: number of tasks.
    """

    def __init__(self, count: int):
        self._tasks = deque(range(count))

    def take(self, worker: object) -> int | None:
        """Return the next task."""
        return self._tasks.popleft() if self._tasks else None

    def put_back(self, task: int) -> None:
        """Put the task first."""
        self._tasks.appendleft(task)

    def release(self, worker: object) -> None:
        """Do nothing: no task belongs to a worker."""

    def __len__(self) -> int:
        return len(self._tasks)


class RangeQueue:
    """Each worker has a contiguous range of tasks, because neighbours share long prefixes; an idle one takes half of the longest range.

    Args:
        count: number of tasks.
        workers: number of ranges to cut.
    """

    def __init__(self, count: int, workers: int):
        bounds = [i * count // max(workers, 1) for i in range(max(workers, 1) + 1)]
        self._free = deque(deque(range(a, b)) for a, b in pairwise(bounds) if a < b)
        self._owned: dict[object, deque[int]] = {}

    def take(self, worker: object) -> int | None:
        """Return the next task of the worker's range."""
        own = self._owned.setdefault(worker, deque())
        if not own:
            if self._free:
                own.extend(self._free.popleft())
            else:
                longest = max(self._owned.values(), key=len)
                own.extend(reversed([longest.pop() for _ in range(len(longest) // 2)]))
        return own.popleft() if own else None

    def put_back(self, task: int) -> None:
        """Make the task a range of its own, the first to be taken."""
        self._free.appendleft(deque([task]))

    def release(self, worker: object) -> None:
        """Make the rest of the worker's range free."""
        if rest := self._owned.pop(worker, None):
            self._free.appendleft(rest)

    def __len__(self) -> int:
        return sum(map(len, self._free)) + sum(map(len, self._owned.values()))
