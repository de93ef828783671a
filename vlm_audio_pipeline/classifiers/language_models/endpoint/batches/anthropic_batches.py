"""Anthropic's message batches.

Reference: https://docs.claude.com/en/api/creating-message-batches. A batch has no name and no metadata. The ids of its requests
can be read only when it has ended. So a running batch with the right size and creation time may be the one that is searched for.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any
from urllib.parse import quote

from vlm_audio_pipeline.classifiers.language_models.endpoint.anthropic_wire import messages_request
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.protocol import (
    MAX_MEAN_RESULT_BYTES,
    BatchApi,
    BatchLimits,
    BatchResult,
    BatchStatus,
    Json,
    OversizedResultsError,
    RejectedCallError,
    UndecidedSearchError,
    convert_errors,
    http_client,
    split_lines,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.embedded_failures import failure_status
from vlm_audio_pipeline.classifiers.language_models.endpoint.http_library import http_library
from vlm_audio_pipeline.classifiers.language_models.endpoint.response_body import ACCEPTED_ENCODINGS, MAX_BODY_BYTES
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import Dialect
from vlm_audio_pipeline.classifiers.language_models.messages import Request
from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.storage.batch_log import BatchRecord

_PATH = "/v1/messages/batches"
_CLOCK_DIFFERENCE_S = 3600.0
"""How much the clocks of server and client may differ, s."""


class AnthropicBatches(BatchApi):
    """A client of the message batches of an endpoint.

    Args:
        model: name of the model.
        endpoint: the endpoint; the `/v1` at the end of its address is part of the paths of this protocol.

    Raises:
        NotAvailable: if the package `anthropic` is not installed.
    """

    limits = BatchLimits(100_000, 256_000_000)

    def __init__(self, model: str, endpoint: Endpoint):
        try:
            import anthropic
        except ImportError as error:
            raise NotAvailable(
                "batches of Anthropic need the package `anthropic`; install it with `pip install 'vlm-audio-pipeline[batch]'`"
            ) from error
        self._sdk: Any = anthropic
        self._model = model
        self._endpoint = endpoint
        self._client = anthropic.Anthropic(
            api_key=endpoint.read_key() or "none",
            base_url=endpoint.url.removesuffix("/v1"),
            max_retries=endpoint.retries,
            http_client=http_client(anthropic, endpoint),
        )

    def request_body(self, request: Request, dialect: Dialect) -> Json:
        """Return the parameters of a message.

        Raises:
            VlmAudioError: if the request contains audio.
        """
        try:
            return messages_request(self._model, request, self._endpoint, dialect.rejected_parameters)
        except ValueError as error:
            raise VlmAudioError(
                f"Anthropic's models receive text and images, got audio: {error}; use `input: image`"
            ) from error

    def submit(self, tag: str, bodies: Sequence[Json], on_file: Callable[[str], None]) -> str:
        """Create a batch; see `BatchApi`."""
        once = self._client.with_options(max_retries=0)  # a repeated call could create a second batch
        requests: Any = [{"custom_id": f"{tag}-{i}", "params": body} for i, body in enumerate(bodies)]
        with convert_errors(self._sdk, self._endpoint):
            batch = once.messages.batches.create(requests=requests, extra_headers={"Idempotency-Key": tag})
        return str(batch.id)

    def find(self, record: BatchRecord, other_ids: set[str]) -> str | None:
        """Search the batches that are not in `other_ids` for one with the requests of the record; see `BatchApi`."""
        is_undecided = False
        with convert_errors(self._sdk, self._endpoint):
            for batch in self._client.messages.batches.list(limit=100):
                counts = batch.request_counts.to_dict().values()
                created_at = _timestamp(batch.created_at)
                if (
                    batch.id in other_ids
                    or sum(n for n in counts if isinstance(n, int)) != record.requests
                    or created_at < record.created_at - _CLOCK_DIFFERENCE_S
                ):
                    continue
                if batch.processing_status != "ended":
                    is_undecided = True
                elif any(result.custom_id.startswith(f"{record.tag}-") for result in self._first_result(batch.id)):
                    return str(batch.id)
        if is_undecided:
            raise UndecidedSearchError
        return None

    def _first_result(self, batch_id: str) -> list[BatchResult]:
        try:
            return [next(self.results(batch_id, self.status(batch_id), MAX_BODY_BYTES + MAX_MEAN_RESULT_BYTES))]
        except (StopIteration, RejectedCallError, OversizedResultsError):  # archived, or not of this program
            return []

    def status(self, batch_id: str) -> BatchStatus:
        """Return the state of a batch."""
        with convert_errors(self._sdk, self._endpoint):
            batch = self._client.messages.batches.retrieve(batch_id)
        counts = [n for n in batch.request_counts.to_dict().values() if isinstance(n, int)]
        done = sum(counts) - batch.request_counts.processing
        return BatchStatus("ended" if batch.processing_status == "ended" else "running", done, sum(counts))

    def results(self, batch_id: str, status: BatchStatus, max_bytes: int) -> Iterator[BatchResult]:
        """Yield the results; see `BatchApi`.

        They are read from the path of the batch, because the address in `results_url` could name another host, to which the
        client would send the key.
        """
        with convert_errors(self._sdk, self._endpoint):
            # The header makes the client return the response before its body is read.
            headers = {"accept-encoding": ACCEPTED_ENCODINGS, "x-stainless-raw-response": "stream"}
            response = self._client.get(
                f"{_PATH}/{quote(batch_id, safe='')}/results",
                cast_to=http_library(self._sdk).Response,
                options={"headers": headers},
            )
            with closing(response):
                for text in split_lines(response.iter_bytes(), max_bytes):
                    if (result := _read_result(text)) is not None:
                        yield result

    def clean_up(self, record: BatchRecord) -> None:
        """Do nothing: there are no files."""


def _timestamp(value: Any) -> float:
    return value.timestamp() if isinstance(value, datetime) else datetime.fromisoformat(str(value)).timestamp()


def _read_result(text: bytes) -> BatchResult | None:
    try:
        line = json.loads(text)
        custom_id, result = str(line["custom_id"]), line["result"]
        kind = result["type"]
        if kind == "succeeded":
            return BatchResult(custom_id, 200, result["message"])
        if kind != "errored":
            return BatchResult(custom_id, 0, {"error": {"message": f"the request is {kind}"}})
        error = result["error"].get("error", result["error"])
        return BatchResult(custom_id, failure_status(error), {"error": error})
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
