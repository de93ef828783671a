"""Read the results of a batch as replies, with the rules for live responses."""

from dataclasses import dataclass, replace

from vlm_audio_pipeline.classifiers.language_models.endpoint.anthropic_wire import parse_message
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.protocol import BatchResult
from vlm_audio_pipeline.classifiers.language_models.endpoint.embedded_failures import describe_error, failure_in_body
from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.redaction import (
    redact,
    remove_key,
    remove_key_from_reply,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.returned_model import other_model
from vlm_audio_pipeline.classifiers.language_models.endpoint.safety_filters import is_filter_error
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.stop_reasons import is_limit_error
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import Dialect, parse_reply
from vlm_audio_pipeline.classifiers.language_models.messages import Reply


@dataclass(frozen=True)
class RequestFailure:
    """The failure of a request.

    Attributes:
        status: HTTP status.
        code: code of the error, or "".
        reason: status and words of the failure, without keys.
    """

    status: int
    code: str
    reason: str

    @property
    def is_temporary(self) -> bool:
        """Whether the request may succeed in another batch: the statuses that clients of the live API try again."""
        return self.status in (408, 409, 429) or self.status >= 500


@dataclass(frozen=True)
class ReadResult:
    """The result of a request of a batch.

    Attributes:
        reply: the reply; "error" if there is no response.
        is_charged: whether the server charges for it.
        is_unanswered: whether the batch ended before the request was answered.
        failure: the failure of the request, or None.
        rejection: code, parameter and message of an error that names a parameter that the server rejects.
        other_model: the model that answered, if it is neither the requested one nor accepted.
    """

    reply: Reply
    is_charged: bool = False
    is_unanswered: bool = False
    failure: RequestFailure | None = None
    rejection: tuple[str, str, str] | None = None
    other_model: str | None = None


UNANSWERED = ReadResult(Reply("error", error="the batch ended before the request was answered"), is_unanswered=True)


def read_result(
    result: BatchResult, dialect: Dialect, model: str, endpoint: Endpoint, prices: Prices | None
) -> ReadResult:
    """Read the result of a request. Nothing in the returned value contains the key, except `rejection`, which is not stored.

    Args:
        result: the result.
        dialect: the parameters that were sent.
        model: the requested model.
        endpoint: the endpoint.
        prices: prices in a batch; None if the endpoint charges nothing.
    """
    if result.status == 0:
        return UNANSWERED
    status, body, key = result.status, result.body, endpoint.read_key()
    if status == 200 and (failure := failure_in_body(body)) is not None:
        status, body = failure
    if status == 200:
        body = remove_key(body, key)
        parse = parse_message if endpoint.protocol == "anthropic" else parse_reply
        reply = remove_key_from_reply(parse(body, dialect.model_suffix()), key)
        usd = None if prices is None else prices.usd(reply.usage)
        return ReadResult(
            replace(reply, usage=replace(reply.usage, usd=usd)),
            is_charged=True,
            other_model=other_model(model, endpoint, body),
        )
    code, parameter, message = describe_error(body)
    reason = f"HTTP {status} ({redact(f'{code}: {message}' if code else message, key)})"
    if status in (400, 422) and dialect.adapt(code, parameter, message) is not None:
        return ReadResult(Reply("error", error=reason), rejection=(code, parameter, message))
    if is_filter_error(status, code, message):
        return ReadResult(Reply("refused"))
    if is_limit_error(status, message):
        return ReadResult(Reply("truncated", text=""))
    return ReadResult(Reply("error", error=reason), failure=RequestFailure(status, remove_key(code, key), reason))
