"""Meter each attempt of a request: reserve its price, limit its time, and report overload.

Retries of the `openai` client are attempts, too. Does not belong here: the outcome of the request as a whole (`backend`).
"""

import asyncio
import functools
import socket
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.concurrency import AdaptiveConcurrencyLimit
from vlm_audio_pipeline.classifiers.language_models.endpoint.embedded_failures import embedded_failure
from vlm_audio_pipeline.classifiers.language_models.endpoint.http_library import http_library
from vlm_audio_pipeline.classifiers.language_models.endpoint.response_body import (
    ACCEPTED_ENCODINGS,
    BadEncoding,
    BodyTooLarge,
    read_body,
)

if TYPE_CHECKING:
    import openai

    from vlm_audio_pipeline.storage.ledger import Ledger

UNCHARGED_STATUSES = frozenset({503, 529, *range(300, 500)})
"""Statuses of rejected attempts, which are not charged. After any other failure the endpoint may charge for the attempt."""
_BODY_HEADERS = ("content-encoding", "content-length", "transfer-encoding")


@dataclass
class BudgetAccount:
    """The part of the budget that one classifier may spend; no limit if the endpoint charges nothing.

    Attributes:
        ledger: the ledger of the study, or None if the endpoint charges nothing.
        classifier: name of the classifier.
        scope: the part of its requests, such as "fold 1"; see `Ledger.expect`.
    """

    ledger: "Ledger | None"
    classifier: str
    scope: str = ""

    def reserve(self, usd: float, is_retry: bool = False) -> int | None:
        """Reserve money and return the number of the reservation; None if the budget does not allow it. See `Ledger.reserve`."""
        return 0 if self.ledger is None else self.ledger.reserve(self.classifier, usd, self.scope, is_retry=is_retry)

    def rejection_reason(self, usd: float) -> str | None:
        """Return why the amount cannot be reserved, or None."""
        return None if self.ledger is None else self.ledger.refusal_reason(self.classifier, usd)

    def settle(self, reservation: int, usd: float) -> None:
        """Replace a reservation with the price."""
        if self.ledger is not None:
            self.ledger.settle(reservation, usd)

    def release(self, reservation: int) -> None:
        """Cancel a reservation."""
        if self.ledger is not None:
            self.ledger.release(reservation)


@dataclass
class InFlightRequest:
    """A request in flight, which may take several calls, each of several attempts.

    Attributes:
        account: budget of the classifier.
        max_usd: upper bound of the price of all its calls, USD.
        reservation: number of the reservation, until it is settled; None between attempts.
        spent_usd: price of the calls that have succeeded and are part of the reservation, USD.
        start_time: start of the attempt, monotonic clock, s.
        seconds: duration of the last attempt, s.
        was_sent: whether an attempt was sent.
        has_unsettled_attempt: whether the reservation of an earlier attempt stays, so that the ledger no longer expects the
            request.
    """

    account: BudgetAccount
    max_usd: float
    reservation: int | None
    start_time: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    was_sent: bool = False
    has_unsettled_attempt: bool = False
    spent_usd: float = 0.0

    def charge(self, usd: float | None) -> None:
        """Add the price of a call; the reservation stays for the next calls. An unknown price settles it."""
        if usd is None:
            self.settle(None)
        elif self.reservation is not None:
            self.spent_usd += usd

    def settle(self, usd: float | None) -> None:
        """Settle the reservation with the price of the last call. If it is unknown, the reservation stays, at the upper bound."""
        if self.reservation is not None:
            if usd is None:
                self.has_unsettled_attempt = True
            else:
                self.account.settle(self.reservation, self.spent_usd + usd)
        self.reservation, self.spent_usd = None, 0.0

    def release(self) -> None:
        """Cancel the reservation, because the current attempt was certainly not charged; earlier calls are settled."""
        if self.spent_usd:
            self.settle(0.0)
            self.has_unsettled_attempt = True  # the ledger has counted the request
        elif self.reservation is not None:
            self.account.release(self.reservation)
            self.reservation = None


IN_FLIGHT_REQUEST: ContextVar[InFlightRequest] = ContextVar("IN_FLIGHT_REQUEST")
"""The request of the current task."""


@functools.cache
def over_budget_error() -> "type[openai.OpenAIError]":
    """Return the error class for an attempt that the budget does not allow; the `openai` client re-raises its own errors."""
    import openai

    class OverBudget(openai.OpenAIError):
        """The budget does not allow another attempt."""

    return OverBudget


@functools.cache
def oversized_error() -> "type[openai.OpenAIError]":
    """Return the error class for a response that is too large; the request is not sent again."""
    import openai

    class Oversized(openai.OpenAIError):
        """The response is too large."""

    return Oversized


@functools.cache
def unreachable_error() -> "type[openai.OpenAIError]":
    """Return the error class for an endpoint that has never responded and to which no connection is possible."""
    import openai

    class Unreachable(openai.OpenAIError):
        """No connection to the endpoint is possible."""

    return Unreachable


def metered_http_client(timeout_s: float, concurrency_limit: AdaptiveConcurrencyLimit, proxies: bool) -> Any:
    """Return the HTTP client for the `openai` client.

    Args:
        timeout_s: time limit of one attempt, including its whole body, s; a slow body could otherwise take forever.
        concurrency_limit: limit that responses raise and overload halves.
        proxies: whether the environment's proxies are used.
    """
    import openai

    httpx = http_library(openai)
    over_budget = over_budget_error()
    connection_errors = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

    class MeteredClient(openai.DefaultAsyncHttpxClient):
        async def send(self, request: Any, **kwargs: Any) -> Any:
            in_flight = IN_FLIGHT_REQUEST.get()
            if in_flight.reservation is None:  # a retry
                in_flight.reservation = in_flight.account.reserve(
                    in_flight.max_usd, is_retry=in_flight.has_unsettled_attempt
                )
                if in_flight.reservation is None:
                    raise over_budget
            in_flight.start_time = time.monotonic()
            in_flight.was_sent = True
            try:
                async with asyncio.timeout(timeout_s):
                    response = await self._send_and_read(request, kwargs)
            except BodyTooLarge as error:
                in_flight.settle(None)
                raise oversized_error()(str(error)) from error
            except TimeoutError:
                in_flight.settle(None)
                concurrency_limit.record_overload(in_flight.start_time)
                raise httpx.ReadTimeout("no response in time", request=request) from None
            except connection_errors as error:
                in_flight.release()
                if not concurrency_limit.has_success and is_unreachable(error):
                    raise unreachable_error()(str(error)) from error
                raise
            except httpx.RequestError as error:
                in_flight.settle(None)
                if isinstance(error, httpx.TimeoutException):
                    concurrency_limit.record_overload(in_flight.start_time)
                raise
            in_flight.seconds = time.monotonic() - in_flight.start_time
            failure = embedded_failure(response.content) if response.status_code == 200 else None
            if failure is not None:
                headers = {k: v for k, v in response.headers.items() if k.lower().startswith("retry-after")}
                response = httpx.Response(failure[0], headers=headers, json=failure[1], request=request)
            status = response.status_code
            if status in (429, 503, 529):  # 529: Anthropic is overloaded
                concurrency_limit.record_overload(in_flight.start_time, _pause_s(response.headers.get))
            elif status < 300:
                concurrency_limit.record_success()
            if status in UNCHARGED_STATUSES:
                in_flight.release()
            elif status >= 500:
                in_flight.settle(None)
            return response

        async def _send_and_read(self, request: Any, kwargs: dict[str, Any]) -> Any:
            """Send a request; return its response with the whole body, which has a maximum size."""
            request.headers["accept-encoding"] = ACCEPTED_ENCODINGS
            streamed = await super().send(request, **{**kwargs, "stream": True})
            try:
                content = await read_body(streamed)
            except BadEncoding as error:
                raise httpx.DecodingError(str(error), request=request) from error
            finally:
                await streamed.aclose()
            headers = [(k, v) for k, v in streamed.headers.multi_items() if k.lower() not in _BODY_HEADERS]
            return httpx.Response(streamed.status_code, headers=headers, content=content, request=request)

    return MeteredClient(
        timeout=httpx.Timeout(timeout_s, connect=min(10.0, timeout_s)),
        follow_redirects=False,  # a redirect could send the API key and clips to another host
        trust_env=proxies,
    )


def is_unreachable(error: BaseException | None) -> bool:
    """Return whether nothing listens at the address, or the host name does not exist: a retry would not help."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError | socket.gaierror):
            return True
        error = error.__cause__ or error.__context__
    return False


def _pause_s(header: Callable[[str], str | None]) -> float | None:
    """Return the pause that an endpoint asks for, s; None for a date, which the `openai` client handles."""
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return float(header(name) or "") / divisor
        except ValueError:
            continue
    return None
