"""Send requests to an endpoint, in order, as fast as the endpoint allows and within the budget.

Belongs here: the outcome of each request. Does not belong here: the wire format (`wire`), single attempts (`meter`), the number
of requests in flight (`concurrency`).
"""

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.concurrency import AdaptiveConcurrencyLimit
from vlm_audio_pipeline.classifiers.language_models.endpoint.cost_bounds import cost_bound, find_prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.meter import (
    IN_FLIGHT_REQUEST,
    BudgetAccount,
    InFlightRequest,
    metered_http_client,
    over_budget_error,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import declare_prices_advice
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import Dialect, parse_reply, redact
from vlm_audio_pipeline.classifiers.language_models.messages import Backend, Reply, ReplyCallback, Request
from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError

if TYPE_CHECKING:
    import openai

    from vlm_audio_pipeline.storage.ledger import Ledger

_FILTERED = ("content_filter", "content_policy_violation")
_NO_REQUEST_CAN_SUCCEED = re.compile(
    r"(?:api|access)[ _-]?key|authenticat"
    r"|\b(?:invalid|unknown) model\b|\bnot a valid model\b|\bmodel\b.{0,80}\b(?:not found|does not exist)\b|\bpinned to\b",
    re.IGNORECASE,
)
"""Messages of status 400 that mean 401 or 404: of Gemini for a wrong key, of OpenRouter and `transformers serve` for an unknown model."""
_LOG = logging.getLogger(__name__)


def not_run_reason(model: str, endpoint: Endpoint, has_budget: bool) -> str | None:
    """Return why no request can be sent to a model, or None.

    Args:
        model: its name at the endpoint.
        endpoint: the endpoint.
        has_budget: whether the study has a budget.
    """
    if not endpoint.is_loopback:
        if not has_budget:
            return f"{endpoint.host} may charge: the study needs a `budget: {{usd: ...}}`; add one"
        if find_prices(model, endpoint) is None:
            return declare_prices_advice(model)
    return endpoint.unavailable()


class EndpointBackend(Backend):
    """A model behind an OpenAI-compatible chat endpoint. It generates text and does not score given labels.

    Args:
        model: its name at the endpoint.
        endpoint: the endpoint.
        ledger: the ledger of the study; without one, only endpoints on this machine can be used.
        classifier: name of the classifier, for the ledger.
        part: the part of the classifier's work, as in `Ledger.expect`.

    Raises:
        NotAvailable: without a budget, a key or prices.
    """

    def __init__(self, model: str, endpoint: Endpoint, ledger: "Ledger | None", classifier: str, part: str = ""):
        reason = not_run_reason(model, endpoint, ledger is not None)
        if reason is not None:
            raise NotAvailable(reason)
        self.model = model
        self.endpoint = endpoint
        self.prices = find_prices(model, endpoint)
        self.concurrency_limit = AdaptiveConcurrencyLimit(endpoint.concurrency)
        self.dialect = Dialect.of(endpoint)
        self._account = BudgetAccount(ledger if self.prices is not None else None, classifier, part)
        self._bound_factor = 1.0  # raised if a price ever exceeds its bound
        self._has_response = False
        self._fatal_error: str | None = None

    def _max_usd(self, request: Request) -> float:
        """Return an upper bound of the price of an attempt, USD; 0 where nothing is charged."""
        if self.prices is None:
            return 0.0
        return (cost_bound(request, self.model, self.endpoint)[1] or 0.0) * self._bound_factor

    def ask(self, requests: Sequence[Request], on_reply: ReplyCallback) -> str | None:
        """Answer requests; see `Backend`. They are sent in order, so that the prompt cache of the endpoint is effective.

        Raises:
            NotAvailable: when the key is rejected or the model does not exist, after all requests in flight have ended.
            VlmAudioError: for the scoring likelihood.
        """
        if any("likelihood" in request.scorings for request in requests):
            raise VlmAudioError(
                f"the scoring of {self.model} must be generation, got likelihood: endpoints do not score given labels; "
                "set `scoring: [generation]`"
            )
        self._fatal_error = None
        stopped = asyncio.run(self._send_all(requests, on_reply))
        if self._fatal_error is not None:
            raise NotAvailable(self._fatal_error)
        return stopped

    async def _send_all(self, requests: Sequence[Request], on_reply: ReplyCallback) -> str | None:
        import openai

        tasks: dict[asyncio.Task[None], InFlightRequest] = {}
        stopped = None
        self.concurrency_limit.running = 0
        http = metered_http_client(
            self.endpoint.timeout_s, self.concurrency_limit, proxies=not self.endpoint.is_loopback
        )
        key = self.endpoint.read_key() or "none"
        async with openai.AsyncOpenAI(
            api_key=key, base_url=self.endpoint.url, max_retries=self.endpoint.retries, http_client=http
        ) as client:
            try:
                for position, request in enumerate(requests):
                    if not await self.concurrency_limit.enter():
                        stopped = f"{self.endpoint.host} asks for a pause of {self.concurrency_limit.pause_s():.0f} s; run again later"
                        break
                    in_flight = await self._reserve(request, tasks)
                    if in_flight is None:
                        stopped = self._account.rejection_reason(self._max_usd(request))
                    if in_flight is None or self._fatal_error is not None:
                        self.concurrency_limit.leave()
                        if in_flight is not None:
                            in_flight.release()
                        break
                    tasks[asyncio.create_task(self._send(client, position, request, in_flight, on_reply))] = in_flight
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for in_flight in tasks.values():
                    if not in_flight.sent:  # a task that is cancelled before it starts does not run its `finally`
                        with contextlib.suppress(VlmAudioError):  # on a full disk the reservation stays
                            in_flight.release()
        return stopped

    async def _reserve(
        self, request: Request, tasks: dict[asyncio.Task[None], InFlightRequest]
    ) -> InFlightRequest | None:
        """Reserve money; if there is too little, wait until requests in flight are settled for less than they reserved."""
        usd = self._max_usd(request)
        while True:
            _raise_exceptions(tasks)  # first, because an exception after a reservation would leave it open
            reservation = self._account.reserve(usd)
            if reservation is not None:
                return InFlightRequest(self._account, usd, reservation)
            if self.concurrency_limit.running <= 1:  # only this request
                return None
            await self.concurrency_limit.wait_for_change()

    async def _send(
        self,
        client: "openai.AsyncOpenAI",
        position: int,
        request: Request,
        in_flight: InFlightRequest,
        on_reply: ReplyCallback,
    ) -> None:
        try:
            IN_FLIGHT_REQUEST.set(in_flight)
            reply = await self._reply(client, request, in_flight)
            if self._fatal_error is not None and reply.outcome == "error":
                return  # not reported, as if the request had not been sent
            on_reply(position, reply)
            self._has_response |= reply.outcome != "error"
            in_flight.settle(reply.usage.usd)
        finally:
            self.concurrency_limit.leave()

    async def _reply(self, client: "openai.AsyncOpenAI", request: Request, in_flight: InFlightRequest) -> Reply:
        import openai

        while True:
            dialect = self.dialect
            parameters = dialect.parameters(request, self.endpoint)
            try:
                raw: Any = await client.chat.completions.with_raw_response.create(model=self.model, **parameters)
            except openai.APIStatusError as error:
                status, code, parameter, message = _error_details(error)
            except openai.APITimeoutError:
                return Reply("error", error=f"no response within {self.endpoint.timeout_s:g} s")
            except openai.APIConnectionError as error:
                return Reply("error", error=f"the connection failed ({type(error.__cause__).__name__})")
            except over_budget_error():
                return Reply("error", error="an attempt failed and the budget does not allow another one")
            else:
                return self._read(raw.http_response, request, in_flight, dialect.note())
            changed = dialect.adapt(code, parameter, message) if status in (400, 422) else None
            if changed is not None:
                if self.dialect is dialect:  # otherwise another request has changed it in the meantime
                    self.dialect = changed
                    _LOG.warning("requests to %s at %s now use %s", self.model, self.endpoint.host, changed)
                continue
            message = redact(f"{code}: {message}" if code else message, self.endpoint.read_key())
            return self._failed(status, code, f"HTTP {status} ({message})")

    def _failed(self, status: int, code: str, reason: str) -> Reply:
        model = f"{self.model} at {self.endpoint.host}"
        if status == 401:
            key = self.endpoint.key_variable
            advice = f"correct the key in {key}" if key else "name the variable with its key as `endpoint: {key: ...}`"
            self._fatal_error = f"{model} must accept the key, got {reason}; {advice}"
        elif status == 402 or code == "insufficient_quota":
            self._fatal_error = f"{model} needs credit, got {reason}; top up the account"
        elif status in (403, 404) and not self._has_response:
            self._fatal_error = (
                f"{model} must exist and be available to the key, got {reason}; check `model`, `url` and the account"
            )
        elif code in _FILTERED:
            return Reply("refused")
        elif status in (400, 422) and not self._has_response and _NO_REQUEST_CAN_SUCCEED.search(reason):
            self._fatal_error = f"{model} must accept key and model, got {reason}; check `model`, `url` and the key"
        return Reply("error", error=reason)

    def _read(self, response: Any, request: Request, in_flight: InFlightRequest, note: str) -> Reply:
        kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
        if not kind.endswith("json"):
            content_type = redact(kind, self.endpoint.read_key(), 60) or "nothing"
            return Reply("error", error=f"the content type must be application/json, got {content_type}")
        try:
            body = json.loads(response.content)
        except (ValueError, RecursionError):
            return Reply(
                "error", error=f"the response must be JSON, got {len(response.content)} bytes of something else"
            )
        reply = parse_reply(body, note)
        usd = None if self.prices is None else self.prices.usd(reply.usage)
        if usd is not None and usd > in_flight.max_usd > 0:
            self._bound_factor = max(self._bound_factor, usd / (self._max_usd(request) / self._bound_factor))
            _LOG.warning(
                "%s cost more than was reserved; from now on %.2f times the bound is reserved",
                self.model,
                self._bound_factor,
            )
        return replace(reply, usage=replace(reply.usage, seconds=in_flight.seconds, usd=usd))


def _raise_exceptions(tasks: dict[asyncio.Task[None], InFlightRequest]) -> None:
    """Drop finished tasks, and re-raise an exception of the `on_reply` callback."""
    for task in [t for t in tasks if t.done()]:
        task.result()
        del tasks[task]


def _error_details(error: "openai.APIStatusError") -> tuple[int, str, str, str]:
    """Return status, code, parameter and message of an error, for the formats of several endpoints."""
    body: Any = error.body
    if isinstance(body, list) and body:  # Gemini
        body = body[0]
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    if not isinstance(body, dict):
        return error.status_code, "", "", str(body or "no reason given")
    code, parameter = (str(body.get(k) or "") for k in ("code", "param"))
    message = body.get("message") or body.get("detail") or "no reason given"
    return error.status_code, "" if code.isdigit() else code, parameter, str(message)
