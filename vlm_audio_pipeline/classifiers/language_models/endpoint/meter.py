"""Single attempts of a request: reserve their price, limit their time, and report overload.

Includes the retries of the `openai` client. Does not belong here: the outcome of the request as a whole (`backend`).
"""

import asyncio
import functools
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.concurrency import AdaptiveConcurrencyLimit

if TYPE_CHECKING:
    import openai

    from vlm_audio_pipeline.storage.ledger import Ledger

NOT_CHARGED = frozenset({503, *range(300, 500)})
"""Statuses of rejected attempts. After any other failure it is unknown whether the endpoint charges for the attempt."""


@dataclass
class BudgetAccount:
    """The share of the budget that one classifier may spend; no limit where nothing is charged.

    Attributes:
        ledger: the ledger of the study, or None where nothing is charged.
        classifier: name of the classifier.
        part: the part of its work, as in `Ledger.expect`.
    """

    ledger: "Ledger | None"
    classifier: str
    part: str = ""

    def reserve(self, usd: float, is_retry: bool = False) -> int | None:
        """Reserve money and return the reservation; None if the budget does not allow it. See `Ledger.reserve`."""
        return 0 if self.ledger is None else self.ledger.reserve(self.classifier, usd, self.part, is_retry=is_retry)

    def rejection_reason(self, usd: float) -> str | None:
        """Return why the amount cannot be reserved."""
        return None if self.ledger is None else self.ledger.refusal_reason(self.classifier, usd)

    def settle(self, reservation: int, usd: float) -> None:
        """Replace a reservation by the price."""
        if self.ledger is not None:
            self.ledger.settle(reservation, usd)

    def release(self, reservation: int) -> None:
        """Cancel a reservation."""
        if self.ledger is not None:
            self.ledger.release(reservation)


@dataclass
class InFlightRequest:
    """A request in flight, which may take several attempts.

    Attributes:
        account: what the classifier may spend.
        max_usd: upper bound of the price of an attempt, USD.
        reservation: of the current attempt until it is settled; None between attempts.
        began: start of the attempt, monotonic clock, s.
        seconds: duration of the last attempt, s.
        sent: whether an attempt was sent.
        kept: whether the reservation of an earlier attempt stays, so that the ledger no longer expects the request.
    """

    account: BudgetAccount
    max_usd: float
    reservation: int | None
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    sent: bool = False
    kept: bool = False

    def settle(self, usd: float | None) -> None:
        """Settle the current attempt. If its price is unknown, its reservation stays, at the upper bound."""
        if self.reservation is not None:
            if usd is None:
                self.kept = True
            else:
                self.account.settle(self.reservation, usd)
        self.reservation = None

    def release(self) -> None:
        """Cancel the reservation of the current attempt, which was certainly not charged."""
        if self.reservation is not None:
            self.account.release(self.reservation)
            self.reservation = None


IN_FLIGHT_REQUEST: ContextVar[InFlightRequest] = ContextVar("IN_FLIGHT_REQUEST")
"""The request that the current task sends."""


@functools.cache
def over_budget_error() -> "type[openai.OpenAIError]":
    """Return the error class for an attempt that the budget does not allow; the client re-raises errors of its own kind."""
    import openai

    class OverBudget(openai.OpenAIError):
        """The budget does not allow another attempt."""

    return OverBudget


def metered_http_client(timeout_s: float, concurrency_limit: AdaptiveConcurrencyLimit, proxies: bool) -> Any:
    """Return the HTTP client for the `openai` client.

    Args:
        timeout_s: time limit of one attempt, including its whole body, s; otherwise a slow body would never end.
        concurrency_limit: informed of responses and overload.
        proxies: whether the environment's proxies are used.
    """
    import openai

    # openai 2 uses httpx, openai 3 uses httpx2, with the same names.
    bases = (base.__module__.split(".")[0] for base in openai.DefaultAsyncHttpxClient.__mro__)
    httpx: Any = import_module(next(name for name in bases if name.startswith("httpx")))

    over_budget = over_budget_error()
    not_sent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

    class Metered(openai.DefaultAsyncHttpxClient):
        async def send(self, request: Any, **kwargs: Any) -> Any:
            in_flight = IN_FLIGHT_REQUEST.get()
            if in_flight.reservation is None:  # a retry
                in_flight.reservation = in_flight.account.reserve(in_flight.max_usd, is_retry=in_flight.kept)
                if in_flight.reservation is None:
                    raise over_budget
            in_flight.began = time.monotonic()
            in_flight.sent = True
            try:
                async with asyncio.timeout(timeout_s):
                    response = await super().send(request, **kwargs)
            except TimeoutError:
                in_flight.settle(None)
                concurrency_limit.record_overload(in_flight.began)
                raise httpx.ReadTimeout("no response in time", request=request) from None
            except not_sent:
                in_flight.release()
                raise
            except httpx.RequestError as error:
                in_flight.settle(None)
                if isinstance(error, httpx.TimeoutException):
                    concurrency_limit.record_overload(in_flight.began)
                raise
            in_flight.seconds = time.monotonic() - in_flight.began
            status = response.status_code
            if status in (429, 503):
                concurrency_limit.record_overload(in_flight.began, _pause_s(response.headers.get))
            elif status < 300:
                concurrency_limit.record_success()
            if status in NOT_CHARGED:
                in_flight.release()
            elif status >= 500:
                in_flight.settle(None)
            return response

    return Metered(
        timeout=httpx.Timeout(timeout_s, connect=min(10.0, timeout_s)),
        follow_redirects=False,  # a redirect could send the API key and clips to another host
        trust_env=proxies,
    )


def _pause_s(header: Callable[[str], str | None]) -> float | None:
    """Return the pause that an endpoint asks for, s; the client handles dates."""
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return float(header(name) or "") / divisor
        except ValueError:
            continue
    return None
