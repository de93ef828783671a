"""Live requests to an endpoint. A request that is in an open batch is not sent: it would be paid for twice.

A batch is open from the moment it is written to the batch log of this data folder until it is closed there: its responses are
stored, or it was rejected, lost by the server or given up.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import EndpointBackend
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.collecting import open_batch_reason
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import ReplyCallback, Request
from vlm_audio_pipeline.classifiers.language_models.response_keys import current_response_keys
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.storage.batch_log import BatchLog
from vlm_audio_pipeline.storage.result_store import ResultStore

if TYPE_CHECKING:
    from vlm_audio_pipeline.storage.ledger import Ledger


class LiveBackend(EndpointBackend):
    """An endpoint that does not get the requests of open batches. Only requests with generated text are in batches.

    Args:
        model: name of the model at the endpoint.
        endpoint: the endpoint.
        ledger: the ledger of the study, or None.
        classifier: name of the classifier.
        scope: the part of the classifier's requests that it sends, such as "fold 1".
        result_store: its file contains the batch log.
        model_identity: values that identify the model in the keys of its responses.
        study: name of the study.
    """

    def __init__(
        self,
        model: str,
        endpoint: Endpoint,
        ledger: "Ledger | None",
        classifier: str,
        scope: str,
        *,
        result_store: ResultStore,
        model_identity: dict[str, Any],
        study: str,
    ):
        super().__init__(model, endpoint, ledger, classifier, scope)
        self._result_store = result_store
        self._model_identity = model_identity
        self._study = study
        self._caller_claim: Callable[[int], bool] = lambda position: True

    def set_claim(self, claim: Callable[[int], bool]) -> None:
        """Set the function that claims a request and says whether it may be sent; see `Backend.set_claim`."""
        self._caller_claim = claim

    def ask(self, requests: Sequence[Request], on_reply: ReplyCallback) -> str | None:
        """Send requests and report their replies; see `EndpointBackend.ask`.

        Returns:
            Why it stopped early, or None.

        Raises:
            NotAvailable: also if a request is in an open batch. If the batch is open at the start, no request is sent. If another
                process submits it later, requests that are already sent are completed.
        """
        positions = [i for i, request in enumerate(requests) if "generation" in request.scorings]
        batched = [requests[i] for i in positions]  # only these can be in a batch
        keys = dict(
            zip(positions, current_response_keys(batched, self._model_identity, self._result_store), strict=True)
        )
        with BatchLog(self._result_store) as log:
            open_requests = log.open_requests()
            if tags := [open_requests[key] for key in keys.values() if key in open_requests]:
                raise NotAvailable(open_batch_reason(self._study, tags[0]))

            def claim(position: int) -> bool:
                if not self._caller_claim(position):
                    return False
                key = keys.get(position)
                if key is None:
                    return True
                if (tag := log.open_batch_tag(key)) is not None:
                    self._fatal_error = open_batch_reason(self._study, tag)
                    return True  # the fatal error ends this call before the request is sent
                # The batch may have ended after the first claim and before the log was read. Then its response is in the result
                # store, which the second claim reads again.
                return self._caller_claim(position)

            super().set_claim(claim)
            return super().ask(requests, on_reply)
