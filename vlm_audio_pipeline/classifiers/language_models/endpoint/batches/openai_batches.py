"""OpenAI's batch protocol: a file of requests, a batch over it, and files of results. Other providers serve it, too.

Reference: https://platform.openai.com/docs/api-reference/batch. `vllm run-batch` reads and writes the same files.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.protocol import (
    BatchApi,
    BatchLimits,
    BatchResult,
    BatchStatus,
    Json,
    LostCallError,
    RejectedCallError,
    convert_errors,
    http_client,
    split_lines,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.response_body import ACCEPTED_ENCODINGS
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import Dialect
from vlm_audio_pipeline.classifiers.language_models.messages import Request
from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.storage.batch_log import BatchRecord

PATH: Final = "/v1/chat/completions"
TAG = "vlm_audio_pipeline"
"""Name of the metadata value that contains the tag of a batch."""
_ENDED = ("completed", "expired", "cancelled")


class OpenAIBatches(BatchApi):
    """A client of the files and batches of an endpoint.

    Args:
        model: name of the model.
        endpoint: the endpoint.
    """

    limits = BatchLimits(50_000, 200_000_000)

    def __init__(self, model: str, endpoint: Endpoint):
        import openai

        self._sdk: Any = openai
        self._model = model
        self._endpoint = endpoint
        self._client = openai.OpenAI(
            api_key=endpoint.read_key() or "none",
            base_url=endpoint.url,
            max_retries=endpoint.retries,
            http_client=http_client(openai, endpoint),
        )

    def request_body(self, request: Request, dialect: Dialect) -> Json:
        """Return the body of a request: that of a live request."""
        return chat_body(self._model, request, self._endpoint, dialect)

    def submit(self, tag: str, bodies: Sequence[Json], on_file: Callable[[str], None]) -> str:
        """Upload the requests as a file and create a batch; see `BatchApi`."""
        lines = (request_line(f"{tag}-{i}", body) for i, body in enumerate(bodies))
        once = self._client.with_options(max_retries=0)  # a repeated call could create a second batch
        try:
            with convert_errors(self._sdk, self._endpoint):
                file = self._client.files.create(file=(f"{tag}.jsonl", b"".join(lines)), purpose="batch")
        except LostCallError as error:  # without a batch, nothing is processed
            raise LostCallError(str(error), False, is_unreachable=error.is_unreachable) from error
        on_file(file.id)
        faults.kill_point("batch:file")
        with convert_errors(self._sdk, self._endpoint):
            batch = once.batches.create(
                input_file_id=file.id,
                endpoint=PATH,
                completion_window="24h",
                metadata={TAG: tag},
                extra_headers={"Idempotency-Key": tag},
            )
        batch_id: str = batch.id
        return batch_id

    def find(self, record: BatchRecord, other_ids: set[str]) -> str | None:
        """Search the list of batches for the tag or the input file; see `BatchApi`."""
        with convert_errors(self._sdk, self._endpoint):
            for batch in self._client.batches.list(limit=100):
                tag = (batch.metadata or {}).get(TAG)
                # Some providers drop the metadata.
                has_file = tag is None and record.file_id is not None and batch.input_file_id == record.file_id
                batch_id: str = batch.id
                if batch_id not in other_ids and (tag == record.tag or has_file):
                    return batch_id
        return None

    def status(self, batch_id: str) -> BatchStatus:
        """Return the state of a batch."""
        with convert_errors(self._sdk, self._endpoint):
            batch = self._client.batches.retrieve(batch_id)
        counts = batch.request_counts
        done, total = (counts.completed + counts.failed, counts.total) if counts else (0, 0)
        if batch.status == "failed":
            errors = (batch.errors.data or []) if batch.errors else []
            texts = dict.fromkeys(": ".join(filter(None, (e.code, e.message))) for e in errors)
            return BatchStatus("failed", done, total, message="; ".join(list(texts)[:3]) or "no reason given")
        files = tuple(filter(None, (batch.output_file_id, batch.error_file_id)))
        return BatchStatus("ended" if batch.status in _ENDED else "running", done, total, files)

    def results(self, batch_id: str, status: BatchStatus, max_bytes: int) -> Iterator[BatchResult]:
        """Yield the results in the output file and in the error file; see `BatchApi`."""
        headers = {"accept-encoding": ACCEPTED_ENCODINGS}
        streamed = self._client.files.with_streaming_response
        remaining = max_bytes
        for file_id in status.files:
            with (
                convert_errors(self._sdk, self._endpoint),
                streamed.content(file_id, extra_headers=headers) as response,
            ):
                for line in split_lines(response.iter_bytes(), remaining):
                    remaining -= len(line) + 1
                    yield from read_result_lines([line])

    def clean_up(self, record: BatchRecord) -> None:
        """Delete the input file, which has the tag as its name; a failure is ignored, because the file costs nothing."""
        with suppress(RejectedCallError, LostCallError), convert_errors(self._sdk, self._endpoint):
            ids = [record.file_id] if record.file_id else []
            if not ids:
                ids = [f.id for f in self._client.files.list(purpose="batch") if f.filename == f"{record.tag}.jsonl"]
            for file_id in ids:
                self._client.files.delete(file_id)


def chat_body(model: str, request: Request, endpoint: Endpoint, dialect: Dialect) -> Json:
    """Return the body of a chat completion request, as a live call sends it."""
    parameters = dialect.parameters(request, endpoint)
    return {"model": model, **parameters, **parameters.pop("extra_body", {})}


def request_line(custom_id: str, body: Json) -> bytes:
    """Return the line of a request in an input file."""
    line = {"custom_id": custom_id, "method": "POST", "url": PATH, "body": body}
    return json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def read_result_lines(lines: Iterable[bytes]) -> Iterator[BatchResult]:
    """Yield the results in the lines of an output or error file; lines that are not results are left out."""
    for text in lines:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if not isinstance(line, dict) or not isinstance(line.get("custom_id"), str):
            continue
        response, error = line.get("response"), line.get("error")
        if isinstance(response, dict):
            status = response.get("status_code")
            yield BatchResult(line["custom_id"], status if isinstance(status, int) else 500, response.get("body"))
        elif isinstance(error, dict) and str(error.get("code")).startswith(("batch_expired", "batch_cancelled")):
            yield BatchResult(line["custom_id"], 0, {"error": error})
        else:
            yield BatchResult(line["custom_id"], 500, {"error": error})
