"""Every attempt at a request: paid for before it leaves, ended when its time is up, heard by the pace.

What belongs here: what happens around one attempt, the client's own retries included. What does not: what becomes of the
request as a whole (`backend`).
"""

import asyncio
import functools
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.concurrency import Pace

if TYPE_CHECKING:
    import openai

    from vlm_audio_pipeline.storage.ledger import Ledger

NOT_CHARGED = frozenset({503, *range(300, 500)})
"""Statuses of attempts that were turned away. After any other failure nobody knows whether the work was done and charged."""


@dataclass
class Purse:
    """What one classifier may spend, or no limit where nothing is charged.

    Attributes:
        ledger: the study's, or None where nothing is charged.
        classifier: who asks.
        part: of its work, as it was told to `Ledger.expect`.
    """

    ledger: "Ledger | None"
    classifier: str
    part: str = ""

    def reserve(self, usd: float, again: bool = False) -> int | None:
        """Set money aside; None if there is not enough. See `Ledger.reserve`."""
        return 0 if self.ledger is None else self.ledger.reserve(self.classifier, usd, self.part, again=again)

    def why_not(self, usd: float) -> str | None:
        """Say why so much cannot be set aside."""
        return None if self.ledger is None else self.ledger.why_not(self.classifier, usd)

    def settle(self, reservation: int, usd: float) -> None:
        """Put a price in place of what was set aside."""
        if self.ledger is not None:
            self.ledger.settle(reservation, usd)

    def release(self, reservation: int) -> None:
        """Give back what was set aside."""
        if self.ledger is not None:
            self.ledger.release(reservation)


@dataclass
class Journey:
    """One request on its way, attempt by attempt.

    Attributes:
        purse: who pays.
        most_usd: the most an attempt can cost, USD.
        reservation: of the attempt under way or, where it was answered, of the one to be settled; None between attempts.
        began: when the attempt began, monotonic s.
        seconds: what the last attempt took, s.
        sent: whether an attempt has left.
        kept: whether an earlier attempt stays reserved, so that the ledger no longer expects the request.
    """

    purse: Purse
    most_usd: float
    reservation: int | None
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    sent: bool = False
    kept: bool = False

    def settle(self, usd: float | None) -> None:
        """Settle the attempt under way. Where nobody knows its price it stays reserved, at the most it can cost."""
        if self.reservation is not None:
            if usd is None:
                self.kept = True
            else:
                self.purse.settle(self.reservation, usd)
        self.reservation = None

    def release(self) -> None:
        """Give back what was set aside for the attempt under way, which was certainly not charged."""
        if self.reservation is not None:
            self.purse.release(self.reservation)
            self.reservation = None


JOURNEY: ContextVar[Journey] = ContextVar("JOURNEY")
"""The request that the present task sends."""


@functools.cache
def over_budget() -> "type[openai.OpenAIError]":
    """Give the error of an attempt that cannot be paid; the client hands on its own kind of errors untouched."""
    import openai

    class OverBudget(openai.OpenAIError):
        """The budget does not allow another attempt."""

    return OverBudget


def metered(timeout_s: float, pace: Pace, proxies: bool) -> Any:
    """Give the HTTP client that the `openai` client is to use.

    Args:
        timeout_s: longest wait for one attempt, its whole body included, s: a body that drips would not end otherwise.
        pace: told of answers and complaints.
        proxies: whether the environment's proxies are used.
    """
    import openai

    # openai 2 stands on httpx, openai 3 on httpx2: the names are the same
    bases = (base.__module__.split(".")[0] for base in openai.DefaultAsyncHttpxClient.__mro__)
    httpx: Any = import_module(next(name for name in bases if name.startswith("httpx")))

    refused = over_budget()
    unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

    class Metered(openai.DefaultAsyncHttpxClient):
        async def send(self, request: Any, **kwargs: Any) -> Any:
            journey = JOURNEY.get()
            if journey.reservation is None:  # another attempt
                journey.reservation = journey.purse.reserve(journey.most_usd, again=journey.kept)
                if journey.reservation is None:
                    raise refused
            journey.began = time.monotonic()
            journey.sent = True
            try:
                async with asyncio.timeout(timeout_s):
                    response = await super().send(request, **kwargs)
            except TimeoutError:
                journey.settle(None)
                pace.complained(journey.began)
                raise httpx.ReadTimeout("no answer in time", request=request) from None
            except unsent:
                journey.release()
                raise
            except httpx.RequestError as error:
                journey.settle(None)
                if isinstance(error, httpx.TimeoutException):
                    pace.complained(journey.began)
                raise
            journey.seconds = time.monotonic() - journey.began
            status = response.status_code
            if status in (429, 503):
                pace.complained(journey.began, _pause_s(response.headers.get))
            elif status < 300:
                pace.succeeded()
            if status in NOT_CHARGED:
                journey.release()
            elif status >= 500:
                journey.settle(None)
            return response

    return Metered(
        timeout=httpx.Timeout(timeout_s, connect=min(10.0, timeout_s)),
        follow_redirects=False,  # a redirect could lead a key, and clips, to somebody else
        trust_env=proxies,
    )


def _pause_s(header: Callable[[str], str | None]) -> float | None:
    """Read how long an endpoint wants to be left alone, s; dates are left to the client."""
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return float(header(name) or "") / divisor
        except ValueError:
            continue
    return None
