"""Files of offline batches: the input and output files of OpenAI's batch protocol, which `vllm run-batch` reads and writes.

Nothing is sent here. The id of a request in these files is a hash of everything that determines its response. Files contain only
requests for generated text; likelihoods and first tokens are requested live.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.openai_batches import (
    chat_body,
    read_result_lines,
    request_line,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.protocol import BatchResult
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.results import read_result
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import Dialect
from vlm_audio_pipeline.classifiers.language_models.messages import Backend, ReplyCallback, Request, Scoring
from vlm_audio_pipeline.classifiers.language_models.response_keys import current_response_keys, current_truncated_keys
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.storage.result_store import ResultStore

_GENERATION: frozenset[Scoring] = frozenset({"generation"})


class OfflineBackend(Backend):
    """A backend that sends nothing. Before each call, `set_target` names the model of the requests.

    Args:
        result_store: says which responses were asked for again: their requests get other ids.
    """

    def __init__(self, result_store: ResultStore):
        self._result_store = result_store

    def set_target(self, model: str, endpoint: Endpoint, model_identity: Mapping[str, Any]) -> None:
        """Set the model of the next requests, and the values that identify it in the keys of its responses."""
        self.model, self.endpoint, self.model_identity = model, endpoint, model_identity

    def generation_requests(self, requests: Sequence[Request]) -> list[tuple[int, str, Request]]:
        """Return position, id (64 hexadecimal digits) and request of each request for generated text, without other scorings."""
        positions = [i for i, request in enumerate(requests) if "generation" in request.scorings]
        selected = [requests[i].with_scorings("generation") for i in positions]
        keys = current_response_keys(selected, self.model_identity, self._result_store)
        # The maximum length is part of the id.
        lengths = [request.sampling.max_tokens for request in selected]
        ids = current_truncated_keys(list(zip(keys, lengths, strict=True)), self._result_store)
        return list(zip(positions, ids, selected, strict=True))


class RequestWriter(OfflineBackend):
    """Writes requests to a file instead of sending them, each once.

    Args:
        file: the file, opened in binary mode.
        result_store: see `OfflineBackend`.

    Attributes:
        ids: ids of the written requests.
    """

    def __init__(self, file: IO[bytes], result_store: ResultStore):
        super().__init__(result_store)
        self._file = file
        self.ids: set[str] = set()

    def ask(self, requests: Sequence[Request], on_reply: ReplyCallback) -> str | None:
        """Write requests; there are no replies."""
        dialect = Dialect.from_endpoint(self.endpoint)
        for _, custom_id, request in self.generation_requests(requests):
            if custom_id not in self.ids:
                self.ids.add(custom_id)
                body = chat_body(self.model, request, self.endpoint, dialect)
                self._file.write(request_line(custom_id, body))
        return None


class ResponseReader(OfflineBackend):
    """Replies with the responses in an output file.

    Args:
        lines: the lines of the file.
        result_store: see `OfflineBackend`.

    Attributes:
        count: number of responses that were used.
    """

    def __init__(self, lines: Iterable[bytes], result_store: ResultStore):
        super().__init__(result_store)
        self._results: dict[str, BatchResult] = {r.custom_id: r for r in read_result_lines(lines)}
        self.count = 0

    def ask(self, requests: Sequence[Request], on_reply: ReplyCallback) -> str | None:
        """Reply to the requests that the file contains; see `Backend`.

        Raises:
            NotAvailable: if another model has answered.
        """
        dialect = Dialect.from_endpoint(self.endpoint)
        for i, custom_id, _ in self.generation_requests(requests):
            result = self._results.get(custom_id)
            if result is None:
                continue
            parsed = read_result(result, dialect, self.model, self.endpoint, prices=None)
            if parsed.other_model is not None:
                raise NotAvailable(
                    f"the file must contain responses of {self.model}, got {parsed.other_model}; run the batch with the model "
                    f"of the study, or allow this one with `endpoint: {{accept: [{parsed.other_model}]}}`"
                )
            self.count += parsed.reply.outcome != "error"
            on_reply(i, replace(parsed.reply, scorings=_GENERATION))
        return None
