"""Limit how many requests to an endpoint are in flight at the same time.

Additive increase, multiplicative decrease, as in TCP (Jacobson 1988, https://doi.org/10.1145/52325.52356): the limit grows by
one with every response until the endpoint first signals overload, then by one per round trip. Overload (429, 503, no
response in time) halves the limit; more overload of requests that were in flight at that time does not halve it again.
"""

import asyncio
import math
import time
from collections.abc import Callable

MAX_PAUSE_S = 120.0
"""The longest pause that the client waits if an endpoint asks for a pause."""


class AdaptiveConcurrencyLimit:
    """Counts the requests in flight and decides when the next one may start.

    An object works in one event loop at a time. `has_success` says whether there was a response.

    Args:
        max_limit: maximum of the limit.
        start: initial limit.
        clock: monotonic clock, s.
    """

    def __init__(self, max_limit: int, start: int = 4, clock: Callable[[], float] = time.monotonic):
        self.max_limit = max_limit
        self.limit = float(min(start, max_limit))
        self.running = 0
        self.has_success = False
        self._clock = clock
        self._never_overloaded = True
        self._halved_at = -math.inf
        self._resume_at = -math.inf
        self._change: asyncio.Event | None = None

    async def enter(self) -> bool:
        """Wait until another request may start, and count it. Only one task calls this, so requests start in order.

        Returns:
            False, without waiting or counting, if the endpoint asks for a pause longer than `MAX_PAUSE_S`.
        """
        while True:
            pause = self.pause_s()
            if pause > MAX_PAUSE_S:
                return False
            if self.running < int(self.limit) and pause <= 0:
                self.running += 1
                return True
            await self.wait_for_change(pause if pause > 0 else None)

    def pause_s(self) -> float:
        """Return the rest of the pause that the endpoint asked for, s; 0 or less without a pause."""
        return self._resume_at - self._clock()

    async def wait_for_change(self, timeout_s: float | None = None) -> None:
        """Wait until a request ends or the limit changes, or for `timeout_s`."""
        self._change = asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                await self._change.wait()
        except TimeoutError:
            pass
        finally:
            self._change = None

    def leave(self) -> None:
        """Count a request as ended."""
        self.running -= 1
        self._notify()

    def record_success(self) -> None:
        """Raise the limit after a response."""
        self.has_success = True
        increase = 1.0 if self._never_overloaded else 1.0 / self.limit
        self.limit = min(float(self.max_limit), self.limit + increase)
        self._notify()

    def record_overload(self, start_time: float, pause_s: float | None = None) -> None:
        """Halve the limit because the endpoint is overloaded.

        Args:
            start_time: start of the attempt, by the same clock, s.
            pause_s: the pause that the endpoint asks for, s; None without a pause.
        """
        if start_time >= self._halved_at:
            self.limit = max(1.0, self.limit / 2)
            self._halved_at = self._clock()
            self._never_overloaded = False
        if pause_s is not None and pause_s > 0:
            self._resume_at = max(self._resume_at, self._clock() + pause_s)
        self._notify()

    def _notify(self) -> None:
        if self._change is not None:
            self._change.set()
