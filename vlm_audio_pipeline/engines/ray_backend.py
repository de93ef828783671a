"""A language model on the workers of a Ray cluster: each worker loads it once, and computes its own shared prefixes.

Requests go out in whole chunks, because what is computed together decides the last digits of a result, and in contiguous ranges, so
that each worker computes a long shared prefix once.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vlm_audio_pipeline.contracts.chunks import cut_chunks
from vlm_audio_pipeline.contracts.work import BackendWork
from vlm_audio_pipeline.engines.ray_pool import Task, WorkerPool, files_of_items
from vlm_audio_pipeline.engines.ray_queues import FirstComeQueue, RangeQueue


class RayBackend:
    """Answers requests on workers; see `classifiers.language_models.messages.Backend`.

    Args:
        work: loads the language model.
        pool: the workers.
    """

    def __init__(self, work: BackendWork, pool: WorkerPool):
        self._work = work
        self._pool = pool
        self._counts: Counter[str] = Counter()
        self.chunk_size = work.chunk_size

    def ask(self, requests: Sequence[Any], on_reply: Callable[[int, Any], None]) -> str | None:
        """Answer every request; see `Backend.ask`."""
        chunks = list(cut_chunks(range(len(requests)), self.chunk_size))

        def take(task: int, result: Any) -> None:
            replies, counts = result
            self._counts.update(counts)
            for i, reply in zip(chunks[task], replies, strict=True):
                on_reply(i, reply)

        tasks = [
            Task(
                "ask",
                (self._work, [requests[i] for i in chunk]),
                files_of_items(self._work, [requests[i] for i in chunk]),
            )
            for chunk in chunks
        ]
        self._pool.run(tasks, RangeQueue(len(tasks), self._pool.size()), take, lambda message: None)
        return None

    def token_counts(self) -> Mapping[str, int]:
        """Return the tokens that all workers computed so far, and those that they would have computed without shared prefixes."""
        return {"tokens_computed": 0, "tokens_naive": 0} | dict(self._counts)

    def render_messages(self, request: Any) -> str | None:
        """Return the text of a request in the model's chat template."""
        texts: list[str | None] = []
        tasks = [Task("render_messages", (self._work, request))]
        self._pool.run(tasks, FirstComeQueue(1), lambda _, text: texts.append(text), lambda message: None)
        return texts[0]

    def set_claim(self, claim: Callable[[int], bool]) -> None:
        """Do nothing: requests cost no money."""

    def close(self) -> None:
        """Do nothing: the workers end with the engine."""
