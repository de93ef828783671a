"""What the batch protocols have in common: the interface, limits, states and failures."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, Protocol

from vlm_audio_pipeline.classifiers.language_models.endpoint.embedded_failures import describe_error
from vlm_audio_pipeline.classifiers.language_models.endpoint.http_library import http_library
from vlm_audio_pipeline.classifiers.language_models.endpoint.meter import is_unreachable
from vlm_audio_pipeline.classifiers.language_models.endpoint.redaction import redact
from vlm_audio_pipeline.classifiers.language_models.endpoint.response_body import MAX_BODY_BYTES
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import Dialect
from vlm_audio_pipeline.classifiers.language_models.messages import Request
from vlm_audio_pipeline.storage.batch_log import BatchRecord

Json = dict[str, Any]
MAX_MEAN_RESULT_BYTES = 1024 * 1024
"""Maximum mean size of the results of a batch, bytes; a completion of 100,000 tokens has less."""


@dataclass(frozen=True)
class BatchLimits:
    """The largest batch of a protocol: number of requests, and size in bytes."""

    requests: int
    bytes: int


@dataclass(frozen=True)
class BatchStatus:
    """The state of a batch at the server.

    Attributes:
        state: "failed" means that the server rejected the whole batch and answered nothing.
        done: number of requests that ended in any way, as the server counts them.
        total: number of requests.
        files: ids of the result files, for protocols with such files.
        message: why the batch failed, or "".
    """

    state: Literal["running", "ended", "failed"]
    done: int
    total: int
    files: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True)
class BatchResult:
    """The result of one request of a batch.

    Attributes:
        custom_id: the id that the request had in the batch.
        status: HTTP status; 0 if the server did not process the request: the batch expired or was cancelled.
        body: the response in the form of the protocol, or the error as a server sends it.
    """

    custom_id: str
    status: int
    body: Any


class RejectedCallError(Exception):
    """The server rejected a call. A batch that the call should submit does not exist.

    Attributes:
        status: HTTP status.
        code: code of the error, or "".
        message: text of the error, without API keys.
    """

    def __init__(self, status: int, code: str, message: str):
        super().__init__(f"HTTP {status} ({f'{code}: ' if code else ''}{message})")
        self.status, self.code, self.message = status, code, message


class LostCallError(ConnectionError):
    """A call has no response. The text of this error contains no API keys.

    Attributes:
        may_have_arrived: whether the server may have received it.
        is_unreachable: whether nothing listens at the address.
    """

    def __init__(self, reason: str, may_have_arrived: bool, is_unreachable: bool = False):
        super().__init__(reason)
        self.may_have_arrived = may_have_arrived
        self.is_unreachable = is_unreachable


class UndecidedSearchError(Exception):
    """The server has a batch that may be the one that is searched for; its requests can be read only when it has ended."""


class OversizedResultsError(Exception):
    """The results of a batch are larger than its requests allow. They are not read further."""


class BatchApi(Protocol):
    """A client of a batch API. Every method raises `RejectedCallError` or `LostCallError` if its call fails.

    Attributes:
        limits: the largest batch.
    """

    limits: BatchLimits

    def request_body(self, request: Request, dialect: Dialect) -> Json:
        """Return the body of a request."""
        ...

    def submit(self, tag: str, bodies: Sequence[Json], on_file: Callable[[str], None]) -> str:
        """Submit a batch, once, and return its id.

        Args:
            tag: unique name of the batch; request i gets the id `<tag>-<i>`.
            bodies: the bodies of the requests.
            on_file: called with the id of the uploaded input file, if there is one.
        """
        ...

    def find(self, record: BatchRecord, other_ids: set[str]) -> str | None:
        """Search the server for a batch whose id is not recorded; return its id, or None if the server does not have it.

        Args:
            record: the batch.
            other_ids: ids of the other batches of this data folder.

        Raises:
            UndecidedSearchError: if this can be decided only later.
        """
        ...

    def status(self, batch_id: str) -> BatchStatus:
        """Return the state of a batch."""
        ...

    def results(self, batch_id: str, status: BatchStatus, max_bytes: int) -> Iterator[BatchResult]:
        """Yield the results of a batch that has ended, in any order, while they are read.

        Raises:
            OversizedResultsError: if there are more than `max_bytes`.
        """
        ...

    def clean_up(self, record: BatchRecord) -> None:
        """Delete the input file of a batch that does not exist."""
        ...


@contextmanager
def convert_errors(sdk: ModuleType, endpoint: Endpoint) -> Iterator[None]:
    """Convert the errors of a client to `RejectedCallError` and `LostCallError`, without the key.

    Args:
        sdk: `openai` or `anthropic`; their errors have the same names.
        endpoint: the endpoint.
    """
    try:
        yield
    except sdk.APIStatusError as error:
        code, message = (redact(text, endpoint.read_key()) for text in describe_error(error.body)[::2])
        if error.status_code >= 500:  # a gateway may have passed the call on before it failed
            raise LostCallError(f"HTTP {error.status_code} ({message})", may_have_arrived=True) from error
        raise RejectedCallError(error.status_code, code, message) from error
    except sdk.APIConnectionError as error:
        name = type(error.__cause__ or error).__name__
        is_refused = is_unreachable(error)
        raise LostCallError(f"the connection failed ({name})", not is_refused, is_unreachable=is_refused) from error
    except http_library(sdk).HTTPError as error:  # while a file is read
        raise LostCallError(f"the connection failed ({type(error).__name__})", may_have_arrived=True) from error


def split_lines(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """Yield the lines of a text as its chunks arrive.

    Raises:
        OversizedResultsError: if the text has more than `max_bytes`, or a line more than `MAX_BODY_BYTES`.
    """
    parts: list[bytes] = []  # of the current line; joined once, because a line may have megabytes
    size = line_size = 0
    for chunk in chunks:
        size += len(chunk)
        first, *others = chunk.split(b"\n")
        line_size += len(first)
        if size > max_bytes or max(line_size, *map(len, others), 0) > MAX_BODY_BYTES:
            raise OversizedResultsError
        parts.append(first)
        if others:
            yield b"".join(parts)
            yield from others[:-1]
            parts, line_size = [others[-1]], len(others[-1])
    if rest := b"".join(parts):
        yield rest


def http_client(sdk: ModuleType, endpoint: Endpoint) -> Any:
    """Return the HTTP client for an SDK."""
    return sdk.DefaultHttpxClient(
        timeout=http_library(sdk).Timeout(endpoint.timeout_s, connect=min(10.0, endpoint.timeout_s)),
        follow_redirects=False,  # a redirect could send the API key and clips to another host
        trust_env=not endpoint.is_loopback,
        verify=endpoint.url.startswith("https:"),  # without TLS, reading all certificates is wasted time
    )
