"""How many requests are under way at once: as many as the endpoint bears.

What belongs here: the pace. What does not: retries, which are the client's.

Additive increase, multiplicative decrease, as TCP does it (Jacobson 1988, https://doi.org/10.1145/52325.52356): the
limit grows by one with every answer until the endpoint first complains, later by one a round trip; a complaint (429, 503,
no answer in time) halves it, once for all requests that were under way when it was halved.
"""

import asyncio
import math
import time
from collections.abc import Callable

LONGEST_PAUSE_S = 120.0
"""As long as the client itself waits at most when told to."""


class Pace:
    """The number of requests under way, and the moment from which new ones may start.

    Not for several event loops at once.

    Args:
        most: the limit never exceeds this.
        start: the limit at first.
        clock: seconds, monotonic.
    """

    def __init__(self, most: int, start: int = 4, clock: Callable[[], float] = time.monotonic):
        self.most = most
        self.limit = float(min(start, most))
        self.running = 0
        self._clock = clock
        self._untroubled = True
        self._cut_at = -math.inf
        self._resume_at = -math.inf
        self._changed: asyncio.Event | None = None

    async def enter(self) -> bool:
        """Wait until another request may start, and count it. There is one dispatcher, so they start in order.

        Returns:
            False, without waiting or counting, if the endpoint wants to be left alone for longer than anybody waits.
        """
        while True:
            pause = self.pause_s()
            if pause > LONGEST_PAUSE_S:
                return False
            if self.running < int(self.limit) and pause <= 0:
                self.running += 1
                return True
            await self.change(pause if pause > 0 else None)

    def pause_s(self) -> float:
        """Give for how long the endpoint still wants to be left alone, s; 0 or less where it does not."""
        return self._resume_at - self._clock()

    async def change(self, at_most_s: float | None = None) -> None:
        """Wait until a request ends or the limit changes, or for so many seconds."""
        self._changed = asyncio.Event()
        try:
            async with asyncio.timeout(at_most_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            self._changed = None

    def leave(self) -> None:
        """Count a request as ended."""
        self.running -= 1
        self._tell()

    def succeeded(self) -> None:
        """Hear that an answer came."""
        self.limit = min(float(self.most), self.limit + (1.0 if self._untroubled else 1.0 / self.limit))
        self._tell()

    def complained(self, began: float, pause_s: float | None = None) -> None:
        """Hear that the endpoint is asked too much.

        Args:
            began: when the attempt began, by the same clock.
            pause_s: for how long it wants to be left alone, s, where it says so.
        """
        if began >= self._cut_at:
            self.limit = max(1.0, self.limit / 2)
            self._cut_at = self._clock()
            self._untroubled = False
        if pause_s is not None and pause_s > 0:
            self._resume_at = max(self._resume_at, self._clock() + pause_s)
        self._tell()

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set()
