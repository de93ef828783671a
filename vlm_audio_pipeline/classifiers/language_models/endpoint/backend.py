"""Asking an endpoint: every request becomes one reply, in order, at the endpoint's pace and within the budget.

What belongs here: what becomes of a request. What does not: its form (`wire`), single attempts (`meter`), how many at once
(`concurrency`).
"""

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.concurrency import Pace
from vlm_audio_pipeline.classifiers.language_models.endpoint.meter import JOURNEY, Journey, Purse, metered, over_budget
from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import how_to_declare
from vlm_audio_pipeline.classifiers.language_models.endpoint.reckoning import estimate, prices_of
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import Dialect, clean, reply_of
from vlm_audio_pipeline.classifiers.language_models.messages import Answered, Reply, Request
from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError

if TYPE_CHECKING:
    import openai

    from vlm_audio_pipeline.storage.ledger import Ledger

_FILTERED = ("content_filter", "content_policy_violation")
_POINTLESS = re.compile(
    r"(?:api|access)[ _-]?key|authenticat"
    r"|\b(?:invalid|unknown) model\b|\bnot a valid model\b|\bmodel\b.{0,80}\b(?:not found|does not exist)\b|\bpinned to\b",
    re.IGNORECASE,
)
"""What 400 says where 401 or 404 is meant: Gemini of a wrong key, OpenRouter and `transformers serve` of another model."""
_LOG = logging.getLogger(__name__)


def why_not(model: str, endpoint: Endpoint, budget: bool) -> str | None:
    """Say why a model cannot be asked, before anything is sent; None where it can.

    Args:
        model: its name at the endpoint.
        endpoint: where.
        budget: whether the study has one.
    """
    if not endpoint.is_loopback:
        if not budget:
            return f"{endpoint.host} may charge: it needs a `budget: {{usd: ...}}` in the study; add one"
        if prices_of(model, endpoint) is None:
            return how_to_declare(model)
    return endpoint.unavailable()


class EndpointBackend:
    """A model behind an OpenAI-compatible chat endpoint; it generates and cannot score.

    Args:
        model: its name at the endpoint.
        endpoint: where and how.
        ledger: the study's; without one nothing but this machine is asked.
        classifier: who asks, for the ledger.
        part: of the classifier's work, as it was told to `Ledger.expect`.

    Raises:
        NotAvailable: without a budget, a key or prices.
    """

    def __init__(self, model: str, endpoint: Endpoint, ledger: "Ledger | None", classifier: str, part: str = ""):
        reason = why_not(model, endpoint, ledger is not None)
        if reason is not None:
            raise NotAvailable(reason)
        self.model = model
        self.endpoint = endpoint
        self.prices = prices_of(model, endpoint)
        self.pace = Pace(endpoint.concurrency)
        self.dialect = Dialect.of(endpoint)
        self._purse = Purse(ledger if self.prices is not None else None, classifier, part)
        self._short = 1.0  # by how much the bound of tokens fell short, should it ever
        self._answered = False
        self._pointless: str | None = None

    def _most(self, request: Request) -> float:
        """Give the most that an attempt can cost, USD; 0 where nothing is charged."""
        if self.prices is None:
            return 0.0
        return (estimate(request, self.model, self.endpoint)[1] or 0.0) * self._short

    def ask(self, requests: Sequence[Request], answered: Answered) -> str | None:
        """Answer requests; see `Backend`. They leave in order, so that the endpoint's cache of beginnings is of use.

        Raises:
            NotAvailable: where the key is refused or the model does not exist, once what is under way has ended.
            VlmAudioError: when asked for likelihoods.
        """
        if any("likelihood" in request.wants for request in requests):
            raise VlmAudioError(
                f"the scoring of {self.model} must be generation, got likelihood: endpoints do not score given answers; "
                "set `scoring: [generation]`"
            )
        self._pointless = None
        stopped = asyncio.run(self._all(requests, answered))
        if self._pointless is not None:
            raise NotAvailable(self._pointless)
        return stopped

    def close(self) -> None:
        """Do nothing: connections last as long as `ask`."""

    async def _all(self, requests: Sequence[Request], answered: Answered) -> str | None:
        import openai

        tasks: dict[asyncio.Task[None], Journey] = {}
        stopped = None
        self.pace.running = 0
        http = metered(self.endpoint.timeout_s, self.pace, proxies=not self.endpoint.is_loopback)
        key = self.endpoint.read_key() or "none"
        async with openai.AsyncOpenAI(
            api_key=key, base_url=self.endpoint.url, max_retries=self.endpoint.retries, http_client=http
        ) as client:
            try:
                for position, request in enumerate(requests):
                    if not await self.pace.enter():
                        stopped = f"{self.endpoint.host} wants to be left alone for {self.pace.pause_s():.0f} s; run again later"
                        break
                    journey = await self._paid(request, tasks)
                    if journey is None:
                        stopped = self._purse.why_not(self._most(request))
                    if journey is None or self._pointless is not None:
                        self.pace.leave()
                        if journey is not None:
                            journey.release()
                        break
                    tasks[asyncio.create_task(self._one(client, position, request, journey, answered))] = journey
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for journey in tasks.values():
                    if not journey.sent:  # a task that is cancelled before it begins runs no line of its own
                        with contextlib.suppress(VlmAudioError):  # on a full disk it stays reserved
                            journey.release()
        return stopped

    async def _paid(self, request: Request, tasks: dict[asyncio.Task[None], Journey]) -> Journey | None:
        """Reserve money, waiting for what is under way to be settled at less than was reserved for it."""
        usd = self._most(request)
        while True:
            _raise_failures(tasks)  # before, or what is reserved would have nobody who gives it back
            reservation = self._purse.reserve(usd)
            if reservation is not None:
                return Journey(self._purse, usd, reservation)
            if self.pace.running <= 1:  # this one alone
                return None
            await self.pace.change()

    async def _one(
        self, client: "openai.AsyncOpenAI", position: int, request: Request, journey: Journey, answered: Answered
    ) -> None:
        try:
            JOURNEY.set(journey)
            reply = await self._reply(client, request, journey)
            if self._pointless is not None and reply.outcome == "error":
                return  # not told: it is as if it had not been asked
            answered(position, reply)
            self._answered |= reply.outcome != "error"
            journey.settle(reply.usage.usd)
        finally:
            self.pace.leave()

    async def _reply(self, client: "openai.AsyncOpenAI", request: Request, journey: Journey) -> Reply:
        import openai

        while True:
            spoken = self.dialect
            sent = spoken.parameters(request, self.endpoint)
            try:
                raw: Any = await client.chat.completions.with_raw_response.create(model=self.model, **sent)
            except openai.APIStatusError as error:
                status, code, parameter, message = _what(error)
            except openai.APITimeoutError:
                return Reply("error", error=f"no answer within {self.endpoint.timeout_s:g} s")
            except openai.APIConnectionError as error:
                return Reply("error", error=f"the connection failed ({type(error.__cause__).__name__})")
            except over_budget():
                return Reply("error", error="an attempt failed and the budget does not allow another one")
            else:
                return self._read(raw.http_response, request, journey, spoken.note())
            learnt = spoken.refused(code, parameter, message) if status in (400, 422) else None
            if learnt is not None:
                if self.dialect is spoken:  # otherwise another request has learnt it meanwhile
                    self.dialect = learnt
                    _LOG.warning("%s at %s is asked as %s", self.model, self.endpoint.host, learnt)
                continue
            said = clean(f"{code}: {message}" if code else message, self.endpoint.read_key())
            return self._failed(status, code, f"HTTP {status} ({said})")

    def _failed(self, status: int, code: str, reason: str) -> Reply:
        where = f"{self.model} at {self.endpoint.host}"
        if status == 401:
            key = self.endpoint.key_variable
            mend = f"mend the key in {key}" if key else "name the variable with its key as `endpoint: {key: ...}`"
            self._pointless = f"{where} must accept the key, got {reason}; {mend}"
        elif status == 402 or code == "insufficient_quota":
            self._pointless = f"{where} must have credit left, got {reason}; top up the account"
        elif status in (403, 404) and not self._answered:
            self._pointless = (
                f"{where} must exist and be open to the key, got {reason}; check `model`, `url` and the account"
            )
        elif code in _FILTERED:
            return Reply("refused")
        elif status in (400, 422) and not self._answered and _POINTLESS.search(reason):
            self._pointless = f"{where} must accept key and model, got {reason}; check `model`, `url` and the key"
        return Reply("error", error=reason)

    def _read(self, response: Any, request: Request, journey: Journey, note: str) -> Reply:
        kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
        if not kind.endswith("json"):
            shown = clean(kind, self.endpoint.read_key(), 60) or "nothing"
            return Reply("error", error=f"the content type must be application/json, got {shown}")
        try:
            body = json.loads(response.content)
        except (ValueError, RecursionError):
            return Reply("error", error=f"the answer must be JSON, got {len(response.content)} bytes that are not")
        reply = reply_of(body, note)
        usd = None if self.prices is None else self.prices.usd(reply.usage)
        if usd is not None and usd > journey.most_usd > 0:
            self._short = max(self._short, usd / (self._most(request) / self._short))
            _LOG.warning("%s took more than was reserved; from now on %.2f times is reserved", self.model, self._short)
        return replace(reply, usage=replace(reply.usage, seconds=journey.seconds, usd=usd))


def _raise_failures(tasks: dict[asyncio.Task[None], Journey]) -> None:
    """Forget what has ended well; a failure of ours, in whoever is told of replies, ends it all."""
    for task in [t for t in tasks if t.done()]:
        task.result()
        del tasks[task]


def _what(error: "openai.APIStatusError") -> tuple[int, str, str, str]:
    """Give an error's status, code, parameter and message, from whatever form the endpoint gave it."""
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
