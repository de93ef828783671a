"""Send requests to an endpoint, in order, as fast as the endpoint allows and within the budget.

Belongs here: the outcome of each request. Does not belong here: the wire format (`wire`), single attempts (`meter`), the number
of requests in flight (`concurrency`).
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from vlm_audio_pipeline.classifiers.language_models.endpoint.calls import Call, first_dialect, generation_call
from vlm_audio_pipeline.classifiers.language_models.endpoint.concurrency import AdaptiveConcurrencyLimit
from vlm_audio_pipeline.classifiers.language_models.endpoint.cost_bounds import cost_bound, find_prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.embedded_failures import describe_error
from vlm_audio_pipeline.classifiers.language_models.endpoint.fatal_failures import (
    FIRST_TOKEN_ADVICE,
    fatal_reason,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.label_scoring import ADVICE, Exchange, label_scorer
from vlm_audio_pipeline.classifiers.language_models.endpoint.meter import (
    IN_FLIGHT_REQUEST,
    BudgetAccount,
    InFlightRequest,
    metered_http_client,
    over_budget_error,
    oversized_error,
    unreachable_error,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import declare_prices_advice
from vlm_audio_pipeline.classifiers.language_models.endpoint.redaction import (
    redact,
    remove_key,
    remove_key_from_reply,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.retirement import retired_reason
from vlm_audio_pipeline.classifiers.language_models.endpoint.returned_model import other_model
from vlm_audio_pipeline.classifiers.language_models.endpoint.safety_filters import is_filter_error
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.stop_reasons import is_limit_error
from vlm_audio_pipeline.classifiers.language_models.messages import Backend, Reply, ReplyCallback, Request, Scoring
from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError

if TYPE_CHECKING:
    import openai

    from vlm_audio_pipeline.storage.ledger import Ledger

_LOG = logging.getLogger(__name__)


def not_run_reason(model: str, endpoint: Endpoint, has_budget: bool) -> str | None:
    """Return why no request can be sent to a model, or None.

    A retired model is no reason for an endpoint with batches: batches that were submitted before are collected first.

    Args:
        model: name of the model at the endpoint.
        endpoint: the endpoint.
        has_budget: whether the study has a budget.
    """
    if not endpoint.batch and (reason := retired_reason(model, endpoint)):
        return reason
    if endpoint.may_charge:
        if not has_budget:
            free = "; if it charges nothing, declare `prices: {input: 0, output: 0}`" if endpoint.is_loopback else ""
            return f"{endpoint.host} may charge: the study needs a `budget: {{usd: ...}}`; add one{free}"
        if find_prices(model, endpoint) is None:
            return declare_prices_advice(model)
    return endpoint.unavailable()


class EndpointBackend(Backend):
    """A model behind an endpoint. It generates text and, if the server returns log-probabilities, scores labels.

    Args:
        model: name of the model at the endpoint.
        endpoint: the endpoint.
        ledger: the ledger of the study; without a ledger, only endpoints that charge nothing can be used.
        classifier: name of the classifier, for the ledger.
        scope: the part of the classifier's requests that it sends, such as "fold 1"; see `Ledger.expect`.

    Raises:
        NotAvailable: if budget, key or prices are missing.
    """

    def __init__(self, model: str, endpoint: Endpoint, ledger: "Ledger | None", classifier: str, scope: str = ""):
        reason = not_run_reason(model, endpoint, ledger is not None)
        if reason is not None:
            raise NotAvailable(reason)
        self.model = model
        self.endpoint = endpoint
        self.prices = find_prices(model, endpoint)
        self.concurrency_limit = AdaptiveConcurrencyLimit(endpoint.concurrency)
        self.dialect = first_dialect(endpoint)
        self._label_scorer = label_scorer(model, endpoint)
        self._account = BudgetAccount(ledger if self.prices is not None else None, classifier, scope)
        self._bound_factor = 1.0  # raised if a price ever exceeds its bound
        self._has_response = False
        self._fatal_error: str | None = None
        self._claim: Callable[[int], bool] = lambda position: True

    def set_claim(self, claim: Callable[[int], bool]) -> None:
        """Set the function that says whether a request may be sent; see `Backend.set_claim`."""
        self._claim = claim

    def _max_usd(self, request: Request) -> float:
        """Return an upper bound of the price of an attempt, USD; 0 if the endpoint charges nothing."""
        if self.prices is None:
            return 0.0
        return (cost_bound(request, self.model, self.endpoint)[1] or 0.0) * self._bound_factor

    def ask(self, requests: Sequence[Request], on_reply: ReplyCallback) -> str | None:
        """Answer requests; see `Backend`. They are sent in order, so that the prompt cache of the endpoint is effective.

        Raises:
            NotAvailable: if the key is rejected or the model does not exist, after all requests in flight have ended.
            VlmAudioError: if a request has the scoring likelihood, and the endpoint does not declare `likelihood`.
        """
        if self._label_scorer is None and any("likelihood" in request.scorings for request in requests):
            raise VlmAudioError(
                f"the scoring of {self.model} must be generation, got likelihood: the endpoint does not declare that it "
                f"returns log-probabilities; {ADVICE}"
            )
        self._fatal_error = None
        stop_reason = asyncio.run(self._send_all(requests, on_reply))
        if self._fatal_error is not None:
            raise NotAvailable(self._fatal_error)
        return stop_reason

    async def _send_all(self, requests: Sequence[Request], on_reply: ReplyCallback) -> str | None:
        import openai

        tasks: dict[asyncio.Task[None], InFlightRequest] = {}
        stop_reason = None
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
                        stop_reason = f"{self.endpoint.host} asks for a pause of {self.concurrency_limit.pause_s():.0f} s; run again later"
                        break
                    _raise_exceptions(tasks)
                    if self._fatal_error is None and not self._claim(position):
                        self.concurrency_limit.leave()
                        await asyncio.sleep(0)  # replies in flight are handled in between
                        continue
                    in_flight = await self._reserve(request, tasks)
                    if in_flight is None:
                        stop_reason = self._account.rejection_reason(self._max_usd(request))
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
                    if not in_flight.was_sent:  # a task that is cancelled before it starts does not run its `finally`
                        with contextlib.suppress(VlmAudioError):  # on a full disk the reservation stays
                            in_flight.release()
        return stop_reason

    async def _reserve(
        self, request: Request, tasks: dict[asyncio.Task[None], InFlightRequest]
    ) -> InFlightRequest | None:
        """Reserve money. If the budget is too small, wait until requests in flight are settled below their reservation."""
        usd = self._max_usd(request)
        while True:
            _raise_exceptions(tasks)  # before the reservation: after it, an exception would leave the reservation open
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
            exchange = partial(self._exchange, client, request, in_flight)
            for scorings in _joint_scorings(request):
                try:
                    reply = await self._reply(request.with_scorings(*scorings), exchange)
                except NotAvailable as error:
                    self._fatal_error = str(error)
                    break
                if self._fatal_error is not None and reply.outcome == "error":
                    break  # not reported, as if the request had not been sent
                if scorings_of_reply := scorings & _given_scorings(reply):
                    on_reply(position, replace(reply, scorings=scorings_of_reply))
                if scorings_of_reply != scorings:
                    self._fatal_error = f"{self.model} must return log-probabilities of the first token, but returned none; {FIRST_TOKEN_ADVICE}"
                    break
            in_flight.settle(0.0)
        finally:
            self.concurrency_limit.leave()

    async def _reply(self, request: Request, exchange: Exchange) -> Reply:
        if "likelihood" in request.scorings and self._label_scorer is not None:
            return await self._label_scorer.score(request, exchange)
        return await exchange(generation_call(request, self.endpoint))

    async def _exchange(
        self, client: "openai.AsyncOpenAI", request: Request, in_flight: InFlightRequest, call: Call
    ) -> Reply:
        reply = await self._send_call(client, request, in_flight, call)
        in_flight.charge(reply.usage.usd)
        self._has_response |= reply.outcome != "error"
        return reply

    async def _send_call(
        self, client: "openai.AsyncOpenAI", request: Request, in_flight: InFlightRequest, call: Call
    ) -> Reply:
        import openai

        while True:
            dialect = self.dialect
            try:
                response = await call.send(client, self.model, self.endpoint, dialect)
            except ValueError as error:
                return Reply("error", error=str(error))
            except openai.APIStatusError as error:
                status, (code, parameter, message) = error.status_code, describe_error(error.body)
            except openai.APITimeoutError:
                return Reply("error", error=f"no response within {self.endpoint.timeout_s:g} s")
            except openai.APIConnectionError as error:
                return Reply("error", error=f"the connection failed ({type(error.__cause__).__name__})")
            except unreachable_error() as error:
                self._fatal_error = (
                    f"{self.model} at {self.endpoint.host} must accept connections, got: {error}; start the server, or "
                    f"correct `url`, which is {self.endpoint.url}"
                )
                return Reply("error", error=self._fatal_error)
            except oversized_error() as error:
                return Reply("error", error=str(error))
            except over_budget_error():
                return Reply("error", error="an attempt failed and the budget does not allow another one")
            else:
                return self._parse_http_response(response, request, in_flight, call, dialect.model_suffix())
            new_dialect = dialect.adapt(code, parameter, message) if status in (400, 422) else None
            if new_dialect is not None:
                if self.dialect is dialect:  # otherwise another request has changed it in the meantime
                    self.dialect = new_dialect
                    _LOG.warning("requests to %s at %s now use %s", self.model, self.endpoint.host, new_dialect)
                continue
            if is_filter_error(status, code, message):
                return Reply("refused")
            if is_limit_error(status, message):
                return Reply("truncated", text="")
            message = redact(f"{code}: {message}" if code else message, self.endpoint.read_key())
            return self._failure_reply(status, code, f"HTTP {status} ({message})")

    def _failure_reply(self, status: int, code: str, reason: str) -> Reply:
        fatal = fatal_reason(self.model, self.endpoint, status, code, reason, self._has_response)
        self._fatal_error = fatal or self._fatal_error
        return Reply("error", error=reason)

    def _parse_http_response(
        self, response: Any, request: Request, in_flight: InFlightRequest, call: Call, model_suffix: str
    ) -> Reply:
        try:
            body = remove_key(json.loads(response.content), self.endpoint.read_key())
        except (ValueError, RecursionError):
            content_type = response.headers.get("content-type", "").split(";")[0].strip().lower()
            content_type = redact(content_type, self.endpoint.read_key(), 60) or "no content type"
            size = len(response.content)
            return Reply("error", error=f"the response is not JSON ({size} bytes of {content_type})")
        reply = remove_key_from_reply(call.parse(body, model_suffix), self.endpoint.read_key())
        usd = None if self.prices is None else self.prices.usd(reply.usage)
        if (other := other_model(self.model, self.endpoint, body)) is not None:
            in_flight.settle(usd)
            self._fatal_error = (
                f"{self.model} at {self.endpoint.host} must answer itself, got a response of {other}, which is not stored; "
                f"name the model that you want in `model`, or allow this one with `endpoint: {{accept: [{other}]}}`"
            )
            return Reply("error", error=self._fatal_error)
        if usd is not None and (total := in_flight.spent_usd + usd) > in_flight.max_usd > 0:
            self._bound_factor = max(self._bound_factor, total / (self._max_usd(request) / self._bound_factor))
            _LOG.warning(
                "%s cost more than was reserved; from now on %.2f times the bound is reserved",
                self.model,
                self._bound_factor,
            )
        return replace(reply, usage=replace(reply.usage, seconds=in_flight.seconds, usd=usd))


def _given_scorings(reply: Reply) -> frozenset[Scoring]:
    """Return the scorings that a reply answers: without first tokens in a response that should contain them, not first_token."""
    all_scorings: frozenset[Scoring] = frozenset(get_args(Scoring))
    is_response = reply.outcome in ("answered", "truncated") and reply.log_probabilities is None
    return all_scorings - {"first_token"} if is_response and reply.first_tokens is None else all_scorings


def _joint_scorings(request: Request) -> list[frozenset[Scoring]]:
    """Return the scorings of a request in groups that one reply answers: each is reported, and stored, as soon as it is there."""
    likelihood: frozenset[Scoring] = frozenset({"likelihood"})
    return [group for group in (request.scorings - likelihood, request.scorings & likelihood) if group]


def _raise_exceptions(tasks: dict[asyncio.Task[None], InFlightRequest]) -> None:
    """Drop finished tasks, and re-raise an exception of the `on_reply` callback."""
    for task in [t for t in tasks if t.done()]:
        task.result()
        del tasks[task]
